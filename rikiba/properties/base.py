"""A property asks one question of a calculator and answers with a Record."""

from typing import Protocol, runtime_checkable

from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.record import Record


@runtime_checkable
class Property(Protocol):
    """A frozen dataclass of numerical choices. `compute` answers for one structure.

    Value keys of the Record carry units (`C11_GPa`, `frequencies_cm1`). A property of a trajectory has
    `analyse` instead (`trajectories.TrajectoryProperty`).
    """

    def compute(self, calculator: Calculator, atoms: Atoms) -> Record: ...
