"""MACE inference as compiled kernels: a forward and a reverse sweep, with plain matrix products between.

Atoms are taken in order of their type, in chunks whose messages stay in cache.
"""

import copy
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rikiba.kernels import atom_energy_cpu as ends
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.threads import in_threads, over_slices
from rikiba.nn.repulsion import MACE_ZBL

from .equivariant_program import EXACT, CompiledNetwork, Grouped, check_tables, trial
from .mace_sweep import LayerRun, SweepPairs
from .mace_weights import OFFSET, SHORTEST, folded, layers_of, padded, radial_functions, tables_of
from .mace_workspace import LayerSpace

if TYPE_CHECKING:
    from .mace import MACE

_FOLDED_BYTES = 2**24
"""The first layer's table holds its matrix products for every pair of types if it stays below this size."""
_PAIRS_A_THREAD = 400
"""Fewer pairs of 128 channels are not worth another thread."""
_ACTIVATIONS = {"silu": ends.SILU, "tanh": ends.TANH}


class CompiledMACE(CompiledNetwork):
    """A snapshot of a MACE as a program of compiled kernels; see `MACE.program`."""

    _exact: "MACE"

    def __init__(self, potential: "MACE", *, tabulate: bool, tolerance: float) -> None:
        super().__init__(potential, potential.l_max)
        self.shortest = SHORTEST[potential.distance_transform]
        self.layers = layers_of(self._exact)
        self.channels = padded(potential.embedding.shape[1])
        self._functions = radial_functions(self._exact)
        self._typed = potential.distance_transform == "agnesi"
        self.energies = potential.atomic_energies.values.numpy() + float(potential.shift)
        self._head = self._last_readout()
        self._tables: list[np.ndarray] | None = None
        self._density: list[np.ndarray] = []
        self._spaces: tuple[tuple[tuple[int, ...], int], list[LayerSpace]] | None = None
        if tabulate:
            self._make_tables(0.5 * tolerance)

    def _last_readout(self) -> tuple[np.ndarray, int]:
        """Weights from the hidden read-out to the energy, and its activation."""
        mlp: Any = self._exact.readouts[-1]
        if len(mlp.weights) == 1:
            return np.ones(1), ends.LINEAR
        w = (
            mlp.weights[1][:, 0].double()
            * (mlp.factor / sqrt(len(mlp.weights[1])))
            * float(self._exact.scale)
        )
        return w.numpy(), _ACTIVATIONS[mlp.function]

    def _make_tables(self, tolerance: float) -> None:
        double = copy.deepcopy(self._exact).double()
        tables = tables_of(double, tolerance)
        coefficients = [t.coefficients for t in tables]
        self._start, self._spacing = tables[0].start, tables[0].spacing
        self._offset = OFFSET[self._exact.distance_transform]
        self._rows = coefficients[0].shape[1]
        self.intervals = self._rows - 5
        self.table_error = max(max(t.value_error, t.slope_error) for t in tables)
        n_types, size = len(self._exact.elements), coefficients[0][0].numel()
        if n_types**2 * size * self.dtype.itemsize <= _FOLDED_BYTES:
            exact = layers_of(double)[0]
            parts = [folded(c, exact, exact.n_density) for c in coefficients[0]]
            # with typed distances each pair of types has a table already, of which one fold is its own
            coefficients[0] = torch.stack([parts[k if self._typed else 0][k] for k in range(n_types**2)])
            ones = torch.ones_like(self.layers[0].up[0])
            self.layers[0] = replace(self.layers[0], mix=[], up=[ones])
        self._tables = []
        for layer, c in zip(self.layers, coefficients, strict=True):
            flat = c.to(self.dtype).flatten(0, 1)
            n = flat.shape[1] - layer.n_density
            self._tables.append(flat[:, :n].contiguous().flatten().numpy())
            self._density.append(flat[:, n:].contiguous().flatten().numpy())

    def worth(self, pairs: int) -> int:
        """How many threads so many pairs are worth."""
        return pairs * self.channels // (128 * _PAIRS_A_THREAD)

    def evaluate_sorted(
        self, spans: tuple[int, ...], pairs: Grouped, energies: np.ndarray, threads: int
    ) -> None:
        """Energies of the sorted atoms and derivatives of the pairs."""
        found = self._pairs(pairs, threads)
        self._sweep(spans, found, energies, threads)
        if self._exact.zbl:
            self._repel(found, pairs.types, energies)

    def _pairs(self, p: Grouped, threads: int) -> SweepPairs:
        n = len(p.r)
        pair_type = np.repeat(p.types, np.diff(p.start)) * len(self._exact.elements) + p.sender_type
        kind = pair_type if self._typed else np.zeros(n, np.int64)
        flat, back = p.harmonics.view(-1).numpy(), p.harmonics_slope.view(-1).numpy()
        row, weights = np.empty(n, np.int64), np.empty((n, 12), flat.dtype)

        def fill(a: int, b: int) -> None:
            if self._tables is None:
                weights[a:b] = EXACT
            else:
                spline = (self._start, self._spacing, self._offset, self._rows)
                geometry.spline_rows(p.r[a:b], kind[a:b], *spline, row[a:b], weights[a:b])

        over_slices(fill, n, threads)
        typed_row = row if self._tables is None else row + (pair_type - kind) * self._rows
        return SweepPairs(
            p.start, p.sender, kind, p.sender_type, p.r, p.harmonics, flat, row, typed_row, weights, p.slope,
            p.harmonics_slope, back,
        )  # fmt: skip

    def _repel(self, p: SweepPairs, types: np.ndarray, energies: np.ndarray) -> None:
        m = self._exact
        radii = m._radii.double().numpy()
        constants = (MACE_ZBL.prefactor, MACE_ZBL.exponent, np.array(MACE_ZBL.screening))
        ends.repulsion(
            p.start, p.sender, types, p.r, m._numbers.numpy(), radii, *constants, m.envelope_power,
            float(m.scale), energies, p.slope,
        )  # fmt: skip

    def _space(self, spans: tuple[int, ...], threads: int) -> list[LayerSpace]:
        if self._spaces is None or self._spaces[0] != (spans, threads):
            groups = [(k, a, b) for k, (a, b) in enumerate(pairwise(spans)) if b > a]
            spaces: list[LayerSpace] = []
            for t, layer in enumerate(self.layers):
                before = spaces[-1] if spaces else None
                spaces.append(LayerSpace(layer, groups, before, t == len(self.layers) - 1, threads))
            self._spaces = ((spans, threads), spaces)
        return self._spaces[1]

    def _sweep(self, spans: tuple[int, ...], p: SweepPairs, energies: np.ndarray, threads: int) -> None:
        spaces = self._space(spans, threads)
        runs = [LayerRun(self, t, space, p, energies) for t, space in enumerate(spaces)]
        for run, after in pairwise(runs):
            run.start()
            in_threads(partial(_forward, run, after), threads)
        runs[-1].start()
        in_threads(partial(_turn, runs[-1]), threads)
        for run, after in zip(reversed(runs[:-1]), reversed(runs), strict=False):
            in_threads(partial(_reverse, run, after), threads)


def _forward(run: LayerRun, after: LayerRun, worker: int) -> None:
    """A worker's chunks of a layer before the last."""
    for k in run.space.parts[worker]:
        run.forward(k)
        run.read(k)
        after.features(*run.space.ranges[k])


def _turn(run: LayerRun, worker: int) -> None:
    """A worker's chunks of the last layer, there and back."""
    run.space.feature_slopes[worker].flat.zero_()
    for k in run.space.parts[worker]:
        run.forward(k)
        run.read_last(k)
        run.reverse(k)


def _reverse(run: LayerRun, after: LayerRun, worker: int) -> None:
    """A worker's chunks of a layer before the last, back."""
    run.space.feature_slopes[worker].flat.zero_()
    for k in run.space.parts[worker]:
        run.gather(k, after.space)
        run.reverse(k)


def compiled_mace(potential: "MACE", *, tabulate: bool, tolerance: float) -> CompiledMACE:
    """Build the program and, with tables, hold its forces against the networks'; see `MACE.program`."""
    program = CompiledMACE(potential, tabulate=tabulate, tolerance=tolerance)
    if tabulate:
        spacing = 2.2 * float(potential._radii.max())
        check_tables(program, trial(potential.elements, spacing), tolerance)
    return program
