"""What a trial move offers, and what moves choose from."""

from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rikiba.core.system import System


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Proposal:
    """One trial configuration of every system of a batch."""

    system: System
    log_weight: Float[Tensor, "systems"]
    """ln of what multiplies exp(−β(ΔU + PΔV)) in the acceptance ratio; 0 for a symmetric move."""
    possible: Bool[Tensor, "systems"]
    """False where there is nothing to move: the trial counts as rejected."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What stays the same during a run: which atoms may move and which belong together."""

    system: System
    fixed: Bool[Tensor, "atoms"]
    molecules: Int[Tensor, "atoms"] | None
    """Molecule of each atom, counted over the whole batch and ascending; None where atoms are alone."""


@runtime_checkable
class Move(Protocol):
    """A rule for trial configurations whose forward and backward probabilities differ by `log_weight` only.

    Its file in this room is its name. All systems of a batch try the same move at the same step, each with
    its own random numbers.
    """

    weight: float
    """How often it is tried, relative to the other moves."""
    size: float
    """First step size in the move's own unit; 0 where it has none."""
    largest: float
    """Step sizes are tuned up to this."""
    n_uniforms: int
    """Random numbers that one trial of one system takes."""
    changes_volume: bool

    def prepare(self, scene: Scene) -> Any:
        """What the move needs to know of the systems. Raises ValueError where it does not apply to them."""
        ...

    def propose(
        self,
        plan: Any,
        system: System,
        size: Float[Tensor, "systems"],
        u: Float[Tensor, "systems n_uniforms"],
    ) -> Proposal:
        """The trial configurations, from uniform numbers in (0, 1]."""
        ...


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Choices:
    """Things (atoms, molecules) grouped by system, from which one is drawn for each."""

    items: Int[Tensor, "items"]
    start: Int[Tensor, "systems"]
    counts: Int[Tensor, "systems"]

    @staticmethod
    def of(mask: Bool[Tensor, "things"], owner: Int[Tensor, "things"], n_systems: int) -> "Choices":
        """The things where `mask` holds; `owner` is the system of each, ascending."""
        items = mask.nonzero().flatten()
        counts = torch.bincount(owner[items], minlength=n_systems)
        return Choices(items=items, start=counts.cumsum(0) - counts, counts=counts)

    @property
    def exist(self) -> Bool[Tensor, "systems"]:
        return self.counts > 0

    def draw(self, u: Float[Tensor, "systems"]) -> Int[Tensor, "systems"]:
        """One thing for each system; for a system without any, some thing of another, not to be used."""
        place = torch.minimum((u * self.counts).long(), (self.counts - 1).clamp(min=0))
        return self.items[(self.start + place).clamp(max=len(self.items) - 1)]


def check_weight(weight: float) -> float:
    """The relative frequency; raises ValueError unless positive."""
    if not weight > 0:
        raise ValueError(f"weight must be positive; given {weight}. Leave a move out that is not wanted.")
    return float(weight)


def check_size(name: str, size: float, largest: float) -> tuple[float, float]:
    """First and largest step size; raises ValueError unless 0 < size ≤ largest."""
    if not 0 < size <= largest:
        raise ValueError(
            f"{name} must be positive and at most the largest, {largest}; given {size}. It is tuned during "
            f"equilibration only."
        )
    return float(size), float(largest)


def unchanged(system: System) -> Float[Tensor, "systems"]:
    """A log weight of 0 for each system."""
    return torch.zeros(system.n_systems, dtype=torch.float64, device=system.positions.device)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Molecules:
    """Rigid groups of atoms, found once: their atoms, masses and which of them may move."""

    of_atom: Int[Tensor, "atoms"]
    n: int
    owner: Int[Tensor, "molecules"]
    mass: Float[Tensor, "molecules"]
    masses: Float[Tensor, "atoms"]
    movable: Choices

    @staticmethod
    def of(scene: Scene, name: str, at_least: int = 1) -> "Molecules":
        """Raises ValueError where the run has no molecules, or none of `at_least` free atoms."""
        if scene.molecules is None:
            raise ValueError(
                f"{name} moves molecules: say which atoms belong together (atoms_per_molecule, or molecules)."
            )
        index, masses = scene.molecules, scene.system.masses
        n = int(index.max()) + 1 if len(index) else 0
        owner = torch.zeros(n, dtype=torch.int64).to(index.device)
        owner[index] = scene.system.system_index
        held = torch.zeros(n, dtype=torch.bool, device=index.device)
        held[index[scene.fixed]] = True
        free = ~held & (torch.bincount(index, minlength=n) >= at_least)
        if not bool(free.any()):
            raise ValueError(f"{name} finds no molecule of at least {at_least} atoms that is free to move.")
        return Molecules(
            of_atom=index,
            n=n,
            owner=owner,
            mass=masses.new_zeros(n).index_add(0, index, masses),
            masses=masses,
            movable=Choices.of(free, owner, scene.system.n_systems),
        )

    def centres(self, positions: Float[Tensor, "atoms 3"]) -> Float[Tensor, "molecules 3"]:
        """Centre of mass of each molecule, whose positions are whole, Å."""
        weighted = positions.new_zeros((self.n, 3)).index_add(
            0, self.of_atom, self.masses[:, None] * positions
        )
        return weighted / self.mass[:, None]

    def chosen(self, u: Float[Tensor, "systems"]) -> Bool[Tensor, "atoms"]:
        """The atoms of one molecule of each system that has any."""
        picked = torch.zeros(self.n, dtype=torch.bool, device=u.device)
        picked[self.movable.draw(u)[self.movable.exist]] = True
        return picked[self.of_atom]
