"""Andersen's stochastic collisions."""

from typing import Any

import torch
from torch import Tensor

from rikiba.core import units

from ..operators import Memory, Operator, Step, spread
from ..state import State
from ..target import Value, temperature


class Andersen(Operator):
    """With probability 1 − exp(−ν Δt) an atom's velocity is drawn anew: v = √(k_B T/m) ξ.

    Canonical at any rate; dynamics are not conserved, diffusion least of all
    (Andersen, doi:10.1063/1.439486). K + U − (heat brought in) is conserved.

    Atoms that constraints connect collide together: of velocities within a molecule that are drawn at
    different times the constraints would make a colder distribution.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        rate_per_ps: ν, collisions of one atom, 1/ps.
    """

    conserves_momentum = False

    def __init__(self, *, temperature_K: Value, rate_per_ps: float = 1.0) -> None:
        self.bath = temperature(temperature_K)
        if not 0.0 <= rate_per_ps < float("inf"):
            raise ValueError(f"rate_per_ps must be finite and at least 0; given {rate_per_ps}.")
        self.rate = rate_per_ps / units.picosecond

    def init(self, state: State, step: Step) -> Memory:
        if state.constraints is not None and bool(state.constraints.centred.any()):
            raise ValueError(
                "Andersen's collisions of single molecules are not canonical where the centre of mass is "
                "held; leave fixed_centre out, or use langevin."
            )
        return Memory({"heat": torch.zeros_like(state.time)})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        noise = step.noise(state, 4)
        met = torch.special.ndtr(state.of_group(noise[:, 3])) < -torch.expm1(-self.rate * spread(dt, state))
        width = torch.sqrt(spread(self.bath.at(state), state) * state.inverse_masses)
        drawn = width[:, None] * noise[:, :3]
        moved = state.with_velocities(torch.where(met[:, None], drawn, state.velocities))
        heat = memory.systems["heat"] + moved.kinetic_energy - state.kinetic_energy
        return moved, memory.with_systems(heat=heat)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["heat"]

    def settings(self) -> dict[str, Any]:
        return {"temperature_K": self.bath.settings(), "rate": self.rate}
