"""Many structures through one calculator, a batch at a time."""

from collections.abc import Sequence

from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.results import Results
from rikiba.core.system import System


def results_of(
    calculator: Calculator,
    frames: Sequence[Atoms],
    *,
    forces: bool = True,
    stress: bool = False,
    atoms_per_batch: int = 1024,
) -> Results:
    """Results of all frames, concatenated in order; each call gets at most `atoms_per_batch` atoms (or one
    frame)."""
    parts, batch, count = [], [], 0
    for k, atoms in enumerate(frames):
        batch.append(atoms)
        count += len(atoms)
        if k + 1 == len(frames) or count + len(frames[k + 1]) > atoms_per_batch:
            results = calculator(System.from_ase(batch), forces=forces, stress=stress)
            parts.append(Results(energy=results.energy, forces=results.forces, stress=results.stress))
            batch, count = [], 0
    return Results.cat(parts)
