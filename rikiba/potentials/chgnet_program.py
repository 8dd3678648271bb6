"""CHGNet inference by compiled kernels; see `rikiba.kernels.chgnet_cpu`."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.kernels import chgnet_cpu as kernels
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.dense_cpu import dense
from rikiba.kernels.gated_cpu import Gates, scratch
from rikiba.nn.tabulation import spline_table, value_and_slope

from .filter_program import EXACT, SHORTEST, differentiated, flat, padded, panelled, widened, worst_force

if TYPE_CHECKING:
    from .chgnet import CHGNet

_MOST_INTERVALS = 4096


class _Linear:
    """y = x W + b on flat arrays of padded rows, and its reverse."""

    def __init__(self, weight: Tensor, bias: Tensor | None, real: type[np.floating]) -> None:
        self.n_in, self.n_out = weight.shape
        self.weight, self.back = panelled([weight], real), panelled([weight.T], real)
        self.bias = np.empty(0, real) if bias is None else flat(bias)
        self._none = np.empty(0, real)

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """x W + b, added to `out` where that is given."""
        rows = len(x) // self.n_in
        y = np.empty(rows * self.n_out, x.dtype) if out is None else out
        if rows:
            dense(
                x, 0, self.n_in, rows, self.n_in, self.weight, 0, self.bias, 0, y, 0, self.n_out, self.n_out,
                out is not None,
            )  # fmt: skip
        return y

    def reverse(self, g: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """g Wᵀ, added to `out` where that is given."""
        rows = len(g) // self.n_out
        y = np.empty(rows * self.n_in, g.dtype) if out is None else out
        if rows:
            dense(
                g, 0, self.n_out, rows, self.n_out, self.back, 0, self._none, 0, y, 0, self.n_in, self.n_in,
                out is not None,
            )  # fmt: skip
        return y


class _Samples(NamedTuple):
    """Functions of one variable at some points: rows and weights of their splines, a table per function."""

    row: np.ndarray
    weights: np.ndarray
    tables: list[np.ndarray]


class _Graph(NamedTuple):
    """The pairs, bonds and angles of one call."""

    types: np.ndarray
    centre: np.ndarray
    sender: np.ndarray
    r: np.ndarray
    unit: np.ndarray
    bond: np.ndarray
    parent: np.ndarray
    opposite: np.ndarray
    first: np.ndarray
    second: np.ndarray
    cosine: np.ndarray
    bond_centre: np.ndarray


@dataclass
class _Run:
    """Functions of distances and angles in one call, and the features as they go from layer to layer."""

    graph: _Graph
    far: _Samples
    """Of pairs: ẽ, first features, and each layer's part of them."""
    short: _Samples
    """First features of bonds."""
    near: _Samples
    turn: _Samples
    filters: np.ndarray
    """ẽ′ of bonds."""
    e: np.ndarray
    a: np.ndarray
    kept: list[dict[str, np.ndarray]]
    """What each layer's reverse sweep reads."""

    @property
    def pairs(self) -> tuple[np.ndarray, ...]:
        return self.graph.centre, self.graph.sender, self.far.row, self.far.weights, self.far.tables[0]


class _Back(NamedTuple):
    """Derivatives of the energy with respect to features and filters."""

    v: np.ndarray
    e: np.ndarray
    a: np.ndarray
    filters: np.ndarray


class _Layer:
    """One layer's linear maps, those before the gates and those after."""

    def __init__(self, potential: "CHGNet", t: int, real: type[np.floating]) -> None:
        p, c = potential, potential.embedding.shape[1]

        def parts(gate: Any, which: Sequence[int], biased: bool) -> _Linear:
            blocks = [_first(gate, k, c) for k in which]
            bias = torch.cat([_bias(gate), *(torch.zeros_like(_bias(gate)) for _ in which[1:])])
            return _Linear(torch.cat(blocks, 1), bias if biased else None, real)

        def output(linear: Any) -> _Linear:
            bias = None if linear.bias is None else widened(linear.bias, c, 0)
            return _Linear(widened(widened(linear.weight, c, 0), c, 1).T, bias, real)

        gate = p.atom_gates[t]
        self.atoms, self.pair_bonds, self.out = (
            parts(gate, (0, 2), True),
            parts(gate, (1,), False),
            output(p.atom_outputs[t]),
        )
        if t < p.n_layers - 1:
            gate = p.bond_gates[t]
            self.bond_bonds, self.bond_atoms = parts(gate, (0, 1), False), parts(gate, (3,), True)
            self.bond_out = output(p.bond_outputs[t])
        if t < p.n_layers - 2:
            gate = p.angle_gates[t]
            self.angle_bonds, self.angle_atoms = parts(gate, (0, 1), False), parts(gate, (3,), True)


