"""MACE inference as compiled kernels: a forward and a reverse sweep, with plain matrix products between.

Atoms are taken in order of their type, in chunks whose messages stay in cache. What a sweep needs is laid
out once per number of atoms of each type and kept for the next call.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.kernels import atom_energy_cpu as ends
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.contraction_cpu import contraction_forward, contraction_reverse
from rikiba.kernels.message_cpu import message_forward, message_reverse
from rikiba.nn.repulsion import MACE_ZBL
from rikiba.nn.so3 import raising_terms
from rikiba.nn.tabulation import value_and_slope

from .mace_weights import SHORTEST, Layer, layers_of, padded, radial_functions, tables_of

if TYPE_CHECKING:
    from .mace import MACE

_CHUNK_BYTES = 2**19
_EXACT = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""Spline weights that read value and slope from two consecutive rows."""
_ACTIVATIONS = {"silu": ends.SILU, "tanh": ends.TANH}


class Packed:
    """Equivariant features of n atoms in one flat array: a block [n, 2l+1, channels] per degree."""

    def __init__(self, n: int, degrees: int, channels: int, dtype: torch.dtype) -> None:
        self.n = n
        self.flat = torch.zeros(n * degrees * degrees * channels, dtype=dtype)
        self.array = self.flat.numpy()
        blocks = self.flat.split([n * (2 * l + 1) * channels for l in range(degrees)])
        self.blocks = [b.view(n, (2 * l + 1) * channels) for l, b in enumerate(blocks)]
        self.channels = channels

    def rows(self, l: int, first: int, last: int) -> Tensor:
        """Degree l of some atoms, [atoms·(2l+1), channels]."""
        return self.blocks[l][first:last].view(-1, self.channels)


@dataclass
class Chunk:
    """Atoms first … last − 1 with the matrix products of their sweeps as (left, right, out)."""

    first: int
    last: int
    spans: list[tuple[int, int, int]]
    """(type, first, last), types that share weights together."""
    message: Tensor
    mix: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    unmix: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    product_to: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    product_from: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    connect: list[tuple[Tensor, Tensor | None, Tensor]] = field(default_factory=list)
    """(previous, weights, out), or (row, None, out) to add a row."""
    unconnect: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)


