"""What a constraint must offer, and what it amounts to for given structures."""

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.system import System

TOLERANCE = 1e-10
"""Relative error of a held distance, where nothing else is asked for."""
MAX_ITERATIONS = 1000


class ConstraintError(ArithmeticError):
    """Constraints that cannot be met in a step."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """What a constraint holds in a batch of structures; atoms are counted through the batch."""

    pairs: Int[Tensor, "pairs 2"] | None = None
    lengths: Float[Tensor, "pairs"] | None = None
    """Å; NaN for a pair that keeps the distance it has at the start."""
    molecules: Int[Tensor, "molecules 3"] | None = None
    """Apex and two equal feet (O, H, H) of rigid three-site molecules."""
    shapes: Float[Tensor, "molecules 2"] | None = None
    """Their lengths of leg and base, Å."""
    allowed: Float[Tensor, "atoms 3 3"] | None = None
    """Projectors onto the directions in which atoms may move; 0 for a fixed atom."""
    centred: Bool[Tensor, "systems"] | None = None
    """Systems whose centre of mass stands still."""
    tolerance: float = TOLERANCE
    max_iterations: int = MAX_ITERATIONS

    def bind(self, system: System) -> "Parts":
        """Parts serve as a constraint themselves, of the batch that they were made for."""
        return self


@runtime_checkable
class Constraint(Protocol):
    """A condition on positions that motion keeps."""

    def bind(self, system: System) -> Parts:
        """What it holds in these structures; raises ValueError where it finds nothing that it could hold."""
        ...


def chosen_atoms(
    system: System,
    *,
    atoms: tuple[int, ...] = (),
    elements: tuple[str, ...] = (),
    tags: tuple[int, ...] = (),
    below: float | None = None,
    above: float | None = None,
) -> Bool[Tensor, "atoms"]:
    """Atoms for which everything that is given holds.

    Raises ValueError where nothing is given, an atom or element does not exist, or no atom is left.
    """
    if not (atoms or elements or tags) and below is None and above is None:
        raise ValueError("Say which atoms: give atoms, elements, tags, below or above.")
    found = torch.ones_like(system.numbers, dtype=torch.bool)
    if atoms:
        found &= torch.isin(own_places(system), numbers_of(system, atoms))
    if elements:
        found &= torch.isin(system.numbers, torch.tensor([periodic_table.number(e) for e in elements]))
    if tags:
        if system.tags is None:
            raise ValueError(f"tags = {list(tags)} chooses by tags, and the structure has none.")
        found &= torch.isin(system.tags, torch.tensor(tags))
    height = system.positions[:, 2]
    if below is not None:
        found &= height <= below
    if above is not None:
        found &= height >= above
    empty = system.total(found) == 0
    if bool(empty.any()):
        raise ValueError(
            f"No atom of structure {int(empty.nonzero()[0])} is chosen by atoms {list(atoms)}, elements "
            f"{list(elements)}, tags {list(tags)}, below {below}, above {above} (Å along z); all must hold."
        )
    return found


def own_places(system: System) -> Int[Tensor, "atoms"]:
    """Each atom's place within its own structure."""
    first = system.counts.cumsum(0) - system.counts
    return torch.arange(system.n_atoms, device=first.device) - first[system.system_index]


def numbers_of(system: System, atoms: tuple[int, ...]) -> Int[Tensor, "chosen"]:
    """Places within a structure as a tensor; raises ValueError for one that a structure does not have."""
    least = int(system.counts.min())
    wrong = [a for a in atoms if not 0 <= a < least]
    if wrong:
        raise ValueError(f"Atoms are counted from 0 to {least - 1} within each structure; given {wrong[:8]}.")
    return torch.tensor(atoms, dtype=torch.int64, device=system.numbers.device)


def restricting(chosen: Bool[Tensor, "atoms"], allowed: Float[Tensor, "3 3"]) -> Parts:
    """Parts of a constraint that lets the chosen atoms move in some directions only."""
    eye = torch.eye(3, dtype=torch.float64, device=chosen.device)
    return Parts(allowed=torch.where(chosen[:, None, None], allowed.to(eye), eye))


def direction(vector: tuple[float, float, float], name: str) -> Float[Tensor, "3"]:
    """The unit vector of one; raises ValueError where it has no direction."""
    v = torch.as_tensor(vector, dtype=torch.float64)
    if v.shape != (3,) or not bool(v.isfinite().all()) or not float(v.norm()) > 0:
        raise ValueError(f"{name} is three numbers, not all of them 0; given {vector}.")
    unit: Tensor = v / v.norm()
    return unit


def checked_accuracy(tolerance: float, max_iterations: int) -> None:
    """Raise ValueError for a tolerance or number of iterations that cannot serve."""
    if not 1e-14 <= tolerance <= 1e-2:
        raise ValueError(f"tolerance is a relative error from 1e-14 to 1e-2; given {tolerance}.")
    if max_iterations < 1:
        raise ValueError(f"max_iterations is at least 1; given {max_iterations}.")
