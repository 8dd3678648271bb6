"""What a minimiser offers."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Tensor

from rikiba.calculators.base import Calculator
from rikiba.core.system import System

from .minimise import Relaxed


@runtime_checkable
class Minimiser(Protocol):
    """Moves structures to the nearest minimum; its constructor holds thresholds and numerical choices."""

    def relax(
        self,
        calculator: Calculator,
        system: System,
        *,
        fixed: Bool[Tensor, "atoms"] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Relaxed:
        """Every system where its forces (and stress) are below the thresholds, or its steps end."""
        ...
