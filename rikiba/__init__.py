"""rikiba (力場): machine-learning interatomic potentials, from reference data to answers with error bars."""

__version__ = "0.1.0"
