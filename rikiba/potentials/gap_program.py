"""A GAP in compiled kernels: energies and pair gradients."""

import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.kernels import gaussian_process_cpu, pair_geometry_cpu, soap_cpu
from rikiba.nn.so3 import raising_terms

from .gap_terms import AngleTerm, PairTerm, SoapTerm

if TYPE_CHECKING:
    from .gap import Gap

_BLOCK = 128
"""Atoms whose spectra are compared with the sparse points at once."""


class Neighbourhoods(NamedTuple):
    """What a SOAP term sees of a batch: its pairs, and the expansion of the density around each centre."""

    near: np.ndarray
    atoms: np.ndarray
    row: np.ndarray
    unit: np.ndarray
    r: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    harmonics: np.ndarray
    expansion: np.ndarray


class SoapSweep:
    """The compiled side of a SOAP term: a snapshot of its settings."""

    def __init__(self, term: SoapTerm) -> None:
        d = term.descriptor
        self.kind, self.of_type, self.own = term.kind, term.of_type.numpy(), term.own
        self.elements, self.n_max, self.l_max = d.n_elements, d.n_max, d.l_max
        self.channels, self.n_components = d.n_elements * d.n_max, d.n_components
        self.cutoff = d.cutoff
        self.radial = soap_cpu.Radial(
            d.alpha, d.centres.numpy(), d.transform.numpy(), d.l_max, d.switch, d.start, d.cutoff,
            d.transition_width, soap_cpu.COSINE if d.envelope == "cosine" else soap_cpu.POLYNOMIAL,
        )  # fmt: skip
        self.central = d.central_weight * d.radial(torch.zeros(1, dtype=torch.float64))[0, :, 0].numpy()
        self.raising = raising_terms(d.l_max)

    def neighbourhoods(
        self, i: np.ndarray, j: np.ndarray, types: np.ndarray, vectors: np.ndarray, r: np.ndarray
    ) -> Neighbourhoods:
        """Sums over the neighbours of every centre."""
        kinds = self.of_type[types[j]]
        near = np.flatnonzero((types[i] == self.kind) & (kinds >= 0) & (r < self.cutoff))
        atoms = np.flatnonzero(types == self.kind)
        place = np.empty(len(types), np.int64)
        place[atoms] = np.arange(len(atoms))
        row = place[i[near]] * self.elements + kinds[near]
        unit, lengths = np.empty((len(near), 3)), np.empty(len(near))
        pair_geometry_cpu.unit_vectors(vectors, r, near, unit, lengths)
        values = np.empty((len(near), self.n_max * (self.l_max + 1)))
        slopes = np.empty_like(values)
        soap_cpu.radial_functions(lengths, self.radial, values, slopes)
        y = np.empty((len(near), (self.l_max + 1) ** 2))
        pair_geometry_cpu.harmonics(unit, *self.raising, y)
        c = np.zeros((len(atoms) * self.elements, self.n_max * y.shape[1]))
        soap_cpu.expand(row, values, y, self.n_max, self.l_max, c)
        c[self.own :: self.elements, :: y.shape[1]] += self.central
        return Neighbourhoods(near, atoms, row, unit, lengths, values, slopes, y, c)

    def spectra(self, n: Neighbourhoods, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(expansion [centres, channels × lm], spectrum of unit length, length before) of some centres."""
        c = n.expansion.reshape(len(n.atoms), -1)[first:last]
        p = np.empty((len(c), self.n_components))
        soap_cpu.power(c, self.channels, self.l_max, p)
        length = np.sqrt(np.einsum("nd,nd->n", p, p))
        p /= length[:, None]
        return c, p, length


class _CompiledSoap:
    """Σ_m α_m δ² (p·p_m)^ζ and its gradient."""

    def __init__(self, term: SoapTerm, alpha: Tensor, subtract: bool) -> None:
        self.sweep, self.zeta = SoapSweep(term), term.zeta
        used = term.sparse_weight > 0
        self.points = term.sparse[used].contiguous()
        self.transposed = self.points.T.contiguous()
        self.alpha = alpha[used] * term.delta**2
        self.constant = float(term.kernel(term.isolated(), term.sparse)[0] @ alpha) if subtract else 0.0

    def add(self, i, j, types, vectors, r, energies, out) -> None:  # type: ignore[no-untyped-def]
        s = self.sweep
        n = s.neighbourhoods(i, j, types, vectors, r)
        from_c = np.empty((len(n.atoms), n.expansion.shape[1] * s.elements))
        for first in range(0, len(n.atoms), _BLOCK):
            c, p, length = s.spectra(n, first, first + _BLOCK)
            spectrum = torch.from_numpy(p)
            dot = spectrum @ self.transposed
            raised = dot if self.zeta == 2.0 else dot ** (self.zeta - 1.0)
            weighted = raised * self.alpha
            own = (weighted * dot).sum(1).numpy()
            energies[n.atoms[first : first + _BLOCK]] += own - self.constant
            # of p of unit length; what changes its length changes nothing
            slope = self.zeta * (weighted @ self.points).numpy()
            slope -= self.zeta * own[:, None] * p
            slope /= length[:, None]
            soap_cpu.power_reverse(c, slope, s.channels, s.l_max, from_c[first : first + _BLOCK])
        rows = from_c.reshape(n.expansion.shape)
        along, y_slope = np.empty(len(n.near)), np.empty_like(n.harmonics)
        soap_cpu.pair_reverse(n.row, n.values, n.slopes, n.harmonics, rows, s.n_max, s.l_max, along, y_slope)
        part = np.empty((len(n.near), 3))
        here = np.arange(len(n.near))
        pair_geometry_cpu.geometry_reverse(n.unit, n.r, n.harmonics, *s.raising, here, along, y_slope, part)
        out[n.near] += part


class _CompiledPairs:
    """A term of pairs."""

    def __init__(self, term: PairTerm, alpha: Tensor) -> None:
        self.kinds, self.cutoff = term.kinds, term.cutoff
        self.shape = term.cutoff, term.transition_width, _envelope(term)
        self.points, self.theta = term.sparse[:, 0].numpy().copy(), float(term.theta)
        self.alpha = (alpha * term.delta**2).numpy()

    def add(self, i, j, types, vectors, r, energies, out) -> None:  # type: ignore[no-untyped-def]
        a, b = self.kinds
        ti, tj = types[i], types[j]
        near = np.flatnonzero(((ti == a) & (tj == b)) | ((ti == b) & (tj == a)))
        gaussian_process_cpu.pair_term(
            near, i, r, vectors, *self.shape, self.points, self.alpha, self.theta, energies, out
        )


class _CompiledTriplets:
    """A term of triplets."""

    def __init__(self, term: AngleTerm, alpha: Tensor) -> None:
        self.kind, self.kinds = term.kind, term.kinds
        self.shape = term.cutoff, term.transition_width, _envelope(term)
        self.points, self.theta = term.sparse.numpy().copy(), term.theta.numpy()
        self.alpha = (alpha * term.delta**2).numpy()

    def add(self, i, j, types, vectors, r, energies, out) -> None:  # type: ignore[no-untyped-def]
        kinds = types[j]
        near = np.flatnonzero(
            (types[i] == self.kind)
            & (r < self.shape[0])
            & ((kinds == self.kinds[0]) | (kinds == self.kinds[1]))
        )
        near = near[np.argsort(i[near], kind="stable")]
        start = np.append(np.flatnonzero(np.diff(i[near], prepend=-1)), len(near))
        gaussian_process_cpu.triplet_term(
            start, near, kinds, *self.kinds, i, vectors, r, *self.shape, self.points, self.alpha, self.theta,
            energies, out,
        )  # fmt: skip


def _envelope(term: PairTerm | AngleTerm) -> int:
    return soap_cpu.COSINE if term.envelope == "cosine" else soap_cpu.POLYNOMIAL


class CompiledGap:
    """A snapshot of a GAP as a program of compiled kernels, in float64."""

    def __init__(self, potential: "Gap") -> None:
        self._constants = potential.atomic_energies.values.numpy().copy()
        self._types = copy.deepcopy(potential).types
        self._terms: list[_CompiledSoap | _CompiledPairs | _CompiledTriplets] = []
        for term, alpha in zip(potential.processes, potential.alphas(), strict=True):
            a = alpha.detach()
            if isinstance(term, SoapTerm):
                self._terms.append(_CompiledSoap(term, a, potential.subtract_isolated))
            elif isinstance(term, PairTerm):
                self._terms.append(_CompiledPairs(term, a))
            elif isinstance(term, AngleTerm):
                self._terms.append(_CompiledTriplets(term, a))

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64."""
        types = self._types(system).numpy()
        v = vectors.detach().double().contiguous().numpy()
        r, _ = pair_geometry_cpu.lengths(v)
        energies, gradient = self._constants[types], np.zeros_like(v)
        for term in self._terms:
            term.add(pairs.i.numpy(), pairs.j.numpy(), types, v, r, energies, gradient)
        return torch.from_numpy(energies), torch.from_numpy(gradient)
