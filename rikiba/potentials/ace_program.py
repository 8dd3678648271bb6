"""The atomic cluster expansion in compiled kernels: energies, pair gradients, rows of the design matrix."""

import copy
from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.descriptors.cluster_expansion import ClusterExpansion
from rikiba.descriptors.cluster_sums import ClusterSums
from rikiba.kernels import cluster_expansion_cpu as kernels
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.nn.so3 import raising_terms

from .base import Design

if TYPE_CHECKING:
    from .ace import ACE
    from .embedded_ace import EmbeddedACE
    from .pacemaker_ace import PacemakerACE

BLOCK = 2**16
"""Pairs of a block, about: their arrays are small enough to be had again and again from the same memory."""

EMBEDDINGS = ("smooth", "shifted_scaled", "finnis_sinclair")
"""Forms of f as the kernel numbers them."""


class Neighbourhoods(NamedTuple):
    """Pairs within the cutoff grouped by centre, atoms by element, and A of all atoms.

    What has a row for each pair is overwritten when the same sweep makes the next.
    """

    order: np.ndarray
    spans: np.ndarray
    start: np.ndarray
    parent: np.ndarray
    sender: np.ndarray
    neighbour: np.ndarray
    """Element of each pair's neighbour."""
    unit: np.ndarray
    r: np.ndarray
    y: np.ndarray
    radial: np.ndarray
    radial_slope: np.ndarray
    kinds: np.ndarray
    """Element of each atom in grouped order."""
    a: np.ndarray


