"""Allegro inference as one compiled call; see `rikiba.kernels.allegro_cpu`."""

from collections.abc import Iterator, Sequence
from math import exp, sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.allegro_cpu import allegro_pairs, allegro_rows, allegro_space, allegro_sweep
from rikiba.kernels.dense_cpu import at_cache_line
from rikiba.nn.tabulation import value_and_slope

from .allegro_tables import PairTables
from .allegro_weights import Arrangement
from .equivariant_program import EXACT, CompiledPairs, Grouped, check_tables, exact_table, trial
from .nequip_program import repel
from .nequip_weights import OFFSET

if TYPE_CHECKING:
    from .allegro import Allegro

_PAIRS = 128
"""Centres are taken together until they have as many pairs, whose numbers stay in cache."""
_MOST_EXACT = 4096
"""The same where radial functions are evaluated without tables."""
_MOST_ELEMENTS = 8
"""Systems with more go through the two-body network, pair by pair."""
_CLOSE = 1e-6
"""Å; below, directions need care that only automatic differentiation takes."""


class CompiledAllegro(CompiledPairs):
    """A snapshot of an Allegro as a program of compiled kernels; see `Allegro.program`."""

    def __init__(self, potential: "Allegro", *, tabulate: bool, tolerance: float) -> None:
        super().__init__(potential, potential.l_max)
        model: Allegro = self._exact  # type: ignore[assignment]
        self.model = model
        self._real: type[np.floating] = np.float32 if self.dtype == torch.float32 else np.float64
        self.arranged = Arrangement(model)
        self.net = self.arranged.packed(self._real)
        self.energies = (model.atomic_energies.values + model.shift.values).double().numpy()
        self.norm = model._normalisation.double().numpy()
        self.factor = model.scale.double().numpy() * self.norm / sqrt(2.0)
        self.shortest = _CLOSE
        self.tables: PairTables | None = None
        self._space, self._most = np.empty(0, self._real), -1
        self._tolerance = tolerance
        if tabulate:
            self._tabulate(0.5 * tolerance)

    def _tabulate(self, tolerance: float) -> None:
        self.tables = t = PairTables(self.model, tolerance)
        self._radial = t.of(t.arranged.radial, 0).to(self.dtype)
        self.shortest = exp(t.start) - OFFSET
        if len(self.model.elements) <= _MOST_ELEMENTS:
            t.make(range(len(t.first)))
        self.table_error, self.intervals = t.error, int(t.intervals.max())

    def _evaluate(
        self,
        types: np.ndarray,
        i: np.ndarray,
        j: np.ndarray,
        vectors: np.ndarray,
        lengths: np.ndarray,
        threads: int,
    ) -> tuple[Tensor, Tensor]:
        """Energies of the atoms and derivatives by the pairs' vectors."""
        found = allegro_pairs(
            types, len(self.model.elements), i, j, vectors, lengths, self.norm, self.factor, self._n_lm,
            *self._terms, self._space,
        )  # fmt: skip
        order, spans, start, parent, kinds, sender_types, norm, factor, sender, unit, r, y, most = found
        energies, slope, y_slope = np.zeros(len(types)), np.zeros(len(r)), np.zeros_like(y)
        if most:
            self._make_room(most)
            pairs = start, kinds, sender_types, norm, factor, y.reshape(-1)
            self._sweep(r, spans, pairs, energies, slope, y_slope.reshape(-1))
        if self.model.zbl:
            nothing = torch.empty(0)
            grouped = Grouped(kinds, start, sender, sender_types, r, nothing, slope, nothing)
            repel(self.model, grouped, energies)
        gradient = np.empty((len(r), 3))
        geometry.geometry_reverse(unit, r, y, *self._terms, parent, slope, y_slope, gradient)
        out = np.empty(len(types))
        out[order] = energies + self.energies[kinds]
        return torch.from_numpy(out), torch.from_numpy(gradient)

    def _sweep(
        self,
        r: np.ndarray,
        spans: np.ndarray,
        pairs: tuple[np.ndarray, ...],
        energies: np.ndarray,
        slope: np.ndarray,
        y_slope: np.ndarray,
    ) -> None:
        """The whole network, with tables or without."""
        start, kinds, sender_types = pairs[:3]
        n, t = len(start) - 1, self.tables
        rest = self._most, self._space, energies, slope, y_slope
        if t is None:
            weights = np.tile(np.array(EXACT, self._real), len(r))
            for first, last in _spans(start):
                q0, q1 = start[first], start[last]
                row = 2 * (np.arange(len(r)) - q0)
                table = self._exact_radial(r[q0:q1])
                allegro_sweep(self.net, False, first, last, *pairs, row, weights, table, *rest)
            return
        row, weights = np.empty(len(r), np.int64), np.empty((len(r), 12), self._real)
        tabulated = self._ready(spans)
        if tabulated:
            table, n_types, firsts, intervals = t.flat, len(self.model.elements), t.first, t.intervals
        else:
            table, n_types = self._radial.view(-1).numpy(), 0
            firsts, intervals = np.zeros(1, np.int64), np.array([len(self._radial) - 5])
        allegro_rows(
            r, start, kinds, sender_types, n_types, firsts, intervals, t.start, t.stop - t.start, OFFSET, row,
            weights,
        )  # fmt: skip
        allegro_sweep(self.net, tabulated, 0, n, *pairs, row, weights.reshape(-1), table, *rest)

    def _ready(self, spans: np.ndarray) -> bool:
        """Whether the elements at hand have tables; makes those that are missing."""
        if len(self.model.elements) <= _MOST_ELEMENTS:
            return True
        present = np.flatnonzero(np.diff(spans))
        assert self.tables is not None
        return len(present) <= _MOST_ELEMENTS and self.tables.ready(present, self.check)

    def check(self, types: Sequence[int]) -> None:
        """Raise ValueError unless forces in a trial structure of these elements equal the networks'."""
        from ase.data import covalent_radii

        largest = float(covalent_radii[self.model._numbers[list(types)].numpy()].max())
        elements = tuple(self.model.elements[k] for k in types)
        check_tables(self, trial(elements, 2.2 * largest), self._tolerance)

    def _exact_radial(self, r: np.ndarray) -> np.ndarray:
        """The embedding's functions and their slopes at every pair."""
        return exact_table(*value_and_slope(self.arranged.radial, torch.from_numpy(r).to(self.dtype), 0))

    def _make_room(self, most: int) -> None:
        """For as many pairs of one centre, and for _PAIRS."""
        if most > self._most:
            self._most = max(most, _PAIRS)
            self._space = at_cache_line(np.zeros(allegro_space(self.net, self._most), self._real))


def _spans(start: np.ndarray) -> Iterator[tuple[int, int]]:
    """Centres taken together until they have _MOST_EXACT pairs."""
    first, n = 0, len(start) - 1
    while first < n:
        last = int(np.searchsorted(start, start[first] + _MOST_EXACT, side="right")) - 1
        last = min(max(last, first + 1), n)
        yield first, last
        first = last


def compiled_allegro(potential: "Allegro", *, tabulate: bool, tolerance: float) -> CompiledAllegro:
    """Build the program and, with tables, hold its forces against the networks'; see `Allegro.program`."""
    program = CompiledAllegro(potential, tabulate=tabulate, tolerance=tolerance)
    if tabulate:
        program.check(range(len(potential.elements)))
    return program
