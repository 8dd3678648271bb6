"""Motion as operators: each advances a part of the state by its share of the timestep."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.local_motion import DRIFT, KICK, local_motion
from rikiba.kernels.random import PER_SYSTEM, normals

from .state import State, atom_index


@final
@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What an operator remembers between steps; every tensor has a systems or an atoms axis first."""

    systems: Mapping[str, Tensor] = field(default_factory=dict)
    atoms: Mapping[str, Tensor] = field(default_factory=dict)

    def select(self, system: System, which: Int[Tensor, "chosen"]) -> "Memory":
        """The memory of some of the systems, in the given order."""
        rows = atom_index(system, which)
        return Memory(
            {name: t[which] for name, t in self.systems.items()},
            {name: t[rows] for name, t in self.atoms.items()},
        )

    def with_systems(self, **changes: Tensor) -> "Memory":
        """A copy with the named per-system tensors changed."""
        return replace(self, systems={**self.systems, **changes})


@final
@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What an operator may ask for during one step."""

    evaluate: Callable[[System, bool, bool], Results]
    """Results of a system, evaluated once per configuration: (system, stress needed, stress welcome)."""
    number: int
    """Steps done before this one."""
    stress_due: bool = False
    """A reporter wants the stress after this step: evaluations include it."""
    stream: int = 0
    """The place of the operator in the integrator's word."""

    def at(self, stream: int) -> "Step":
        """The same step as seen from another place in the word."""
        return Step(self.evaluate, self.number, self.stress_due, stream)

    def results(self, state: State, *, stress: bool = False) -> Results:
        """Energy and forces (and the stress if asked for), cached until positions or cell change."""
        return self.evaluate(state.system, stress, self.stress_due)

    def forces(self, state: State) -> Float[Tensor, "atoms 3"]:
        """Forces, eV/Å."""
        return self.results(state).need("forces")

    def noise(self, state: State, n: int = 3) -> Float[Tensor, "atoms n"]:
        """n standard normal numbers for each atom: a function of system seed, step, stream, atom's place."""
        index, counts = state.system.system_index, state.system.counts
        own = torch.arange(len(index), device=index.device) - (counts.cumsum(0) - counts)[index]
        return normals(state.seeds[index], own, self.number, self.stream, n)

    def noise_per_system(self, state: State, n: int) -> Float[Tensor, "systems n"]:
        """n standard normal numbers for each system, independent of the atoms' numbers."""
        return normals(state.seeds, torch.full_like(state.seeds, PER_SYSTEM), self.number, self.stream, n)


@runtime_checkable
class Operator(Protocol):
    """One part of an equation of motion that can be advanced on its own."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Of 'forces', 'stress'."""
    conserves_momentum: ClassVar[bool] = True
    """False where zeroed total momentum does not stay zero (noise, walls)."""
    keeps_constraints: ClassVar[bool] = False
    """True where `apply` itself leaves positions and velocities on the state's constraints; else they are put
    back afterwards, which is right for whatever moves positions or velocities but not the cell."""

    def init(self, state: State, step: Step) -> Memory:
        """Memory at the start of a run."""
        return Memory()

    def apply(
        self, state: State, memory: Memory, dt: Float[Tensor, "systems"], step: Step
    ) -> tuple[State, Memory]:
        """Advance by dt (internal units, each system its own)."""
        ...

    def after_constraints(self, memory: Memory, change: Float[Tensor, "systems"]) -> Memory:
        """Memory once constraints have changed the kinetic energy that `apply` left by `change`, eV.

        An operator that sums its heat under the name "heat" needs nothing else.
        """
        heat = memory.systems.get("heat")
        return memory if heat is None else memory.with_systems(heat=heat + change)

    def conserved(self, state: State, memory: Memory) -> Float[Tensor, "systems"]:
        """What this operator adds to kinetic + potential energy to make the conserved quantity, eV."""
        return torch.zeros_like(state.time)

    def kinetic_energy(self, memory: Memory) -> Float[Tensor, "systems"] | None:
        """Kinetic energy where this operator samples it without timestep error, eV; None if it does not."""
        return None

    def settings(self) -> dict[str, Any]:
        """Parameters that a restarted run must share, in plain JSON types."""
        return {}


@final
class Freedom:
    """The degrees of freedom of a state, counted anew only for other masses or constraints than before."""

    def __init__(self) -> None:
        self._known: tuple[Any, Any, Any, Tensor] | None = None

    def of(self, state: State) -> Float[Tensor, "systems"]:
        """N_f of each system; the same tensor as before where nothing has changed."""
        known = self._known
        if (
            known is None
            or known[0] is not state.inverse_masses
            or known[1] is not state.constraints
            or known[2] is not state.dof_removed
        ):
            what = (state.inverse_masses, state.constraints, state.dof_removed)
            known = self._known = (*what, state.dof.double())
        return known[3]


class Local(Operator):
    """An operator that treats each atom by itself, so that runs of them are done in one pass over the atoms.

    A subclass names its kind of `kernels.local_motion` and gives the two numbers that kind needs. One that
    writes its own `apply` is applied by itself.
    """

    kind: ClassVar[int]

    @abstractmethod
    def numbers(
        self, state: State, dt: Float[Tensor, "systems"]
    ) -> tuple[Float[Tensor, "systems"], Float[Tensor, "systems"]]:
        """The kind's two numbers of each system; the same tensors as before where nothing has changed."""

    def remember(
        self, memory: Memory, before: Float[Tensor, "systems"], after: Float[Tensor, "systems"]
    ) -> Memory:
        """The memory after a move that changed the kinetic energy, where its kind says by how much."""
        return memory

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        state, kinetic = move(
            (self,), (step.stream,), torch.stack(self.numbers(state, dt))[None], state, step
        )
        return state, self.remember(memory, kinetic[0, 0], kinetic[0, 1])


def move(
    operators: Sequence[Local],
    streams: tuple[int, ...],
    numbers: Float[Tensor, "operators 2 systems"],
    state: State,
    step: Step,
) -> tuple[State, Float[Tensor, "operators 2 systems"]]:
    """The state after local operators one after another, and the kinetic energies of `local_motion`."""
    kinds = tuple(op.kind for op in operators)
    positions, velocities, kinetic = local_motion(
        kinds, streams, numbers, step.number, state.system.positions, state.velocities,
        step.forces(state) if KICK in kinds else state.velocities, state.masses, state.inverse_masses,
        state.system.system_index, state.seeds,
    )  # fmt: skip
    # where nothing drifts positions stay the same tensor, so that results known for them stay known
    moved = state.moved(positions, velocities) if DRIFT in kinds else state.with_velocities(velocities)
    return moved, kinetic


class Kick(Local):
    """v ← v + Δt F/m."""

    needs = frozenset({"forces"})
    kind = KICK

    def numbers(self, state: State, dt: Tensor) -> tuple[Tensor, Tensor]:
        return dt, dt


class Drift(Local):
    """r ← r + Δt v."""

    kind = DRIFT

    def numbers(self, state: State, dt: Tensor) -> tuple[Tensor, Tensor]:
        return dt, dt


def spread(values: Float[Tensor, "systems"], state: State) -> Tensor:
    """Values of systems on their atoms ([1] broadcasts where there is one system)."""
    return values if state.n_systems == 1 else values[state.system.system_index]
