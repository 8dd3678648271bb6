"""What programs of SchNet, PaiNN, TensorNet and M3GNet share: tables, pairs by centre, dense networks."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.system import System
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.activation_cpu import SHIFTED_SOFTPLUS, SILU
from rikiba.kernels.dense_cpu import PANEL, Network, at_cache_line, network, panels
from rikiba.kernels.table_rows_cpu import Samples, read_table
from rikiba.nn.mlp import MLP
from rikiba.nn.tabulation import RadialFunction, SplineTable, spline_table, value_and_slope

from .base import Potential, Program

if TYPE_CHECKING:
    from .equivariant_transformer import EquivariantTransformer
    from .m3gnet import M3GNet
    from .painn import PaiNN
    from .schnet import SchNet
    from .tensornet import TensorNet

SHORTEST = 0.2
"""Where tables start, Å."""
_MOST_INTERVALS = 4096
EXACT = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""Spline weights that read value and slope from two consecutive rows."""
_ACTIVATIONS = {"silu": SILU, "shifted_softplus": SHIFTED_SOFTPLUS}


def padded(n: int) -> int:
    """The next multiple of 32."""
    return -(-n // PANEL) * PANEL


def widened(w: Tensor, n: int, dim: int) -> Tensor:
    """Blocks of n along `dim`, each filled up with zeros to a multiple of 32."""
    blocks = w.detach().movedim(dim, -1).unflatten(-1, (-1, n))
    return pad(blocks, (0, padded(n) - n)).flatten(-2).movedim(-1, dim).contiguous()


def flat(x: Tensor) -> np.ndarray:
    """A flat copy that starts at a cache line."""
    return at_cache_line(x.detach().numpy())


def panelled(weights: Sequence[Tensor], real: type[np.floating]) -> np.ndarray:
    """Panels of matrices [n_in, n_out], one after another."""
    parts = [panels(w.detach().numpy()) for w in weights]
    return at_cache_line(np.concatenate([np.empty(0, real), *parts]))


def networks(mlps: Sequence[MLP], n_in: int, n_out: int) -> Network:
    """Perceptrons of equal shape whose inputs and outputs are blocks of n_in and n_out channels.

    Raises ValueError for activations other than silu and shifted_softplus.
    """
    function = mlps[0].function
    if function not in _ACTIVATIONS:
        raise ValueError(f"A compiled program needs silu or shifted_softplus; given '{function}'.")
    weights, biases = [], []
    for mlp in mlps:
        blocks = [n_in, *(m.out_features for m in mlp.layers)]  # type: ignore[union-attr]
        blocks[-1] = n_out
        pairs = list(zip(mlp.layers, blocks[:-1], blocks[1:], strict=True))
        weights.append([widened(widened(m.weight, b, 0), a, 1).T.numpy() for m, a, b in pairs])  # type: ignore[arg-type]
        biases.append([widened(m.bias, b, 0).numpy() for m, _, b in pairs])  # type: ignore[arg-type]
    return network(weights, biases, _ACTIVATIONS[function])


class Grouped(NamedTuple):
    """The pairs of one call, grouped by centre and sorted by distance."""

    start: np.ndarray
    sender: np.ndarray
    parent: np.ndarray
    unit: np.ndarray
    r: np.ndarray
    row: np.ndarray
    weights: np.ndarray
    """[pairs·12]: spline weights of value and slope."""
    table: np.ndarray
    """Layer after layer."""
    slope: np.ndarray
    """∂E/∂r, to be filled."""
    unit_slope: np.ndarray
    """∂E/∂r̂, to be filled; empty where directions are not read."""


class CompiledFilters(ABC):
    """A snapshot of a SchNet, PaiNN, TensorNet or M3GNet as a program of compiled kernels; see `Program`.

    Not to be called by several threads at once: its arrays are reused from call to call.
    """

    _directions = False
    """Whether directions are read."""

    def __init__(
        self,
        potential: Union["SchNet", "PaiNN", "TensorNet", "M3GNet", "EquivariantTransformer"],
        *,
        tabulate: bool,
        tolerance: float,
    ) -> None:
        self._exact: Any = copy.deepcopy(potential).requires_grad_(False)
        self.dtype = potential.dtype
        self._real: type[np.floating] = np.float32 if self.dtype == torch.float32 else np.float64
        self.table_error, self.intervals = 0.0, 0
        self.tabulate, self.tolerance = tabulate, tolerance
        self._table: np.ndarray | None = None
        self._space, self._most_atoms = np.empty(0, self._real), -1
        self._arrays: dict[str, np.ndarray] = {}
        self._scale = float(potential.scale)
        self._offsets = self._exact.atomic_energies.values.numpy() + self._exact.shift
        self._alone = np.zeros(len(self._exact.elements))

    def _prepare(self) -> None:
        """Make tables that keep forces within the tolerance; note the energies of isolated atoms."""
        intervals = 64
        while self.tabulate:
            intervals = self._make_tables(intervals)
            error, allowed = worst_force(self, self._exact, self.tolerance)
            if error <= allowed:
                break
            if intervals > _MOST_INTERVALS:
                raise ValueError(
                    f"Tables change forces by {error:.1e} eV/Å; allowed is {allowed:.1e}. Use "
                    "program(tabulate=False) or a larger tolerance."
                )
        if self._exact.isolated_limit:
            types, empty = np.arange(len(self._exact.elements)), np.empty(0, np.int64)
            p = self._grouped(len(types), empty, empty, np.empty((0, 3)))
            assert p is not None
            self._alone = self._energies(types, p)

    @abstractmethod
    def _sweep(self, types: np.ndarray, p: Grouped, space: np.ndarray, energies: np.ndarray) -> None:
        """Fill the read-outs' energies, p.slope and p.unit_slope (derivatives times `scale`)."""

    @abstractmethod
    def _space_for(self, n_atoms: int) -> int:
        """How many numbers a sweep needs."""

    @abstractmethod
    def _columns(self, filters: Float[Tensor, "layers pairs filters"]) -> list[Tensor]:
        """Per layer, the filters [pairs, filters·channels] as the message kernels read them."""

    def _filters_of(self, model: Any) -> torch.nn.Module:
        """The module that gives all filters at some distances."""
        return model.filters  # type: ignore[no-any-return]

    def _function(self, r: Tensor, kind: int) -> Tensor:
        """All filters of all layers at distances r, side by side."""
        return torch.cat(self._columns(self._filters(r)), 1)

    def _energies(self, types: np.ndarray, p: Grouped) -> np.ndarray:
        if len(types) > self._most_atoms:
            self._space = at_cache_line(np.zeros(self._space_for(len(types)), self._real))
            self._most_atoms = len(types)
        energies = np.empty(len(types))
        self._sweep(types, p, self._space, energies)
        return energies

    def _make_tables(self, intervals: int) -> int:
        """Tables with an error below half the tolerance, relative to the largest filter.

        Begins with so many intervals; returns a quarter more than it took. Raises ValueError beyond the most.
        """
        self._filters = copy.deepcopy(self._filters_of(self._exact)).double()
        # at the cutoff itself the second derivative of a C¹ envelope is that from outside
        table = self._fitted(self._function, self._exact.cutoff * (1.0 - 1e-12), intervals)
        self.table_error = max(table.value_error, table.slope_error)
        self._from, self._spacing = table.start, table.spacing
        self._rows = table.coefficients.shape[1]
        self.intervals = self._rows - 5
        self._table = self._by_layer(table.coefficients[0])
        return 5 * self.intervals // 4

    def _fitted(self, function: RadialFunction, stop: float, intervals: int) -> SplineTable:
        """A table up to `stop` with an error below half the tolerance; begins with so many intervals."""
        error, tolerance = float("inf"), 0.5 * self.tolerance
        while error > tolerance:
            if intervals > _MOST_INTERVALS:
                raise ValueError(
                    f"The filters cannot be tabulated: {_MOST_INTERVALS} intervals leave a relative error of "
                    f"{error:.1e}; allowed is {tolerance:.1e}. Use program(tabulate=False)."
                )
            table = spline_table(function, n_kinds=1, start=SHORTEST, stop=stop, intervals=intervals)
            error = max(table.value_error, table.slope_error)
            intervals = 5 * intervals // 4
        return table

    def _by_layer(self, table: Tensor) -> np.ndarray:
        """All layers' columns → layer after layer."""
        widths = [c.shape[1] for c in self._columns(self._filters(table.new_empty(0)))]
        return flat(torch.cat([c.flatten() for c in table.to(self.dtype).split(widths, 1)]))

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64.

        By automatic differentiation where a distance is below the tables or the system is decomposed.
        """
        if pairs.exchange is not None:
            return differentiated(self._exact, system, pairs, vectors)
        if pairs.cutoff > self._exact.cutoff:
            near, parent = pairs.with_vectors(vectors).within(system, self._exact.cutoff)
            energies, part = self(system, near, vectors[parent])
            return energies, torch.zeros_like(vectors).index_copy_(0, parent, part)
        types = self._exact.types(system).numpy()
        given = vectors.detach().to(torch.float64).contiguous().numpy()
        p = self._grouped(len(types), pairs.i.numpy(), pairs.j.numpy(), given)
        if p is None:
            return differentiated(self._exact, system, pairs, vectors)
        found = self._energies(types, p)
        gradient = np.empty((len(p.r), 3))
        geometry.direction_reverse(p.unit, p.r, p.parent, p.slope, p.unit_slope, gradient)
        energies = self._offsets[types] + self._scale * (found - self._alone[types])
        return torch.from_numpy(energies), torch.from_numpy(gradient)

    def _grouped(self, n_atoms: int, i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> Grouped | None:
        """None where a distance is below the tables."""
        n = len(i)
        lengths, shortest = geometry.lengths(vectors)
        if self._table is not None and not shortest > SHORTEST:
            return None
        one_type = np.zeros(n_atoms, np.int64)
        _, _, _, start, parent, sender = geometry.arrange(one_type, 1, i, j, lengths)
        unit, r = np.empty((n, 3)), np.empty(n)
        geometry.unit_vectors(vectors, lengths, parent, unit, r)
        if self._table is not None:
            row, weights, table = np.empty(n, np.int64), np.empty((n, 12), self._real), self._table
            kind = np.zeros(n, np.int64)
            geometry.spline_rows(r, kind, self._from, self._spacing, 0.0, self._rows, row, weights)
        else:
            table = self._exact_table(torch.from_numpy(r).to(self.dtype))
            row, weights = 2 * np.arange(n), np.tile(np.array(EXACT, self._real), (n, 1))
        unit_slope = np.zeros(3 * n if self._directions else 0)
        return Grouped(
            start, sender, parent, unit, r, row, weights.reshape(-1), table, np.zeros(n), unit_slope
        )

    def _exact_table(self, r: Tensor) -> np.ndarray:
        """Value and slope of the filters at every pair, in consecutive rows."""
        self._filters = self._filters_of(self._exact)
        return self._by_layer(exact_table(self._function, r))


class CompiledPairs(CompiledFilters):
    """A program whose arrays grow with the number of pairs too."""

    most_kept = 2**26
    """Numbers that may be kept for the reverse sweep; where they are not enough it makes them again."""

    def _space_for(self, n_atoms: int) -> int:
        return 0  # see `_array`

    def _array(self, name: str, size: int) -> np.ndarray:
        """At least so many numbers, kept from call to call."""
        found = self._arrays.get(name)
        if found is None or len(found) < size:
            found = self._arrays[name] = at_cache_line(np.zeros(size + size // 8, self._real))
        return found

    def _arrays_of(self, sizes: dict[str, int]) -> dict[str, np.ndarray]:
        return {name: self._array(name, size) for name, size in sizes.items()}

    def _read(
        self, name: str, row: np.ndarray, weights: np.ndarray, table: np.ndarray, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and slopes of a table's functions."""
        values, slopes = (self._array(name + kind, len(row) * width) for kind in ("", "_slopes"))
        points = Samples(row, weights)
        read_table(points, 0, table, width, values)
        read_table(points, 6, table, width, slopes)
        return values, slopes


def exact_table(function: RadialFunction, r: Tensor) -> Float[Tensor, "rows columns"]:
    """Value and slope of a function at every distance, in consecutive rows, and what splines read beyond."""
    value, slope = value_and_slope(function, r, 0)
    table = value.new_zeros((2 * len(r) + 4, value.shape[1]))
    table[0 : 2 * len(r) : 2], table[1 : 2 * len(r) : 2] = value, slope
    return table


def worst_force(program: Program, exact: Potential, tolerance: float) -> tuple[float, float]:
    """Largest error of a force of trial structures, eV/Å, and what is allowed.

    Allowed is the tolerance or, where that is larger, twice the rounding of the potential itself.
    """
    double = copy.deepcopy(exact).double()
    error = rounding = 0.0
    for seed in range(3):
        system = trial(exact.elements, exact.cutoff, seed)
        pairs = find_pairs(system, exact.cutoff)
        vectors = pairs.vectors(system)
        right = forces_of(differentiated(double, system, pairs, vectors)[1], pairs)
        own = forces_of(differentiated(exact, system, pairs, vectors)[1], pairs)
        found = forces_of(program(system, pairs, vectors)[1], pairs)
        error = max(error, float((found - right).abs().max()))
        rounding = max(rounding, float((own - right).abs().max()))
    return error, max(tolerance, 2.0 * rounding)


def differentiated(
    potential: Potential, system: System, pairs: Pairs, vectors: Tensor
) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
    """(energies, ∂E/∂r_ij) from the potential's own definition."""
    with torch.enable_grad():
        leaf = vectors.detach().to(torch.float64).requires_grad_()
        energies = potential(system, pairs.with_vectors(leaf)).need("energies")
        (gradient,) = torch.autograd.grad(energies.sum(), leaf) if len(leaf) else (torch.zeros_like(leaf),)
    return energies.detach(), gradient


def trial(elements: Sequence[str], cutoff: float, seed: int) -> System:
    """Twelve atoms of random elements, none nearer to another than a fifth of the cutoff."""
    from ase import Atoms

    rng = np.random.default_rng(seed)
    sites: list[np.ndarray] = []
    while len(sites) < 12:
        new = rng.random(3) * cutoff
        if all(np.linalg.norm(new - s) > 0.2 * cutoff for s in sites):
            sites.append(new)
    return System.from_ase(Atoms(rng.choice(list(elements), 12), np.array(sites)))


def forces_of(gradient: Tensor, pairs: Pairs) -> Tensor:
    """Forces from ∂E/∂r_ij."""
    out = gradient.new_zeros((pairs.n_atoms, 3))
    return out.index_add(0, pairs.i, gradient).index_add(0, pairs.j, gradient, alpha=-1)
