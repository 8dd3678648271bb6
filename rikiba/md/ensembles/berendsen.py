"""Weak coupling to temperature and pressure, to equilibrate."""

from typing import ClassVar

from ..barostats.berendsen import Berendsen as Barostat
from ..operators import Drift, Kick, Operator
from ..splitting import Splitting
from ..target import Value
from ..thermostats.berendsen import Berendsen as Thermostat


class Berendsen:
    """Weak coupling to a temperature, and to a pressure if one is given: to equilibrate, not to sample.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        pressure_GPa: none keeps the volume.
        time_constant_fs: of the kinetic energy, fs.
        pressure_time_constant_fs: of the pressure, fs.
        compressibility_per_GPa: of the material, roughly, 1/GPa.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.448118",)

    def __init__(
        self,
        *,
        temperature_K: Value,
        pressure_GPa: Value | None = None,
        time_constant_fs: float = 100.0,
        pressure_time_constant_fs: float = 1000.0,
        compressibility_per_GPa: float = 0.1,
    ) -> None:
        thermostat = Thermostat(temperature_K=temperature_K, time_constant_fs=time_constant_fs)
        self._operators: dict[str, Operator] = {"B": Kick(), "A": Drift(), "T": thermostat}
        if pressure_GPa is not None:
            self._operators["C"] = Barostat(
                pressure_GPa=pressure_GPa,
                time_constant_fs=pressure_time_constant_fs,
                compressibility_per_GPa=compressibility_per_GPa,
            )

    def splitting(self) -> Splitting:
        return Splitting("BABTC" if "C" in self._operators else "BABT", self._operators)
