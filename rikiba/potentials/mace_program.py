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
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.system import System
from rikiba.kernels import atom_energy_cpu as ends
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.threads import in_threads, one_torch_thread, over_slices
from rikiba.nn.repulsion import MACE_ZBL
from rikiba.nn.so3 import raising_terms

from .mace_sweep import LayerRun, SweepPairs
from .mace_weights import OFFSET, SHORTEST, folded, layers_of, padded, radial_functions, tables_of
from .mace_workspace import LayerSpace

if TYPE_CHECKING:
    from .mace import MACE

_FOLDED_BYTES = 2**24
"""The first layer's table holds its matrix products for every pair of types if it stays below this size."""
_EXACT = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""Spline weights that read value and slope from two consecutive rows."""
_PAIRS_A_THREAD = 400
"""Fewer pairs of 128 channels are not worth another thread."""
_ACTIVATIONS = {"silu": ends.SILU, "tanh": ends.TANH}


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
        self._spaces: tuple[tuple[tuple[int, ...], int], list[LayerSpace]] | None = None
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
        given = vectors.detach().to(torch.float64).contiguous().numpy()
        lengths, shortest = geometry.lengths(given)
        if not shortest > SHORTEST[self._exact.distance_transform]:
            return self.by_autograd(system, pairs, vectors)
        with one_torch_thread() as available:
            worth = len(i) * self.channels // (128 * _PAIRS_A_THREAD)
            return self._evaluate(types, i, j, given, lengths, max(1, min(available, worth)))

    def _evaluate(
        self,
        types: np.ndarray,
        i: np.ndarray,
        j: np.ndarray,
        vectors: np.ndarray,
        lengths: np.ndarray,
        threads: int,
    ) -> tuple[Tensor, Tensor]:
        n_types = len(self._exact.elements)
        order, _, spans, start, parent, sender = geometry.arrange(types, n_types, i, j, lengths)
        unit, r = np.empty((len(i), 3)), np.empty(len(i))
        geometry.unit_vectors(vectors, lengths, parent, unit, r)
        sorted_types = types[order]
        found = self._pairs(sorted_types, start, sender, unit, r, threads)
        atoms = np.zeros(len(types))
        if len(types):
            self._sweep(tuple(spans.tolist()), found, atoms, threads)
        if self._exact.zbl:
            self._repel(found, sorted_types, atoms)
        gradient = np.empty((len(i), 3))
        y, y_slope = found.harmonics.numpy(), found.harmonics_slope.numpy()

        def back(a: int, b: int) -> None:
            geometry.geometry_reverse(
                unit[a:b], r[a:b], y[a:b], *self._terms, parent[a:b], found.slope[a:b], y_slope[a:b], gradient
            )

        over_slices(back, len(i), threads)
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
        self,
        types: np.ndarray,
        start: np.ndarray,
        sender: np.ndarray,
        unit: np.ndarray,
        r: np.ndarray,
        threads: int,
    ) -> SweepPairs:
        n, n_types = len(r), len(self._exact.elements)
        n_lm = (self._exact.l_max + 1) ** 2
        sender_type = types[sender]
        pair_type = np.repeat(types, np.diff(start)) * n_types + sender_type
        kind = pair_type if self._typed else np.zeros(n, np.int64)
        harmonics = torch.empty((n, n_lm), dtype=self.dtype)
        y = harmonics.numpy()
        row, weights = np.empty(n, np.int64), np.empty((n, 12), y.dtype)

        def fill(a: int, b: int) -> None:
            geometry.harmonics(unit[a:b], *self._terms, y[a:b])
            if self._tables is None:
                weights[a:b] = _EXACT
            else:
                spline = (self._start, self._spacing, self._offset, self._rows)
                geometry.spline_rows(r[a:b], kind[a:b], *spline, row[a:b], weights[a:b])

        over_slices(fill, n, threads)
        typed_row = row if self._tables is None else row + (pair_type - kind) * self._rows
        slope, y_slope = np.zeros(n), torch.zeros_like(harmonics)
        flat, back = y.reshape(-1), y_slope.view(-1).numpy()
        return SweepPairs(
            start, sender, kind, sender_type, r, harmonics, flat, row, typed_row, weights, slope,
            y_slope, back,
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
