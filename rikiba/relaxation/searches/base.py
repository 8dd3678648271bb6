"""The contract of searches."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from rikiba.calculators.base import Calculator
from rikiba.core.system import System

from ..ranking import Minima


@runtime_checkable
class Search(Protocol):
    """Looks for low minima; its constructor holds the numerical choices."""

    needs_structure: bool
    """Whether it starts from given structures."""

    def search(
        self,
        calculator: Calculator,
        system: System | None = None,
        *,
        file: str | Path | None = None,
        resume: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Minima:
        """The minima, ranked. With `file`, the state is kept there, and `resume` goes on from it."""
        ...
