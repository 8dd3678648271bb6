"""Smooth particle-mesh Ewald: the reciprocal sum by B-splines and fast Fourier transforms, in N log N."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units
from rikiba.core.system import System
from rikiba.kernels.particle_mesh import ORDERS, gather, spread

from .splitting import EwaldSplitting

Shape = tuple[int, int, int]


@final
@dataclass(frozen=True, kw_only=True)
class ParticleMeshEwald(EwaldSplitting):
    """Coulomb energies of periodic charges with the reciprocal sum on a mesh.

    E_rec = ½ Σ_{n≠0} G(n) |F[Q](n)|²,  Q = Σ_i q_i M_p(u_i − k),
    G = 4π k_e/V · exp(−k²/4α²)/k² · Π_d b(n_d/K_d),  b(x) = sinc(x)^2p / [Σ_m sinc(x + m)^2p]²
    (Essmann et al., doi:10.1063/1.470117, with their splines M_p and derivatives by differentiating these).
    Departure from that paper: b is the factor of least energy error of Hockney and Eastwood, as in
    Ballenegger, Cerdà & Holm, doi:10.1021/ct2001792, where theirs interpolates; and the outermost plane of an
    even mesh, whose wave vectors have no sign, is left out. The other terms are those of `Ewald`.

    Forces are exact derivatives of the energy, which depends a little on where the mesh lies: their sum is
    not zero, but of the size of the error (see `force_error`). `remove_net_force` takes the mean off, which
    keeps momentum; forces are then not exactly the derivatives of the energy.

    The mesh follows the cell: its energy steps by about the error where a cell in motion gets another mesh.
    Give `mesh` for one that stays.

    Args:
        cutoff: r_c of the pairs, Å.
        tolerance: exp(−α² r_c²); the mesh is such that its force error is that of the cutoff.
        alpha: splitting parameter α, 1/Å; from cutoff and tolerance if not given.
        order: of the splines, 4 to 8.
        spacing: largest distance of mesh points along a lattice vector, Å; from the tolerance, and at most 1,
            if not given.
        mesh: points along each lattice vector; from the spacing if not given.
        dielectric: ε_s of the surrounding medium: 1 for vacuum; none for a conductor.
        slab_axis: 0, 1 or 2: the lattice vector that crosses the vacuum of a slab; adds the slab term.
        allow_charged: accept cells with a net charge Q, neutralised by a uniform background.
        remove_net_force: take the mean off the mesh's forces.
    """

    cutoff: float = 9.0
    tolerance: float = 1e-5
    order: int = 6
    spacing: float | None = None
    mesh: Shape | None = None
    remove_net_force: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("spacing")
        if not 4 <= self.order < ORDERS.stop:
            raise ValueError(f"order is 4 to {ORDERS.stop - 1}; given {self.order}.")
        if self.mesh is not None and (len(self.mesh) != 3 or min(self.mesh) < self.order):
            raise ValueError(f"mesh is three numbers of at least {self.order} points; given {self.mesh}.")

    @property
    def mesh_spacing(self) -> float:
        """Largest distance of mesh points, Å."""
        if self.spacing is not None:
            return self.spacing
        alpha = self.splitting
        target = 2.0 * self.tolerance / math.sqrt(alpha * self.cutoff)
        return min(1.0, _reduced_spacing(self.order, target) / alpha)

    def shape(self, cell: Float[Tensor, "3 3"]) -> Shape:
        """Mesh points along each lattice vector."""
        if self.mesh is not None:
            return self.mesh
        longest = self.mesh_spacing
        first, second, third = (
            _even_product(max(self.order, math.ceil(float(length) / longest - 1e-9)))
            for length in cell.detach().norm(dim=1)
        )
        return first, second, third

    def reciprocal(self, system: System, q: Float[Tensor, "atoms"]) -> Float[Tensor, "atoms"]:
        """½ q_i times the mesh's potential, eV; differentiable twice in positions, cell and charges."""
        parts = []
        for s in range(system.n_systems):
            rows, cell = system.atom_rows(s), system.cell[s]
            shape = self.shape(cell)
            u = system.positions[rows] @ torch.linalg.inv(cell)
            if self.remove_net_force and len(u):
                mean = u.mean(0)
                u = u - mean + mean.detach()
            u = u * u.new_tensor(shape)
            waves = torch.fft.rfftn(spread(u, q[rows], shape, self.order))
            potential = torch.fft.irfftn(self.influence(cell, shape) * waves, s=shape, norm="forward")
            parts.append(0.5 * q[rows] * gather(u, potential, self.order))
        return torch.cat(parts) if parts else torch.zeros_like(q)

    def influence(self, cell: Float[Tensor, "3 3"], shape: Shape) -> Float[Tensor, "n0 n1 n2"]:
        """G(n), eV/e², of the half of all waves that a real transform holds; differentiable in the cell."""
        inverse = torch.linalg.inv(cell)
        metric = 4.0 * math.pi**2 * inverse.T @ inverse
        n = [torch.from_numpy(x).to(cell) for x in wave_numbers(shape)]
        square = _quadratic(metric, n)
        factor = torch.from_numpy(spline_factor(self.order, shape)).to(cell)
        square = torch.where(factor > 0, square, 1.0)
        strength = 4.0 * math.pi * units.coulomb_constant / torch.linalg.det(cell).abs()
        return strength * factor * torch.exp(-square / (4.0 * self.splitting**2)) / square

    def force_error(
        self, system: System, charges: Float[Tensor, "atoms"]
    ) -> tuple[Float[Tensor, "systems"], Float[Tensor, "systems"]]:
        """Root-mean-square force errors expected of the pairs and of the mesh in each system, eV/Å.

        Of charges without order. Pairs: 2 k_e Σq² exp(−α² r_c²)/√(N r_c V) (Kolafa & Perram,
        doi:10.1080/08927029208049126). Mesh: k_e Σq² √(Q/N), Q the mean square of the difference between the
        mesh's and Coulomb's force of two unit charges over all places of the mesh (Ballenegger, Cerdà & Holm,
        doi:10.1021/ct2001792). What a charge's own image on the mesh does to it is not counted.
        """
        square = system.total(charges.detach().double() ** 2)
        n = system.counts.double()
        volume = system.volume.detach()
        alpha = self.splitting
        near = torch.exp(torch.tensor(-((alpha * self.cutoff) ** 2), dtype=torch.float64))
        real = 2.0 * units.coulomb_constant * square * near / torch.sqrt(n * self.cutoff * volume)
        mesh = []
        for s in range(system.n_systems):
            cell = system.cell[s].detach()
            mean = _mean_square(cell.cpu().numpy(), self.shape(cell), alpha, self.order)
            mesh.append(units.coulomb_constant * float(square[s]) * math.sqrt(mean / float(n[s])))
        return real, torch.tensor(mesh, dtype=torch.float64, device=real.device)


