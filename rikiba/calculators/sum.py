"""A calculator that adds others, and one that scales."""

from rikiba.core.results import Results
from rikiba.core.system import System

from .base import Calculator


class SumCalculator:
    """E = Σ_k w_k E_k and likewise forces and stress; for baselines and corrections.

    Args:
        calculators: the terms.
        weights: one factor each; all 1 if not given.
    """

    def __init__(self, *calculators: Calculator, weights: tuple[float, ...] | None = None) -> None:
        if not calculators:
            raise ValueError("SumCalculator needs at least one calculator.")
        self.calculators = calculators
        self.weights = weights or (1.0,) * len(calculators)
        if len(self.weights) != len(calculators):
            raise ValueError(f"{len(calculators)} calculators but {len(self.weights)} weights.")

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        total: Results | None = None
        for calculator, weight in zip(self.calculators, self.weights, strict=True):
            term = calculator(system, forces=forces, stress=stress)
            term = (
                Results(energy=term.energy, forces=term.forces, stress=term.stress, spread=term.spread)
                * weight
            )
            total = term if total is None else total + term
        assert total is not None
        return total
