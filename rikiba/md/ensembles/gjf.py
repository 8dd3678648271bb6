"""Constant temperature by the integrator of Grønbech-Jensen and Farago."""

from typing import ClassVar

from ..splitting import Splitting
from ..target import Value
from ..thermostats.gjf import Gjf as Step


class Gjf:
    """Langevin dynamics by the G-JF integrator: configurations and diffusion right at any timestep.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        friction_per_ps: rate of the friction, 1/ps; 1 for sampling, 0.1 or less where dynamics matter.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1080/00268976.2012.760055",)

    def __init__(self, *, temperature_K: Value, friction_per_ps: float = 1.0) -> None:
        self._step = Step(temperature_K=temperature_K, friction_per_ps=friction_per_ps)

    def splitting(self) -> Splitting:
        return Splitting("G", {"G": self._step})
