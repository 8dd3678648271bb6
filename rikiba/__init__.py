"""rikiba (力場): machine-learning interatomic potentials, from reference data to answers with error bars."""

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "Calculator": "calculators.base",
    "Committee": "calculators.committee",
    "Dataset": "data.dataset",
    "FromASE": "calculators.ase",
    "Labelled": "data.dataset",
    "PairFinder": "core.pairs",
    "Pairs": "core.pairs",
    "Potential": "potentials.base",
    "PotentialCalculator": "calculators.autograd",
    "Record": "core.record",
    "Results": "core.results",
    "Simulation": "md.simulation",
    "State": "md.state",
    "System": "core.system",
    "Trainer": "training.trainer",
    "as_ase": "calculators.ase",
    "load_potential": "training.checkpoint",
    "maxwell_boltzmann": "md.state",
    "physics_battery": "validation.battery",
    "read": "data.formats",
    "run_pipeline": "pipeline.run",
    "save_potential": "training.checkpoint",
    "write_page": "report.page",
}
"""Public name → module: each is imported when it is first used."""

__all__ = [
    "Calculator",
    "Committee",
    "Dataset",
    "FromASE",
    "Labelled",
    "PairFinder",
    "Pairs",
    "Potential",
    "PotentialCalculator",
    "Record",
    "Results",
    "Simulation",
    "State",
    "System",
    "Trainer",
    "as_ase",
    "load_potential",
    "maxwell_boltzmann",
    "physics_battery",
    "read",
    "run_pipeline",
    "save_potential",
    "write_page",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"rikiba has no '{name}'; its names are {', '.join(__all__)}.")
    return getattr(importlib.import_module(f"rikiba.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
