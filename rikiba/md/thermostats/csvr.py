"""Stochastic velocity rescaling."""

from typing import Any

import torch
from torch import Tensor

from ..operators import Memory, Operator, Step, spread
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

    def init(self, state: State, step: Step) -> Memory:
        still = (state.kinetic_energy <= 0) & (state.dof > 0)
        if bool(still.any()):
            raise ValueError(
                f"Velocities of system {int(still.nonzero()[0])} are zero, and rescaling cannot set them in "
                f"motion; start from maxwell_boltzmann(…)."
            )
        return Memory({"heat": torch.zeros_like(state.time)})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        from scipy.special import gammaincinv, ndtr

        kinetic, dof = state.kinetic_energy, state.dof.double()
        noise = step.noise_per_system(state, 2)
        others = (dof - 1.0).clamp(min=0.0)
        # the sum of N_f − 1 squares as one number: the inverse distribution at a uniform one
        squares = 2.0 * torch.from_numpy(
            gammaincinv(0.5 * others.cpu().numpy(), ndtr(noise[:, 1].cpu().numpy()))
        )
        squares = torch.where(others > 0, squares.to(dof.device), 0.0)
        c, share, r = torch.exp(-dt / self.tau), 0.5 * self.bath.at(state), noise[:, 0]
        ahead = torch.sqrt(c * kinetic) + torch.sqrt((1.0 - c) * share) * r
        new = ahead**2 + (1.0 - c) * share * squares
        moving = kinetic > 0
        scale = torch.where(moving, torch.sqrt(new / torch.where(moving, kinetic, 1.0)), 1.0)
        scale = torch.where(ahead < 0, -scale, scale)
        moved = state.with_velocities(state.velocities * spread(scale, state)[:, None])
        heat = memory.systems["heat"] + torch.where(moving, new - kinetic, 0.0)
        return moved, memory.with_systems(heat=heat)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["heat"]

    def settings(self) -> dict[str, Any]:
        return {"temperature_K": self.bath.settings(), "time_constant": self.tau}
