"""Tables of an Allegro's two-body network, one for each ordered pair of elements, made when first needed."""

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
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
_MOST_BYTES = 2**28
"""Where tables have grown beyond it, those of other systems are forgotten before new ones are made."""


class PairTables:
    """Splines on equal steps in ln(r + OFFSET), as many for each pair of elements as it needs by itself.

    What a pair's table is, and whether it is accepted, depends on the model alone, not on the tables made
    before it.
    """

    def __init__(self, model: "Allegro", tolerance: float) -> None:
        self.arranged = Arrangement(copy.deepcopy(model).double())
        self.dtype, self.tolerance = model.dtype, tolerance
        self.n = n = len(model.elements)
        self.start, self.stop = log(SHORTEST + OFFSET), log(model.cutoff + OFFSET) - _SIDE
        self.first = np.full(n * n, -1, np.int64)
        """Row where each ordered pair's table begins; −1 for none."""
        self.intervals = np.zeros(n * n, np.int64)
        self.error = 0.0
        self._accepted: dict[tuple[int, int], bool] = {}
        self._forget()

    def _forget(self) -> None:
        """Give the memory back; what was accepted stays so."""
        self.first[:] = -1
        self.flat = np.empty(0, np.float32 if self.dtype == torch.float32 else np.float64)
        self._last = b""

    def ready(self, present: np.ndarray, check: Callable[[Sequence[int]], None]) -> bool:
        """Whether all pairs of the types present have tables that are accepted; makes those not met before.

        `check` raises ValueError where tables of one or two types change forces by too much. Such pairs go
        through the networks, which a warning says once.
        """
        if present.tobytes() == self._last:
            return True
        pairs = [(int(a), int(a)) for a in present]
        pairs += [(int(a), int(b)) for k, a in enumerate(present) for b in present[k + 1 :]]
        for pair in pairs:
            if pair not in self._accepted:
                self._judge(pair, check)
        if not all(self._accepted[pair] for pair in pairs):
            return False
        self.make((present[:, None] * self.n + present).reshape(-1))
        self._last = present.tobytes()
        return True

    def _judge(self, pair: tuple[int, int], check: Callable[[Sequence[int]], None]) -> None:
        a, b = pair
        self._accepted[pair] = True  # the check reads the tables
        try:
            self.make(np.unique([a * self.n + b, b * self.n + a]))
            check(tuple(sorted({a, b})))
        except ValueError as refusal:
            self._accepted[pair], self._last = False, b""
            warnings.warn(f"{refusal} The networks are kept.", RuntimeWarning, stacklevel=2)

    def make(self, kinds: Iterable[int]) -> None:
        """Tables of these ordered pairs where there are none. Raises ValueError as `of` does."""
        wanted = [int(k) for k in kinds]
        if all(self.first[k] >= 0 for k in wanted):
            return
        if self.flat.nbytes > _MOST_BYTES:
            self._forget()
        parts, rows = [self.flat], len(self.flat) // self.arranged.width
        for kind in (k for k in wanted if self.first[k] < 0):
            table = self.of(self.arranged.function, kind)
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
            f"The two-body networks cannot be tabulated: {_MOST_INTERVALS} intervals leave a relative error "
            f"of {error:.1e}; allowed is {self.tolerance:.1e}. Use program(tabulate=False) or a larger "
            "tolerance."
        )
