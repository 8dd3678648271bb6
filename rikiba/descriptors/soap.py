"""Smooth overlap of atomic positions: the power spectrum of Gaussian-smeared neighbour densities.

Bartók, Kondor & Csányi, Phys. Rev. B 87, 184115 (2013), doi:10.1103/PhysRevB.87.184115; elements as in
De, Bartók, Csányi & Ceriotti, doi:10.1039/C6CP00415F.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.nn.cutoff import cosine, polynomial
from rikiba.nn.double_buffers import DoubleBuffers
from rikiba.nn.so3 import degrees, spherical_harmonics

_TAIL_DIGITS = 10.0


class Soap(DoubleBuffers):
    """Power spectrum of every centre, of unit length if `normalised`.

    ρ^s(r) = Σ_{j of element s} f(r_ij) exp(−|r − r_ij|²/2σ²) + w δ_{s, own} exp(−r²/2σ²)
    c^s_{nlm} = ∫ ρ^s g_n Y_lm,  p = Σ_m c^s_{nlm} c^{s'}_{n'lm}/√(2l+1), √2 times that for (s, n) ≠ (s', n')

    in the order of (s, n), of (s', n') ≤ (s, n), of l. The radial functions g_n are Gaussians of the same
    width centred every R/n_max from 0, R = cutoff + σ√(20 ln 10), made orthonormal by the Cholesky factor of
    their overlap: the basis of QUIP, so that potentials made with it can be read. The overall constant of p
    is that of densities expanded with these Gaussians taken as they are, not of
    doi:10.1103/PhysRevB.87.184115, eq. 30; with `normalised` it has no effect.

    f falls from 1 to 0 over the last `transition_width` Å: by default the C² polynomial (a departure from the
    papers, whose cosine, C¹, is an option).

    Args:
        elements: symbols of the neighbours, in the order of the element index.
        cutoff: Å.
        n_max: radial functions.
        l_max: largest angular momentum.
        atom_sigma: width σ of the Gaussians, Å.
        transition_width: length over which neighbours fade, Å.
        envelope: polynomial (C²) or cosine (C¹).
        central_weight: weight w of the atom itself.
        normalised: divide by the length of p.

    Raises:
        ValueError: for settings out of range.
    """

    covariance: Tensor
    transform: Tensor
    centres: Tensor

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float,
        n_max: int = 8,
        l_max: int = 8,
        atom_sigma: float = 0.5,
        transition_width: float = 0.5,
        envelope: Literal["polynomial", "cosine"] = "polynomial",
        central_weight: float = 1.0,
        normalised: bool = True,
    ) -> None:
        super().__init__()
        if min(cutoff, atom_sigma, transition_width) <= 0 or transition_width > cutoff:
            raise ValueError(
                "cutoff, atom_sigma and transition_width must be positive, the last at most the cutoff; "
                f"given {cutoff}, {atom_sigma}, {transition_width}."
            )
        if not 1 <= n_max <= 40 or not 0 <= l_max <= 20:
            raise ValueError(f"n_max must be 1 to 40 and l_max 0 to 20; given {n_max} and {l_max}.")
        if envelope not in ("polynomial", "cosine"):
            raise ValueError(f"envelope must be polynomial or cosine; given '{envelope}'.")
        if normalised and central_weight <= 0:
            raise ValueError(
                "A normalised SOAP needs central_weight > 0: an atom without neighbours would have no "
                f"direction; given {central_weight}."
            )
        self.elements, self.n_elements = tuple(elements), len(elements)
        self.cutoff, self.n_max, self.l_max = float(cutoff), n_max, l_max
        self.transition_width, self.envelope = float(transition_width), envelope
        self.central_weight, self.normalised = float(central_weight), normalised
        self.alpha = 0.5 / atom_sigma**2
        centres, transform = _radial_basis(cutoff, n_max, atom_sigma)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("transform", transform, persistent=False)
        self.switch, self.start = bessel_ranges(l_max)
        channels = self.n_elements * n_max
        self.n_components = channels * (channels + 1) // 2 * (l_max + 1)

    def forward(
        self,
        vectors: Float[Tensor, "pairs 3"],
        centre: Int[Tensor, "pairs"],
        neighbour_types: Int[Tensor, "pairs"],
        own_types: Int[Tensor, "centres"],
    ) -> Float[Tensor, "centres components"]:
        """p of every centre, differentiable in the pair vectors (Å)."""
        n, channels = len(own_types), self.n_elements * self.n_max
        r = vectors.norm(dim=-1)
        radial = self.radial(r) * self.fade(r)[:, None, None]
        y = spherical_harmonics(vectors / r[:, None], self.l_max)
        of_lm = torch.repeat_interleave(
            torch.arange(self.l_max + 1, device=r.device),
            torch.arange(self.l_max + 1, device=r.device) * 2 + 1,
        )
        per_pair = radial[:, :, of_lm] * y[:, None, :]
        row = centre * self.n_elements + neighbour_types
        c = per_pair.new_zeros((n * self.n_elements, *per_pair.shape[1:])).index_add(0, row, per_pair)
        own = torch.nn.functional.one_hot(own_types, self.n_elements).to(c)
        central = self.central_weight * self.radial(r.new_zeros(1))[0, :, 0]
        lowest = c.unflatten(0, (n, self.n_elements))[..., :1] + (own[:, :, None] * central)[..., None]
        c = torch.cat([lowest, c.unflatten(0, (n, self.n_elements))[..., 1:]], -1).flatten(1, 2)
        first, second = np.tril_indices(channels)
        spectrum = torch.stack(
            [
                (c[:, :, s] @ c[:, :, s].transpose(1, 2))[:, first, second] / math.sqrt(2 * l + 1)
                for l, s in enumerate(degrees(self.l_max))
            ],
            -1,
        )
        twice = torch.as_tensor(np.where(first == second, 1.0, math.sqrt(2.0))).to(spectrum)
        p = (spectrum * twice[:, None]).flatten(1) / (4.0 * math.pi)
        return p / p.norm(dim=-1, keepdim=True) if self.normalised else p

    def fade(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
        """f(r)."""
        x = ((r - (self.cutoff - self.transition_width)) / self.transition_width).clamp(min=0.0)
        return cosine(x) if self.envelope == "cosine" else polynomial(x, 3)

    def radial(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs n_max l"]:
        """Σ_b T_bn exp(−α(r² + r_b²)) i_l(2α r r_b), the radial part of a Gaussian at distance r."""
        centres, transform = self.centres.to(r), self.transform.to(r)
        x = 2.0 * self.alpha * r[:, None] * centres
        height = torch.exp(-self.alpha * (r[:, None] - centres) ** 2)
        values = scaled_bessel(x, self.l_max, self.switch, self.start)
        return torch.einsum("pbl,bn->pnl", values * height[..., None], transform)


def bessel_ranges(l_max: int) -> tuple[float, int]:
    """(x from which recursion upwards in l is accurate, l from which recursion downwards starts below it)."""
    switch = max(l_max * l_max / 6.0, 1.0)
    return switch, math.ceil(math.sqrt((l_max + 1) ** 2 + 40.0 * switch)) + 2


def scaled_bessel(x: Float[Tensor, "*n"], l_max: int, switch: float, start: int) -> Float[Tensor, "*n l"]:
    """e^{−x} i_l(x), modified spherical Bessel functions of the first kind for x ≥ 0, l = 0 … l_max.

    Upwards i_{l+1} = i_{l−1} − (2l+1)/x i_l where x > `switch`; elsewhere by ratios i_l/i_{l−1} =
    x/(2l+1 + x i_{l+1}/i_l) from l = `start` down. DLMF 10.51.
    """
    high, low = x.clamp(min=switch), x.clamp(max=switch)
    # 1 at x = 0, where its slope is −1: all that the derivative of a product with x needs
    safe = torch.where(low > 1e-8, low, torch.ones_like(low))
    first = torch.where(low > 1e-8, -torch.expm1(-2.0 * safe) / (2.0 * safe), 1.0 - low)
    ratios: list[Tensor] = []
    ratio = torch.zeros_like(low)
    for l in range(start, 0, -1):
        ratio = low / (2 * l + 1 + low * ratio)
        if l <= l_max:
            ratios.append(ratio)
    below = [first]
    for step in reversed(ratios):
        below.append(below[-1] * step)
    decay = torch.exp(-2.0 * high)
    above = [(1.0 - decay) / (2.0 * high)]
    above.append((1.0 + decay) / (2.0 * high) - above[0] / high)
    for l in range(1, l_max):
        above.append(above[l - 1] - (2 * l + 1) / high * above[l])
    return torch.where((x > switch)[..., None], torch.stack(above[: l_max + 1], -1), torch.stack(below, -1))


def _radial_basis(cutoff: float, n_max: int, atom_sigma: float) -> tuple[Tensor, Tensor]:
    """(centres of the Gaussians, Å; matrix from them to the orthonormal functions)."""
    alpha = 0.5 / atom_sigma**2
    reach = cutoff + atom_sigma * math.sqrt(2.0 * _TAIL_DIGITS * math.log(10.0))
    centres = np.arange(n_max) * (reach / n_max)
    difference, middle = centres[:, None] - centres[None, :], 0.5 * (centres[:, None] + centres[None, :])
    covariance = np.exp(-alpha * difference**2)
    # ∫ r² exp(−2α(r − m)²) dr from 0
    area = math.sqrt(math.pi / (8.0 * alpha)) * (
        1.0 + np.vectorize(math.erf)(math.sqrt(2.0 * alpha) * middle)
    )
    second = middle * np.exp(-2.0 * alpha * middle**2) / (4.0 * alpha) + (middle**2 + 0.25 / alpha) * area
    overlap = np.exp(-0.5 * alpha * difference**2) * second
    transform = np.linalg.solve(covariance, np.linalg.cholesky(overlap))
    return torch.from_numpy(centres), torch.from_numpy(np.ascontiguousarray(transform))
