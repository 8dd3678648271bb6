"""Constant pressure and temperature."""

from typing import Any, ClassVar, Literal, get_args

from ..barostats.anisotropic_cell_rescaling import AnisotropicCellRescaling
from ..barostats.martyna_tobias_klein import MartynaTobiasKlein
from ..barostats.stochastic_cell_rescaling import StochasticCellRescaling
from ..load import Stress, load
from ..operators import Drift, Kick, Operator
from ..splitting import Splitting
from ..target import Value
from ..thermostats.csvr import Csvr

Barostat = Literal["stochastic_cell_rescaling", "martyna_tobias_klein"]
Cell = Literal["isotropic", "orthogonal", "full"]


class NPT:
    """Constant number, pressure (or stress) and temperature.

    stochastic_cell_rescaling (with stochastic velocity rescaling) is of first order and relaxes from any
    start; martyna_tobias_klein (with Nosé–Hoover chains) is deterministic and oscillates with the period of
    its time constant. Either lets the cell change its volume, its lengths or its whole shape.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        pressure_GPa: one for all systems, one for each, or a ramp; 1 bar is 1e-4 GPa.
        stress_GPa: in its place, with orthogonal or full cells: a symmetric tensor (three rows), positive
            where it pulls, for all systems, for each, or a ramp.
        barostat: which of the two.
        cell: what may move: isotropic; orthogonal: stretches along x, y and z; full: shape as well.
        time_constant_fs: of the thermostat, fs.
        pressure_time_constant_fs: of the barostat, fs.
        compressibility_per_GPa: of the material, roughly, 1/GPa; sets the rate of stochastic_cell_rescaling.
        reference_interval: steps after which the mean cell since the last time becomes the reference cell of
            stress_GPa; 0 leaves that of the start.
    """

    references: ClassVar[tuple[str, ...]] = (
        "10.1063/5.0020514",
        "10.3390/app12031139",
        "10.1063/1.2408420",
        "10.1063/1.467468",
        "10.1063/1.328693",
    )

    def __init__(
        self,
        *,
        temperature_K: Value,
        pressure_GPa: Value | None = None,
        stress_GPa: Stress | None = None,
        barostat: Barostat = "stochastic_cell_rescaling",
        cell: Cell = "isotropic",
        time_constant_fs: float = 100.0,
        pressure_time_constant_fs: float = 1000.0,
        compressibility_per_GPa: float = 0.1,
        reference_interval: int = 0,
    ) -> None:
        if barostat not in get_args(Barostat) or cell not in get_args(Cell):
            raise ValueError(
                f"barostat is one of {', '.join(get_args(Barostat))} and cell one of "
                f"{', '.join(get_args(Cell))}; given '{barostat}' and '{cell}'."
            )
        box: dict[str, Any] = {"pressure_GPa": pressure_GPa, "temperature_K": temperature_K}
        stressed: dict[str, Any] = {
            "stress_GPa": stress_GPa,
            "cell": cell,
            "reference_interval": reference_interval,
        }
        rate: dict[str, Any] = {
            "time_constant_fs": pressure_time_constant_fs,
            "compressibility_per_GPa": compressibility_per_GPa,
        }
        self._operators: dict[str, Operator]
        self._word, self._operators = "BABTC", {"B": Kick(), "A": Drift()}
        if barostat == "martyna_tobias_klein":
            whole = MartynaTobiasKlein(
                **box,
                **stressed,
                time_constant_fs=time_constant_fs,
                pressure_time_constant_fs=pressure_time_constant_fs,
            )
            self._word, self._operators = "M", {"M": whole}
            return
        self._operators["T"] = Csvr(temperature_K=temperature_K, time_constant_fs=time_constant_fs)
        if cell == "isotropic":
            load(pressure_GPa, stress_GPa, reference_interval=reference_interval, directions=cell)
            self._operators["C"] = StochasticCellRescaling(**box, **rate)
        else:
            self._operators["C"] = AnisotropicCellRescaling(**box, **stressed, **rate)

    def splitting(self) -> Splitting:
        return Splitting(self._word, self._operators)
