"""Constant temperature by Andersen's collisions."""

from typing import ClassVar

from ..operators import Drift, Kick
from ..splitting import Splitting
from ..target import Value
from ..thermostats.andersen import Andersen as Collisions


class Andersen:
    """Andersen's collisions at constant number, volume and temperature; not for dynamic properties.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        rate_per_ps: collisions of one atom with the bath, 1/ps.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.439486",)

    def __init__(self, *, temperature_K: Value, rate_per_ps: float = 1.0) -> None:
        collisions = Collisions(temperature_K=temperature_K, rate_per_ps=rate_per_ps)
        self._operators = {"B": Kick(), "A": Drift(), "T": collisions}

    def splitting(self) -> Splitting:
        return Splitting("BABT", self._operators)
