"""Spherical Bessel functions as a radial basis with one set of functions for every angular degree."""

from functools import lru_cache
from itertools import pairwise
from math import pi, prod, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from .cutoff import polynomial
from .double_buffers import DoubleBuffers

_SERIES_TERMS = 14
"""For arguments below 2 the last is under 1e-16 of the first."""


def spherical_bessel(x: Float[Tensor, "*n"], l: int) -> Float[Tensor, "*n"]:
    """j_l(x) for x > 0, differentiable; float64 for full precision.

    Below x = 2 by the power series, above by j_(l+1) = (2l+1)/x j_l − j_(l−1) (DLMF 10.51.1, 10.53.1).
    """
    large = torch.where(x < 2.0, torch.full_like(x, 2.0), x)
    small = torch.where(x < 2.0, x, torch.full_like(x, 2.0))
    up = [torch.sin(large) / large]
    up.append((up[0] - torch.cos(large)) / large)
    for m in range(1, l):
        up.append((2 * m + 1) / large * up[m] - up[m - 1])
    powers = (small * small).unsqueeze(-1) ** torch.arange(_SERIES_TERMS, device=x.device)
    series = small**l * (powers @ _series(l).to(x))
    return torch.where(x < 2.0, series, up[l])


@lru_cache(maxsize=64)
def _series(l: int) -> Tensor:
    """(−½)^k/(k! (2l+2k+1)!!)."""
    c = [1.0 / prod(range(1, 2 * l + 2, 2))]
    for k in range(1, _SERIES_TERMS):
        c.append(-0.5 * c[-1] / (k * (2 * l + 2 * k + 1)))
    return torch.tensor(c, dtype=torch.float64)


@lru_cache(maxsize=16)
def spherical_bessel_roots(l_max: int, n: int) -> tuple[tuple[float, ...], ...]:
    """The first n positive zeros of j_0 … j_lmax; those of j_l lie between those of j_(l−1)."""
    from scipy.optimize import brentq
    from scipy.special import spherical_jn

    found = [[pi * k for k in range(1, n + l_max + 1)]]
    for l in range(1, l_max + 1):
        found.append(
            [brentq(lambda x, l=l: spherical_jn(l, x), a, b, xtol=1e-14) for a, b in pairwise(found[-1])]
        )
    return tuple(tuple(roots[:n]) for roots in found)


class SphericalBessel(DoubleBuffers):
    """b_ln(r) = f(r/c) √(2/(c³ j²_(l+1)(z_ln))) j_l(z_ln r/c), z_ln the n-th zero of j_l, n = 1 … N.

    Gasteiger, Groß & Günnemann, arXiv:2003.03123, eq. 6 without its angular part, f eq. 8. Without f the
    functions of one degree are orthonormal on the ball: ∫ b_ln b_lm r² dr = δ_nm. Evaluated in float64.

    Args:
        degrees: number of degrees l = 0 … L − 1.
        n: N.
        cutoff: c, Å.
        envelope_power: power of the polynomial envelope f.
        over_distance: use f(x)/x for f and leave c^(−3/2) out, as the published code does.
    """

    roots: Tensor
    factors: Tensor

    def __init__(
        self, *, degrees: int, n: int, cutoff: float, envelope_power: int, over_distance: bool = False
    ) -> None:
        super().__init__()
        if degrees < 1 or n < 1 or not cutoff > 0:
            raise ValueError(
                f"Need at least one degree, one function and a positive cutoff; "
                f"given {degrees}, {n}, {cutoff}."
            )
        from scipy.special import spherical_jn

        self.cutoff, self.envelope_power, self.over_distance = cutoff, envelope_power, over_distance
        roots = spherical_bessel_roots(degrees - 1, n)
        size = 1.0 if over_distance else cutoff**-1.5
        factors = [[sqrt(2.0) * size / abs(spherical_jn(l + 1, z)) for z in zs] for l, zs in enumerate(roots)]
        self.register_buffer("roots", torch.tensor(roots, dtype=torch.float64), persistent=False)
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float64), persistent=False)

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs degrees n"]:
        x = r.double() / self.cutoff
        values = [
            spherical_bessel(x[:, None] * z, l) * c
            for l, (z, c) in enumerate(zip(self.roots, self.factors, strict=True))
        ]
        envelope = polynomial(x, self.envelope_power)
        if self.over_distance:
            envelope = envelope / x
        return (torch.stack(values, 1) * envelope[:, None, None]).to(r.dtype)


class SphericalBesselGrid(DoubleBuffers):
    """b_ln(r) = √(2/r_c³) j_l(z_ln r/r_c)/|j_{l+1}(z_ln)|, z_ln the n-th zero of j_l; zero at the cutoff, C⁰.

    Column l·N + n. Gasteiger, Groß & Günnemann, arXiv:2003.03123, eq. 6 without angle and envelope.

    Args:
        n: functions N of each degree.
        l_max: highest degree l.
        cutoff: Å.
    """

    roots: Tensor
    norms: Tensor

    def __init__(self, *, n: int, l_max: int, cutoff: float) -> None:
        super().__init__()
        if n < 1 or l_max < 0 or not cutoff > 0:
            raise ValueError(f"Need n ≥ 1, l_max ≥ 0 and a positive cutoff; given {n}, {l_max}, {cutoff} Å.")
        self.n, self.l_max, self.cutoff = n, l_max, cutoff
        roots = torch.tensor(spherical_bessel_roots(l_max, n), dtype=torch.float64)
        above = torch.stack([spherical_bessel(z, l + 1) for l, z in enumerate(roots)])
        self.register_buffer("roots", roots, persistent=False)
        self.register_buffer("norms", sqrt(2.0 / cutoff**3) / above.abs(), persistent=False)

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs ln"]:
        x = (r / self.cutoff).to(torch.float64)[:, None]
        found = [
            spherical_bessel(x * z, l) * norm
            for l, (z, norm) in enumerate(zip(self.roots, self.norms, strict=True))
        ]
        return torch.where((r < self.cutoff)[:, None], torch.cat(found, 1).to(r), 0.0)


def zonal_harmonics(cosine: Float[Tensor, "*n"], degrees: int) -> Float[Tensor, "*n degrees"]:
    """Y_l0 = √((2l+1)/4π) P_l(cos α), l = 0 … degrees − 1: smooth also where α is 0 or π."""
    p = [torch.ones_like(cosine), cosine]
    for l in range(1, degrees - 1):
        p.append(((2 * l + 1) * cosine * p[l] - l * p[l - 1]) / (l + 1))
    return torch.stack([p[l] * sqrt((2 * l + 1) / (4.0 * pi)) for l in range(degrees)], -1)
