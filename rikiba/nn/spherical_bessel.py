"""Spherical Bessel functions j_l on their zeros, an orthonormal radial basis for each degree."""

from functools import cache
from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from .double_buffers import DoubleBuffers


class SphericalBesselGrid(DoubleBuffers):
    """b_ln(r) = √(2/r_c³) j_l(z_ln r/r_c)/|j_{l+1}(z_ln)|, z_ln the n-th zero of j_l; zero at the cutoff, C⁰.

    Column l·N + n. Gasteiger, Groß & Günnemann, arXiv:2003.03123, eq. 6; there for l = 0 with all angles.

    Args:
        n: functions N of each degree.
        l_max: highest degree l.
        cutoff: Å.
    """

    zeros: Tensor
    norms: Tensor

    def __init__(self, *, n: int, l_max: int, cutoff: float) -> None:
        super().__init__()
        if n < 1 or l_max < 0 or not cutoff > 0:
            raise ValueError(f"Need n ≥ 1, l_max ≥ 0 and a positive cutoff; given {n}, {l_max}, {cutoff} Å.")
        self.n, self.l_max, self.cutoff = n, l_max, cutoff
        zeros = bessel_zeros(n, l_max)
        above = torch.stack([spherical_bessel(zeros[l], l + 1)[l + 1] for l in range(l_max + 1)])
        self.register_buffer("zeros", zeros, persistent=False)
        self.register_buffer("norms", sqrt(2.0 / cutoff**3) / above.abs(), persistent=False)

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs ln"]:
        # in float64: the closed forms of j_l cancel for small arguments
        x = (r / self.cutoff).to(torch.float64)[:, None, None] * self.zeros
        found = torch.stack([spherical_bessel(x[:, l], l)[l] for l in range(self.l_max + 1)], 1)
        return torch.where((r < self.cutoff)[:, None], (found * self.norms).flatten(1).to(r), 0.0)


def spherical_bessel(x: Float[Tensor, "*n"], l_max: int) -> list[Float[Tensor, "*n"]]:
    """j_0(x) … j_{l_max}(x) for x ≥ 0, float64; differentiable.

    By j_{l+1} = (2l+1)/x j_l − j_{l−1} and, for x < l_max/2 + ½, where that loses digits, by their series.
    """
    small = x < 0.5 * l_max + 0.5
    far = torch.where(small, torch.ones_like(x), x)
    upward = [torch.sin(far) / far]
    if l_max:
        upward.append(upward[0] / far - torch.cos(far) / far)
    for l in range(1, l_max):
        upward.append((2 * l + 1) / far * upward[l] - upward[l - 1])
    near = torch.where(small, x, torch.zeros_like(x))
    return [torch.where(small, _series(near, l), value) for l, value in enumerate(upward)]


def _series(x: Tensor, l: int) -> Tensor:
    """x^l/(2l+1)!! Σ_k (−x²/2)^k/(k! (2l+3)(2l+5) … (2l+2k+1))."""
    term, total = torch.ones_like(x), torch.ones_like(x)
    for k in range(1, 16):
        term = term * (-0.5 * x * x) / (k * (2 * l + 2 * k + 1))
        total = total + term
    first = torch.ones_like(x)
    for k in range(1, l + 1):
        first = first * x / (2 * k + 1)
    return first * total


@cache
def bessel_zeros(n: int, l_max: int) -> Float[Tensor, "degrees n"]:
    """The first n positive zeros of j_0 … j_{l_max}, by bisection between those of the degree below."""
    zeros = [pi * torch.arange(1, n + l_max + 1, dtype=torch.float64)]
    for l in range(1, l_max + 1):
        low, high = zeros[-1][:-1].clone(), zeros[-1][1:].clone()
        sign = spherical_bessel(low, l)[l].sign()
        for _ in range(64):
            middle = 0.5 * (low + high)
            left = spherical_bessel(middle, l)[l].sign() == sign
            low, high = torch.where(left, middle, low), torch.where(left, high, middle)
        zeros.append(0.5 * (low + high))
    return torch.stack([z[:n] for z in zeros])
