"""Constant pressure and temperature."""

from typing import ClassVar, Literal

from ..barostats.martyna_tobias_klein import MartynaTobiasKlein
from ..barostats.stochastic_cell_rescaling import StochasticCellRescaling
from ..operators import Drift, Kick, Operator
from ..splitting import Splitting
from ..target import Value
from ..thermostats.csvr import Csvr

Barostat = Literal["stochastic_cell_rescaling", "martyna_tobias_klein"]


class NPT:
    """Constant number, pressure and temperature.

    stochastic_cell_rescaling (with stochastic velocity rescaling) is of first order, relaxes from any start
    and keeps the cell's shape; martyna_tobias_klein (with Nosé–Hoover chains) is deterministic, oscillates
    with the period of its time constant, and can let the cell change shape.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        pressure_GPa: one for all systems, one for each, or a ramp; 1 bar is 1e-4 GPa.
        barostat: which of the two.
        cell: what may move: isotropic; with martyna_tobias_klein also orthogonal (each lattice vector's
            length) or full (shape as well).
        time_constant_fs: of the thermostat, fs.
        pressure_time_constant_fs: of the barostat, fs.
        compressibility_per_GPa: of the material, roughly, 1/GPa; sets the rate of stochastic_cell_rescaling.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/5.0020514", "10.1063/1.2408420", "10.1063/1.467468")

    def __init__(
        self,
        *,
        temperature_K: Value,
        pressure_GPa: Value,
        barostat: Barostat = "stochastic_cell_rescaling",
        cell: Literal["isotropic", "orthogonal", "full"] = "isotropic",
        time_constant_fs: float = 100.0,
        pressure_time_constant_fs: float = 1000.0,
        compressibility_per_GPa: float = 0.1,
    ) -> None:
        self._operators: dict[str, Operator]
        if barostat == "martyna_tobias_klein":
            whole = MartynaTobiasKlein(
                temperature_K=temperature_K,
                pressure_GPa=pressure_GPa,
                cell=cell,
                time_constant_fs=time_constant_fs,
                pressure_time_constant_fs=pressure_time_constant_fs,
            )
            self._word, self._operators = "M", {"M": whole}
        elif barostat == "stochastic_cell_rescaling":
            if cell != "isotropic":
                raise ValueError(
                    f"stochastic_cell_rescaling keeps the cell's shape; for cell = '{cell}' use "
                    f"barostat = 'martyna_tobias_klein'."
                )
            thermostat = Csvr(temperature_K=temperature_K, time_constant_fs=time_constant_fs)
            rescaling = StochasticCellRescaling(
                pressure_GPa=pressure_GPa,
                temperature_K=temperature_K,
                time_constant_fs=pressure_time_constant_fs,
                compressibility_per_GPa=compressibility_per_GPa,
            )
            self._word = "BABTC"
            self._operators = {"B": Kick(), "A": Drift(), "T": thermostat, "C": rescaling}
        else:
            raise ValueError(
                f"barostat is 'stochastic_cell_rescaling' or 'martyna_tobias_klein'; given '{barostat}'."
            )

    def splitting(self) -> Splitting:
        return Splitting(self._word, self._operators)