class LayerSpace:
    """Arrays of one layer for given numbers of atoms per type, with its chunks."""

    def __init__(
        self, layer: Layer, spans: list[tuple[int, int, int]], before: "LayerSpace | None", last: bool
    ) -> None:
        n, dtype = spans[-1][2], layer.linear[0].dtype
        channels = layer.linear[0].shape[0]
        widths = layer.message_rows.width
        n_rows, degrees = len(widths), round(sqrt(len(layer.product_rows.start)))
        l_out = round(sqrt(len(layer.output_rows.start)))
        size = max(16, min(512, _CHUNK_BYTES // (n_rows * channels * dtype.itemsize)))
        ranges = [(a, min(a + size, n)) for a in range(0, n, size)]
        most = max(b - a for a, b in ranges)
        self.layer, self.before = layer, before
        self.ranges, self.spans = ranges, spans
        l_in = round(sqrt(before.n_out)) if before else 1
        self.n_out = l_out * l_out
        self.features = Packed(n, l_in, channels, dtype)
        self.feature_slope = Packed(n if before else 0, l_in, channels, dtype)
        self.out = Packed(0 if last else n, l_out, channels, dtype)
        self.out_slope = Packed(0 if last else n, l_out, channels, dtype)
        # the last layer's chunks go forward and back at once, so their arrays are shared
        self.products = [Packed(b - a, degrees, channels, dtype) for a, b in ranges] if not last else []
        self._scratch: dict[tuple[str, int], Packed] = {}
        self._messages = torch.zeros(most * n_rows * channels, dtype=dtype)
        self.hidden = torch.zeros((most, layer.linear[0].shape[1] if last else 0), dtype=dtype)
        self.chunks = [self._chunk(k, last, degrees, l_out) for k in range(len(ranges))]

    def scratch(self, name: str, n: int, degrees: int) -> Packed:
        """A packed array that chunks of equal size share."""
        key = (name, n)
        if key not in self._scratch:
            like = self.features
            self._scratch[key] = Packed(n, degrees, like.channels, like.flat.dtype)
        return self._scratch[key]

    def product(self, chunk: int, degrees: int) -> Packed:
        """Where the input of a chunk's products stands."""
        a, b = self.ranges[chunk]
        return self.products[chunk] if self.products else self.scratch("product", b - a, degrees)

    def _within(self, a: int, b: int, shared: bool) -> list[tuple[int, int, int]]:
        if shared:
            return [(0, a, b)]
        return [(k, max(s, a), min(e, b)) for k, s, e in self.spans if max(s, a) < min(e, b)]

    def _chunk(self, number: int, last: bool, degrees: int, l_out: int) -> Chunk:
        a, b = self.ranges[number]
        layer, n = self.layer, b - a
        chunk = Chunk(a, b, self._within(a, b, len(layer.product) == 1), self._messages)
        product, slope = self.product(number, degrees), self.scratch("product_slope", n, degrees)
        output, output_slope = self.scratch("output", n, l_out), self.scratch("output_slope", n, l_out)
        at = 0
        for l in range(degrees):
            inputs = layer.mix[0][l].shape[0]
            size = n * (2 * l + 1) * inputs
            message = self._messages[at : at + size].view(n, -1)
            at += size
            for k, s, e in self._within(a, b, len(layer.mix) == 1):
                part = message[s - a : e - a].view(-1, inputs)
                chunk.mix.append((part, layer.mix[k][l], product.rows(l, s - a, e - a)))
                chunk.unmix.append((slope.rows(l, s - a, e - a), layer.mix[k][l].T, part))
        for l in range(l_out):
            to = self.hidden[:n] if last else self.out.rows(l, a, b)
            back = self.hidden[:n] if last else self.out_slope.rows(l, a, b)
            chunk.product_to.append((output.rows(l, 0, n), layer.linear[l], to))
            chunk.product_from.append((back, layer.linear[l].T, output_slope.rows(l, 0, n)))
        for k, s, e in self._within(a, b, False) if layer.skip else []:
            for l, w in enumerate(layer.skip[k]):
                to = self.hidden[s - a : e - a] if last else self.out.rows(l, s, e)
                if self.before is None:
                    chunk.connect.append((w, None, to))
                    continue
                back = self.hidden[s - a : e - a] if last else self.out_slope.rows(l, s, e)
                chunk.connect.append((self.before.out.rows(l, s, e), w, to))
                chunk.unconnect.append((back, w.T, self.before.out_slope.rows(l, s, e)))
        return chunk


@dataclass
class _Pairs:
    """What every layer reads of the pairs, grouped by centre."""

    start: np.ndarray
    sender: np.ndarray
    kind: np.ndarray
    """Type pair, or 0."""
    sender_type: np.ndarray
    r: np.ndarray
    harmonics: Tensor
    row: np.ndarray
    weights: np.ndarray
    slope: np.ndarray
    """∂E/∂r."""
    harmonics_slope: Tensor


class CompiledMACE:
    """A snapshot of a MACE as a program of compiled kernels; see `MACE.program`.

    Not to be called by several threads at once: its arrays are reused from call to call.
    """

    def __init__(self, potential: "MACE", *, tabulate: bool, tolerance: float) -> None:
        self._exact = copy.deepcopy(potential).requires_grad_(False)
        self.dtype = potential.dtype
        self.layers = layers_of(self._exact)
        self.channels = padded(potential.embedding.shape[1])
        self._terms = raising_terms(potential.l_max)
        self._functions = radial_functions(self._exact)
        self._typed = potential.distance_transform == "agnesi"
        self._energies = potential.atomic_energies.values.numpy() + float(potential.shift)
        self._head = self._last_readout()
        self._tables: list[np.ndarray] | None = None
        self._density: list[np.ndarray] = []
        self._spaces: tuple[tuple[int, ...], list[LayerSpace]] | None = None
        self.table_error = 0.0
        self.intervals = 0
        if tabulate:
            self._make_tables(0.1 * tolerance)

    def _last_readout(self) -> tuple[np.ndarray, int]:
        """Weights from the hidden read-out to the energy, and its activation."""
        mlp: Any = self._exact.readouts[-1]
        if len(mlp.weights) == 1:
            return np.ones(1), ends.LINEAR
        w = mlp.weights[1][:, 0].double() * (mlp.factor / sqrt(len(mlp.weights[1]))) * float(self._exact.scale)
        return w.numpy(), _ACTIVATIONS[mlp.function]

    def _make_tables(self, tolerance: float) -> None:
        tables = tables_of(copy.deepcopy(self._exact).double(), tolerance)
        self._start, self._spacing = tables[0].start, tables[0].spacing
        self._rows = tables[0].coefficients.shape[1]
        self.intervals = self._rows - 5
        self.table_error = max(max(t.value_error, t.slope_error) for t in tables)
        self._tables = []
        for layer, t in zip(self.layers, tables, strict=True):
            flat = t.coefficients.to(self.dtype).flatten(0, 1)
            n = flat.shape[1] - layer.n_density
            self._tables.append(flat[:, :n].contiguous().flatten().numpy())
            self._density.append(flat[:, n:].contiguous().flatten().numpy())

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64.

        By automatic differentiation where a distance is below the tables or the system is decomposed.
        """
        if pairs.exchange is not None:
            return self.by_autograd(system, pairs, vectors)
        if pairs.cutoff > self._exact.cutoff:
            near, parent = pairs.with_vectors(vectors).within(system, self._exact.cutoff)
            energies, part = self(system, near, vectors[parent])
            return energies, torch.zeros_like(vectors).index_copy_(0, parent, part)
        types = self._exact.types(system).numpy()
        i, j = pairs.i.numpy(), pairs.j.numpy()
        n_types = len(self._exact.elements)
        order, _, spans, start, parent, sender = geometry.arrange(types, n_types, i, j)
        unit, r = np.empty((len(i), 3)), np.empty(len(i))
        given = vectors.detach().to(torch.float64).contiguous().numpy()
        shortest, _ = geometry.measure(given, parent, unit, r)
        if not shortest > SHORTEST[self._exact.distance_transform]:
            return self.by_autograd(system, pairs, vectors)
        sorted_types = types[order]
        found = self._pairs(sorted_types, start, sender, unit, r)
        energies = np.zeros(len(types))
        if len(types):
            self._sweep(tuple(spans.tolist()), found, energies)
        if self._exact.zbl:
            self._repel(found, sorted_types, energies)
        gradient = np.empty((len(i), 3))
        y = found.harmonics.numpy()
        geometry.geometry_reverse(
            unit, r, y, *self._terms, parent, found.slope, found.harmonics_slope.numpy(), gradient
        )
        out = np.empty(len(types))
        out[order] = energies + self._energies[sorted_types]
        return torch.from_numpy(out), torch.from_numpy(gradient)

    def by_autograd(self, system: System, pairs: Pairs, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the potential's own definition."""
        with torch.enable_grad():
            leaf = vectors.detach().to(torch.float64).requires_grad_()
            energies = self._exact(system, pairs.with_vectors(leaf)).need("energies")
            (gradient,) = torch.autograd.grad(energies.sum(), leaf) if len(leaf) else (torch.zeros_like(leaf),)
        return energies.detach().to(torch.float64), gradient

    def _pairs(
        self, types: np.ndarray, start: np.ndarray, sender: np.ndarray, unit: np.ndarray, r: np.ndarray
    ) -> _Pairs:
        n, n_types = len(r), len(self._exact.elements)
        n_lm = (self._exact.l_max + 1) ** 2
        sender_type = types[sender]
        kind = np.repeat(types, np.diff(start)) * n_types + sender_type if self._typed else np.zeros(n, np.int64)
        harmonics = torch.empty((n, n_lm), dtype=self.dtype)
        geometry.harmonics(unit, *self._terms, harmonics.numpy())
        row, weights = np.empty(n, np.int64), np.empty((n, 12), harmonics.numpy().dtype)
        if self._tables is not None:
            geometry.spline_rows(r, kind, self._start, self._spacing, self._rows, row, weights)
        slope, y_slope = np.zeros(n), torch.zeros_like(harmonics)
        return _Pairs(start, sender, kind, sender_type, r, harmonics, row, weights, slope, y_slope)

    def _repel(self, p: _Pairs, types: np.ndarray, energies: np.ndarray) -> None:
        m = self._exact
        radii = m._radii.double().numpy()
        constants = (MACE_ZBL.prefactor, MACE_ZBL.exponent, np.array(MACE_ZBL.screening))
        ends.repulsion(
            p.start, p.sender, types, p.r, m._numbers.numpy(), radii, *constants, m.envelope_power,
            float(m.scale), energies, p.slope,
        )  # fmt: skip

    def _space(self, spans: tuple[int, ...]) -> list[LayerSpace]:
        if self._spaces is None or self._spaces[0] != spans:
            groups = [(k, a, b) for k, (a, b) in enumerate(zip(spans[:-1], spans[1:], strict=True)) if b > a]
            spaces: list[LayerSpace] = []
            for t, layer in enumerate(self.layers):
                before = spaces[-1] if spaces else None
                spaces.append(LayerSpace(layer, groups, before, t == len(self.layers) - 1))
            self._spaces = (spans, spaces)
        return self._spaces[1]

    def _sweep(self, spans: tuple[int, ...], p: _Pairs, energies: np.ndarray) -> None:
        spaces = self._space(spans)
        runs = [_Run(self, t, space, p, energies) for t, space in enumerate(spaces)]
        for run in runs[:-1]:
            run.start()
            for k in range(len(run.space.chunks)):
                run.forward(k)
                run.read(k)
        last = runs[-1]
        last.start()
        for k in range(len(last.space.chunks)):
            last.forward(k)
            last.read_last(k)
            last.reverse(k)
        for run, after in zip(reversed(runs[:-1]), reversed(runs), strict=False):
            run.gather(after.space)
            for k in range(len(run.space.chunks)):
                run.reverse(k)


class _Run:
    """One layer during one evaluation."""

    def __init__(
        self, program: CompiledMACE, number: int, space: LayerSpace, p: _Pairs, energies: np.ndarray
    ) -> None:
        self.program, self.number, self.space, self.p, self.energies = program, number, space, p, energies
        self.layer, self.channels = space.layer, program.channels
        self.sender = p.sender if number else p.sender_type
        self.norm = p.harmonics.numpy()[:0, 0]
        self.share_slope = p.slope
        self.array = space.features.array if number else self.layer.up[0].numpy().reshape(-1)
        self.n_senders = space.features.n if number else len(self.layer.up[0])
        degrees = len(self.layer.mix[0])
        self.degrees, self.l_out = degrees, len(self.layer.linear)
        self.tables = program._tables

    def start(self) -> None:
        """Features of this layer from the layer before; density of the pairs."""
        space, before = self.space, self.space.before
        if before is not None:
            for l, w in enumerate(self.layer.up):
                n = before.out.n
                torch.mm(before.out.rows(l, 0, n), w, out=space.features.rows(l, 0, n))
            space.feature_slope.flat.zero_()
            before.out_slope.flat.zero_()
        if self.layer.n_density:
            self._densities()

    def _densities(self) -> None:
        p, number = self.p, self.number
        share, self.share_slope = np.empty(len(p.r)), np.empty(len(p.r))
        if self.tables is not None:
            ends.spline_column(p.row, p.weights, self.program._density[number], share, self.share_slope)
        else:
            value, slope = self._network(0, len(p.r))
            share[:], self.share_slope[:] = value[:, -1].double().numpy(), slope[:, -1].double().numpy()
        self.norm = np.empty(len(p.start) - 1, p.harmonics.numpy().dtype)
        ends.density_forward(p.start, share, self.norm)

    def _network(self, q0: int, q1: int) -> tuple[Tensor, Tensor]:
        """R and R′ of some pairs from the radial network itself."""
        r = torch.from_numpy(self.p.r[q0:q1]).to(self.program.dtype)
        kinds = self.p.kind[q0:q1]
        function = self.program._functions[self.number]
        parts = [(np.flatnonzero(kinds == k), int(k)) for k in np.unique(kinds)]
        if len(parts) == 1:
            return value_and_slope(function, r, parts[0][1])
        out: list[Tensor] = []
        for which, kind in parts:
            for n, x in enumerate(value_and_slope(function, r[which], kind)):
                if len(out) <= n:
                    out.append(x.new_empty((len(r), x.shape[1])))
                out[n][torch.from_numpy(which)] = x
        return out[0], out[1]

    def _radial(self, q0: int, q1: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, weights, table) that the message kernels read; rows count from q0 in the exact case."""
        p = self.p
        if self.tables is not None:
            return p.row, p.weights.reshape(-1), self.tables[self.number]
        n = len(self.layer.paths.d3) * self.channels
        table = torch.zeros((2 * (q1 - q0) + 4, n), dtype=self.program.dtype)
        if q1 > q0:
            value, slope = self._network(q0, q1)
            table[0 : 2 * (q1 - q0) : 2], table[1 : 2 * (q1 - q0) : 2] = value[:, :n], slope[:, :n]
        row = 2 * (np.arange(len(p.r)) - q0)
        weights = np.tile(np.array(_EXACT, p.weights.dtype), (len(p.r), 1))
        return row, weights.reshape(-1), table.flatten().numpy()

    def _angular(self, q0: int, q1: int) -> tuple[np.ndarray, int]:
        if self.layer.coupling is None:
            return self.p.harmonics.numpy().reshape(-1), 0
        return torch.mm(self.p.harmonics[q0:q1], self.layer.coupling).numpy().reshape(-1), q0

    def _message(self, kernel: Callable[..., None], chunk: Chunk, *rest: np.ndarray) -> None:
        """Run a message kernel; the reverse one gets ∂E/∂(angular) to fill as its third last argument."""
        p, layer = self.p, self.layer
        q0, q1 = int(p.start[chunk.first]), int(p.start[chunk.last])
        row, weights, table = self._radial(q0, q1)
        angular, origin = self._angular(q0, q1)
        kernel(
            chunk.first, chunk.last, p.start, self.sender, row, weights, table, self.array, self.n_senders,
            angular, origin, layer.paths, layer.message_rows, self.channels, self.norm, *rest,
        )  # fmt: skip

    def forward(self, number: int) -> None:
        """Messages, their mixture, products, and the layer's linear maps."""
        chunk, layer = self.space.chunks[number], self.layer
        self._message(message_forward, chunk, chunk.message.numpy())
        for left, right, out in chunk.mix:
            torch.mm(left, right, out=out)
        n, a = chunk.last - chunk.first, chunk.first
        product, output = self.space.product(number, self.degrees), self.space.scratch("output", n, self.l_out)
        for kind, first, last in chunk.spans:
            contraction_forward(
                layer.tree, layer.product[kind].numpy(), product.array, layer.product_rows, a, n,
                output.array, layer.output_rows, a, n, first, last, self.channels,
            )  # fmt: skip
        for left, right, out in chunk.product_to:
            torch.mm(left, right, out=out)
        for before, weights, out in chunk.connect:
            if weights is None:
                out.add_(before)
            else:
                out.addmm_(before, weights)

    def read(self, number: int) -> None:
        """Energy read from a layer before the last."""
        if self.layer.readout is None:
            return
        chunk = self.space.chunks[number]
        rows = self.space.out.rows(0, chunk.first, chunk.last)
        ends.linear_readout(rows.numpy(), self.layer.readout.numpy(), self.energies, chunk.first)

    def read_last(self, number: int) -> None:
        """Energy read from the last layer; `hidden` becomes its derivative."""
        chunk = self.space.chunks[number]
        hidden = self.space.hidden[: chunk.last - chunk.first].numpy()
        weights, activation = self.program._head
        ends.hidden_readout(hidden, weights, activation, self.energies, chunk.first)

    def gather(self, space: LayerSpace) -> None:
        """∂E/∂h of this layer, once the next (with its `space`) has been reversed."""
        n = self.space.out.n
        for l, w in enumerate(space.layer.up):
            self.space.out_slope.rows(l, 0, n).addmm_(space.feature_slope.rows(l, 0, n), w.T)
        if self.layer.readout is not None:
            self.space.out_slope.rows(0, 0, n).add_(self.layer.readout)

    def reverse(self, number: int) -> None:
        """From ∂E/∂(output) of a chunk to the derivatives of its pairs and of the layer before."""
        chunk, layer, space = self.space.chunks[number], self.layer, self.space
        for left, right, out in chunk.product_from:
            torch.mm(left, right, out=out)
        for left, right, out in chunk.unconnect:
            out.addmm_(left, right)
        n, a = chunk.last - chunk.first, chunk.first
        product, slope = space.product(number, self.degrees), space.scratch("product_slope", n, self.degrees)
        cotangent = space.scratch("output_slope", n, self.l_out)
        for kind, first, last in chunk.spans:
            contraction_reverse(
                layer.tree, layer.product[kind].numpy(), product.array, layer.product_rows, a, n,
                cotangent.array, layer.output_rows, a, n, first, last, self.channels, slope.array, a, n,
            )  # fmt: skip
        if layer.n_density:
            for value, gradient in zip(product.blocks, slope.blocks, strict=True):
                ends.density_reverse(
                    a, chunk.last, self.p.start, self.norm, value.numpy(), gradient.numpy(),
                    self.share_slope, self.p.slope,
                )  # fmt: skip
        for left, right, out in chunk.unmix:
            torch.mm(left, right, out=out)
        self._reverse_messages(chunk)

    def _reverse_messages(self, chunk: Chunk) -> None:
        p, coupling = self.p, self.layer.coupling
        cotangent, feature_slope = chunk.message.numpy(), self.space.feature_slope.array
        if coupling is None:
            angular_slope = p.harmonics_slope
        else:
            q0, q1 = int(p.start[chunk.first]), int(p.start[chunk.last])
            angular_slope = torch.zeros((q1 - q0, coupling.shape[1]), dtype=coupling.dtype)
        flat = angular_slope.view(-1).numpy()
        self._message(message_reverse, chunk, cotangent, p.slope, flat, feature_slope)
        if coupling is not None:
            p.harmonics_slope[q0:q1].addmm_(angular_slope, coupling.T)


def compiled_mace(potential: "MACE", *, tabulate: bool, tolerance: float) -> CompiledMACE:
    """Build the program and, with tables, hold its forces against the networks'; see `MACE.program`."""
    program = CompiledMACE(potential, tabulate=tabulate, tolerance=tolerance)
    return program
