"""Langevin friction and noise, solved exactly."""

from typing import Any

import torch
from torch import Tensor

from rikiba.core import units
from rikiba.kernels.local_motion import FRICTION

from ..operators import Local, Memory, Step
from ..state import State, per_system
from ..target import Value, temperature


class Langevin(Local):
    """Friction and noise as an exact Ornstein–Uhlenbeck step, the O of BAOAB and OBABO.

    v ← c v + √(k_B T (1 − c²)/m) ξ,  c = exp(−γ Δt)

    (Leimkuhler & Matthews, doi:10.1093/amrx/abs010). Noise is counter-based: a system's trajectory depends
    on its own seed only. It does not conserve momentum, so no degree of freedom is subtracted. The kinetic
    energy right after this step is free of timestep error under BAOAB and is the one reported; the heat it
    brings in is summed, so that kinetic + potential energy − heat is conserved.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        friction_per_ps: rate of the friction, 1/ps; 1 for sampling, 0.1 or less where dynamics matter.
    """

    conserves_momentum = False
    kind = FRICTION

    def __init__(
        self,
        *,
        temperature_K: Value,
        friction_per_ps: float | tuple[float, ...] = 1.0,
    ) -> None:
        self.bath = temperature(temperature_K)
        rates = torch.as_tensor(friction_per_ps, dtype=torch.float64)
        if not bool((rates >= 0).all()) or not bool(rates.isfinite().all()):
            raise ValueError(f"friction_per_ps must be finite and at least 0; given {friction_per_ps}.")
        self.friction_per_ps = friction_per_ps
        self._decay: tuple[Tensor, Tensor] | None = None

    def init(self, state: State, step: Step) -> Memory:
        return Memory({"heat": torch.zeros_like(state.time), "kinetic_energy": state.kinetic_energy})

    def numbers(self, state: State, dt: Tensor) -> tuple[Tensor, Tensor]:
        return self._decay_in(dt), self.bath.at(state)

    def remember(self, memory: Memory, before: Tensor, after: Tensor) -> Memory:
        heat = memory.systems["heat"] + (after - before)
        return memory.with_systems(heat=heat, kinetic_energy=after)

    def after_constraints(self, memory: Memory, change: Tensor) -> Memory:
        old = memory.systems
        return memory.with_systems(heat=old["heat"] + change, kinetic_energy=old["kinetic_energy"] + change)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["heat"]

    def kinetic_energy(self, memory: Memory) -> Tensor | None:
        return memory.systems["kinetic_energy"]

    def settings(self) -> dict[str, Any]:
        rates = torch.as_tensor(self.friction_per_ps, dtype=torch.float64).tolist()
        return {"temperature_K": self.bath.settings(), "friction_per_ps": rates}

    def _decay_in(self, dt: Tensor) -> Tensor:
        """c of each system, computed once for a timestep tensor."""
        if self._decay is None or self._decay[0] is not dt:
            rate = per_system(self.friction_per_ps, dt.shape[0], dt.device) / units.picosecond
            self._decay = (dt, torch.exp(-rate * dt))
        return self._decay[1]
