"""Lengths of bonds."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from rikiba.core import elements
from rikiba.core.pairs import PairFinder
from rikiba.core.system import System

from .base import MAX_ITERATIONS, TOLERANCE, Parts, checked_accuracy


class Bonds:
    """Bonds found at the start keep their lengths (SHAKE and RATTLE), so that the timestep can be longer.

    Two atoms are bonded where they are closer than `reach` times the sum of their covalent radii. Bonds to
    hydrogen are its shortest alone (no hydrogen bonds); hydrogen molecules count.

    Args:
        between: hydrogen: bonds with at least one hydrogen atom; all: every bond.
        lengths: element pair such as "C-H" → Å; pairs that are not named keep the length they have.
        reach: in sums of covalent radii.
        tolerance: relative error of a length, and of velocities along it.
        max_iterations: sweeps over the bonds of a connected set after which the run stops.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1016/0021-9991(77)90098-5", "10.1016/0021-9991(83)90014-1")

    def __init__(
        self,
        *,
        between: Literal["hydrogen", "all"] = "hydrogen",
        lengths: Mapping[str, float] | None = None,
        reach: float = 1.25,
        tolerance: float = TOLERANCE,
        max_iterations: int = MAX_ITERATIONS,
    ) -> None:
        checked_accuracy(tolerance, max_iterations)
        if between not in ("hydrogen", "all"):
            raise ValueError(f"between is 'hydrogen' or 'all'; given '{between}'.")
        if not 0.5 <= reach <= 2.0:
            raise ValueError(f"reach is from 0.5 to 2 sums of covalent radii; given {reach}.")
        self.between, self.reach = between, reach
        self.lengths = {_element_pair(k): _length(k, v) for k, v in (lengths or {}).items()}
        self.tolerance, self.max_iterations = tolerance, max_iterations

    def bind(self, system: System) -> Parts:
        pairs = bonded(system, self.reach)
        z = system.numbers[pairs]
        if self.between == "hydrogen":
            pairs = pairs[(z == 1).any(1)]
            z = system.numbers[pairs]
        if len(pairs) == 0:
            raise ValueError(
                f"There is no bond ({self.between}) within {self.reach} sums of covalent radii to hold."
            )
        lengths = torch.full((len(pairs),), torch.nan, dtype=torch.float64, device=pairs.device)
        z = z.sort(1).values
        for (a, b), length in self.lengths.items():
            here = (z[:, 0] == a) & (z[:, 1] == b)
            lengths[here] = length
        return Parts(
            pairs=pairs, lengths=lengths, tolerance=self.tolerance, max_iterations=self.max_iterations
        )


def bonded(system: System, reach: float) -> Int[Tensor, "bonds 2"]:
    """Pairs closer than `reach` sums of covalent radii, each once; of a hydrogen atom the shortest alone."""
    radii = elements.covalent_radius(system.numbers)
    found = PairFinder(2.0 * reach * float(radii.max()), skin=0.0)(system)
    r = found.vectors(system).norm(dim=1)
    near = (found.i < found.j) & (r < reach * (radii[found.i] + radii[found.j]))
    pairs, r = torch.stack([found.i[near], found.j[near]], 1), r[near]
    keep = torch.ones(len(pairs), dtype=torch.bool, device=pairs.device)
    for side in (0, 1):
        atom = pairs[:, side]
        shortest = torch.full_like(radii, torch.inf).scatter_reduce(
            0, pairs.flatten(), r.repeat_interleave(2), "amin"
        )
        keep &= (system.numbers[atom] != 1) | (r <= shortest[atom])
    return pairs[keep]


def _element_pair(name: str) -> tuple[int, int]:
    parts = name.split("-")
    if len(parts) != 2:
        raise ValueError(f"lengths are named by two elements, e.g. 'C-H'; given '{name}'.")
    a, b = sorted(elements.number(p) for p in parts)
    return a, b


def _length(name: str, value: float) -> float:
    if not 0.1 < value < 10.0:
        raise ValueError(f"The length of {name} is from 0.1 to 10 Å; given {value}.")
    return value
