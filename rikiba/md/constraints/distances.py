"""Distances between given atoms."""

from typing import ClassVar

import torch

from rikiba.core.system import System

from .base import MAX_ITERATIONS, TOLERANCE, Parts, checked_accuracy, numbers_of


class Distances:
    """Given pairs of atoms keep their distances (SHAKE for positions, RATTLE for velocities).

    Pairs may share atoms and form any connected set, as long as each says something that the others do not:
    a rigid tetrahedron needs six, a linear molecule of three atoms cannot be held by three.
    Ryckaert, Ciccotti & Berendsen, doi:10.1016/0021-9991(77)90098-5; Andersen,
    doi:10.1016/0021-9991(83)90014-1.

    Args:
        pairs: two atoms each, by their places within each structure, from 0.
        lengths: Å, one for each pair; if not given, those at the start.
        tolerance: relative error of a distance, and of velocities along it.
        max_iterations: sweeps over the pairs of a connected set after which the run stops.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1016/0021-9991(77)90098-5", "10.1016/0021-9991(83)90014-1")

    def __init__(
        self,
        *,
        pairs: tuple[tuple[int, int], ...],
        lengths: tuple[float, ...] | None = None,
        tolerance: float = TOLERANCE,
        max_iterations: int = MAX_ITERATIONS,
    ) -> None:
        checked_accuracy(tolerance, max_iterations)
        if not pairs or any(len(p) != 2 for p in pairs):
            raise ValueError(f"pairs is at least one pair of atoms; given {pairs}.")
        if lengths is not None and (len(lengths) != len(pairs) or not all(0 < x < 1e6 for x in lengths)):
            raise ValueError(f"lengths must be {len(pairs)} positive distances in Å; given {lengths}.")
        self.pairs, self.lengths = pairs, lengths
        self.tolerance, self.max_iterations = tolerance, max_iterations

    @classmethod
    def examples(cls) -> "list[Distances]":
        return [cls(pairs=((0, 1), (1, 2)))]

    def bind(self, system: System) -> Parts:
        own = numbers_of(system, tuple(a for p in self.pairs for a in p)).reshape(-1, 2)
        first = system.counts.cumsum(0) - system.counts
        pairs = (first[:, None, None] + own[None]).reshape(-1, 2)
        each = [float("nan")] * len(own) if self.lengths is None else self.lengths
        lengths = torch.tensor(each, dtype=torch.float64, device=pairs.device).repeat(system.n_systems)
        return Parts(
            pairs=pairs, lengths=lengths, tolerance=self.tolerance, max_iterations=self.max_iterations
        )