def _first(gate: Any, part: int, c: int) -> Tensor:
    """First layer of core and gate, side by side, on one part of the input: [channels, 2·width]."""
    halves = []
    for net in (gate.core, gate.gate):
        w = net.layers[0].weight[:, part * c : (part + 1) * c]
        halves.append(widened(widened(w, w.shape[0], 0), c, 1).T)
    return torch.cat(halves, 1)


def _bias(gate: Any) -> Tensor:
    nets = (gate.core, gate.gate)
    return torch.cat([widened(n.layers[0].bias, n.layers[0].out_features, 0) for n in nets])


def _gates(modules: Sequence[Any], c: int, real: type[np.floating]) -> Gates:
    """Last layers and norms of networks of equal shape."""
    wide, deep = padded(c), len(modules[0].core.layers) > 1
    weights, biases, norms = [], [], []
    for m in modules:
        for net in (m.core, m.gate):
            last = net.layers[-1]
            biases.append(widened(last.bias, c, 0))
            if deep:
                weights.append(widened(widened(last.weight, c, 0), last.in_features, 1))
        if hasattr(m.core_norm, "weight"):
            both = (m.core_norm, m.gate_norm)
            norms += [widened(n.weight, c, 0) for n in both] + [widened(n.bias, c, 0) for n in both]
    hidden = padded(modules[0].core.layers[0].out_features) if deep else 0
    none = torch.empty(0, dtype=biases[0].dtype)
    return Gates(
        hidden,
        wide,
        panelled([w.T for w in weights], real),
        panelled(weights, real),
        flat(torch.cat(biases)),
        flat(torch.cat([none, *norms])),
        flat((torch.arange(wide) < c).to(none.dtype)),
        c,
    )


