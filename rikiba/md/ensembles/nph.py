"""Constant pressure and enthalpy."""

from typing import ClassVar, Literal

from ..barostats.martyna_tobias_klein import MartynaTobiasKlein
from ..load import Stress
from ..splitting import Splitting
from ..target import Value


class NPH:
    """Constant number, pressure and enthalpy: the extended system without thermostats.

    Args:
        temperature_K: about that of the system, or of each system; it sets the cell's inertia only.
        pressure_GPa: one for all systems, one for each, or a ramp; 1 bar is 1e-4 GPa.
        stress_GPa: in its place, with orthogonal or full cells: a symmetric tensor (three rows), positive
            where it pulls, for all systems, for each, or a ramp.
        cell: what may move: isotropic; orthogonal: each lattice vector's length; full: shape as well.
        pressure_time_constant_fs: of the cell, fs.
        reference_interval: steps after which the mean cell since the last time becomes the reference cell of
            stress_GPa; 0 leaves that of the start.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.467468", "10.1063/1.328693")

    def __init__(
        self,
        *,
        temperature_K: Value,
        pressure_GPa: Value | None = None,
        stress_GPa: Stress | None = None,
        cell: Literal["isotropic", "orthogonal", "full"] = "isotropic",
        pressure_time_constant_fs: float = 1000.0,
        reference_interval: int = 0,
    ) -> None:
        self._step = MartynaTobiasKlein(
            pressure_GPa=pressure_GPa,
            stress_GPa=stress_GPa,
            temperature_K=temperature_K,
            cell=cell,
            pressure_time_constant_fs=pressure_time_constant_fs,
            thermostat=False,
            reference_interval=reference_interval,
        )

    def splitting(self) -> Splitting:
        return Splitting("M", {"M": self._step})
