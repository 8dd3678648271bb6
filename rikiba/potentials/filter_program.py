"""What the compiled programs of SchNet and PaiNN share: filters as tables, pair geometry, dense networks."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Union

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad, silu

from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.system import System
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.lanes import LANES
from rikiba.kernels.message_cpu import Paths, Rows, message_forward, message_reverse
from rikiba.nn.mlp import MLP, shifted_softplus
from rikiba.nn.tabulation import spline_table, value_and_slope

from .base import Potential

if TYPE_CHECKING:
    from .painn import PaiNN
    from .schnet import SchNet

SHORTEST = 0.2
"""Where tables start, Å."""
_MOST_INTERVALS = 4096
_EXACT = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""Spline weights that read value and slope from two consecutive rows."""
NO_TERMS = tuple(np.empty(0, np.int64) for _ in range(3))


def padded(n: int) -> int:
    """The next multiple of 32."""
    return -(-n // (2 * LANES)) * (2 * LANES)


def widened(w: Tensor, n: int, dim: int) -> Tensor:
    """Blocks of n along `dim`, each filled up with zeros to a multiple of 32."""
    blocks = w.detach().movedim(dim, -1).unflatten(-1, (-1, n))
    return pad(blocks, (0, padded(n) - n)).flatten(-2).movedim(-1, dim).contiguous()


_silu_back = torch.ops.aten.silu_backward
_softplus_back = torch.ops.aten.softplus_backward


class Dense:
    """A perceptron with its reverse sweep, its weights possibly widened."""

    def __init__(self, mlp: MLP, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
        if mlp.function not in ("silu", "shifted_softplus"):
            raise ValueError(f"A compiled program needs silu or shifted_softplus; given '{mlp.function}'.")
        self.silu = mlp.function == "silu"
        self.weights = [w.detach().contiguous() for w in weights]
        self.transposed = [w.T.contiguous() for w in self.weights]
        self.biases = [b.detach().contiguous() for b in biases]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(y, values before each activation)."""
        saved: list[Tensor] = []
        for k, (w, b) in enumerate(zip(self.transposed, self.biases, strict=True)):
            if k:
                saved.append(x)
                x = silu(x) if self.silu else shifted_softplus(x)
            x = torch.addmm(b, x, w)
        return x, saved

    def reverse(self, g: Tensor, saved: list[Tensor]) -> Tensor:
        """∂E/∂x from ∂E/∂y."""
        for k in range(len(self.weights) - 1, -1, -1):
            g = g @ self.weights[k]
            if k:
                g = _silu_back(g, saved[k - 1]) if self.silu else _softplus_back(g, saved[k - 1], 1.0, 20.0)
        return g


class Grouped(NamedTuple):
    """The pairs of one call, grouped by centre."""

    start: np.ndarray
    sender: np.ndarray
    parent: np.ndarray
    unit: np.ndarray
    r: np.ndarray
    row: np.ndarray
    weights: np.ndarray
    tables: list[np.ndarray]
    """Per layer."""
    slope: np.ndarray
    """∂E/∂r, to be filled."""


class Messages(NamedTuple):
    """The couplings of one layer as the message kernels read them."""

    paths: Paths
    rows: Rows
    channels: int

    def forward(
        self, p: Grouped, layer: int, features: Tensor, angular: Tensor, n_atoms: int
    ) -> Float[Tensor, "packed"]:
        """A, packed."""
        out = features.new_empty(n_atoms * len(self.rows.start) * self.channels)
        message_forward(*self._given(p, layer, features, angular, n_atoms), out.numpy())
        return out

    def reverse(
        self,
        p: Grouped,
        layer: int,
        features: Tensor,
        angular: Tensor,
        n_atoms: int,
        cotangent: Tensor,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        """(∂E/∂(angular), ∂E/∂(features), empty unless wanted); adds to p.slope."""
        angular_slope = torch.zeros_like(angular)
        feature_slope = features.new_zeros(features.numel() if wanted else 0)
        message_reverse(
            *self._given(p, layer, features, angular, n_atoms), cotangent.numpy(), p.slope,
            angular_slope.view(-1).numpy(), feature_slope.numpy(),
        )  # fmt: skip
        return angular_slope, feature_slope

    def _given(self, p: Grouped, layer: int, features: Tensor, angular: Tensor, n_atoms: int) -> tuple:  # type: ignore[type-arg]
        no_norm = features.view(-1).numpy()[:0]
        flat, tau = features.view(-1).numpy(), angular.view(-1).numpy()
        return (
            0, n_atoms, p.start, p.sender, p.row, p.weights, p.tables[layer], flat, n_atoms, tau, 0,
            self.paths, self.rows, self.channels, no_norm,
        )  # fmt: skip


def couplings(
    paths: Sequence[tuple[int, int, int, int]], rows: Sequence[tuple[int, int, int]], channels: int
) -> Messages:
    """From (feature row, d2, output row, d3) of paths and (block start, width, place) of output rows."""
    numbers, term = [], 0
    for feature, d2, row, d3 in paths:
        numbers.append((feature, d2, row, d3, term))
        term += d2 * d3
    columns = [np.array(x, np.int64) for x in zip(*numbers, strict=True)]
    places = [np.array(x, np.int64) for x in zip(*rows, strict=True)]
    return Messages(Paths(*columns), Rows(*places), channels)


class CompiledFilters(ABC):
    """A snapshot of a SchNet or PaiNN as a program of compiled kernels; see `Program`."""

    def __init__(self, potential: Union["SchNet", "PaiNN"], *, tabulate: bool, tolerance: float) -> None:
        self._exact = copy.deepcopy(potential).requires_grad_(False)
        self.dtype = potential.dtype
        self.table_error = 0.0
        self.tabulate, self.tolerance = tabulate, tolerance
        self._tables: list[np.ndarray] | None = None
        n_types = len(self._exact.elements)
        self._offsets = self._exact.atomic_energies.values.numpy() + self._exact.shift
        self._alone = np.zeros(n_types)

    def _prepare(self) -> None:
        """Make tables that keep forces within the tolerance; note the energies of isolated atoms."""
        intervals = 64
        while self.tabulate:
            intervals = self._make_tables(intervals)
            error, allowed = self._worst_force()
            if error <= allowed:
                break
            if intervals > _MOST_INTERVALS:
                raise ValueError(
                    f"Tables change forces by {error:.1e} eV/Å; allowed is {allowed:.1e}. Use "
                    "program(tabulate=False) or a larger tolerance."
                )
        n = len(self._exact.elements)
        if self._exact.isolated_limit:
            empty = np.empty(0, np.int64)
            p = self._grouped(n, empty, empty, np.empty((0, 3)))
            assert p is not None
            self._alone = self._sweep(torch.arange(n), p)[0].double().numpy()

    @abstractmethod
    def _sweep(self, types: Tensor, p: Grouped) -> tuple[Tensor, Tensor, Tensor]:
        """(the network's energies, harmonics, ∂E/∂(harmonics)); fills p.slope; derivatives times `scale`."""

    @abstractmethod
    def _columns(self, filters: Float[Tensor, "layers pairs filters"]) -> list[Tensor]:
        """Per layer, the filters [pairs, paths·channels] as the message kernels read them."""

    def _function(self, r: Tensor, kind: int) -> Tensor:
        """All filters of all layers at distances r, side by side."""
        return torch.cat(self._columns(self._filters(r)), 1)

    def _make_tables(self, intervals: int) -> int:
        """Tables with an error below a tenth of the tolerance, relative to the largest filter.

        Begins with so many intervals; returns twice as many as it took. Raises ValueError beyond the most.
        """
        self._filters = copy.deepcopy(self._exact.filters).double()
        error, tolerance = float("inf"), 0.1 * self.tolerance
        # at the cutoff itself the second derivative of a C¹ envelope is that from outside
        stop = self._exact.cutoff * (1.0 - 1e-12)
        while error > tolerance:
            if intervals > _MOST_INTERVALS:
                raise ValueError(
                    f"The filters cannot be tabulated: {_MOST_INTERVALS} intervals leave a relative error of "
                    f"{error:.1e}; allowed is {tolerance:.1e}. Use program(tabulate=False)."
                )
            table = spline_table(self._function, n_kinds=1, start=SHORTEST, stop=stop, intervals=intervals)
            error = max(table.value_error, table.slope_error)
            intervals *= 2
        self.table_error, self._from, self._spacing = error, table.start, table.spacing
        self._rows = table.coefficients.shape[1]
        widths = [c.shape[1] for c in self._columns(self._filters(torch.ones(1, dtype=torch.float64)))]
        parts = table.coefficients[0].to(self.dtype).split(widths, 1)
        self._tables = [c.contiguous().view(-1).numpy() for c in parts]
        return intervals

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
        types = self._exact.types(system)
        given = vectors.detach().to(torch.float64).contiguous().numpy()
        p = self._grouped(len(types), pairs.i.numpy(), pairs.j.numpy(), given)
        if p is None:
            return differentiated(self._exact, system, pairs, vectors)
        with torch.no_grad():
            found, harmonics, harmonics_slope = self._sweep(types, p)
        gradient = np.empty((len(p.r), 3))
        geometry.geometry_reverse(
            p.unit, p.r, harmonics.numpy(), *NO_TERMS, np.empty(0), p.parent, p.slope,
            harmonics_slope.numpy(), gradient,
        )  # fmt: skip
        kinds = types.numpy()
        energies = self._offsets[kinds] + self._exact.scale * (found.double().numpy() - self._alone[kinds])
        return torch.from_numpy(energies), torch.from_numpy(gradient)

    def _grouped(self, n_atoms: int, i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> Grouped | None:
        """None where a distance is below the tables."""
        n = len(i)
        lengths, shortest = geometry.lengths(vectors)
        if self._tables is not None and not shortest > SHORTEST:
            return None
        one_type = np.zeros(n_atoms, np.int64)
        _, _, _, start, parent, sender = geometry.arrange(one_type, 1, i, j, lengths)
        unit, r = np.empty((n, 3)), np.empty(n)
        geometry.unit_vectors(vectors, lengths, parent, unit, r)
        real = np.float32 if self.dtype == torch.float32 else np.float64
        if self._tables is not None:
            row, weights, tables = np.empty(n, np.int64), np.empty((n, 12), real), self._tables
            kind = np.zeros(n, np.int64)
            geometry.spline_rows(r, kind, self._from, self._spacing, 0.0, self._rows, row, weights)
        else:
            tables = self._exact_tables(torch.from_numpy(r).to(self.dtype))
            row, weights = 2 * np.arange(n), np.tile(np.array(_EXACT, real), (n, 1))
        return Grouped(start, sender, parent, unit, r, row, weights.reshape(-1), tables, np.zeros(n))

    def _exact_tables(self, r: Tensor) -> list[np.ndarray]:
        """Value and slope of the filters at every pair, in consecutive rows."""
        self._filters = self._exact.filters
        value, slope = value_and_slope(self._function, r, 0)
        table = value.new_zeros((2 * len(r) + 4, value.shape[1]))
        table[0 : 2 * len(r) : 2], table[1 : 2 * len(r) : 2] = value, slope
        widths = [c.shape[1] for c in self._columns(self._filters(r[:0]))]
        return [c.contiguous().view(-1).numpy() for c in table.split(widths, 1)]

    def _worst_force(self) -> tuple[float, float]:
        """Largest error of a force of trial structures, eV/Å, and what is allowed."""
        double = copy.deepcopy(self._exact).double()
        error = rounding = 0.0
        for seed in range(3):
            system = trial(self._exact.elements, self._exact.cutoff, seed)
            pairs = find_pairs(system, self._exact.cutoff)
            vectors = pairs.vectors(system)
            right = _forces(differentiated(double, system, pairs, vectors)[1], pairs)
            own = _forces(differentiated(self._exact, system, pairs, vectors)[1], pairs)
            found = _forces(self(system, pairs, vectors)[1], pairs)
            error = max(error, float((found - right).abs().max()))
            rounding = max(rounding, float((own - right).abs().max()))
        return error, max(self.tolerance, 2.0 * rounding)


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


def _forces(gradient: Tensor, pairs: Pairs) -> Tensor:
    out = gradient.new_zeros((pairs.n_atoms, 3))
    return out.index_add(0, pairs.i, gradient).index_add(0, pairs.j, gradient, alpha=-1)
