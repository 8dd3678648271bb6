"""What the first block of an M3GNet makes of pairs that hear of no angle, as tables of their distance."""

import copy
from math import ceil
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad, silu

from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.table_rows_cpu import Samples
from rikiba.nn.tabulation import spline_table

from .filter_program import flat, padded

INTERVALS_PER_A = 96
MOST_TYPES = 4
"""Of a structure that tables are made for; each pair of types costs some hundredths of a second, once."""


class FarTables:
    """Features after the first block, and messages, of pairs beyond the three-body cutoff.

    All atoms of a type have the same features before the first block, and the angular network of a pair
    without angles gives zero: what the block makes of e⁰(r) is a function of r for each pair of types. A
    table depends on its pair of types alone, not on what was asked before.

    Args:
        model: an M3GNet.
        tolerance: largest error, relative to the largest value of a table; pairs of types whose table is
            farther off have none.
    """

    def __init__(self, model: Any, *, tolerance: float) -> None:
        self._model, self._tolerance, self._dtype = copy.deepcopy(model).double(), tolerance, model.dtype
        self._tables: dict[int, np.ndarray | None] = {}
        self._present: tuple[int, ...] = ()
        self._joined: np.ndarray | None = None
        self._kinds = np.empty(0, np.int64)
        self._from, self._stop = model.three_body_cutoff, model.cutoff * (1.0 - 1e-12)
        self._intervals = max(8, ceil(INTERVALS_PER_A * (model.cutoff - self._from)))
        self._spacing = (self._stop - self._from) / self._intervals

    def find(self, types: np.ndarray) -> np.ndarray | None:
        """Tables for all pairs of these types, or None; made where they are missing."""
        present = tuple(np.flatnonzero(np.bincount(types)).tolist())
        if present != self._present:
            n, self._present, self._joined = len(self._model.elements), present, None
            if 0 < len(present) <= MOST_TYPES and self._spacing > 0.0:
                codes = [a * n + b for a in present for b in present]
                found = [t for t in map(self._table, codes) if t is not None]
                self._kinds = np.full(n * n, -1)
                self._kinds[codes] = np.arange(len(codes))
                self._joined = np.concatenate(found) if len(found) == len(codes) else None
        return self._joined

    def points(self, types: np.ndarray, centre: np.ndarray, sender: np.ndarray, r: np.ndarray) -> Samples:
        """Where pairs of these types stand in the tables last found."""
        real = np.float32 if self._dtype == torch.float32 else np.float64
        row, weights = np.empty(len(r), np.int64), np.empty((len(r), 12), real)
        kind = self._kinds[types[centre] * len(self._model.elements) + types[sender]]
        geometry.spline_rows(r, kind, self._from, self._spacing, 0.0, self._intervals + 5, row, weights)
        return Samples(row, weights.reshape(-1))

    def _table(self, code: int) -> np.ndarray | None:
        if code not in self._tables:
            table = spline_table(
                lambda r, kind: self._function(r, *divmod(code, len(self._model.elements))),
                n_kinds=1,
                start=self._from,
                stop=self._stop,
                intervals=self._intervals,
            )
            good = max(table.value_error, table.slope_error) <= self._tolerance
            self._tables[code] = flat(table.coefficients[0].to(self._dtype)) if good else None
        return self._tables[code]

    def _function(self, r: Float[Tensor, "n"], centre: int, neighbour: int) -> Float[Tensor, "n columns"]:
        """Features after the first block, and messages, of pairs of these types without angles."""
        model, layer = self._model, self._model.layers[0]
        ends = [(model.embedding[k].expand(len(r), -1), None) for k in (centre, neighbour)]
        radial = model.radial(r)
        e = silu(model.pair_embedding(radial))
        e = e + layer.pair_update(*ends, (e, None)) * layer.pair_weights(radial)
        parts = e, layer.message(*ends, (e, None)) * layer.message_weights(radial)
        return torch.cat([pad(x, (0, padded(x.shape[1]) - x.shape[1])) for x in parts], 1)
