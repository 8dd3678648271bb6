"""Constant temperature by stochastic velocity rescaling."""

from typing import ClassVar

from ..operators import Drift, Kick
from ..splitting import Splitting
from ..target import Value
from ..thermostats.csvr import Csvr as Rescaling


class Csvr:
    """Canonical sampling through velocity rescaling (Bussi) at constant number, volume and temperature.

    Disturbs the dynamics of single atoms hardly at all: diffusion and spectra stay close to Newton's.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        time_constant_fs: relaxation time of the kinetic energy, fs.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.2408420",)

    def __init__(self, *, temperature_K: Value, time_constant_fs: float = 100.0) -> None:
        rescaling = Rescaling(temperature_K=temperature_K, time_constant_fs=time_constant_fs)
        self._operators = {"B": Kick(), "A": Drift(), "T": rescaling}

    def splitting(self) -> Splitting:
        return Splitting("BABT", self._operators)
