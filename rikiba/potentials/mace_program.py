"""MACE inference as compiled kernels: a forward and a reverse sweep, with plain matrix products between.

Atoms are taken in order of their type, in chunks whose messages stay in cache.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.system import System
from rikiba.kernels import atom_energy_cpu as ends
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.contraction_cpu import contraction_forward, contraction_reverse
from rikiba.kernels.message_cpu import message_forward, message_reverse
from rikiba.nn.repulsion import MACE_ZBL
from rikiba.nn.so3 import raising_terms

from .mace_weights import OFFSET, SHORTEST, folded, layers_of, padded, radial_functions, tables_of
from .mace_workspace import Chunk, LayerSpace

if TYPE_CHECKING:
    from .mace import MACE

_FOLDED_BYTES = 2**24
"""The first layer's table holds its matrix products for every pair of types if it stays below this size."""
_EXACT = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""Spline weights that read value and slope from two consecutive rows."""
_ACTIVATIONS = {"silu": ends.SILU, "tanh": ends.TANH}


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
    typed_row: np.ndarray
    """The row in a table with one kind per pair of types."""
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
        given = vectors.detach().to(torch.float64).contiguous().numpy()
        lengths, shortest = geometry.lengths(given)
        if not shortest > SHORTEST[self._exact.distance_transform]:
            return self.by_autograd(system, pairs, vectors)
        order, _, spans, start, parent, sender = geometry.arrange(types, n_types, i, j, lengths)
        unit, r = np.empty((len(i), 3)), np.empty(len(i))
        geometry.unit_vectors(given, lengths, parent, unit, r)
        sorted_types = types[order]
        found = self._pairs(sorted_types, start, sender, unit, r)
        atoms = np.zeros(len(types))
        if len(types):
            self._sweep(tuple(spans.tolist()), found, atoms)
        if self._exact.zbl:
            self._repel(found, sorted_types, atoms)
        gradient = np.empty((len(i), 3))
        y = found.harmonics.numpy()
        geometry.geometry_reverse(
            unit, r, y, *self._terms, parent, found.slope, found.harmonics_slope.numpy(), gradient
        )
        out = np.empty(len(types))
        out[order] = atoms + self._energies[sorted_types]
        return torch.from_numpy(out), torch.from_numpy(gradient)

    def by_autograd(self, system: System, pairs: Pairs, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the potential's own definition."""
        with torch.enable_grad():
            leaf = vectors.detach().to(torch.float64).requires_grad_()
            energies = self._exact(system, pairs.with_vectors(leaf)).need("energies")
            (gradient,) = (
                torch.autograd.grad(energies.sum(), leaf) if len(leaf) else (torch.zeros_like(leaf),)
            )
        return energies.detach().to(torch.float64), gradient

    def _pairs(
        self, types: np.ndarray, start: np.ndarray, sender: np.ndarray, unit: np.ndarray, r: np.ndarray
    ) -> _Pairs:
        n, n_types = len(r), len(self._exact.elements)
        n_lm = (self._exact.l_max + 1) ** 2
        sender_type = types[sender]
        pair_type = np.repeat(types, np.diff(start)) * n_types + sender_type
        kind = pair_type if self._typed else np.zeros(n, np.int64)
        harmonics = torch.empty((n, n_lm), dtype=self.dtype)
        geometry.harmonics(unit, *self._terms, harmonics.numpy())
        row, weights = np.empty(n, np.int64), np.empty((n, 12), harmonics.numpy().dtype)
        typed_row = row
        if self._tables is not None:
            geometry.spline_rows(r, kind, self._start, self._spacing, self._offset, self._rows, row, weights)
            typed_row = row + (pair_type - kind) * self._rows
        slope, y_slope = np.zeros(n), torch.zeros_like(harmonics)
        return _Pairs(start, sender, kind, sender_type, r, harmonics, row, typed_row, weights, slope, y_slope)

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
            groups = [(k, a, b) for k, (a, b) in enumerate(pairwise(spans)) if b > a]
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
        self.degrees, self.l_out = round(sqrt(len(self.layer.product_rows.start))), len(self.layer.linear)
        self.tables = program._tables
        self._kept: tuple[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None
        """The network's values for the last chunk of pairs: in the last layer its reverse comes next."""

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
            row = p.row if self.layer.mix else p.typed_row
            ends.spline_column(row, p.weights, self.program._density[number], share, self.share_slope)
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
        parts = [(torch.from_numpy(np.flatnonzero(kinds == k)), int(k)) for k in np.unique(kinds)]
        if len(parts) == 1:
            return function.both(r, parts[0][1])
        found = [function.both(r[which], kind) for which, kind in parts]
        back = torch.argsort(torch.cat([which for which, _ in parts]))
        value, slope = (torch.cat(x)[back] for x in zip(*found, strict=True))
        return value, slope

    def _radial(self, q0: int, q1: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, weights, table) that the message kernels read; rows count from q0 in the exact case."""
        p = self.p
        if self.tables is not None:
            row = p.row if self.layer.mix else p.typed_row
            return row, p.weights.reshape(-1), self.tables[self.number]
        if self._kept is not None and self._kept[0] == (q0, q1):
            return self._kept[1]
        n = len(self.layer.paths.d3) * self.channels
        table = torch.zeros((2 * (q1 - q0) + 4, n), dtype=self.program.dtype)
        if q1 > q0:
            value, slope = self._network(q0, q1)
            table[0 : 2 * (q1 - q0) : 2], table[1 : 2 * (q1 - q0) : 2] = value[:, :n], slope[:, :n]
        row = 2 * (np.arange(len(p.r)) - q0)
        weights = np.tile(np.array(_EXACT, p.weights.dtype), (len(p.r), 1))
        self._kept = ((q0, q1), (row, weights.reshape(-1), table.flatten().numpy()))
        return self._kept[1]

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
        n, a = chunk.last - chunk.first, chunk.first
        product, output = (
            self.space.product(number, self.degrees),
            self.space.scratch("output", n, self.l_out),
        )
        self._message(message_forward, chunk, chunk.message.numpy() if layer.mix else product.array)
        for left, right, out in chunk.mix:
            torch.mm(left, right, out=out)
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
        self._reverse_messages(chunk, chunk.message.numpy() if layer.mix else slope.array)

    def _reverse_messages(self, chunk: Chunk, cotangent: np.ndarray) -> None:
        p, coupling = self.p, self.layer.coupling
        feature_slope = self.space.feature_slope.array
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
    if tabulate:
        _check(program, potential, tolerance)
    return program


def _check(program: CompiledMACE, potential: "MACE", tolerance: float) -> None:
    """Raise ValueError unless forces per pair of a trial structure agree with the potential's in float64."""
    system, pairs = _trial(potential)
    vectors = pairs.vectors(system).detach()
    _, found = program(system, pairs, vectors)
    _, rounded = program.by_autograd(system, pairs, vectors)
    double = copy.copy(program)
    double._exact = copy.deepcopy(program._exact).double()
    _, exact = double.by_autograd(system, pairs, vectors)
    forces = [x.new_zeros((system.n_atoms, 3)).index_add(0, pairs.i, x) for x in (found, rounded, exact)]
    forces = [
        f.index_add(0, pairs.j, x, alpha=-1) for f, x in zip(forces, (found, rounded, exact), strict=True)
    ]
    error, rounding = (float((f - forces[2]).abs().max()) for f in forces[:2])
    if not error <= max(tolerance, 2.0 * rounding):
        raise ValueError(
            f"With tabulated radial networks forces are off by {error:.1e} eV/Å; allowed are {tolerance:.1e} "
            f"(automatic differentiation is off by {rounding:.1e}). Use program(tabulate=False), a larger "
            "tolerance, or float64."
        )


def _trial(potential: "MACE") -> tuple[System, Pairs]:
    """A dense random cluster of all elements (at most 24 atoms), its atoms about a bond length apart."""
    n_types = len(potential.elements)
    kinds = torch.arange(max(12, min(24, 2 * n_types))) % n_types
    spacing = 2.2 * float(potential._radii.max())
    generator = torch.Generator().manual_seed(0)
    grid = torch.cartesian_prod(*[torch.arange(3.0, dtype=torch.float64)] * 3)[: len(kinds)]
    shaken = grid + 0.2 * (torch.rand(grid.shape, generator=generator, dtype=torch.float64) - 0.5)
    numbers = potential._numbers[kinds].numpy()
    system = System.from_ase(Atoms(numbers, (spacing * shaken).numpy()))
    return system, find_pairs(system, potential.cutoff)
