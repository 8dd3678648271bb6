"""Stochastic velocity rescaling."""

from typing import Any

import torch
from torch import Tensor

from rikiba.kernels.velocity_rescaling import velocity_rescaling

from ..operators import Freedom, Memory, Operator, Step
from ..state import State
from ..target import Value, temperature, time_constant


class Csvr(Operator):
    """Canonical sampling through velocity rescaling: one factor for all velocities, K′ drawn canonically.

    K′ = cK + (1−c) K̄/N_f (R² + S) + 2R √(c(1−c) K K̄/N_f),  c = exp(−Δt/τ), K̄ = N_f k_B T/2, R ~ N(0, 1),
    S ~ χ²(N_f − 1); the factor √(K′/K) has the sign of R + √(c N_f K/((1−c) K̄))
    (Bussi, Donadio & Parrinello, doi:10.1063/1.2408420, appendix). The relaxation of K is solved exactly, so
    the timestep brings no error of its own. K + U − (heat brought in) is conserved.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        time_constant_fs: τ, fs; relaxation time of the kinetic energy.
    """

    def __init__(self, *, temperature_K: Value, time_constant_fs: float = 100.0) -> None:
        self.bath = temperature(temperature_K)
        self.tau = time_constant(time_constant_fs, "time_constant_fs")
        self._freedom = Freedom()
        self._decay: tuple[Tensor, Tensor] | None = None

    def init(self, state: State, step: Step) -> Memory:
        still = (state.kinetic_energy <= 0) & (state.dof > 0)
        if bool(still.any()):
            raise ValueError(
                f"Velocities of system {int(still.nonzero()[0])} are zero, and rescaling cannot set them in "
                f"motion; start from maxwell_boltzmann(…)."
            )
        return Memory({"heat": torch.zeros_like(state.time)})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        moved, heat = velocity_rescaling(
            state.velocities, state.masses, state.system.system_index, self._freedom.of(state),
            self.bath.at(state), self._kept(dt), state.seeds, step.number, step.stream,
        )  # fmt: skip
        return state.with_velocities(moved), Memory({"heat": memory.systems["heat"] + heat})

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["heat"]

    def settings(self) -> dict[str, Any]:
        return {"temperature_K": self.bath.settings(), "time_constant": self.tau}

    def _kept(self, dt: Tensor) -> Tensor:
        """exp(−Δt/τ), computed anew only for another timestep."""
        if self._decay is None or self._decay[0] is not dt:
            self._decay = (dt, torch.exp(-dt / self.tau))
        return self._decay[1]
