"""Radial bases: a distance becomes a vector of functions. None includes an envelope unless it says so."""

from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .double_buffers import DoubleBuffers


def _check(n: int, cutoff: float) -> None:
    if n < 1 or not cutoff > 0:
        raise ValueError(
            f"A radial basis needs at least one function and a positive cutoff; given {n}, {cutoff}."
        )


class Bessel(DoubleBuffers):
    """b_n(r) = √(2/r_c) sin(nπr/r_c)/r, n = 1 … N; finite at r = 0.

    Gasteiger, Groß & Günnemann, arXiv:2003.03123, eq. 7. With the frequencies at nπ/r_c each function has
    a zero at the cutoff, which makes the product with an envelope one order smoother; trained ones lose it.

    Args:
        n: number of functions.
        cutoff: Å.
        trainable: learn the frequencies.
        normalised: include the factor √(2/r_c).
    """

    frequencies: Tensor

    def __init__(self, *, n: int, cutoff: float, trainable: bool = False, normalised: bool = True) -> None:
        super().__init__()
        _check(n, cutoff)
        self.n, self.cutoff = n, cutoff
        self.factor = sqrt(2.0 / cutoff) if normalised else 1.0
        frequencies = torch.arange(1, n + 1, dtype=torch.float64) * (pi / cutoff)
        if trainable:
            self.frequencies = nn.Parameter(frequencies.to(torch.get_default_dtype()))
        else:
            self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs n"]:
        w = self.frequencies.to(r)
        return torch.sinc(r[:, None] * (w / pi)) * (self.factor * w)


class Gaussian(DoubleBuffers):
    """g_k(r) = exp(−γ (r − r_k)²) on equally spaced centres; γ = 1/(2Δ²) unless given.

    Schütt et al., doi:10.1063/1.5019779, eq. 3 (there γ = 10 Å⁻²).

    Args:
        n: number of functions.
        cutoff: last centre, Å.
        start: first centre, Å.
        gamma: Å⁻²; None takes it from the spacing.
        trainable: learn centres and widths.
    """

    centres: Tensor
    gamma: Tensor

    def __init__(
        self,
        *,
        n: int,
        cutoff: float,
        start: float = 0.0,
        gamma: float | None = None,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        _check(n, cutoff)
        if n < 2:
            raise ValueError("Equally spaced Gaussians need at least two centres.")
        self.n, self.cutoff = n, cutoff
        centres = torch.linspace(start, cutoff, n, dtype=torch.float64)
        spacing = (cutoff - start) / (n - 1)
        widths = torch.full((n,), 0.5 / spacing**2 if gamma is None else gamma, dtype=torch.float64)
        if trainable:
            default = torch.get_default_dtype()
            self.centres, self.gamma = nn.Parameter(centres.to(default)), nn.Parameter(widths.to(default))
        else:
            self.register_buffer("centres", centres, persistent=False)
            self.register_buffer("gamma", widths, persistent=False)

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs n"]:
        return torch.exp(-self.gamma.to(r) * (r[:, None] - self.centres.to(r)) ** 2)


class ExpNormal(DoubleBuffers):
    """g_k(r) = exp(−β (e^(−αr) − μ_k)²), α = 5/r_c, μ_k evenly from e^(−5) to 1, β = (2/N (1 − e^(−5)))⁻².

    Unke & Meuwly, doi:10.1021/acs.jctc.9b00181, eq. 7 f., where α is 1/Å; a departure: α is
    scaled with the cutoff, as in Thölke & De Fabritiis, arXiv:2202.02541.

    Args:
        n: number of functions.
        cutoff: Å.
        trainable: learn centres and widths.
    """

    centres: Tensor
    beta: Tensor

    def __init__(self, *, n: int, cutoff: float, trainable: bool = False) -> None:
        super().__init__()
        _check(n, cutoff)
        self.n, self.cutoff, self.alpha = n, cutoff, 5.0 / cutoff
        last = torch.exp(torch.tensor(-5.0, dtype=torch.float64))
        centres = torch.linspace(float(last), 1.0, n, dtype=torch.float64)
        beta = torch.full((n,), float((2.0 / n * (1.0 - last)) ** -2), dtype=torch.float64)
        if trainable:
            default = torch.get_default_dtype()
            self.centres, self.beta = nn.Parameter(centres.to(default)), nn.Parameter(beta.to(default))
        else:
            self.register_buffer("centres", centres, persistent=False)
            self.register_buffer("beta", beta, persistent=False)

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs n"]:
        shape = torch.exp(-self.alpha * r)[:, None] - self.centres.to(r)
        return torch.exp(-self.beta.to(r) * shape**2)


class Chebyshev(nn.Module):
    """T_k(ξ), k = 0 … N−1, with ξ = 2 (r − r_min)/(r_c − r_min) − 1.

    Args:
        n: number of polynomials.
        cutoff: Å, where ξ = 1.
        start: r_min in Å, where ξ = −1.
    """

    def __init__(self, *, n: int, cutoff: float, start: float = 0.0) -> None:
        super().__init__()
        _check(n, cutoff)
        if not start < cutoff:
            raise ValueError(f"start must lie below the cutoff; given {start} and {cutoff}.")
        self.n, self.cutoff, self.start = n, cutoff, start

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs n"]:
        return chebyshev(2.0 * (r - self.start) / (self.cutoff - self.start) - 1.0, self.n)


def chebyshev(x: Float[Tensor, "pairs"], n: int) -> Float[Tensor, "pairs n"]:
    """T_0 … T_{n−1} by T_{k+1} = 2xT_k − T_{k−1}."""
    out = [torch.ones_like(x), x]
    for _ in range(2, n):
        out.append(2.0 * x * out[-1] - out[-2])
    return torch.stack(out[:n], -1)


class SmoothBessel(nn.Module):
    """Orthonormal combinations of spherical Bessel functions that vanish at r_c with two derivatives (C2).

    f_n ∝ sinc((n+1)πx) + sinc((n+2)πx), n = 0 … N−1, orthonormalised by the recursion
    g_n = (f_n + √(e_n/d_{n−1}) g_{n−1})/√d_n, e_n = n²(n+2)²/(4(n+1)⁴+1), d_n = 1 − e_n/d_{n−1}.
    Kocer, Mason & Erturk, doi:10.1063/1.5086167, eqs. 14–18. Needs no further envelope.

    Args:
        n: number of functions.
        cutoff: Å.
    """

    def __init__(self, *, n: int, cutoff: float) -> None:
        super().__init__()
        _check(n, cutoff)
        self.n, self.cutoff = n, cutoff

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs n"]:
        x = r / self.cutoff
        sincs = [torch.sinc(x * k) for k in range(1, self.n + 2)]
        out: list[Tensor] = []
        d = 1.0
        for n in range(self.n):
            scale = (-1) ** n * sqrt(2.0) * pi / self.cutoff**1.5
            f = scale * (n + 1) * (n + 2) / sqrt((n + 1) ** 2 + (n + 2) ** 2) * (sincs[n] + sincs[n + 1])
            if n == 0:
                out.append(f)
                continue
            e = n**2 * (n + 2) ** 2 / (4.0 * (n + 1) ** 4 + 1.0)
            previous, d = d, 1.0 - e / d
            out.append((f + sqrt(e / previous) * out[-1]) / sqrt(d))
        return torch.where((x < 1.0)[:, None], torch.stack(out, -1), 0.0)
