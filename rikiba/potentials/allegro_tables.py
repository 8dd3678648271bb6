"""Tables of an Allegro's two-body network, one for each ordered pair of elements, made when first needed."""

import copy
from collections.abc import Iterable
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rikiba.kernels.dense_cpu import at_cache_line
from rikiba.nn.tabulation import RadialFunction, spline_table

from .allegro_weights import Arrangement
from .nequip_weights import OFFSET, SHORTEST

if TYPE_CHECKING:
    from .allegro import Allegro

_MOST_INTERVALS = 4096
_SIDE = 1e-12


class PairTables:
    """Splines on equal steps in ln(r + OFFSET), as many for each pair as it needs by itself.

    So no table depends on which others there are.
    """

    def __init__(self, model: "Allegro", tolerance: float) -> None:
        self.arranged = Arrangement(copy.deepcopy(model).double())
        self.dtype, self.tolerance = model.dtype, tolerance
        n = len(model.elements)
        self.start, self.stop = log(SHORTEST + OFFSET), log(model.cutoff + OFFSET) - _SIDE
        self.first = np.full(n * n, -1, np.int64)
        """Row where each pair's table begins; −1 for none."""
        self.intervals = np.zeros(n * n, np.int64)
        self.flat = np.empty(0, np.float32 if self.dtype == torch.float32 else np.float64)
        self.error = 0.0

    def make(self, kinds: Iterable[int]) -> None:
        """Tables of these pairs. Raises ValueError where 4096 intervals do not suffice."""
        made = {int(k): self.of(self.arranged.function, int(k)) for k in kinds}
        parts, rows = [self.flat], len(self.flat) // self.arranged.width
        for kind, table in made.items():
            self.first[kind], self.intervals[kind] = rows, len(table) - 5
            parts.append(table.to(self.dtype).flatten().numpy())
            rows += len(table)
        self.flat = at_cache_line(np.concatenate(parts))

    def of(self, function: RadialFunction, kind: int) -> Tensor:
        """Coefficients of one kind: errors, relative to the largest value, within the tolerance."""
        intervals, error = 64, float("inf")
        while intervals <= _MOST_INTERVALS:
            table = spline_table(
                lambda x, _: function(torch.exp(x) - OFFSET, kind),
                n_kinds=1, start=self.start, stop=self.stop, intervals=intervals,
            )  # fmt: skip
            error = max(table.value_error, table.slope_error * exp(-self.start))
            if error <= self.tolerance:
                self.error = max(self.error, error)
                return table.coefficients[0]
            intervals *= 2
        raise ValueError(
            f"The two-body networks cannot be tabulated: {_MOST_INTERVALS} intervals leave a relative error of "
            f"{error:.1e}; allowed is {self.tolerance:.1e}. Use program(tabulate=False) or a larger tolerance."
        )
