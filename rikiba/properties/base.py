"""A property asks one question of a calculator and answers with a Record."""

from typing import Protocol, runtime_checkable

from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.record import Record


@runtime_checkable
class Property(Protocol):
    """A frozen dataclass of numerical choices. `compute` answers for one structure.

    Value keys of the Record carry units (`C11_GPa`, `frequencies_cm1`). A property of a trajectory has
    `analyse` instead (`trajectories.TrajectoryProperty`). It may have `check(atoms)`, which raises ValueError
    for a structure that cannot be asked, so that a long run refuses it before any work.
    """

    def compute(self, calculator: Calculator, atoms: Atoms) -> Record: ...


def need_bulk(what: str, atoms: Atoms) -> None:
    """Raises ValueError for a structure without three periodic axes."""
    if not atoms.pbc.all():
        raise ValueError(
            f"{what}: the structure must be periodic along three axes; {atoms.get_chemical_formula()} has "
            f"pbc = {atoms.pbc.tolist()}. Give a crystal, or ask a molecule for frequencies or bond_lengths."
        )