def _even_product(least: int) -> int:
    """The smallest even number from `least` on with no prime factor above 7: lengths of quick transforms."""
    n = least + least % 2
    while True:
        rest = n
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


@lru_cache(maxsize=64)
def wave_numbers(shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole wave numbers of a real transform, shaped to broadcast."""
    first, second, third = shape
    n0 = np.fft.fftfreq(first, 1.0 / first)[:, None, None]
    n1 = np.fft.fftfreq(second, 1.0 / second)[None, :, None]
    n2 = np.fft.rfftfreq(third, 1.0 / third)[None, None, :]
    return n0, n1, n2


def _quadratic(metric: Tensor, n: list[Tensor]) -> Tensor:
    """Σ_ab g_ab n_a n_b."""
    flat = metric[0, 0] * n[0] ** 2 + 2.0 * metric[0, 1] * n[0] * n[1] + metric[1, 1] * n[1] ** 2
    return flat + n[2] * (2.0 * (metric[0, 2] * n[0] + metric[1, 2] * n[1]) + metric[2, 2] * n[2])


_ALIASES = np.array([m for m in range(-6, 7) if m])[:, None]


def _alias_sums(order: int, n: np.ndarray, points: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """sinc^2p (n + mK)^t for t = 0, 1, 2: of m = 0, and the sum over all other m."""
    shifted = n + points * _ALIASES
    own, others = np.sinc(n / points) ** (2 * order), np.sinc(shifted / points) ** (2 * order)
    return [(own * n**t, (others * shifted**t).sum(0)) for t in range(3)]


@lru_cache(maxsize=64)
def spline_factor(order: int, shape: Shape) -> Float[np.ndarray, "n0 n1 n2"]:
    """Π_d b(n_d/K_d); 0 for n = 0 and in the outermost planes of even meshes."""
    axes = []
    for n, points in zip(wave_numbers(shape), shape, strict=True):
        flat = n.ravel()
        own, others = _alias_sums(order, flat, points)[0]
        b = own / (own + others) ** 2
        b[2 * np.abs(flat) == points] = 0.0
        axes.append(b.reshape(n.shape))
    product: np.ndarray = axes[0] * axes[1] * axes[2]
    product[0, 0, 0] = 0.0
    return product


def _others(factors: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Π_d (own_d + others_d) − Π_d own_d of three axes, without cancellation."""
    (a, p), (b, q), (c, r) = factors
    return p * (b + q) * (c + r) + a * q * (c + r) + a * b * r


def _mean_square(cell: np.ndarray, shape: Shape, alpha: float, order: int) -> float:
    """Q: mean of |F_mesh − F|² of two unit charges (k_e = 1), 1/Å⁴.

    Σ_n { k² (G Û² − φ)² + G² [Σ_m Û_m² k_m² Σ_m Û_m² − k² Û⁴] } + Σ over waves beyond the mesh of k² φ², with
    Û = Π sinc^p and φ = 4π exp(−k²/4α²)/(k² V).
    """
    inverse, volume = np.linalg.inv(cell), abs(np.linalg.det(cell))
    metric = 4.0 * math.pi**2 * inverse.T @ inverse
    grid = wave_numbers(shape)
    sums = []
    for d, n in enumerate(grid):
        expand = tuple(slice(None) if a == d else None for a in range(3))
        found = _alias_sums(order, n.ravel(), shape[d])
        sums.append([(own[expand], others[expand]) for own, others in found])
    square = sum(metric[a, b] * grid[a] * grid[b] for a in range(3) for b in range(3))
    square[0, 0, 0] = 1.0
    field = 4.0 * math.pi / volume * np.exp(-square / (4.0 * alpha**2)) / square
    field[0, 0, 0] = 0.0
    g = spline_factor(order, shape) * field
    own = sums[0][0][0] * sums[1][0][0] * sums[2][0][0]
    aliases = _others([sums[d][0] for d in range(3)])
    sloped = sum(
        metric[a, b] * _others([sums[d][(d == a) + (d == b)] for d in range(3)])
        for a in range(3)
        for b in range(3)
    )
    terms = square * (g * own - field) ** 2 + g * g * (square * own * aliases + sloped * (own + aliases))
    once = (grid[2] == 0) | (2 * grid[2] == shape[2])
    inside = float((terms * np.where(once, 1.0, 2.0)).sum())
    edge = min(math.pi * k / float(np.linalg.norm(a)) for k, a in zip(shape, cell, strict=True))
    beyond = 8.0 * alpha * math.sqrt(math.pi / 2.0) / volume * math.erfc(edge / (math.sqrt(2.0) * alpha))
    return inside + beyond


_FINE = 0.15
"""αh below which the error is proportional to (αh)^(p − 1)."""


@lru_cache(maxsize=256)
def _reduced_spacing(order: int, target: float) -> float:
    """αh at which the mesh's force error is k_e Σq² √(α/NV) times `target`; at most 2."""

    def error(x: float) -> float:
        points = _even_product(max(16, math.ceil(5.0 / x)))
        mean = _mean_square(points * np.eye(3), (points,) * 3, x, order)  # h = 1, α = x
        return math.sqrt(mean * points**3 / x)

    low, high = _FINE, 2.0
    if error(high) < target:
        return high
    finest = error(low)
    if finest > target:
        return low * (target / finest) ** (1.0 / (order - 1))
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if error(middle) < target else (low, middle)
    return low
