"""Weak coupling of the cell to a pressure, for equilibration."""

import warnings
from typing import Any

import torch
from torch import Tensor

from ..cell import check_cell, check_interval, compressibility, internal_pressure, stretched
from ..operators import Memory, Operator, Step
from ..state import State
from ..target import Value, pressure, time_constant
from ..thermostats.berendsen import EquilibrationOnlyWarning


class Berendsen(Operator):
    """Volume scaled so that the pressure relaxes: dV/dt = β_T V (P − P₀)/τ_P. For equilibration only.

    It suppresses the fluctuations of the volume and samples no known ensemble; it warns of that when it is
    made. `stochastic_cell_rescaling` costs the same and is right. Velocities are not scaled; nothing is
    conserved.
    Source: Berendsen et al., doi:10.1063/1.448118, eq. 20.

    Args:
        pressure_GPa: P₀; one for all systems, one for each, or a ramp.
        time_constant_fs: τ_P, fs.
        compressibility_per_GPa: β_T, 1/GPa.
        interval: steps between moves.
    """

    needs = frozenset({"stress"})
    keeps_constraints = True

    def __init__(
        self,
        *,
        pressure_GPa: Value,
        time_constant_fs: float = 1000.0,
        compressibility_per_GPa: float = 0.1,
        interval: int = 10,
    ) -> None:
        warnings.warn(
            "The Berendsen barostat samples no ensemble: use it to reach a pressure, then "
            "stochastic_cell_rescaling or martyna_tobias_klein.",
            EquilibrationOnlyWarning,
            stacklevel=2,
        )
        self.pressure = pressure(pressure_GPa)
        self.tau = time_constant(time_constant_fs, "time_constant_fs")
        self.compressibility = compressibility(compressibility_per_GPa)
        self.interval = check_interval(interval)

    def init(self, state: State, step: Step) -> Memory:
        check_cell(state, "The Berendsen barostat")
        return Memory()

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        if (step.number + 1) % self.interval:
            return state, memory
        inside = torch.diagonal(internal_pressure(state, step.results(state, stress=True)), dim1=1, dim2=2)
        excess = inside.mean(1) - self.pressure.at(state)
        factor = torch.exp(self.compressibility * self.interval * dt / self.tau * excess / 3.0)
        return stretched(state, factor), memory

    def settings(self) -> dict[str, Any]:
        return {
            "pressure_GPa": self.pressure.settings(),
            "time_constant": self.tau,
            "compressibility": self.compressibility,
            "interval": self.interval,
        }
