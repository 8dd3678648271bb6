"""From the distance and the two elements of an ordered pair to a vector that is zero at the cutoff."""

from math import pi, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .cutoff import polynomial
from .double_buffers import DoubleBuffers
from .embedding import pair_kind
from .radial import Bessel


class BesselPairEmbedding(nn.Module):
    """x = [a_Zi ‖ b_Zj] ∘ W B(r)/√N, B_n = f(r/r_c) sin(nπr/r_c)/(πr/r_c), n = 1 … N, f polynomial.

    C3 at the cutoff with fixed frequencies, C2 with trained ones.

    Args:
        types: number of elements.
        channels: length of x, even.
        n_bessel: N.
        cutoff: r_c, Å.
        trainable: learn the frequencies.
        envelope_power: power of the envelope f.
    """

    def __init__(
        self,
        *,
        types: int,
        channels: int,
        n_bessel: int,
        cutoff: float,
        trainable: bool,
        envelope_power: int,
    ) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"The pair embedding needs an even number of channels; given {channels}.")
        self.cutoff, self.envelope_power = cutoff, envelope_power
        self.basis = Bessel(n=n_bessel, cutoff=cutoff, trainable=trainable, normalised=False)
        self.centre = nn.Parameter(torch.randn(types, channels // 2))
        self.neighbour = nn.Parameter(torch.randn(types, channels // 2))
        self.mix = nn.Parameter(torch.randn(n_bessel, channels))

    def forward(
        self, r: Float[Tensor, "pairs"], type_i: Int[Tensor, "pairs"], type_j: Int[Tensor, "pairs"]
    ) -> Float[Tensor, "pairs channels"]:
        elements = torch.cat([self.centre.index_select(0, type_i), self.neighbour.index_select(0, type_j)], 1)
        return elements.to(r.dtype) * self.radial(r)

    def radial(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs channels"]:
        """W B(r)/√N, which the elements have no part in."""
        envelope = polynomial(r / self.cutoff, self.envelope_power) * (self.cutoff / pi)
        return (self.basis(r) * envelope[:, None]) @ (self.mix * (1.0 / sqrt(len(self.mix)))).to(r.dtype)


class SplinePairEmbedding(DoubleBuffers):
    """x_c = Σ_k w_c,k(Zi, Zj) s_k(r/r_c), s_k(x) = ¼ (1 − cos 2πu)², u = (x − x_k)/w, zero outside 0 < u < 1.

    x_k = (k − m)/N, k = 0 … N − 1, and w = (m + 1)/N: N bumps, of which m + 1 overlap; all end at the cutoff
    at the latest, C3.

    Args:
        types: number of elements.
        channels: length of x.
        n_splines: N.
        span: m, 0 … N.
        cutoff: r_c, Å.
    """

    starts: Tensor

    def __init__(self, *, types: int, channels: int, n_splines: int, span: int, cutoff: float) -> None:
        super().__init__()
        if not 0 <= span <= n_splines or n_splines < 1:
            raise ValueError(
                f"The span must lie between 0 and the number of splines; given {span}, {n_splines}."
            )
        self.cutoff, self.types, self.width = cutoff, types, (span + 1) / n_splines
        starts = torch.arange(-span, n_splines - span, dtype=torch.float64) / n_splines
        self.register_buffer("starts", starts, persistent=False)
        scale = 1.0 / sqrt(max(span, 1))
        self.weights = nn.Parameter(torch.randn(types * types, n_splines, channels) * scale)

    def forward(
        self, r: Float[Tensor, "pairs"], type_i: Int[Tensor, "pairs"], type_j: Int[Tensor, "pairs"]
    ) -> Float[Tensor, "pairs channels"]:
        bumps, kind = self.radial(r), pair_kind(type_i, type_j, self.types)
        out = bumps.new_zeros(len(r), self.weights.shape[2])
        for k in kind.unique().tolist():
            rows = (kind == k).nonzero().flatten()
            found = bumps.index_select(0, rows) @ self.weights[k].to(r.dtype)
            out = out.index_add(0, rows, found)
        return out

    def radial(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs splines"]:
        """s_k(r/r_c), which the elements have no part in."""
        u = ((r / self.cutoff)[:, None] - self.starts.to(r)) / self.width
        return torch.where((u > 0.0) & (u < 1.0), 0.25 * (1.0 - torch.cos(2.0 * pi * u)) ** 2, 0.0)


PairEmbedding = BesselPairEmbedding | SplinePairEmbedding
