"""M3GNet inference as one compiled function; see `rikiba.kernels.m3gnet_cpu`."""

from collections.abc import Sequence
from math import pi
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rikiba.kernels import angular_sums_cpu as angles
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.lanes import LANES
from rikiba.kernels.m3gnet_cpu import CHUNK, KEPT, ROWS, M3GNetPairs, M3GNetSpace, M3GNetWeights, m3gnet_sweep
from rikiba.kernels.row_product_cpu import stepped
from rikiba.kernels.table_rows_cpu import Samples
from rikiba.nn.cutoff import polynomial
from rikiba.nn.so3 import raising_terms

from .filter_program import (
    EXACT,
    CompiledPairs,
    Grouped,
    exact_table,
    flat,
    networks,
    padded,
    panelled,
    widened,
)  # fmt: skip
from .m3gnet_tables import FarTables

if TYPE_CHECKING:
    from .m3gnet import M3GNet


class CompiledM3GNet(CompiledPairs):
    """A snapshot of an M3GNet; see `M3GNet.program`."""

    _directions = True

    def __init__(self, potential: "M3GNet", *, tabulate: bool, tolerance: float) -> None:
        super().__init__(potential, tabulate=tabulate, tolerance=tolerance)
        model = self._exact
        model.filters = model.radial  # what the tables of all pairs hold
        layers = list(model.layers)
        self._channels, self._blocks = potential.embedding.shape[1], len(layers)
        self._n_max = layers[0].angular_weights.out_features // (model.l_max + 1)
        self._width = -(-self._n_max * (model.l_max + 1) // LANES) * LANES
        self._terms = raising_terms(model.l_max)
        self._near_table: tuple[float, float, np.ndarray] | None = None
        self._far = FarTables(model, tolerance=0.5 * tolerance) if tabulate else None
        self._sizes: tuple[int, ...] = ()
        self._found: tuple[M3GNetSpace, bool]
        with torch.no_grad():
            self._weights = self._collect(layers)
        self._prepare()

    def _collect(self, layers: Sequence[Any]) -> M3GNetWeights:
        model, c, real = self._exact, self._channels, self._real
        nets = [(x.pair_update, x.message) for x in layers]
        atoms, biases = zip(*(self._of_atoms(x) for x in layers), strict=True)
        degrees = torch.arange(model.l_max + 1, dtype=torch.float64).repeat_interleave(self._n_max)
        size = ((2.0 * degrees + 1.0) / (4.0 * pi)).sqrt().to(self.dtype)
        angular = [_side_by_side(x.angular, 0, slice(None), c) * size[:, None] for x in layers]
        angular = [pad(w, (0, 0, 0, self._width - len(size))) for w in angular]
        bonds = [_side_by_side(n, 0, slice(2 * c, None), c) for both in nets for n in both]
        bonds = [widened(w, c, 0) for w in bonds]
        deep = [net.layers[k] for both in nets for n in both for k in (1, 2) for net in (n.core, n.gate)]
        matrices = [widened(widened(x.weight, c, 0), c, 1) for x in deep]
        filters = [w for x in layers for w in (x.pair_weights, x.message_weights)]
        first = model.pair_embedding
        return M3GNetWeights(
            channels=padded(c),
            radial=first.in_features,
            functions=self._width,
            orders=2 * model.l_max + 1,
            embedding=flat(widened(model.embedding, c, 1)),
            first=panelled([widened(first.weight, c, 0).T], real),
            first_bias=flat(widened(first.bias, c, 0)),
            atoms=panelled(atoms, real),
            atoms_back=panelled([w.T for w in atoms], real),
            atom_biases=flat(torch.cat(biases)),
            angular=panelled(angular, real),
            angular_back=panelled([_to_panel(w.T) for w in angular], real),
            bonds=panelled(bonds, real),
            bonds_back=panelled([w.T for w in bonds], real),
            deep=panelled([w.T for w in matrices], real),
            deep_back=panelled(matrices, real),
            deep_biases=flat(torch.cat([widened(x.bias, c, 0) for x in deep])),
            filters=panelled([widened(w.weight, c, 0).T for w in filters], real),
            readout=networks([model.readout.core, model.readout.gate], c, 1),
        )

    def _of_atoms(self, layer: Any) -> tuple[Tensor, Tensor]:
        """All that acts on an atom's features in a block: one matrix and its bias."""
        c = self._channels
        parts, biases = [], []
        for net in (layer.pair_update, layer.message):
            own = torch.cat([widened(n.layers[0].bias, c, 0) for n in (net.core, net.gate)])
            biases += [own, torch.zeros_like(own)]
            parts += [_side_by_side(net, 0, slice(k * c, (k + 1) * c), c) for k in range(2)]
        parts.append(_to_panel(layer.angular_weights.weight.T))
        biases.append(_to_panel(layer.angular_weights.bias))
        return widened(torch.cat(parts, 1), c, 0), torch.cat(biases)

    # functions of the distance

    def _columns(self, filters: Tensor) -> list[Tensor]:
        return [_to_panel(filters)]

    def _of_near(self, r: Tensor, kind: int = 0) -> Tensor:
        """Three-body functions times their envelope, and the envelope."""
        model = self._exact
        envelope = polynomial(r / model.three_body_cutoff, 3)[:, None]
        values = model.three_body(r) * envelope
        values = pad(values, (0, self._width - values.shape[1]))
        return torch.cat([values, pad(envelope, (0, LANES - 1))], 1)

    def _make_tables(self, intervals: int) -> int:
        more, stop = super()._make_tables(intervals), self._exact.three_body_cutoff * (1.0 - 1e-12)
        table = self._fitted(self._of_near, stop, intervals)
        self.table_error = max(self.table_error, table.value_error, table.slope_error)
        self._near_table = table.start, table.spacing, flat(table.coefficients[0].to(self.dtype))
        return max(more, 5 * (table.coefficients.shape[1] - 5) // 4)

    def _near_functions(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and slopes of the functions of near pairs."""
        n, width = len(r), self._width + LANES
        if self._near_table is None:
            table = flat(exact_table(self._of_near, torch.from_numpy(r).to(self.dtype)))
            row, weights = 2 * np.arange(n), np.tile(np.array(EXACT, self._real), (n, 1))
        else:
            start, spacing, table = self._near_table
            row, weights, kind = np.empty(n, np.int64), np.empty((n, 12), self._real), np.zeros(n, np.int64)
            geometry.spline_rows(r, kind, start, spacing, 0.0, len(table) // width, row, weights)
        return self._read("functions", row, weights.reshape(-1), table, width)

    # one call

    def _grouped(self, n_atoms: int, i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> Grouped | None:
        """Pairs near enough for three-body terms by their centres, then the others."""
        lengths, _ = geometry.lengths(vectors)
        far = lengths >= self._exact.three_body_cutoff
        return super()._grouped(2 * n_atoms, i + n_atoms * far, j, vectors)

    def _space_of(self, atoms: int, pairs: int, near: int, far: int) -> tuple[M3GNetSpace, bool]:
        """The arrays of a sweep, and whether everything is kept for the reverse one."""
        asked = (atoms, pairs, near, far, self.most_kept)
        if self._sizes == asked:
            return self._found
        net, blocks = self._weights, self._blocks
        c, part = net.channels, 8 * net.channels + padded(net.functions)
        hidden = [int(w) for w in net.readout.widths[1:-1]]
        chunks = -(-pairs // ROWS) * blocks
        keeping = chunks * KEPT * ROWS * c <= self.most_kept
        rows = stepped(pairs) * c
        sizes = {
            "v": atoms * c, "g_v": atoms * c, "x": blocks * atoms * part, "g_x": atoms * part,
            "e": rows + (0 if keeping else blocks * pairs * c), "g_e": rows, "first_slopes": rows,
            "far": far * 2 * c, "angular": stepped(near) * padded(net.functions),
            "sums": 2 * net.orders * LANES,
            "kept": (chunks if keeping else 1) * KEPT * ROWS * c,
            "a": ROWS * 2 * c, "b": ROWS * 2 * c, "f": ROWS * c,
        }  # fmt: skip
        arrays = self._arrays_of(sizes)
        # the read-out's are halved inside: of their exact sizes
        ends = {
            "readout_slopes": 2 * CHUNK * sum(hidden), "readout_work": 2 * CHUNK * max(hidden, default=0),
            "readout": 2 * CHUNK * int(net.readout.widths[-1]),
        }  # fmt: skip
        arrays |= {name: self._array(name, size)[:size] for name, size in ends.items()}
        self._sizes, self._found = asked, (M3GNetSpace(**arrays), keeping)
        return self._found

    def _sweep(self, types: np.ndarray, p: Grouped, space: np.ndarray, energies: np.ndarray) -> None:
        net, l_max, pairs, atoms = self._weights, self._exact.l_max, len(p.r), len(types)
        near_start = p.start[: atoms + 1]
        near = int(near_start[-1])
        unit, row = p.unit[:near], net.orders * net.functions
        y = np.empty((near, (l_max + 1) ** 2))
        geometry.harmonics(unit, *self._terms, y)
        harmonics = self._array("harmonics", near * row)
        angles.expand_harmonics(y, l_max, self._n_max, net.functions, harmonics)
        centre = np.repeat(np.arange(2 * atoms) % max(atoms, 1), p.start[1:] - p.start[:-1])
        wide, far, table = padded(net.radial), Samples(p.row[:0], p.weights[:0]), p.table
        if self._far is not None and near < pairs and (made := self._far.find(types)) is not None:
            table, far = made, self._far.points(types, centre[near:], p.sender[near:], p.r[near:])
        first = pairs - len(far.row)
        self._array("radial", stepped(pairs) * wide), self._array("radial_slopes", stepped(pairs) * wide)
        graph = M3GNetPairs(
            centre, p.sender, centre if self._exact.messages_to == "centre" else p.sender,
            *self._read("radial", p.row, p.weights, p.table, wide),
            near_start, *self._near_functions(p.r[:near]), harmonics, first,
            far, table,
        )  # fmt: skip
        arrays, keeping = self._space_of(atoms, pairs, near, pairs - first)
        back = self._array("harmonics_slope", near * row)
        back[: near * row] = 0.0
        m3gnet_sweep(types, self._blocks, net, graph, arrays, keeping, self._scale, energies, p.slope, back)
        self._directions_reverse(p, near, y, back)

    def _directions_reverse(self, p: Grouped, near: int, y: np.ndarray, back: np.ndarray) -> None:
        """From derivatives of the expanded harmonics to those of directions."""
        y_slope, found = np.empty_like(y), p.unit_slope.reshape(-1, 3)[:near]
        angles.expand_harmonics_reverse(
            back, self._exact.l_max, self._n_max, self._weights.functions, y_slope
        )
        geometry.geometry_reverse(
            p.unit[:near], np.ones(near), y, *self._terms, np.arange(near), np.zeros(near), y_slope, found
        )


def _to_panel(x: Tensor) -> Tensor:
    """Columns filled up with zeros to a multiple of 32."""
    return pad(x, (0, padded(x.shape[-1]) - x.shape[-1]))


def _side_by_side(net: Any, layer: int, columns: slice, c: int) -> Tensor:
    """Core's and gate's matrices of a layer, on some of its inputs, side by side: [inputs, 2·padded]."""
    halves = [half.layers[layer].weight[:, columns] for half in (net.core, net.gate)]
    return torch.cat([widened(w, c, 0).T for w in halves], 1)
