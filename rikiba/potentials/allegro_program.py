"""Allegro inference as compiled kernels, a few hundred pairs at a time."""

import copy
from math import exp, sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels import pair_product_cpu as kernels
from rikiba.kernels.activation_cpu import SILU, activate
from rikiba.nn.tabulation import value_and_slope

from .allegro_weights import OFFSET, Arrangement, table_of
from .equivariant_program import EXACT, CompiledNetwork, Grouped, by_kind, check_tables, exact_table, trial
from .nequip_program import repel

if TYPE_CHECKING:
    from .allegro import Allegro

_PAIRS = 1024
"""Centres are taken together until they have as many pairs."""
_CLOSE = 1e-6
"""Å; below, directions need care that only automatic differentiation takes."""


class CompiledAllegro(CompiledNetwork):
    """A snapshot of an Allegro as a program of compiled kernels; see `Allegro.program`."""

    def __init__(self, potential: "Allegro", *, tabulate: bool, tolerance: float) -> None:
        super().__init__(potential, potential.l_max)
        model: Allegro = self._exact  # type: ignore[assignment]
        self.model = model
        self.arranged = Arrangement(model)
        self.degree = model._degrees.numpy()
        self.energies = (model.atomic_energies.values + model.shift.values).double().numpy()
        self.norm = model._normalisation.double().numpy()
        self.scale = model.scale.double().numpy()
        self.shortest = _CLOSE
        self.table: np.ndarray | None = None
        if tabulate:
            table, self.table_error = table_of(Arrangement(copy.deepcopy(model).double()), 0.5 * tolerance)
            self.start, self.spacing = table.start, table.spacing
            self.rows = table.coefficients.shape[1]
            self.intervals = self.rows - 5
            self.shortest = exp(table.start) - OFFSET
            self.table = table.coefficients.to(self.dtype).flatten().numpy()

    def evaluate_sorted(
        self, spans: tuple[int, ...], pairs: Grouped, energies: np.ndarray, threads: int
    ) -> None:
        run = _Run(self, pairs, energies)
        first, n = 0, len(pairs.types)
        while first < n:
            last = int(np.searchsorted(pairs.start, pairs.start[first] + _PAIRS, side="right")) - 1
            last = min(max(last, first + 1), n)
            if pairs.start[last] > pairs.start[first]:
                run.sweep(first, last)
            first = last
        if self.model.zbl:
            repel(self.model, pairs, energies)


class _Run:
    """One evaluation."""

    def __init__(self, program: CompiledAllegro, p: Grouped, energies: np.ndarray) -> None:
        self.program, self.p, self.energies = program, p, energies
        self.y = p.harmonics.view(-1).numpy()
        self.y_slope = p.harmonics_slope.view(-1).numpy()
        self.norm = program.norm[p.types]
        self.centre = np.repeat(np.arange(len(p.types)), np.diff(p.start))
        self.kind = p.types[self.centre] * len(program.model.elements) + p.sender_type
        self.factor = program.scale[p.types] * self.norm / sqrt(2.0)
        if program.table is None:
            self.weights = np.tile(np.array(EXACT, self.y.dtype), len(p.r))
            return
        self.row, weights = np.empty(len(p.r), np.int64), np.empty((len(p.r), 12), self.y.dtype)
        geometry.spline_rows(
            p.r, self.kind, program.start, program.spacing, OFFSET, program.rows, self.row, weights
        )
        self.weights = weights.reshape(-1)

    def _table(self, q0: int, q1: int) -> tuple[np.ndarray, np.ndarray]:
        """(row of every pair, table); without tables, of pairs q0 … q1 − 1 alone."""
        program = self.program
        if program.table is not None:
            return self.row, program.table
        r = torch.from_numpy(self.p.r[q0:q1]).to(program.dtype)

        def function(r: Tensor, kind: int) -> tuple[Tensor, Tensor]:
            return value_and_slope(program.arranged.function, r, kind)

        found = exact_table(*by_kind(function, r, self.kind[q0:q1]))
        return 2 * (np.arange(len(self.p.r)) - q0), found

    def sweep(self, first: int, last: int) -> None:
        """Energies and derivatives of centres first … last − 1."""
        p, a = self.p, self.program.arranged
        q0, q1 = int(p.start[first]), int(p.start[last])
        row, table = self._table(q0, q1)
        values = torch.empty((q1 - q0, a.width), dtype=self.program.dtype)
        kernels.table_values(row, self.weights, table, a.width, q0, q1, values.view(-1).numpy())
        chunk = _Chunk(self, first, last, values)
        chunk.forward()
        chunk.reverse()
        kernels.table_reverse(
            row, self.weights, table, a.width, q0, q1, chunk.slopes.view(-1).numpy(), p.slope
        )


