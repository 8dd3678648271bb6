"""Constant pressure and enthalpy."""

from typing import ClassVar, Literal

from ..barostats.martyna_tobias_klein import MartynaTobiasKlein
from ..splitting import Splitting
from ..target import Value


class NPH:
    """Constant number, pressure and enthalpy: the extended system without thermostats.

    Args:
        pressure_GPa: one for all systems, one for each, or a ramp; 1 bar is 1e-4 GPa.
        temperature_K: about that of the system, or of each system; it sets the cell's inertia only.
        cell: what may move: isotropic; orthogonal: each lattice vector's length; full: shape as well.
        pressure_time_constant_fs: of the cell, fs.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.467468",)

    def __init__(
        self,
        *,
        pressure_GPa: Value,
        temperature_K: Value,
        cell: Literal["isotropic", "orthogonal", "full"] = "isotropic",
        pressure_time_constant_fs: float = 1000.0,
    ) -> None:
        self._step = MartynaTobiasKlein(
            pressure_GPa=pressure_GPa,
            temperature_K=temperature_K,
            cell=cell,
            pressure_time_constant_fs=pressure_time_constant_fs,
            thermostat=False,
        )

    def splitting(self) -> Splitting:
        return Splitting("M", {"M": self._step})
