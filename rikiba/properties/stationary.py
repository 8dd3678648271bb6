"""Nearest minima of structures, as properties need them: ASE structures in, relaxed copies out."""

from collections.abc import Sequence

from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core import units
from rikiba.core.system import System
from rikiba.relaxation.lbfgs import Lbfgs


def relax_ions(calculator: Calculator, atoms: Atoms, force_tolerance: float, max_steps: int) -> Atoms:
    """A copy with the atoms at the nearest minimum in a fixed cell.

    Raises NotConverged where a force above `force_tolerance` (eV/Å) is left after `max_steps`.
    """
    return relax_all(calculator, [atoms], force_tolerance, max_steps)[0]


def relax_all(
    calculator: Calculator, frames: Sequence[Atoms], force_tolerance: float, max_steps: int
) -> list[Atoms]:
    """The same for many structures at once, as one batch."""
    minimiser = Lbfgs(fmax_eV_per_A=force_tolerance, max_steps=max_steps)
    done = minimiser.relax(calculator, System.from_ase(list(frames))).require_converged()
    return _placed(frames, done.system)


def relax_cell(
    calculator: Calculator, atoms: Atoms, force_tolerance: float, stress_tolerance: float, max_steps: int
) -> Atoms:
    """A copy with atoms and cell at zero stress (within `stress_tolerance`, eV/Å³).

    Raises NotConverged where that is not reached in `max_steps`.
    """
    minimiser = Lbfgs(
        fmax_eV_per_A=force_tolerance,
        max_steps=max_steps,
        cell="full",
        smax_GPa=stress_tolerance / units.gigapascal,
    )
    done = minimiser.relax(calculator, System.from_ase(atoms)).require_converged()
    return _placed([atoms], done.system)[0]


def _placed(frames: Sequence[Atoms], system: System) -> list[Atoms]:
    """Copies of `frames` with the positions and cells of `system`."""
    out = []
    for k, atoms in enumerate(frames):
        moved = atoms.copy()
        if moved.cell.rank == 3:
            moved.set_cell(system.cell[k].detach().cpu().numpy())
        moved.positions = system.positions[system.atom_rows(k)].detach().cpu().numpy()
        out.append(moved)
    return out
