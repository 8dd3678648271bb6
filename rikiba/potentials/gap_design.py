"""Rows of a GAP's design matrix: kernels with the sparse points and their analytic derivatives."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.kernels import gaussian_process_cpu, pair_geometry_cpu, soap_cpu

from .base import Design
from .gap_program import Neighbourhoods, SoapSweep
from .gap_terms import AngleTerm, PairTerm, SoapTerm, Term

if TYPE_CHECKING:
    from .gap import Gap

_BLOCK_BYTES = 4e7
"""Of derivatives that are held at once."""


class _Slopes(NamedTuple):
    """∂(w x)/∂r of one pair of each environment: dx [environments, 3, components], dw [environments, 3]."""

    pair: Tensor
    features: Tensor
    weight: Tensor


class _Sums:
    """Rows of one term, before whitening."""

    def __init__(
        self, system: System, pairs: Pairs, vectors: Tensor, points: int, forces: bool, stress: bool
    ):
        self.i, self.j = pairs.i.numpy(), pairs.j.numpy()
        self.system, self.vectors = system.system_index.numpy(), vectors.numpy()
        self.energy = np.zeros((system.n_systems, points))
        self.forces = np.zeros((system.n_atoms if forces else 0, 3, points))
        self.virial = np.zeros((system.n_systems if stress else 0, 3, 3, points))

    @property
    def differentiated(self) -> bool:
        return bool(len(self.forces) or len(self.virial))

    def add(self, atom: np.ndarray, values: np.ndarray) -> None:
        gaussian_process_cpu.add_values(self.system[atom], values, self.energy)

    def add_slopes(self, pair: np.ndarray, slopes: np.ndarray) -> None:
        gaussian_process_cpu.add_slopes(
            pair, self.i, self.j, self.system, self.vectors, slopes, self.forces, self.virial
        )


@torch.no_grad()
def design(potential: "Gap", system: System, pairs: Pairs, *, forces: bool, stress: bool) -> Design:
    """Rows in the whitened coefficients z: those in α times L⁻ᵀ."""
    types, vectors = potential.types(system), pairs.vectors(system)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for term in potential.processes:
        sums = _Sums(system, pairs, vectors, term.n_sparse, forces, stress)
        if isinstance(term, SoapTerm):
            _add_soap(sums, term, types.numpy(), potential.subtract_isolated)
        else:
            _add_bodies(sums, term, pairs, vectors, types)
        lower = term.factor(potential.jitter)
        parts.append(
            tuple(
                _whitened(term.multiplicity * torch.from_numpy(x) * term.sparse_weight, lower)
                for x in (sums.energy, sums.forces, sums.virial)
            )  # type: ignore[arg-type]
        )
    energy, f, virial = (torch.cat(x, -1) for x in zip(*parts, strict=True))
    s = None
    if stress:
        volume = torch.where(system.has_volume, system.volume, torch.nan)
        s = 0.5 * (virial + virial.transpose(1, 2)) / volume[:, None, None, None]
    return Design(
        energy=energy,
        offset=system.total(potential.atomic_energies(types)),
        forces=f if forces else None,
        stress=s,
    )


def _whitened(rows: Tensor, lower: Tensor) -> Tensor:
    """rows · L⁻ᵀ along the last axis."""
    flat = rows.reshape(-1, rows.shape[-1])
    return torch.linalg.solve_triangular(lower, flat.T, upper=False).T.reshape(rows.shape)


def _add_soap(sums: _Sums, term: SoapTerm, types: np.ndarray, subtract: bool) -> None:
    sweep, points = SoapSweep(term), term.sparse
    r, _ = pair_geometry_cpu.lengths(sums.vectors)
    n = sweep.neighbourhoods(sums.i, sums.j, types, sums.vectors, r)
    c, p, length = sweep.spectra(n, 0, len(n.atoms))
    dot = torch.from_numpy(p) @ points.T
    values = term.delta**2 * dot**term.zeta
    if subtract:
        values = values - term.kernel(term.isolated(), points)
    sums.add(n.atoms, values.numpy())
    if not sums.differentiated:
        return
    raised = term.delta**2 * term.zeta * dot ** (term.zeta - 1.0) / torch.from_numpy(length)[:, None]
    for block in _blocks(len(n.near), 24 * (sweep.n_components + term.n_sparse)):
        jacobian = _jacobian(sweep, n, c, block)
        centre = n.row[block] // sweep.elements
        slopes = torch.from_numpy(jacobian) @ points.T
        # of p of unit length
        along = np.einsum("qkd,qd->qk", jacobian, p[centre])
        slopes -= torch.from_numpy(along)[:, :, None] * dot[centre][:, None, :]
        slopes *= raised[centre][:, None, :]
        sums.add_slopes(n.near[block], slopes.numpy())


def _jacobian(sweep: SoapSweep, n: Neighbourhoods, c: np.ndarray, block: slice) -> np.ndarray:
    """∂p of the centre/∂r_ij [pairs, 3, components] before p is brought to unit length."""
    out = np.empty((len(n.near[block]), 3, sweep.n_components))
    soap_cpu.power_jacobian(
        n.row[block], n.unit[block], n.r[block], n.values[block], n.slopes[block], n.harmonics[block],
        *sweep.raising, c, sweep.elements, sweep.n_max, sweep.l_max, out,
    )  # fmt: skip
    return out


def _blocks(n: int, bytes_each: int) -> Iterator[slice]:
    size = max(1, int(_BLOCK_BYTES / bytes_each))
    return (slice(k, min(k + size, n)) for k in range(0, n, size))


def _add_bodies(sums: _Sums, term: Term, pairs: Pairs, vectors: Tensor, types: Tensor) -> None:
    assert isinstance(term, (PairTerm, AngleTerm))
    e = term.environments(vectors, pairs, types)
    for block in _blocks(len(e.features), 8 * 12 * term.n_sparse):
        x, w, atom = (t[block] for t in e)
        k = term.kernel(x, term.sparse)
        sums.add(atom.numpy(), (k * w[:, None]).numpy())
        if not sums.differentiated:
            continue
        # ∂k/∂x [environments, components, points]
        dk = -(x[:, :, None] - term.sparse.T) / term.theta[:, None] ** 2 * k[:, None, :]
        for s in _slopes(term, pairs, vectors, types, block):
            slopes = torch.einsum("ekd,edm->ekm", s.features, dk * w[:, None, None]) + (
                s.weight[:, :, None] * k[:, None, :]
            )
            sums.add_slopes(s.pair.numpy(), slopes.contiguous().numpy())


def _slopes(
    term: PairTerm | AngleTerm, pairs: Pairs, vectors: Tensor, types: Tensor, block: slice
) -> Iterator[_Slopes]:
    """How environments change with the pairs that they are made of."""
    r = vectors.norm(dim=-1)
    if isinstance(term, PairTerm):
        a = term.within(r, pairs, types)[block]
        unit = vectors[a] / r[a, None]
        yield _Slopes(a, unit[:, :, None], _faded(term, r[a])[1][:, None] * unit)
        return
    a, b = (x[block] for x in term.triplets(r, pairs, types))
    across = (vectors[b] - vectors[a]) / (vectors[b] - vectors[a]).norm(dim=-1, keepdim=True)
    for this, other, away in ((a, b, -across), (b, a, across)):
        unit = vectors[this] / r[this, None]
        gap = 2.0 * (r[this] - r[other])[:, None]
        slope = _faded(term, r[this])[1] * _faded(term, r[other])[0]
        yield _Slopes(this, torch.stack([unit, gap * unit, away], 2), slope[:, None] * unit)


def _faded(term: PairTerm | AngleTerm, r: Tensor) -> tuple[Tensor, Tensor]:
    """(f, df/dr)."""
    with torch.enable_grad():
        leaf = r.detach().requires_grad_()
        f = term.fade(leaf)
        (slope,) = torch.autograd.grad(f.sum(), leaf)
    return f.detach(), slope
