"""The Langevin integrator of Grønbech-Jensen and Farago."""

from typing import Any

import torch
from torch import Tensor

from rikiba.core import units

from ..operators import Memory, Operator, Step, spread
from ..state import State
from ..target import Value, temperature


class Gjf(Operator):
    """A whole step of Langevin dynamics (G-JF): configurations and diffusion are right at any timestep.

    r′ = r + b Δt (v + Δt f/2m + β/2m),  v′ = a v + Δt (a f + f′)/2m + b β/m,
    b = 1/(1 + γΔt/2), a = b (1 − γΔt/2), β ~ N(0, 2γ m k_B T Δt)
    (Grønbech-Jensen & Farago, doi:10.1080/00268976.2012.760055). In a harmonic well the on-step velocities
    read low, by the factor 1 − (ωΔt)²/4 of ⟨v²⟩; positions do not. A word by itself: `Splitting("G", …)`.

    With w = b (v + Δt f/2m + β/2m), the velocity of the drift, v′ is 2w − (v + Δt f/2m) + Δt f′/2m. Under
    constraints v, β and v′ are tangent, and the impulse that holds r′ enters w and v′ once, as in RATTLE; the
    paper has no constraints.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        friction_per_ps: γ, 1/ps.
    """

    needs = frozenset({"forces"})
    conserves_momentum = False
    keeps_constraints = True

    def __init__(self, *, temperature_K: Value, friction_per_ps: float = 1.0) -> None:
        self.bath = temperature(temperature_K)
        if not 0.0 <= friction_per_ps < float("inf"):
            raise ValueError(f"friction_per_ps must be finite and at least 0; given {friction_per_ps}.")
        self.friction = friction_per_ps / units.picosecond

    def init(self, state: State, step: Step) -> Memory:
        return Memory({"heat": torch.zeros_like(state.time)})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        h = spread(dt, state)[:, None]
        inverse = state.inverse_masses[:, None]
        b = 1.0 / (1.0 + 0.5 * self.friction * h)
        a = b * (1.0 - 0.5 * self.friction * h)
        width = torch.sqrt(2.0 * self.friction * spread(self.bath.at(state), state)[:, None] * h * inverse)
        beta = state.tangent_of(width * step.noise(state))  # β/m
        kicked = state.tangent_of(state.velocities + 0.5 * h * inverse * step.forces(state))
        moved = state.moved(state.system.positions + b * h * (kicked + 0.5 * beta))
        moved = moved.with_velocities(a * kicked + b * beta).pulled_back(state, dt).tangent()
        damped = moved.velocities
        moved = moved.with_velocities(damped + 0.5 * h * inverse * step.forces(moved)).tangent()

        def kinetic(v: Tensor) -> Tensor:
            return state.system.total(0.5 * state.masses * (v * v).sum(-1))

        # between its two kicks the step only drifts and exchanges heat
        heat = memory.systems["heat"] + kinetic(damped) - kinetic(kicked)
        return moved, memory.with_systems(heat=heat)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["heat"]

    def settings(self) -> dict[str, Any]:
        return {"temperature_K": self.bath.settings(), "friction": self.friction}
