"""Langevin friction and noise, solved exactly."""

from typing import Any

import torch
from torch import Tensor

from rikiba.core import units
from rikiba.kernels.ornstein_uhlenbeck import ornstein_uhlenbeck

from ..operators import Memory, Operator, Step
from ..state import State, per_system


class Langevin(Operator):
    """Friction and noise as an exact Ornstein–Uhlenbeck step, the O of BAOAB and OBABO.

    v ← c v + √(k_B T (1 − c²)/m) ξ,  c = exp(−γ Δt)

    (Leimkuhler & Matthews, doi:10.1093/amrx/abs010). Noise is counter-based: a system's trajectory depends
    on its own seed only. It does not conserve momentum, so no degree of freedom is subtracted. The kinetic
    energy right after this step is free of timestep error under BAOAB and is the one reported; the heat it
    brings in is summed, so that kinetic + potential energy − heat is conserved.

    Args:
        temperature_K: bath temperature; one for all systems or one for each.
        friction_per_ps: rate of the friction, 1/ps; 1 for sampling, 0.1 or less where dynamics matter.
    """

    conserves_momentum = False

    def __init__(
        self,
        *,
        temperature_K: float | tuple[float, ...],
        friction_per_ps: float | tuple[float, ...] = 1.0,
    ) -> None:
        for name, value in (("temperature_K", temperature_K), ("friction_per_ps", friction_per_ps)):
            numbers = torch.as_tensor(value, dtype=torch.float64)
            if not bool((numbers >= 0).all()) or not bool(numbers.isfinite().all()):
                raise ValueError(f"{name} must be finite and at least 0; given {value}.")
        self.temperature_K = temperature_K
        self.friction_per_ps = friction_per_ps
        self._coefficients: tuple[Tensor, Tensor, Tensor] | None = None

    def init(self, state: State, step: Step) -> Memory:
        return Memory({"heat": torch.zeros_like(state.time), "kinetic_energy": state.kinetic_energy})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        decay, thermal_energy = self._at(dt)
        velocities, before, after = ornstein_uhlenbeck(
            state.velocities,
            state.masses,
            state.inverse_masses,
            state.system.system_index,
            state.seeds,
            decay,
            thermal_energy,
            step.number,
            step.stream,
        )
        heat = memory.systems["heat"] + (after - before)
        return state.with_velocities(velocities), memory.with_systems(heat=heat, kinetic_energy=after)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["heat"]

    def kinetic_energy(self, memory: Memory) -> Tensor | None:
        return memory.systems["kinetic_energy"]

    def settings(self) -> dict[str, Any]:
        as_list = lambda v: torch.as_tensor(v, dtype=torch.float64).tolist()  # noqa: E731
        return {
            "temperature_K": as_list(self.temperature_K),
            "friction_per_ps": as_list(self.friction_per_ps),
        }

    def _at(self, dt: Tensor) -> tuple[Tensor, Tensor]:
        """(c, k_B T) of each system, computed once for a timestep tensor."""
        if self._coefficients is None or self._coefficients[0] is not dt:
            n, device = dt.shape[0], dt.device
            rate = per_system(self.friction_per_ps, n, device) / units.picosecond
            energy = units.boltzmann * per_system(self.temperature_K, n, device)
            self._coefficients = (dt, torch.exp(-rate * dt), energy)
        return self._coefficients[1], self._coefficients[2]
