"""Who may label a structure: a reference engine at a stated level of theory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from ase import Atoms


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A label that could not be made, or cannot be right. A value, not an exception."""

    atoms: Atoms
    reason: str
    """What went wrong, for a person: 'SCF not converged in 250 steps', 'atoms 3 and 7 are 0.31 Å apart'."""
    deterministic: bool = False
    """The same structure would fail again in the same way, so that the failure may be remembered."""


@runtime_checkable
class Reference(Protocol):
    """Labels structures. Each returned Atoms carries a SinglePointCalculator with energy and forces
    (stress where periodic) in ASE units, and `info['level_of_theory']`.

    A reference may also have `fingerprint`, a string that differs wherever settings change the numbers (the
    label cache uses it, else the level of theory), and `stream(frames)`, which yields (index, answer) as
    answers come in.
    """

    @property
    def level_of_theory(self) -> str: ...

    def label(self, frames: Sequence[Atoms]) -> list[Atoms | Failure]:
        """One answer per frame, in order; a failed or unbelievable label is a Failure."""
        ...
