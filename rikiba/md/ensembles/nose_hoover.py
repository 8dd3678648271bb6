"""Constant temperature by Nosé–Hoover chains."""

from typing import ClassVar

from ..operators import Drift, Kick
from ..splitting import Splitting
from ..target import Value
from ..thermostats.nose_hoover import NoseHoover as Chain


class NoseHoover:
    """Nosé–Hoover chain dynamics at constant number, volume and temperature: deterministic and reversible.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        time_constant_fs: period of the exchange of heat, fs; 20 to 50 timesteps or more.
        links: length of the chain.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.463940", "10.1080/00268979600100761")

    def __init__(self, *, temperature_K: Value, time_constant_fs: float = 100.0, links: int = 3) -> None:
        chain = Chain(temperature_K=temperature_K, time_constant_fs=time_constant_fs, links=links)
        self._operators = {"B": Kick(), "A": Drift(), "T": chain}

    def splitting(self) -> Splitting:
        return Splitting("TBABT", self._operators)
