"""CHGNet inference by compiled kernels; see `rikiba.kernels.chgnet_sweep_cpu`."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.kernels import chgnet_graph_cpu as graphs
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.chgnet_cpu import Graph
from rikiba.kernels.chgnet_sweep_cpu import Functions, sweep
from rikiba.kernels.table_rows_cpu import Samples
from rikiba.nn.tabulation import spline_table

from .chgnet_weights import Room, arrange, first_part, widened_to
from .filter_program import EXACT, SHORTEST, differentiated, exact_table, flat, padded, widened, worst_force

if TYPE_CHECKING:
    from .chgnet import CHGNet

_MOST_INTERVALS = 4096


class _Structure(NamedTuple):
    """Pairs grouped by centre and sorted by distance, bonds and angles of one call."""

    types: np.ndarray
    parent: np.ndarray
    """Of each pair its place in the given list."""
    r: np.ndarray
    unit: np.ndarray
    bond_parent: np.ndarray
    """Pair of each bond."""
    ends: np.ndarray
    """Both pairs of each edge."""
    one: np.ndarray
    """Bonds of each angle."""
    other: np.ndarray
    cosine: np.ndarray
    graph: Graph


class CompiledCHGNet:
    """A snapshot of a CHGNet; see `CHGNet.program`.

    Not to be called by several threads at once: its arrays are reused from call to call, and what a call
    found besides energies is kept until the next.
    """

    def __init__(self, potential: "CHGNet", *, tabulate: bool, tolerance: float) -> None:
        self._exact = p = copy.deepcopy(potential).requires_grad_(False)
        self.dtype = potential.dtype
        self._real: type[np.floating] = np.float32 if self.dtype == torch.float32 else np.float64
        self._channels = c = p.embedding.shape[1]
        self.tolerance, self.intervals, self.table_error = tolerance, 0, 0.0
        self._model = arrange(p, self._real)
        self._room = Room(self._model, self._real)
        self._embedding = widened(p.embedding, c, 1).numpy()
        self._offsets = p.atomic_energies.values.numpy() + p.shift
        self._alone = np.zeros(len(p.elements))
        self._magmoms = torch.zeros(0, dtype=torch.float64)
        self._splines: list[Any] | None = None
        self._widths: dict[int, list[int]] = {}
        """Columns of each function of `_functions`."""
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
        if p.isolated_limit:
            self._alone = self._isolated()

    def _isolated(self) -> np.ndarray:
        """Read-outs of atoms that meet no other."""
        none = np.empty(0, np.int64)
        types = np.arange(len(self._exact.elements))
        structure = self._structure(types, none, none, np.empty((0, 3)))
        assert structure is not None
        return self._sweep(structure, np.empty(0), np.empty(0))

    # functions of one variable, each a list of columns: of pairs' distances, of bonds' distances, of angles

    def _of_pairs(self, p: "CHGNet", r: Tensor) -> list[Tensor]:
        basis = p._basis(p.radial, r)
        c = self._channels
        e = p.bond_embedding(basis)
        columns = [widened_to(p.pair_weights(basis), c), widened_to(e, c)]
        for t, gate in enumerate(p.atom_gates):
            columns.append(widened_to(e, c) @ first_part(gate, 1, c))
            if t < p.n_layers - 1 and p.bond_outputs[t].bias is not None:
                e = e + p.bond_outputs[t].bias  # type: ignore[operator]
        return columns

    def _of_bonds(self, p: "CHGNet", r: Tensor) -> list[Tensor]:
        return [widened_to(p.bond_weights(p._basis(p.bond_radial, r)), self._channels)]

    def _of_angles(self, p: "CHGNet", theta: Tensor) -> list[Tensor]:
        """First features, and their parts of the first layers' perceptrons of bonds and angles."""
        c = self._channels
        a = widened_to(p.angle_embedding(p.angular.of_angle(theta)), c)
        gates = [p.bond_gates[0], *list(p.angle_gates)[:1]]
        return [a, *(a @ first_part(gate, 2, c) for gate in gates)]

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
        """All columns → one flat table per function, those of further ones one after another in the last."""
        if which not in self._widths:
            empty = table.new_empty(0).to(self.dtype)
            self._widths[which] = [x.shape[1] for x in self._functions[which][0](self._exact, empty)]
        found = [x.flatten() for x in table.to(self.dtype).split(self._widths[which], 1)]
        none = table.new_empty(0).to(self.dtype)
        return [flat(x) for x in (*found[:2], torch.cat([none, *found[2:]]))]

    def _samples(self, which: int, x: np.ndarray) -> tuple[Samples, list[np.ndarray]]:
        n = len(x)
        if self._splines is not None:
            start, spacing, tables = self._splines[which]
            row, weights = np.empty(n, np.int64), np.empty((n, 12), self._real)
            kind = np.zeros(n, np.int64)
            geometry.spline_rows(x, kind, start, spacing, 0.0, self.intervals + 5, row, weights)
            return Samples(row, weights.reshape(-1)), tables
        function = self._functions[which][0]
        table = exact_table(
            lambda y, _: torch.cat(function(self._exact, y), 1), torch.from_numpy(x).to(self.dtype)
        )
        weights = np.tile(np.array(EXACT, self._real), (n, 1))
        return Samples(2 * np.arange(n), weights.reshape(-1)), self._split(which, table)

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
        structure = None if pairs.exchange is not None else self._arranged(system, pairs, vectors)
        if structure is None:
            exact = self._exact(system, pairs.with_vectors(vectors.detach()))
            self._magmoms = exact.need("magmoms")
            return differentiated(self._exact, system, pairs, vectors)
        s, n = structure, len(structure.r)
        slope, unit_slope = np.zeros(n), np.zeros(3 * n)
        readouts = self._sweep(s, slope, unit_slope)
        gradient = np.empty((n, 3))
        geometry.direction_reverse(s.unit, s.r, s.parent, slope, unit_slope, gradient)
        found = self._offsets[s.types] + self._exact.scale * (readouts - self._alone[s.types])
        return torch.from_numpy(found), torch.from_numpy(gradient)

    def further(self) -> dict[str, Tensor]:
        """Magnetic moments of the last call, μB."""
        return {"magmoms": self._magmoms}

    def _arranged(self, system: System, pairs: Pairs, vectors: Tensor) -> _Structure | None:
        types = self._exact.types(system).numpy()
        given = vectors.detach().to(torch.float64).contiguous().numpy()
        return self._structure(types, pairs.i.numpy(), pairs.j.numpy(), given)

    def _structure(self, types: np.ndarray, i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> Any:
        """None where a distance is below the tables or a bond has no opposite."""
        n = len(i)
        lengths, shortest = geometry.lengths(vectors)
        if n and not shortest > SHORTEST:
            return None
        one_type = np.zeros(len(types), np.int64)
        _, _, _, start, parent, sender = geometry.arrange(one_type, 1, i, j, lengths)
        unit, r, centre = np.empty((n, 3)), np.empty(n), i[parent]
        geometry.unit_vectors(vectors, lengths, parent, unit, r)
        first, bond_parent = graphs.bonds(start, r, self._exact.bond_cutoff)
        edge, ends = graphs.edges(first, bond_parent, centre, sender, unit, r)
        if 2 * len(ends) < len(edge):
            return None
        one, other, middle, cosine = graphs.angles(first, bond_parent, unit)
        of_pair = np.full(n, -1, np.int64)
        of_pair[bond_parent] = edge
        graph = Graph(centre, sender, of_pair, edge[one], edge[other], middle)
        return _Structure(types, parent, r, unit, bond_parent, ends, one, other, cosine, graph)

    def _sweep(self, s: _Structure, slope: np.ndarray, unit_slope: np.ndarray) -> np.ndarray:
        """Read-outs; adds scale·∂E/∂r and scale·∂E/∂r̂ of every pair."""
        n, n_edges, n_angles = len(s.types), len(s.ends), len(s.one)
        room = self._room.of(n, len(s.r), n_edges, n_angles)
        room.space.v[: n * padded(self._channels)] = self._embedding[s.types].reshape(-1)
        energies, moments = np.empty(n), np.empty(n)
        edge_slope, turn_slope = np.zeros(n_edges), np.zeros(n_angles)
        sweep(
            self._model, s.graph, self._of(s), room.space, room.pairs, room.bonds, room.angles, energies,
            moments, slope, edge_slope, turn_slope,
        )  # fmt: skip
        graphs.edge_slopes(s.ends, edge_slope, slope)
        shrink = 1.0 - self._exact.angular.epsilon
        graphs.angle_slopes(s.one, s.other, s.bond_parent, s.unit, s.cosine, shrink, turn_slope, unit_slope)
        self._magmoms = torch.from_numpy(moments)
        return energies

    def _of(self, s: _Structure) -> Functions:
        """Functions of all distances and angles."""
        pair = s.ends[:, 0]
        theta = np.arccos((1.0 - self._exact.angular.epsilon) * s.cosine)
        far, (filters, bonds, parts) = self._samples(0, s.r)
        near, (bond_filters, *_) = self._samples(1, s.r[pair])
        turn, (angles, bond_own, angle_own) = self._samples(2, theta)
        short = Samples(far.row[pair], far.weights.reshape(-1, 12)[pair].reshape(-1))
        return Functions(
            far, short, near, turn, filters, bonds, parts, bond_filters, angles, bond_own, angle_own
        )  # fmt: skip
