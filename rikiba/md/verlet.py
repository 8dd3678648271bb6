"""Verlet's method in its two older forms: half-step velocities, and positions alone."""

import torch
from jaxtyping import Float
from torch import Tensor

from .operators import Memory, Operator, Step, spread
from .state import State


class Leapfrog(Operator):
    """v(t+Δt/2) = v(t−Δt/2) + Δt F/m, r(t+Δt) = r(t) + Δt v(t+Δt/2): a whole step, a word by itself.

    What it integrates with are the half-step velocities in its memory. Those of the state are
    v(t) = v(t−Δt/2) + Δt F(t)/2m, so that temperature and energy are of one moment. Positions are those of
    velocity Verlet from the same start, to rounding. It starts with half a kick.
    Source: Hockney & Eastwood, Computer Simulation Using Particles, doi:10.1201/9780367806934, eq. 4-31.
    """

    needs = frozenset({"forces"})

    def init(self, state: State, step: Step) -> Memory:
        return Memory({"started": torch.zeros_like(state.time)}, {"half": state.velocities.clone()})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        kick, each = _kick(state, dt), spread(dt, state)[:, None]
        running = spread(memory.systems["started"], state)[:, None] > 0
        pull = step.forces(state) * kick
        half = torch.where(running, memory.atoms["half"] + pull, state.velocities + 0.5 * pull)
        state = state.moved(state.system.positions + half * each)
        state = state.with_velocities(half + 0.5 * step.forces(state) * kick)
        return state, Memory({"started": torch.ones_like(state.time)}, {"half": half})


class Stormer(Operator):
    """r(t+Δt) = 2r(t) − r(t−Δt) + Δt² F/m: a whole step, a word by itself.

    Velocities take no part; those of the state are v(t) = (r(t) − r(t−Δt))/Δt + Δt F(t)/2m, which equals the
    central difference. Positions are those of velocity Verlet from the same start, but rounding errors of
    r are divided by Δt in v. It starts from r(−Δt) = r − Δt v + Δt² F/2m.
    Source: Verlet, doi:10.1103/PhysRev.159.98, eq. 4.
    """

    needs = frozenset({"forces"})

    def init(self, state: State, step: Step) -> Memory:
        started = torch.zeros_like(state.time)
        return Memory({"started": started}, {"previous": state.system.positions.clone()})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        kick, each = _kick(state, dt), spread(dt, state)[:, None]
        running = spread(memory.systems["started"], state)[:, None] > 0
        now, pull = state.system.positions, step.forces(state) * kick * each
        before = torch.where(running, memory.atoms["previous"], now - each * state.velocities + 0.5 * pull)
        state = state.moved(2.0 * now - before + pull)
        travelled = (state.system.positions - now) / each
        state = state.with_velocities(travelled + 0.5 * step.forces(state) * kick)
        return state, Memory({"started": torch.ones_like(state.time)}, {"previous": now})


def _kick(state: State, dt: Float[Tensor, "systems"]) -> Float[Tensor, "atoms 1"]:
    """Δt/m of each atom."""
    return (state.inverse_masses * spread(dt, state))[:, None]
