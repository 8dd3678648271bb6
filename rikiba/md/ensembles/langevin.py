"""Constant temperature by Langevin dynamics."""

from typing import ClassVar

from ..operators import Drift, Kick
from ..splitting import Splitting
from ..target import Value
from ..thermostats.langevin import Langevin as LangevinThermostat


class Langevin:
    """Langevin dynamics at constant number, volume and temperature.

    Configurations under BAOAB are right to high order (exactly, in a harmonic well at any timestep); the
    temperature reported is that of the velocities right after the friction step.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        friction_per_ps: rate of the friction, 1/ps; 1 for sampling, 0.1 or less where dynamics matter.
        order: the splitting, BAOAB or OBABO; any word of the letters B (kick), A (drift), O (friction).
    """

    references: ClassVar[tuple[str, ...]] = ("10.1093/amrx/abs010",)

    def __init__(
        self,
        *,
        temperature_K: Value,
        friction_per_ps: float | tuple[float, ...] = 1.0,
        order: str = "BAOAB",
    ) -> None:
        self.temperature_K = temperature_K
        self.friction_per_ps = friction_per_ps
        self.order = order
        self._operators = {
            "B": Kick(),
            "A": Drift(),
            "O": LangevinThermostat(temperature_K=temperature_K, friction_per_ps=friction_per_ps),
        }
        self.splitting()

    def splitting(self) -> Splitting:
        return Splitting(self.order, self._operators)