class CompiledCHGNet:
    """A snapshot of a CHGNet; see `CHGNet.program`.

    Not to be called by several threads at once: what a call found besides energies is kept until the next.
    """

    def __init__(self, potential: "CHGNet", *, tabulate: bool, tolerance: float) -> None:
        self._exact = p = copy.deepcopy(potential).requires_grad_(False)
        self.dtype = potential.dtype
        self._real: type[np.floating] = np.float32 if self.dtype == torch.float32 else np.float64
        self._channels = c = p.embedding.shape[1]
        self.tolerance, self.intervals, self.table_error = tolerance, 0, 0.0
        modules = (p.atom_gates, p.bond_gates, p.angle_gates)
        self._nets = [_gates(list(m), c, self._real) if len(m) else None for m in modules]
        self._scratch = [None if n is None else scratch(n, self._real) for n in self._nets]
        self._layers = [_Layer(p, t, self._real) for t in range(p.n_layers)]
        own = [[_first(g, 2, c) for g in m] for m in modules[1:]]
        self._angle_matrix = [panelled(w, self._real) for w in own]
        self._angle_back = [panelled([x.T for x in w], self._real) for w in own]
        self._embedding = widened(p.embedding, c, 1).numpy()
        self._offsets = p.atomic_energies.values.numpy() + p.shift
        self._alone = self._isolated()
        self._magmoms = torch.zeros(0, dtype=torch.float64)
        self._splines: list[Any] | None = None
        intervals = 128
        while tabulate:
            intervals = self._make_tables(intervals)
            error, allowed = worst_force(self, p, tolerance)
            if error <= allowed:
                break
            if intervals > _MOST_INTERVALS:
                raise ValueError(
                    f"Tables change forces by {error:.1e} eV/Å; allowed is {allowed:.1e}. Use "
                    "program(tabulate=False) or a larger tolerance."
                )

    def _isolated(self) -> np.ndarray:
        """Read-outs of atoms that meet no other."""
        p = self._exact
        if not p.isolated_limit:
            return np.zeros(len(p.elements))
        v: Tensor = p.embedding
        for out in p.atom_outputs:
            v = v if out.bias is None else v + out.bias  # type: ignore[operator]
        return p.readout(p.readout_norm(v)).squeeze(1).double().numpy()  # type: ignore[no-any-return]

    # functions of one variable, each a list of columns: of pairs' distances, of bonds' distances, of angles

    def _of_pairs(self, p: "CHGNet", r: Tensor) -> list[Tensor]:
        basis = p._basis(p.radial, r)
        c = self._channels
        e = p.bond_embedding(basis)
        columns = [widened_to(p.pair_weights(basis), c), widened_to(e, c)]
        for t, gate in enumerate(p.atom_gates):
            columns.append(widened_to(e, c) @ _first(gate, 1, c))
            if t < p.n_layers - 1 and p.bond_outputs[t].bias is not None:
                e = e + p.bond_outputs[t].bias  # type: ignore[operator]
        return columns

    def _of_bonds(self, p: "CHGNet", r: Tensor) -> list[Tensor]:
        return [widened_to(p.bond_weights(p._basis(p.bond_radial, r)), self._channels)]

    def _of_angles(self, p: "CHGNet", theta: Tensor) -> list[Tensor]:
        return [widened_to(p.angle_embedding(p.angular.of_angle(theta)), self._channels)]

    @property
    def _functions(self) -> list[tuple[Callable[["CHGNet", Tensor], list[Tensor]], float, float]]:
        """Each with the ends of its table."""
        p, inside = self._exact, 1.0 - 1e-12
        return [
            (self._of_pairs, SHORTEST, p.cutoff * inside),
            (self._of_bonds, SHORTEST, p.bond_cutoff * inside),
            (self._of_angles, 0.0, float(np.pi)),
        ]

    def _make_tables(self, intervals: int) -> int:
        """Tables with errors below half the tolerance, relative to the largest value.

        Begins with so many intervals; returns a quarter more than it took. Raises ValueError beyond the most.
        """
        double = copy.deepcopy(self._exact).double()
        while True:
            if intervals > _MOST_INTERVALS:
                raise ValueError(
                    f"The functions cannot be tabulated: {_MOST_INTERVALS} intervals leave a relative error "
                    f"of {self.table_error:.1e}; allowed is {0.5 * self.tolerance:.1e}. Use "
                    "program(tabulate=False)."
                )
            made = []
            for function, start, stop in self._functions:

                def columns(x: Tensor, kind: int, function: Any = function) -> Tensor:
                    return torch.cat(function(double, x), 1)

                made.append(spline_table(columns, n_kinds=1, start=start, stop=stop, intervals=intervals))
            self.table_error = max(max(m.value_error, m.slope_error) for m in made)
            self.intervals, intervals = intervals, 5 * intervals // 4
            if self.table_error <= 0.5 * self.tolerance:
                break
        self._splines = [(m.start, m.spacing, self._split(k, m.coefficients[0])) for k, m in enumerate(made)]
        return intervals

    def _split(self, which: int, table: Tensor) -> list[np.ndarray]:
        """All columns → one flat table per function."""
        widths = [
            x.shape[1] for x in self._functions[which][0](self._exact, table.new_empty(0).to(self.dtype))
        ]
        return [flat(x) for x in table.to(self.dtype).split(widths, 1)]

    def _samples(self, which: int, x: np.ndarray) -> _Samples:
        n = len(x)
        if self._splines is not None:
            start, spacing, tables = self._splines[which]
            row, weights = np.empty(n, np.int64), np.empty((n, 12), self._real)
            kind = np.zeros(n, np.int64)
            geometry.spline_rows(x, kind, start, spacing, 0.0, self.intervals + 5, row, weights)
            return _Samples(row, weights.reshape(-1), tables)
        function = self._functions[which][0]
        value, slope = value_and_slope(
            lambda y, _: torch.cat(function(self._exact, y), 1), torch.from_numpy(x).to(self.dtype), 0
        )
        table = value.new_zeros((2 * n + 4, value.shape[1]))
        table[0 : 2 * n : 2], table[1 : 2 * n : 2] = value, slope
        weights = np.tile(np.array(EXACT, self._real), (n, 1))
        return _Samples(2 * np.arange(n), weights.reshape(-1), self._split(which, table))

    def further(self) -> dict[str, Tensor]:
        """Magnetic moments of the last call, μB."""
        return {"magmoms": self._magmoms}

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64.

        By automatic differentiation where a distance is below the tables or a bond has no opposite.
        """
        if pairs.cutoff > self._exact.cutoff:
            near, parent = pairs.with_vectors(vectors).within(system, self._exact.cutoff)
            energies, part = self(system, near, vectors[parent])
            return energies, torch.zeros_like(vectors).index_copy_(0, parent, part)
        graph = None if pairs.exchange is not None else self._graph(system, pairs, vectors)
        if graph is None:
            exact = self._exact(system, pairs.with_vectors(vectors.detach()))
            self._magmoms = exact.need("magmoms")
            return differentiated(self._exact, system, pairs, vectors)
        n = len(graph.r)
        slope, unit_slope = np.zeros(n), np.zeros(3 * n)
        readouts = self._sweep(graph, slope, unit_slope)
        gradient = np.empty((n, 3))
        geometry.direction_reverse(graph.unit, graph.r, np.arange(n), slope, unit_slope, gradient)
        found = self._offsets[graph.types] + self._exact.scale * (readouts - self._alone[graph.types])
        return torch.from_numpy(found), torch.from_numpy(gradient)

    def _graph(self, system: System, pairs: Pairs, vectors: Tensor) -> _Graph | None:
        types = self._exact.types(system).numpy()
        given = vectors.detach().to(torch.float64).contiguous().numpy()
        centre, sender = pairs.i.numpy(), pairs.j.numpy()
        lengths, shortest = geometry.lengths(given)
        if len(lengths) and not shortest > SHORTEST:
            return None
        n = len(lengths)
        unit, r = np.empty((n, 3)), np.empty(n)
        geometry.unit_vectors(given, lengths, np.arange(n), unit, r)
        bond, parent, start, first, second, cosine = kernels.find_bonds(
            centre, r, unit, self._exact.bond_cutoff, len(types)
        )
        opposite = kernels.opposite_bonds(start, centre, sender, parent, given)
        if (opposite < 0).any():
            return None
        return _Graph(
            types, centre, sender, r, unit, bond, parent, opposite, first, second, cosine, centre[parent]
        )

    def _sweep(self, g: _Graph, slope: np.ndarray, unit_slope: np.ndarray) -> np.ndarray:
        """Read-outs; adds scale·∂E/∂r and scale·∂E/∂r̂ of every pair."""
        run = self._start(g)
        v = self._embedding[g.types].reshape(-1)
        for t in range(len(self._layers)):
            v = self._forward(run, t, v)
        energies, gv = self._read(v, len(g.types))
        back = _Back(gv, np.zeros_like(run.e), np.zeros_like(run.a), np.zeros_like(run.filters))
        for t in reversed(range(len(self._layers))):
            self._reverse(run, t, back, slope)
        self._end(run, back, slope, unit_slope)
        return energies

    def _start(self, g: _Graph) -> _Run:
        """First features of bonds and angles, and the functions that later steps read."""
        theta = np.arccos((1.0 - self._exact.angular.epsilon) * g.cosine)
        far, near, turn = (self._samples(k, x) for k, x in enumerate((g.r, g.r[g.parent], theta)))
        own = np.ascontiguousarray(far.weights.reshape(-1, 12)[g.parent]).reshape(-1)
        short = _Samples(far.row[g.parent], own, far.tables[1:2])
        e, a, filters = (self._read_table(x) for x in (short, turn, near))
        return _Run(g, far, short, near, turn, filters, e, a, [])

    def _read_table(self, x: _Samples) -> np.ndarray:
        c = padded(self._channels)
        out = np.empty(len(x.row) * c, self._real)
        kernels.read_table(x.row, x.weights, 0, x.tables[0], c, out)
        return out

    def _forward(self, run: _Run, t: int, v: np.ndarray) -> np.ndarray:
        """Atoms after layer t; bonds and angles of the run go on to the next."""
        g, layer, T = run.graph, self._layers[t], len(self._layers)
        k = {"atoms": layer.atoms(v), "bonds": layer.pair_bonds(run.e), "a": run.a}
        run.kept.append(k)
        if t == T - 1:
            rows = torch.from_numpy(v).view(len(g.types), padded(self._channels))[:, : self._channels]
            self._magmoms = self._exact.moment(rows).squeeze(1).abs().double()
        sums = np.zeros_like(v)
        kernels.pair_messages(
            self._nets[0], t, self._scratch[0], *run.pairs, run.far.tables[2 + t], g.bond, k["atoms"],
            k["bonds"], sums,
        )  # fmt: skip
        v = layer.out(sums, v.copy())
        if t < T - 1:
            k["bond_bonds"], k["bond_atoms"] = layer.bond_bonds(run.e), layer.bond_atoms(v)
            sums, both = np.zeros_like(run.e), np.empty_like(run.e)
            self._angles(1, run, t, k["bond_bonds"], k["bond_atoms"], run.filters, sums)
            kernels.add_opposites(g.opposite, padded(self._channels), sums, both)
            run.e = layer.bond_out(both, run.e.copy())
        if t < T - 2:
            k["angle_bonds"], k["angle_atoms"] = layer.angle_bonds(run.e), layer.angle_atoms(v)
            new = np.empty_like(run.a)
            self._angles(2, run, t, k["angle_bonds"], k["angle_atoms"], run.filters[:0], new)
            run.a = new
        return v

    def _angles(self, which: int, run: _Run, t: int, bonds: Any, atoms: Any, filters: Any, out: Any) -> None:
        """The bond (1) or angle (2) network of layer t on all angles."""
        g = run.graph
        kernels.angle_messages(
            self._nets[which], t, self._scratch[which], g.first, g.second, g.bond_centre, run.a,
            self._angle_matrix[which - 1], bonds, atoms, filters, out,
        )  # fmt: skip

    def _angles_reverse(
        self, which: int, run: _Run, t: int, back: _Back, given: Any, linear: tuple[_Linear, _Linear]
    ) -> None:
        """From ∂E/∂out of `_angles` to the derivatives of angles, bonds, atoms and filters."""
        g, k, name = run.graph, run.kept[t], ("bond", "angle")[which - 1]
        bonds, atoms = k[f"{name}_bonds"], k[f"{name}_atoms"]
        at_bonds, at_atoms = np.zeros_like(bonds), np.zeros_like(atoms)
        filters, at_filters = (
            (run.filters, back.filters) if which == 1 else (run.filters[:0], back.filters[:0])
        )
        kernels.angle_messages_reverse(
            self._nets[which], t, self._scratch[which], g.first, g.second, g.bond_centre, k["a"],
            self._angle_matrix[which - 1], self._angle_back[which - 1], bonds, atoms, filters, given, back.a,
            at_bonds, at_atoms, at_filters,
        )  # fmt: skip
        linear[0].reverse(at_bonds, back.e)
        linear[1].reverse(at_atoms, back.v)

    def _reverse(self, run: _Run, t: int, back: _Back, slope: np.ndarray) -> None:
        """From derivatives after layer t to those before it, in place."""
        g, layer, k, T = run.graph, self._layers[t], run.kept[t], len(self._layers)
        if t < T - 2:
            self._angles_reverse(2, run, t, back, back.a, (layer.angle_bonds, layer.angle_atoms))
        if t < T - 1:
            both = np.empty_like(back.e)
            kernels.add_opposites(g.opposite, padded(self._channels), back.e, both)
            given = layer.bond_out.reverse(both)
            self._angles_reverse(1, run, t, back, given, (layer.bond_bonds, layer.bond_atoms))
        at_atoms, at_bonds = np.zeros_like(k["atoms"]), np.empty_like(k["bonds"])
        kernels.pair_messages_reverse(
            self._nets[0], t, self._scratch[0], *run.pairs, run.far.tables[2 + t], g.bond, k["atoms"],
            k["bonds"], layer.out.reverse(back.v), at_atoms, at_bonds, slope,
        )  # fmt: skip
        layer.atoms.reverse(at_atoms, back.v)
        layer.pair_bonds.reverse(at_bonds, back.e)

    def _end(self, run: _Run, back: _Back, slope: np.ndarray, unit_slope: np.ndarray) -> None:
        """From derivatives of first features and filters to those of distances and directions."""
        g, c = run.graph, padded(self._channels)
        bond_slope, turn_slope = np.zeros(len(g.parent)), np.zeros(len(g.first))
        samples = (run.short, run.near, run.turn)
        given = (back.e, back.filters, back.a)
        for x, y, to in zip(samples, given, (bond_slope, bond_slope, turn_slope), strict=True):
            kernels.read_table_reverse(x.row, x.weights, x.tables[0], c, y, to)
        slope[g.parent] += bond_slope
        shrink = 1.0 - self._exact.angular.epsilon
        kernels.angle_slopes(g.first, g.second, g.parent, g.unit, g.cosine, shrink, turn_slope, unit_slope)

    def _read(self, v: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Read-outs and scale·∂/∂v of their sum."""
        p = self._exact
        with torch.enable_grad():
            rows = torch.from_numpy(v).view(n, padded(self._channels)).requires_grad_()
            energies = p.readout(p.readout_norm(rows[:, : self._channels])).squeeze(1)
            (gradient,) = torch.autograd.grad(energies.sum() * p.scale, rows)
        return energies.detach().double().numpy(), gradient.contiguous().numpy().reshape(-1)


def widened_to(x: Tensor, c: int) -> Tensor:
    """Columns filled up with zeros to a multiple of 32."""
    return pad(x, (0, padded(c) - c))
