"""Nearest minimum of a structure, as properties need it: one structure in, the relaxed one out."""

from ase import Atoms

from rikiba.calculators.ase import as_ase
from rikiba.calculators.base import Calculator


def relax_ions(calculator: Calculator, atoms: Atoms, force_tolerance: float, max_steps: int) -> Atoms:
    """A copy with the atoms at the nearest minimum in a fixed cell.

    Raises ValueError where no force component falls below `force_tolerance` (eV/Å) in `max_steps`.
    """
    from ase.optimize import BFGS

    moved = atoms.copy()
    moved.calc = as_ase(calculator)
    if not BFGS(moved, logfile=None).run(fmax=force_tolerance, steps=max_steps):
        raise ValueError(f"No minimum within {max_steps} steps.")
    moved.calc = None
    return moved


def relax_cell(
    calculator: Calculator, atoms: Atoms, force_tolerance: float, stress_tolerance: float, max_steps: int
) -> Atoms:
    """A copy with atoms and cell at zero stress (within `stress_tolerance`, eV/Å³).

    Raises ValueError where that is not reached in `max_steps`.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    moved = atoms.copy()
    moved.calc = as_ase(calculator)
    tol = min(force_tolerance, stress_tolerance * atoms.get_volume())
    if not BFGS(FrechetCellFilter(moved), logfile=None).run(fmax=tol, steps=max_steps):
        raise ValueError(f"No minimum within {max_steps} steps.")
    moved.calc = None
    return moved
