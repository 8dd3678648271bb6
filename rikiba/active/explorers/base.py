"""The contract of explorers."""

from collections.abc import Sequence
from typing import Protocol

from ase import Atoms

from rikiba.calculators.base import Calculator


class Explorer(Protocol):
    """Finds structures worth labelling, starting from seeds.

    Each frame's `info['group']` names the trajectory or parent it comes from, so that splits cannot leak.
    """

    def parts(self) -> "Sequence[Explorer]":
        """The same exploration as independent pieces, which may run in parallel."""
        ...

    def explore(self, calculator: Calculator, seeds: Sequence[Atoms]) -> list[Atoms]: ...
