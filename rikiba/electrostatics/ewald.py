"""Ewald summation of point charges and of Gaussian ones."""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import units
from rikiba.core.system import System

from .splitting import EwaldSplitting


@final
@dataclass(frozen=True, kw_only=True)
class Ewald(EwaldSplitting):
    """Coulomb energies of periodic charges by Ewald's splitting (Ewald, doi:10.1002/andp.19213690304).

    E = k_e [½ Σ_ij q_i q_j erfc(α r)/r + (2π/V) Σ_{k≠0} exp(−k²/4α²)/k² |S(k)|² − α/√π Σ q_i²
        − π Q²/(2Vα²) + 2π M²/((2ε_s + 1)V)],  S(k) = Σ q_j exp(ik·r_j), M = Σ q_j r_j
    in units where k_e = e²/4πε₀. The last term is that of a sphere in a medium ε_s; without `dielectric` the
    medium is a conductor (tin foil) and there is none. The sum over pairs has the cutoff's error
    erfc(α r_c), that over k-vectors exp(−k_c²/4α²): both are `tolerance` where α and k_c are not given. The
    result depends on neither beyond that.

    `slab_axis` instead adds the term of a slab between vacua (Yeh & Berkowitz, doi:10.1063/1.479595).

    Args:
        cutoff: r_c of the pairs, Å.
        tolerance: relative size of what is left out.
        alpha: splitting parameter α, 1/Å.
        k_cutoff: k_c, 1/Å.
        dielectric: ε_s of the surrounding medium: 1 for vacuum; none for a conductor.
        slab_axis: 0, 1 or 2: the lattice vector that crosses the vacuum of a slab; adds the slab term.
        allow_charged: accept cells with a net charge Q, neutralised by a uniform background.
    """

    k_cutoff: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("k_cutoff")

    @property
    def reciprocal_cutoff(self) -> float:
        """k_c, 1/Å."""
        if self.k_cutoff is not None:
            return self.k_cutoff
        return 2.0 * self.splitting * math.sqrt(-math.log(self.tolerance))

    def reciprocal(self, system: System, q: Float[Tensor, "atoms"]) -> Float[Tensor, "atoms"]:
        """½ q_i times the sum over k-vectors, eV."""
        parts = []
        for s in range(system.n_systems):
            rows = system.atom_rows(s)
            k, weight = self.waves(system.cell[s])
            phase = system.positions[rows] @ k.T
            cosine, sine, charge = torch.cos(phase), torch.sin(phase), q[rows]
            potential = cosine @ (weight * (charge @ cosine)) + sine @ (weight * (charge @ sine))
            parts.append(0.5 * charge * potential)
        return torch.cat(parts) if parts else torch.zeros_like(q)

    def waves(self, cell: Float[Tensor, "3 3"]) -> tuple[Float[Tensor, "waves 3"], Float[Tensor, "waves"]]:
        """k-vectors of half of space up to k_c, 1/Å, and 8π k_e exp(−k²/4α²)/(k² V) of each."""
        inverse = torch.linalg.inv(cell).T
        k = 2.0 * math.pi * integer_waves(cell.detach(), self.reciprocal_cutoff) @ inverse
        square = (k * k).sum(1)
        volume = torch.linalg.det(cell).abs()
        factor = 8.0 * math.pi * units.coulomb_constant / volume
        return k, factor * torch.exp(-square / (4.0 * self.splitting**2)) / square


def integer_waves(cell: Float[Tensor, "3 3"], k_cutoff: float) -> Float[Tensor, "waves 3"]:
    """Whole numbers n of half of space with |2π n h⁻ᵀ| ≤ k_c, without 0, in a fixed order."""
    most = (k_cutoff * cell.norm(dim=1) / (2.0 * math.pi)).floor().long().tolist()
    axes = [torch.arange(-m, m + 1, device=cell.device) for m in most]
    n = torch.cartesian_prod(*axes)
    first = torch.where(n[:, 0] != 0, n[:, 0], torch.where(n[:, 1] != 0, n[:, 1], n[:, 2]))
    n = n[first > 0].double()
    k = 2.0 * math.pi * n @ torch.linalg.inv(cell).T
    return n[(k * k).sum(1) <= k_cutoff**2]


def excluded_energies(
    vectors: Float[Tensor, "bonds 3"],
    first: Int[Tensor, "bonds"],
    second: Int[Tensor, "bonds"],
    charges: Float[Tensor, "atoms"],
    alpha: float,
) -> Float[Tensor, "bonds"]:
    """−k_e q_i q_j erf(α r)/r, eV: takes pairs of atoms in one molecule out of the reciprocal sum.

    The same pairs are to be left out of the sum over pairs; each is named once.
    """
    r = vectors.norm(dim=-1)
    return -units.coulomb_constant * charges[first] * charges[second] * torch.erf(alpha * r) / r


def coulomb(
    system: System, charges: Float[Tensor, "atoms"], widths: Float[Tensor, "atoms"] | None = None
) -> Float[Tensor, "atoms"]:
    """½ k_e Σ_j q_i q_j/r of systems without periodic axes, eV; erf(r/√2γ)/r, γ² = σ_i² + σ_j², of Gaussians.

    Raises ValueError where a system is periodic along any axis.
    """
    if bool(system.pbc.any()):
        raise ValueError("`coulomb` is for molecules; for periodic structures use `Ewald`.")
    q, parts = charges.double(), []
    for s in range(system.n_systems):
        rows = system.atom_rows(s)
        own = None if widths is None else widths[rows]
        parts.append(0.5 * q[rows] * (interaction(system.positions[rows], own) @ q[rows]))
    return torch.cat(parts) if parts else torch.zeros_like(q)


def interaction(
    positions: Float[Tensor, "atoms 3"], widths: Float[Tensor, "atoms"] | None = None
) -> Float[Tensor, "atoms atoms"]:
    """k_e/r of every two atoms (erf(r/√2γ) k_e/r of Gaussians), 0 on the diagonal."""
    n = len(positions)
    off = ~torch.eye(n, dtype=torch.bool, device=positions.device)
    i, j = off.nonzero(as_tuple=True)
    r = (positions[j] - positions[i]).norm(dim=-1)
    value = units.coulomb_constant / r
    if widths is not None:
        gamma = torch.sqrt(widths[i] ** 2 + widths[j] ** 2)
        value = value * torch.erf(r / (math.sqrt(2.0) * gamma))
    return positions.new_zeros(n, n).index_put((i, j), value)
