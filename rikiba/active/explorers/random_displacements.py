"""Exploration by random displacements of known structures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.data.generators import random_displacements


@final
@dataclass(frozen=True, kw_only=True)
class RandomDisplacements:
    """Copies of the seeds with every coordinate displaced by a Gaussian; a copy stays in its parent's group.

    Args:
        amplitude: standard deviation of a coordinate's displacement, Å.
        frames: number of displaced copies, spread evenly over the seeds.
        min_distance: a copy is drawn again while two atoms are closer than this, Å.
        seed: of the displacements.
    """

    amplitude: float = 0.05
    frames: int = 100
    min_distance: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.amplitude > 0 or self.frames < 1:
            raise ValueError(
                f"amplitude must be positive and frames at least 1; given {self.amplitude} and {self.frames}."
            )

    def parts(self) -> "list[RandomDisplacements]":
        """All of it: drawing takes no time."""
        return [self]

    def explore(self, calculator: Calculator, seeds: Sequence[Atoms]) -> list[Atoms]:
        """Displaced copies with the `info` of their parents; the calculator is not asked."""
        n = min(self.frames, len(seeds))
        rows = np.linspace(0, len(seeds) - 1, n).round().astype(int)
        share, rest = divmod(self.frames, n)
        out = []
        for k, row in enumerate(rows):
            out += random_displacements(
                seeds[row],
                number=share + (k < rest),
                amplitudes=self.amplitude,
                min_distance=self.min_distance,
                seed=self.seed + 7919 * k,
            )
        for atoms in out:
            atoms.info.setdefault("group", "displaced")
        return out
