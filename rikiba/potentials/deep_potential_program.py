"""Deep Potential inference in compiled kernels; see `rikiba.kernels.deeppot_cpu`."""

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.kernels import deeppot_cpu as kernels
from rikiba.kernels.activation_cpu import SILU, TANH
from rikiba.kernels.dense_cpu import at_cache_line
from rikiba.kernels.grouping import group_by_type
from rikiba.kernels.lanes import LANES
from rikiba.kernels.pair_geometry_cpu import spline_rows
from rikiba.kernels.threads import in_threads
from rikiba.nn.residual import ResidualNetworks
from rikiba.nn.tabulation import spline_table

from .filter_program import differentiated, flat, padded, panelled, worst_force

if TYPE_CHECKING:
    from .deep_potential import DeepPotential

SHORTEST = 0.4
"""Distance of the last entry of tables, Å."""
_MOST_INTERVALS = 4096
_EXACT = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""Spline weights that read value and slope from two consecutive rows."""
ACTIVATIONS = {"tanh": TANH, "silu": SILU}


class CompiledDeepPotential:
    """A snapshot of a DeepPotential as a program of compiled kernels; see `DeepPotential.program`."""

    def __init__(self, potential: "DeepPotential", *, tabulate: bool, tolerance: float) -> None:
        self._exact = copy.deepcopy(potential).requires_grad_(False)
        self._exact.interpolate_radial(None)
        self.dtype, self.tabulate, self.tolerance = potential.dtype, tabulate, tolerance
        self._real: Any = np.float32 if self.dtype == torch.float32 else np.float64
        descriptor = self._descriptor = self._exact.descriptor
        self._channels = -(-descriptor.channels // LANES) * LANES
        self._slots = np.array(descriptor.slots or (0,) * descriptor.n_types, self._real)
        self._mean, self._deviation = descriptor.mean.numpy(), descriptor.deviation.numpy()
        self._empties = self._widened(descriptor.empty(self.dtype)).numpy()
        self._net = fitting_weights(self._exact.networks, ACTIVATIONS[self._exact.networks.function])
        self._offsets = self._exact.atomic_energies.values.numpy() + self._exact.shift
        if self._exact.isolated_limit:
            kinds = torch.arange(descriptor.n_types)
            alone = self._exact.networks(descriptor.alone(), group_by_type(kinds, len(kinds)))
            self._offsets = self._offsets - self._exact.scale * alone.double().squeeze(1).numpy()
        self.table_error, self.intervals, self._table = 0.0, 0, np.empty(0, self._real)
        self._spaces: list[np.ndarray] = []
        """Arrays between the steps of a chunk, one for every thread of a call, kept for the next."""
        if tabulate:
            self._make_tables()

    def _new_space(self) -> np.ndarray:
        return at_cache_line(np.empty(kernels.deeppot_space(self._net, self._channels), self._real))

    def _widened(self, x: Tensor) -> Tensor:
        """Channels filled up with zeros."""
        return torch.nn.functional.pad(x, (0, self._channels - x.shape[-1])).contiguous()

    def _make_tables(self) -> None:
        """Tables of the embedding networks that keep forces within the tolerance; ValueError without."""
        mean, deviation = self._mean, self._deviation[:, 0]
        start = float((-mean / deviation).min())
        stop = float(((1.0 / SHORTEST - mean) / deviation).max())
        networks = copy.deepcopy(self._descriptor.networks).double()
        intervals = 32
        while True:
            table = spline_table(
                lambda x, kind: networks.one(kind, x[:, None]),
                n_kinds=networks.n_networks,
                start=start,
                stop=stop,
                intervals=intervals,
            )
            self._from, self._spacing, self.intervals = table.start, table.spacing, intervals
            self.table_error = max(table.value_error, table.slope_error)
            self._table = flat(self._widened(table.coefficients.to(self.dtype)))
            error, allowed = worst_force(self, self._exact, self.tolerance)
            if self.table_error <= self.tolerance and error <= allowed:
                return
            if intervals >= _MOST_INTERVALS:
                raise ValueError(
                    f"Tables change forces by {error:.1e} eV/Å; allowed is {allowed:.1e}. Use "
                    "program(tabulate=False) or a larger tolerance."
                )
            intervals *= 2

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64.

        By automatic differentiation where a distance is below the tables or the system is decomposed.
        """
        exact, descriptor = self._exact, self._descriptor
        if pairs.exchange is not None:
            return differentiated(exact, system, pairs, vectors)
        if pairs.cutoff > exact.cutoff:
            near, parent = pairs.with_vectors(vectors).within(system, exact.cutoff)
            energies, nearest = self(system, near, vectors[parent])
            return energies, torch.zeros_like(vectors).index_copy_(0, parent, nearest)
        types, n, real = exact.types(system).numpy(), len(pairs), self._real
        i, given = pairs.i.numpy(), vectors.detach().to(torch.float64).contiguous().numpy()
        unit, shape, x = np.empty((n, 3)), np.empty((n, 3)), np.empty(n)
        rows, kind = np.empty(4 * n, real), np.empty(n, np.int64)
        empty = np.tile(self._slots, (len(types), 1))
        kernels.environment(
            given, i, pairs.j.numpy(), types, exact.cutoff, descriptor.switch_start,
            descriptor.switch == "cosine", self._mean, self._deviation, descriptor.one_side, unit, shape, x,
            rows, kind, empty,
        )  # fmt: skip
        if self.tabulate and n and not x.max() <= self._from + self._spacing * self.intervals:
            return differentiated(exact, system, pairs, vectors)
        row, weights, table = self._radial(x, kind)
        slope, row_slope, found = np.empty(n, real), np.empty(4 * n, real), np.empty(len(types))
        start, gradient = pairs.row_start.numpy(), np.empty((n, 3))
        order = np.argsort(types, kind="stable")
        bounds = np.searchsorted(types[order], np.arange(descriptor.n_types + 1))

        parts = _parts(bounds, torch.get_num_threads())

        def sweep(thread: int) -> None:
            space = self._spaces.pop() if self._spaces else self._new_space()
            for first, last in parts[thread]:
                kernels.deeppot_sweep(
                    first, last, order, types, start, row, weights.reshape(-1), table, rows, empty,
                    self._empties, self._channels, descriptor.channels, descriptor.axis_channels,
                    1.0 / descriptor.n_neighbours, self._net, exact.scale, space, found, slope, row_slope,
                )  # fmt: skip
            self._spaces.append(space)

        in_threads(sweep, len(parts))
        kernels.environment_reverse(unit, shape, i, types, self._deviation, slope, row_slope, gradient)
        energies = self._offsets[types] + exact.scale * found
        return torch.from_numpy(energies), torch.from_numpy(gradient)

    def _radial(self, x: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First row of each pair, its spline weights, and the table."""
        n = len(x)
        if self.tabulate:
            row, weights = np.empty(n, np.int64), np.empty((n, 12), self._real)
            spline_rows(x, kind, self._from, self._spacing, 0.0, self.intervals + 5, row, weights)
            return row, weights, self._table
        groups = group_by_type(torch.from_numpy(kind), self._descriptor.networks.n_networks)
        given = groups.gather(torch.from_numpy(x).to(self.dtype))[:, None]
        table = given.new_zeros((2 * n + 4, self._channels))
        channels = self._descriptor.channels
        for k, first, last in groups.spans:
            part = given[first:last]
            found = self._descriptor.networks.with_slope(k, part, torch.ones_like(part))
            for odd, values in enumerate(found):
                table[2 * first + odd : 2 * last : 2, :channels] = values
        place = torch.arange(n) if groups.inverse is None else groups.inverse
        row = 2 * place.numpy()
        return row, np.tile(np.array(_EXACT, self._real), (n, 1)), table.flatten().numpy()


def _parts(bounds: np.ndarray, threads: int) -> list[list[tuple[int, int]]]:
    """Spans of one type each; for several threads cut into multiples of a chunk and dealt to them."""
    spans = [(int(first), int(last)) for first, last in pairwise(bounds) if last > first]
    if threads == 1:
        return [spans] if spans else []
    chunk = kernels.CHUNK
    pieces = [(a, min(a + chunk, last)) for first, last in spans for a in range(first, last, chunk)]
    threads = min(threads, len(pieces))
    return [pieces[k::threads] for k in range(threads)]


def fitting_weights(networks: ResidualNetworks, activation: int) -> kernels.FittingWeights:
    """Residual networks with an output, padded for the kernels."""
    weights = [w.detach() for w in networks.weights]
    true = [weights[0].shape[1], *(w.shape[2] for w in weights)]
    wide = [padded(n) for n in true]
    real: Any = np.float32 if weights[0].dtype == torch.float32 else np.float64

    def filled(x: Tensor, *shape: int) -> Tensor:
        out = x.new_zeros(shape)
        out[tuple(slice(n) for n in x.shape)] = x
        return out

    forward, back, biases, steps = [], [], [], []
    for net in range(networks.n_networks):
        for k, (w, b) in enumerate(zip(weights, networks.biases, strict=True)):
            matrix = filled(w[net], wide[k], wide[k + 1])
            forward.append(matrix)
            back.append(matrix.T.contiguous())
            biases.append(filled(b[net].detach(), wide[k + 1]))
            if k < len(networks.steps):
                has = str(k) in networks.timesteps
                dt = networks.timesteps[str(k)][net].detach() if has else torch.ones_like(b[net])
                steps.append(filled(dt, wide[k + 1]))
    return kernels.FittingWeights(
        widths=np.array(wide),
        true_widths=np.array(true),
        steps=np.array(networks.steps),
        weights=panelled(forward, real),
        back=panelled(back, real),
        biases=flat(torch.cat(biases)),
        timesteps=flat(torch.cat(steps)),
        activation=activation,
    )