class ClusterSweep:
    """The compiled side of a `ClusterSums`: a snapshot of its parameters."""

    def __init__(self, descriptor: ClusterSums) -> None:
        self._descriptor: ClusterSums = copy.deepcopy(descriptor).double().requires_grad_(False)
        self._raising = raising_terms(descriptor.l_max)
        self._count = np.array(descriptor.one.count)
        self._first = np.array(descriptor.first_column)
        self.n_a, self._per_element = descriptor.one.size, descriptor.one.per_element
        self._n_kinds = len(descriptor.elements)
        self._kept: dict[str, np.ndarray] = {}

    def kept(self, name: str, *shape: int) -> np.ndarray:
        """An array in the memory of the last one of this name: new memory costs more than writing to it."""
        size = prod(shape)
        if name not in self._kept or self._kept[name].size < size:
            self._kept[name] = np.empty(size + size // 8)
        return self._kept[name][:size].reshape(shape)

    def neighbourhoods(self, types: np.ndarray, pairs: Pairs, vectors: np.ndarray) -> Neighbourhoods:
        """Sums over the neighbours of every atom."""
        return next(self.blocks(types, pairs, vectors, size=len(vectors)))

    def blocks(
        self, types: np.ndarray, pairs: Pairs, vectors: np.ndarray, *, size: int = BLOCK
    ) -> Iterator[Neighbourhoods]:
        """Sums over neighbours for some centres after others, about `size` pairs at a time; at least once.

        Senders are numbered among all atoms in grouped order; everything else is of the block's own centres.
        """
        lengths, _ = geometry.lengths(vectors)
        order, _, spans, start, parent, sender = geometry.arrange(
            types, self._n_kinds, pairs.i.numpy(), pairs.j.numpy(), lengths
        )
        kinds, first = types[order], 0
        while True:
            last = len(types)
            if start[last] - start[first] > size:
                last = max(first + 1, int(np.searchsorted(start, start[first] + size, "right")) - 1)
            own, centres = slice(start[first], start[last]), slice(first, last)
            n = int(start[last] - start[first])
            unit, r = self.kept("unit", n, 3), self.kept("r", n)
            y = self.kept("y", n, (self._descriptor.l_max + 1) ** 2)
            geometry.unit_vectors(vectors, lengths, parent[own], unit, r)
            geometry.harmonics(unit, *self._raising, y)
            begin, neighbour = start[first : last + 1] - start[first], kinds[sender[own]]
            radial, slope = self.radial(r, np.repeat(kinds[centres], np.diff(begin)), neighbour)
            a = np.empty((last - first, self.n_a))
            kernels.sums(begin, neighbour, y, radial, self._count, self._first, self._per_element, a)
            yield Neighbourhoods(
                order[centres], np.clip(spans - first, 0, last - first), begin, parent[own], sender[own],
                neighbour, unit, r, y, radial, slope, kinds[centres], a,
            )  # fmt: skip
            first = last
            if first == len(types):
                return

    def radial(self, r: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """R_nl of each pair and their slopes, with the factor of the harmonics."""
        centre, neighbour = torch.from_numpy(i), torch.from_numpy(j)
        distance = torch.from_numpy(r)
        found = torch.func.jvp(
            lambda x: self._descriptor.harmonic * self._descriptor.radial_columns(x, centre, neighbour),
            (distance,),
            (torch.ones_like(distance),),
        )
        return found[0].contiguous().numpy(), found[1].contiguous().numpy()

    def pair_gradient(self, n: Neighbourhoods, slopes: np.ndarray, out: np.ndarray) -> None:
        """∂E/∂r_ij of each pair into its place in the given order, from ∂E/∂A."""
        slope, y_slope = self.kept("slope", len(n.r)), self.kept("y_slope", *n.y.shape)
        kernels.pair_slopes(
            n.start, n.neighbour, n.y, n.radial, n.radial_slope, self._count, self._first,
            self._per_element, slopes, slope, y_slope,
        )  # fmt: skip
        geometry.geometry_reverse(n.unit, n.r, n.y, *self._raising, n.parent, slope, y_slope, out)

    def rows(
        self,
        n: Neighbourhoods,
        system: np.ndarray,
        energy: np.ndarray,
        forces: np.ndarray,
        virial: np.ndarray,
    ) -> None:
        """Fill rows of the design: [systems, …], [atoms, 3, …] and the upper half of [systems, 3, 3, …]."""
        d = self._descriptor
        assert isinstance(d, ClusterExpansion)
        a = np.concatenate([n.a, np.ones((len(n.a), 1))], 1)
        values = (d.function.numpy(), d.monomial.numpy(), d.coefficient.numpy(), d.monomials.numpy())
        kernels.rows(
            n.order, n.kinds, system, n.start, n.sender, n.unit, n.r, n.y, self._raising, n.radial,
            n.radial_slope, self._count, self._first, a, values,
            derivative_terms(*values, self._per_element, self._n_kinds), d.n_functions, energy, forces,
            virial,
        )  # fmt: skip


def derivative_terms(
    function: np.ndarray,
    monomial: np.ndarray,
    coefficient: np.ndarray,
    monomials: np.ndarray,
    per_element: int,
    n_kinds: int,
) -> tuple[np.ndarray, ...]:
    """∂B_k/∂A_v as sums over monomials: see `rikiba.kernels.cluster_expansion_cpu.rows`."""
    n_a, order = per_element * n_kinds, monomials.shape[1]
    f, v, c, others = [], [], [], []
    for t in range(order):
        removed = monomials[monomial, t]
        kept = removed < n_a
        rest = np.delete(monomials[monomial], t, 1)
        f.append(function[kept])
        v.append(removed[kept])
        c.append(coefficient[kept])
        others.append(rest[kept] if order > 1 else np.full((int(kept.sum()), 1), n_a))
    functions, places = np.concatenate(f), np.concatenate(v)
    key = (places // per_element * (function.max() + 1) + functions) * per_element + places % per_element
    slots, slot = np.unique(key, return_inverse=True)
    owner, a_of = np.divmod(slots, per_element)
    kind, function_of = np.divmod(owner, function.max() + 1)
    slot_start = np.searchsorted(kind, np.arange(n_kinds + 1))
    # in the order of their slots, so that sums run through memory
    along = np.argsort(slot, kind="stable")
    return (
        slot[along], np.concatenate(others)[along], np.concatenate(c)[along], function_of, a_of, slot_start
    )  # fmt: skip


def recursion(monomials: np.ndarray, n_a: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(left, right, node of each monomial): every product is one of two earlier ones.

    Nodes 0 … n_a − 1 are the A; a product of three or more is split into two that exist already where that
    is possible: the recursive evaluator of Dusson et al., doi:10.1016/j.jcp.2022.110946.
    """
    nodes: dict[tuple[int, ...], int] = {(k,): k for k in range(n_a)}
    left: list[int] = []
    right: list[int] = []

    def node(m: tuple[int, ...]) -> int:
        if m in nodes:
            return nodes[m]
        ways = ((m[:t] + m[t + 1 :], (m[t],)) for t in range(len(m) - 1, -1, -1))
        if len(m) == 4:
            halves = ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2))
            ways = (*ways, *(((m[a], m[b]), (m[c], m[d])) for a, b, c, d in halves))  # type: ignore[assignment]
        known = next((w for w in ways if w[0] in nodes and w[1] in nodes), None)
        first, second = known or (m[:-1], m[-1:])
        one, other = node(first), node(second)
        left.append(one)
        right.append(other)
        nodes[m] = n_a + len(left) - 1
        return nodes[m]

    tuples = [tuple(sorted(int(k) for k in row if k < n_a)) for row in monomials]
    found = np.empty(len(tuples), np.int64)
    for k in sorted(range(len(tuples)), key=lambda k: len(tuples[k])):
        found[k] = node(tuples[k])
    return np.array(left, np.int64), np.array(right, np.int64), found


class CompiledACE:
    """A snapshot of an ACE as a program of compiled kernels, in float64.

    E_i = E0 + Σ_p w_p f(ρ_p, m_p) with ρ_p = Σ_k weights[element, p, k] Π_k and `factors` w, `exponents` m,
    the same for all elements or a row for each; so is `embedding`, the name of f.
    """

    sweep_class: type[ClusterSweep] = ClusterSweep

    def __init__(
        self,
        potential: "ACE | EmbeddedACE | PacemakerACE",
        weights: Float[Tensor, "elements densities monomials"],
        *,
        factors: Sequence[float] | Sequence[Sequence[float]],
        exponents: Sequence[float] | Sequence[Sequence[float]],
        embedding: str | Sequence[str] = "smooth",
    ) -> None:
        descriptor = potential.descriptor
        self._sweep = self.sweep_class(descriptor)
        self._left, self._right, node = recursion(descriptor.monomials.numpy(), self._sweep.n_a)
        n_nodes = self._sweep.n_a + len(self._left)
        self._weights = np.zeros((*weights.shape[:2], n_nodes))
        self._weights[:, :, node] = weights.numpy()
        shape = weights.shape[:2]
        self._factors = np.broadcast_to(np.array(factors), shape).copy()
        self._exponents = np.broadcast_to(np.array(exponents), shape).copy()
        names = [embedding] * shape[0] if isinstance(embedding, str) else embedding
        self._forms = np.array([EMBEDDINGS.index(name) for name in names])
        self._constants = potential.atomic_energies.values.numpy().copy()
        self._types = copy.deepcopy(potential).types

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64."""
        types = self._types(system).numpy()
        given = vectors.detach().double().contiguous().numpy()
        energies, gradient = self._constants[types], np.empty((len(given), 3))
        for n in self._sweep.blocks(types, pairs, given):
            energies[n.order] += self._energies(n, gradient)
        return torch.from_numpy(energies), torch.from_numpy(gradient)

    def _energies(self, n: Neighbourhoods, gradient: np.ndarray) -> np.ndarray:
        """Energies of the centres without constants; fills ∂E/∂r_ij of their pairs in the given order."""
        own, slopes = self._embedded(n)
        self._sweep.pair_gradient(n, slopes, gradient)
        return own

    def _embedded(self, n: Neighbourhoods) -> tuple[np.ndarray, np.ndarray]:
        """Energies of the centres without constants, and ∂E/∂A."""
        own, slopes = np.zeros(len(n.kinds)), np.empty_like(n.a)
        kernels.centres(
            n.a, n.spans, self._left, self._right, self._weights, self._factors, self._exponents,
            self._forms, own, slopes,
        )  # fmt: skip
        return own, slopes


def design(potential: "ACE", system: System, pairs: Pairs, *, forces: bool, stress: bool) -> Design:
    """Rows of the design matrix: B and their analytic derivatives."""
    if pairs.cutoff > potential.cutoff:
        pairs = pairs.within(system, potential.cutoff)[0]
    types = potential.types(system)
    sweep = ClusterSweep(potential.descriptor)
    vectors = pairs.vectors(system).detach().double().contiguous().numpy()
    n = sweep.neighbourhoods(types.numpy(), pairs, vectors)
    columns = potential.coefficients.numel()
    energy = np.zeros((system.n_systems, columns))
    f = np.zeros((system.n_atoms if forces else 0, 3, columns))
    w = np.zeros((system.n_systems if stress else 0, 3, 3, columns))
    sweep.rows(n, system.system_index.numpy(), energy, f, w)
    s = None
    if stress:
        for x in range(3):
            for z in range(x):
                w[:, x, z] = w[:, z, x]
        volume = torch.where(system.has_volume, system.volume, torch.nan)
        s = torch.from_numpy(w) / volume[:, None, None, None]
    return Design(
        energy=torch.from_numpy(energy),
        offset=system.total(potential.atomic_energies(types)),
        forces=torch.from_numpy(f) if forces else None,
        stress=s,
    )