class _Chunk:
    """Some centres with all their pairs, from the table's values to the derivatives by these."""

    def __init__(self, run: _Run, first: int, last: int, values: Tensor) -> None:
        self.run, self.first, self.last, self.values = run, first, last, values
        self.a = run.program.arranged
        self.q0, self.q1 = int(run.p.start[first]), int(run.p.start[last])
        self.n = self.q1 - self.q0
        self.tensors = [self._new(self.a.layers[0].product.d_in * self.a.channels)]
        """Before each layer and after the last."""
        self.around: list[Tensor] = []
        """Weights of the surroundings of each layer but the first."""
        self.matrices: list[np.ndarray] = []
        self.hidden_slopes: list[list[Tensor]] = []
        """f′ in every hidden layer of every network."""

    def _new(self, columns: int) -> Tensor:
        return torch.empty((self.n, columns), dtype=self.values.dtype)

    def _weights(self, t: int) -> tuple[Tensor, int, int]:
        """(array, first column, columns of a row) with the weights of layer t's surroundings."""
        if t == 0:
            return self.values, self.a.columns[1][0], self.a.width
        return self.around[t - 1], 0, self.around[t - 1].shape[1]

    def _geometry(self) -> tuple[np.ndarray, int, np.ndarray]:
        return self.run.y, len(self.run.program.degree), self.run.program.degree

    def forward(self) -> None:
        a, run = self.a, self.run
        kernels.weighted_harmonics(
            *self._geometry(), flat(self.values), a.width, a.channels, self.q0, self.q1,
            flat(self.tensors[0]),
        )  # fmt: skip
        for t, layer in enumerate(a.layers):
            w, at, stride = self._weights(t)
            out = self._new(layer.product.d_out * a.channels)
            size = (self.last - self.first) * len(layer.product.feature) * a.channels
            matrices = np.empty(size, self.run.y.dtype)
            kernels.product_forward(
                self.first, self.last, run.p.start, run.norm, *self._geometry(), flat(w), at, stride,
                a.channels, layer.product, flat(self.tensors[t]), matrices, flat(out),
            )  # fmt: skip
            self.tensors.append(out)
            self.matrices.append(matrices)
            c0, c1 = layer.columns
            self.values[:, c0:c1].addmm_(out[:, : a.channels], layer.tensors)
            x = self._hidden(self.values[:, c0:c1].contiguous(), layer.inner)
            self.values[:, c1:].addmm_(x, layer.later)
            if layer.around is not None:
                self.around.append(x @ layer.around)
        self._read()

    def _hidden(self, x: Tensor, inner: list[Tensor]) -> Tensor:
        """Through the hidden layers, f′ of each kept."""
        slopes: list[Tensor] = []
        for k in range(len(inner) + 1):
            x = x @ inner[k - 1] if k else x
            slopes.append(torch.empty_like(x))
            activate(flat(x), 0, x.numel(), SILU, flat(slopes[-1]), 0)
        self.hidden_slopes.append(slopes)
        return x

    def _read(self) -> None:
        """Energies, and ∂E/∂(first hidden layer) of the readout."""
        readout, run = self.a.readout, self.run
        c0, c1 = readout.columns
        centre = run.centre[self.q0 : self.q1]
        factor = torch.from_numpy(run.factor[centre]).to(self.values.dtype)
        x = self.values[:, c0:c1]
        if readout.last is None:
            e = x[:, 0]
            self.slope = torch.zeros_like(x)
            self.slope[:, 0] = factor
        else:
            x = self._hidden(x.contiguous(), readout.inner)
            e = (x @ readout.last)[:, 0]
            self.slope = self._back(factor[:, None] * readout.last.T, readout.inner)
        found = np.bincount(
            centre - self.first, e.double().numpy() * run.factor[centre], self.last - self.first
        )
        run.energies[self.first : self.last] += found

    def _back(self, g: Tensor, inner: list[Tensor]) -> Tensor:
        """From ∂E/∂(last hidden layer) to that before the first activation."""
        for k, slope in enumerate(reversed(self.hidden_slopes.pop())):
            g = (g @ inner[len(inner) - k].T if k else g) * slope
        return g

    def reverse(self) -> None:
        a, run = self.a, self.run
        self.slopes = torch.empty_like(self.values)
        c0, c1 = a.readout.columns
        self.slopes[:, c0:c1] = self.slope
        tensor_slope: Tensor | None = None
        around_slope: Tensor | None = None
        for t in range(len(a.layers) - 1, -1, -1):
            layer = a.layers[t]
            c0, c1 = layer.columns
            g = self.slopes[:, c1:] @ layer.later.T
            if layer.around is not None and around_slope is not None:
                g.addmm_(around_slope, layer.around.T)
            g = self._back(g, layer.inner)
            self.slopes[:, c0:c1] = g
            scalar_slope = g @ layer.tensors.T
            if tensor_slope is None:
                tensor_slope = scalar_slope
            else:
                tensor_slope[:, : a.channels] += scalar_slope
            w, at, stride = self._weights(t)
            into, into_at = (self.slopes, at) if t == 0 else (torch.empty_like(w), 0)
            before = torch.empty_like(self.tensors[t])
            kernels.product_reverse(
                self.first, self.last, run.p.start, run.norm, *self._geometry(), flat(w), at, stride,
                a.channels, layer.product, flat(self.tensors[t]), self.matrices[t], flat(tensor_slope),
                flat(before), flat(into), into_at, stride, run.y_slope,
            )  # fmt: skip
            tensor_slope, around_slope = before, into
        assert tensor_slope is not None
        kernels.weighted_harmonics_reverse(
            *self._geometry(), flat(self.values), a.width, a.channels, self.q0, self.q1, flat(tensor_slope),
            flat(self.slopes), run.y_slope,
        )  # fmt: skip


def flat(x: Tensor) -> np.ndarray:
    """A contiguous tensor as the kernels read it."""
    return x.view(-1).numpy()


def compiled_allegro(potential: "Allegro", *, tabulate: bool, tolerance: float) -> CompiledAllegro:
    """Build the program and, with tables, hold its forces against the networks'; see `Allegro.program`."""
    from ase.data import covalent_radii

    program = CompiledAllegro(potential, tabulate=tabulate, tolerance=tolerance)
    if tabulate:
        largest = float(covalent_radii[potential._numbers.numpy()].max())
        check_tables(program, trial(potential.elements, 2.2 * largest), tolerance)
    return program
