"""What compiled programs of equivariant networks share: order of atoms and pairs, geometry, checks of tables.

Atoms are taken in order of their type, pairs grouped by centre and sorted by distance.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from rikiba.core.elements import numbers_of
from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.system import System
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.threads import one_torch_thread, over_slices
from rikiba.nn.so3 import raising_terms

from .base import Potential

EXACT = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""Spline weights that read value and slope from two consecutive rows."""


@dataclass
class Grouped:
    """What every layer reads of the pairs, grouped by centre."""

    types: np.ndarray
    """Of the atoms, sorted."""
    start: np.ndarray
    sender: np.ndarray
    sender_type: np.ndarray
    r: np.ndarray
    harmonics: Tensor
    slope: np.ndarray
    """∂E/∂r."""
    harmonics_slope: Tensor


class CompiledPairs(ABC):
    """A snapshot of a network of pair vectors as a program of compiled kernels; see `Program`.

    Not to be called by several threads at once: its arrays are reused from call to call.
    """

    shortest: float
    """Distances below it are left to automatic differentiation, Å."""
    energies: np.ndarray
    """Of each type: what is added to the network's energy, eV."""

    def __init__(self, potential: Potential, l_max: int) -> None:
        self._exact = copy.deepcopy(potential).requires_grad_(False)
        self.dtype = potential.dtype
        self._n_lm = (l_max + 1) ** 2
        self._terms = raising_terms(l_max)
        self.table_error = 0.0
        self.intervals = 0

    def worth(self, pairs: int) -> int:
        """How many threads so many pairs are worth."""
        return 1

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
        if not shortest > self.shortest:
            return self.by_autograd(system, pairs, vectors)
        with one_torch_thread() as available:
            threads = max(1, min(available, self.worth(len(i))))
            return self._evaluate(types, i, j, given, lengths, threads)

    @abstractmethod
    def _evaluate(
        self,
        types: np.ndarray,
        i: np.ndarray,
        j: np.ndarray,
        vectors: np.ndarray,
        lengths: np.ndarray,
        threads: int,
    ) -> tuple[Tensor, Tensor]:
        """The same of a system that is not decomposed, from vectors within the cutoff and their lengths."""

    def by_autograd(self, system: System, pairs: Pairs, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the potential's own definition."""
        with torch.enable_grad():
            leaf = vectors.detach().to(torch.float64).requires_grad_()
            energies = self._exact(system, pairs.with_vectors(leaf)).need("energies")
            (gradient,) = (
                torch.autograd.grad(energies.sum(), leaf) if len(leaf) else (torch.zeros_like(leaf),)
            )
        return energies.detach().to(torch.float64), gradient


class CompiledNetwork(CompiledPairs):
    """The same where atoms are taken in order of their type and pairs are grouped by centre."""

    @abstractmethod
    def evaluate_sorted(
        self, spans: tuple[int, ...], pairs: Grouped, energies: np.ndarray, threads: int
    ) -> None:
        """Add to energies of the sorted atoms and to the derivatives of the pairs.

        Atoms spans[k] … spans[k + 1] − 1 are of type k.
        """

    def _evaluate(
        self,
        types: np.ndarray,
        i: np.ndarray,
        j: np.ndarray,
        vectors: np.ndarray,
        lengths: np.ndarray,
        threads: int,
    ) -> tuple[Tensor, Tensor]:
        n = len(i)
        found = geometry.arrange(types, len(self._exact.elements), i, j, lengths)
        order, _, spans, start, parent, sender = found
        unit, r = np.empty((n, 3)), np.empty(n)
        geometry.unit_vectors(vectors, lengths, parent, unit, r)
        kinds = types[order]
        harmonics = torch.empty((n, self._n_lm), dtype=self.dtype)
        slope, harmonics_slope = np.zeros(n), torch.zeros_like(harmonics)
        y, y_slope, gradient = harmonics.numpy(), harmonics_slope.numpy(), np.empty((n, 3))

        def there(a: int, b: int) -> None:
            geometry.harmonics(unit[a:b], *self._terms, y[a:b])

        def back(a: int, b: int) -> None:
            geometry.geometry_reverse(
                unit[a:b], r[a:b], y[a:b], *self._terms, parent[a:b], slope[a:b], y_slope[a:b], gradient
            )

        over_slices(there, n, threads)
        energies = np.zeros(len(types))
        if len(types):
            pairs = Grouped(kinds, start, sender, kinds[sender], r, harmonics, slope, harmonics_slope)
            self.evaluate_sorted(tuple(spans.tolist()), pairs, energies, threads)
        over_slices(back, n, threads)
        out = np.empty(len(types))
        out[order] = energies + self.energies[kinds]
        return torch.from_numpy(out), torch.from_numpy(gradient)


def by_kind(
    function: Callable[[Tensor, int], tuple[Tensor, Tensor]], r: Tensor, kinds: np.ndarray
) -> tuple[Tensor, Tensor]:
    """A radial function and its slope at pairs of several kinds."""
    parts = [(torch.from_numpy(np.flatnonzero(kinds == k)), int(k)) for k in np.unique(kinds)]
    if len(parts) < 2:
        return function(r, parts[0][1] if parts else 0)
    found = [function(r[which], kind) for which, kind in parts]
    back = torch.argsort(torch.cat([which for which, _ in parts]))
    value, slope = (torch.cat(x)[back] for x in zip(*found, strict=True))
    return value, slope


def exact_table(value: Tensor, slope: Tensor) -> np.ndarray:
    """A flat table of which pair q reads its value and slope at row 2q with the weights `EXACT`."""
    table = value.new_zeros((2 * len(value) + 4, value.shape[1]))
    table[0 : 2 * len(value) : 2], table[1 : 2 * len(value) : 2] = value, slope
    return table.flatten().numpy()


def check_tables(program: CompiledPairs, system: System, tolerance: float) -> None:
    """Raise ValueError unless forces per pair of a trial structure agree with the potential's in float64."""
    pairs = find_pairs(system, program._exact.cutoff)
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


def trial(elements: tuple[str, ...], spacing: float) -> System:
    """A dense random cluster of all elements (at most 24 atoms) around a grid of that spacing, Å."""
    kinds = torch.arange(max(12, min(24, 2 * len(elements)))) % len(elements)
    generator = torch.Generator().manual_seed(0)
    grid = torch.cartesian_prod(*[torch.arange(3.0, dtype=torch.float64)] * 3)[: len(kinds)]
    shaken = grid + 0.2 * (torch.rand(grid.shape, generator=generator, dtype=torch.float64) - 0.5)
    numbers: Any = numbers_of(elements)[kinds].numpy()
    return System.from_ase(Atoms(numbers, (spacing * shaken).numpy()))
