"""Langevin friction and noise on some of the atoms: a substrate's zone that carries heat away."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rikiba.core import units

from ..operators import Memory, Operator, Step, spread
from ..state import State
from ..target import Value, temperature


class ZoneLangevin(Operator):
    """v ← c v + √(k_B T (1 − c²)/m) ξ with c = exp(−γ Δt) for the atoms of a zone; the others are left alone.

    The exact Ornstein–Uhlenbeck step of `Langevin` (Leimkuhler & Matthews, doi:10.1093/amrx/abs010), for
    boundaries that hold a temperature while what happens elsewhere follows Newton's equations.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        friction_per_ps: rate of the friction, 1/ps.
        atoms: indices of the zone's atoms in the state; all of them if not given.
    """

    conserves_momentum = False

    def __init__(
        self, *, temperature_K: Value, friction_per_ps: float = 5.0, atoms: Sequence[int] | None = None
    ) -> None:
        if not 0.0 <= friction_per_ps < float("inf"):
            raise ValueError(f"friction_per_ps must be finite and at least 0; given {friction_per_ps}.")
        self.bath, self.friction_per_ps = temperature(temperature_K), friction_per_ps
        self.atoms = None if atoms is None else tuple(sorted(atoms))

    def init(self, state: State, step: Step) -> Memory:
        inside = torch.ones_like(state.masses)
        if self.atoms is not None:
            if self.atoms and not 0 <= self.atoms[0] <= self.atoms[-1] < len(inside):
                raise ValueError(f"atoms must be indices below {len(inside)}; given {self.atoms[:8]} ….")
            inside = torch.zeros_like(inside)
            inside[list(self.atoms)] = 1.0
        return Memory({"heat": torch.zeros_like(state.time)}, {"inside": inside})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        rate = self.friction_per_ps / units.picosecond * memory.atoms["inside"]
        decay = torch.exp(-rate * spread(dt, state))
        thermal = spread(self.bath.at(state), state)
        width = torch.sqrt(thermal * (1.0 - decay * decay) * state.inverse_masses)
        moved = state.with_velocities(decay[:, None] * state.velocities + width[:, None] * step.noise(state))
        heat = memory.systems["heat"] + moved.kinetic_energy - state.kinetic_energy
        return moved, memory.with_systems(heat=heat)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["heat"]

    def settings(self) -> dict[str, Any]:
        atoms = None if self.atoms is None else list(self.atoms)
        return {
            "temperature_K": self.bath.settings(),
            "friction_per_ps": self.friction_per_ps,
            "atoms": atoms,
        }
