"""Layers of directional message passing: embeddings of pairs that learn from the angles between them.

Gasteiger, Groß & Günnemann, arXiv:2003.03123 (DimeNet); Gasteiger, Giri, Margraf & Günnemann,
arXiv:2011.14115 (DimeNet++). A pair (i, j) carries the message m_ji from j to i. All activations are SiLU.
"""

from abc import ABC, abstractmethod
from math import sqrt
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from rikiba.kernels.grouping import segment_sum

from .spherical_bessel import zonal_harmonics


class Angles(NamedTuple):
    """Every path k → j → i, k ≠ i: which message reads which, and the angle at j."""

    target: Int[Tensor, "triplets"]
    """The pair (i, j)."""
    source: Int[Tensor, "triplets"]
    """The pair (j, k)."""
    zonal: Float[Tensor, "triplets degrees"]
    """Y_l0 of the angle."""
    radial: Float[Tensor, "pairs degrees n"]
    """Of the distance d_kj of a source."""

    @classmethod
    def of(
        cls,
        target: Tensor,
        source: Tensor,
        cosine: Tensor,
        radial: Float[Tensor, "pairs degrees n"],
    ) -> "Angles":
        return cls(target, source, zonal_harmonics(cosine, radial.shape[1]), radial)

    def basis(self, matrix: Float[Tensor, "outputs degrees_n"]) -> Float[Tensor, "triplets outputs"]:
        """Σ_ln W_o,ln b_ln(d_kj) Y_l0(α), the sum over n once for each pair, not for each triplet."""
        weights = matrix.unflatten(1, self.radial.shape[1:])
        by_pair = torch.einsum("pln,oln->plo", self.radial, weights)
        return (by_pair.index_select(0, self.source) * self.zonal.unsqueeze(2)).sum(1)


class Residual(nn.Module):
    """x + f(W₂ f(W₁ x + b₁) + b₂).

    Args:
        channels: length of x.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.first, self.second = linear(channels, channels), linear(channels, channels)

    def forward(self, x: Float[Tensor, "rows channels"]) -> Float[Tensor, "rows channels"]:
        return x + silu(self.second(silu(self.first(x))))


class PairMessage(nn.Module):
    """m_ji = f(W [h_i ‖ h_j ‖ e(d_ji)] + b).

    arXiv:2003.03123, sec. 5 ("embedding block"), which writes [h_j ‖ h_i ‖ e].

    Args:
        types: number of elements.
        channels: length of h and m.
        n_radial: length of e.
        activated: put f(V e + c) in place of e, as the published code does.
    """

    def __init__(self, *, types: int, channels: int, n_radial: int, activated: bool) -> None:
        super().__init__()
        self.elements = nn.Parameter(torch.empty(types, channels).uniform_(-sqrt(3.0), sqrt(3.0)))
        self.radial = linear(n_radial, channels) if activated else None
        self.mix = linear(2 * channels + (channels if activated else n_radial), channels)

    def forward(
        self, e: Float[Tensor, "pairs n"], type_i: Int[Tensor, "pairs"], type_j: Int[Tensor, "pairs"]
    ) -> Float[Tensor, "pairs channels"]:
        h = self.elements.index_select(0, type_i), self.elements.index_select(0, type_j)
        return silu(self.mix(torch.cat([*h, e if self.radial is None else silu(self.radial(e))], 1)))


class Interaction(nn.Module, ABC):
    """m_ji ← what all messages m_kj make of it, and residual networks: the part that both families share.

    Args:
        channels: length of m.
        n_before: residual networks before the skip connection.
        n_after: and behind it.
    """

    def __init__(self, *, channels: int, n_before: int, n_after: int) -> None:
        super().__init__()
        self.from_kj, self.from_ji = linear(channels, channels), linear(channels, channels)
        self.before = nn.Sequential(*(Residual(channels=channels) for _ in range(n_before)))
        self.skip = linear(channels, channels)
        self.after = nn.Sequential(*(Residual(channels=channels) for _ in range(n_after)))

    @abstractmethod
    def directional(self, m: Tensor, e: Tensor, angles: Angles) -> Tensor:
        """What every pair (i, j) gets from the pairs (j, k)."""

    def forward(
        self, m: Float[Tensor, "pairs channels"], e: Float[Tensor, "pairs n"], angles: Angles
    ) -> Float[Tensor, "pairs channels"]:
        h = silu(self.from_ji(m)) + self.directional(m, e, angles)
        return self.after(m + silu(self.skip(self.before(h))))  # type: ignore[no-any-return]


class BilinearInteraction(Interaction):
    """Σ_k aᵀ W (V e(d_ji) ∘ f(U m_kj + b)), a = S a_SBF(d_kj, α): arXiv:2003.03123, sec. 5.

    Args:
        channels: length of m.
        n_radial: length of e.
        n_angular: length of a_SBF.
        bilinear: length of a.
        n_before: residual networks before the skip connection.
        n_after: and behind it.
        sender_distance: e(d_kj) in place of e(d_ji), as the published code has it.
    """

    def __init__(
        self,
        *,
        channels: int,
        n_radial: int,
        n_angular: int,
        bilinear: int,
        n_before: int,
        n_after: int,
        sender_distance: bool,
    ) -> None:
        super().__init__(channels=channels, n_before=n_before, n_after=n_after)
        self.sender_distance = sender_distance
        self.radial = linear(n_radial, channels, bias=False)
        self.angular = linear(n_angular, bilinear, bias=False)
        self.bilinear = nn.Parameter(torch.randn(channels, bilinear, channels) * (2.0 / channels))

    def directional(self, m: Tensor, e: Tensor, angles: Angles) -> Tensor:
        x, factor = silu(self.from_kj(m)), self.radial(e)
        if self.sender_distance:
            x = x * factor
        gathered, a = x.index_select(0, angles.source), angles.basis(self.angular.weight)
        sums = [segment_sum(gathered * a[:, k, None], angles.target, len(m)) for k in range(a.shape[1])]
        if not self.sender_distance:
            sums = [s * factor for s in sums]
        return torch.cat(sums, 1) @ self.bilinear.flatten(1).T


class HadamardInteraction(Interaction):
    """f(U′ Σ_k S a_SBF(d_kj, α) ∘ f(D (V e(d_kj) ∘ f(U m_kj + b)))): arXiv:2011.14115, sec. 3.

    The radial basis is that of the sender's distance, as in the authors' code: with d_ji in its place D would
    act on every triplet.

    Args:
        channels: length of m.
        n_radial: length of e.
        n_angular: length of a_SBF.
        down: length of the products.
        basis: length of the bases between their two matrices.
        n_before: residual networks before the skip connection.
        n_after: and behind it.
    """

    def __init__(
        self,
        *,
        channels: int,
        n_radial: int,
        n_angular: int,
        down: int,
        basis: int,
        n_before: int,
        n_after: int,
    ) -> None:
        super().__init__(channels=channels, n_before=n_before, n_after=n_after)
        self.radial = nn.Sequential(linear(n_radial, basis, bias=False), linear(basis, channels, bias=False))
        self.angular = linear(n_angular, basis, bias=False)
        self.angular_up = linear(basis, down, bias=False)
        self.down, self.up = linear(channels, down, bias=False), linear(down, channels, bias=False)

    def directional(self, m: Tensor, e: Tensor, angles: Angles) -> Tensor:
        x = silu(self.down(silu(self.from_kj(m)) * self.radial(e))).index_select(0, angles.source)
        a = self.angular_up(angles.basis(self.angular.weight))
        return silu(self.up(segment_sum(x * a, angles.target, len(m))))


class AtomOutput(nn.Module):
    """E_i = w · f(W_n … f(W_1 U Σ_j V e(d_ji) ∘ m_ji + b_1) …); the map U to another length may be absent.

    Args:
        channels: length of m.
        n_radial: length of e.
        up: length behind U, or None for no U.
        n_dense: number of hidden layers.
    """

    def __init__(self, *, channels: int, n_radial: int, up: int | None, n_dense: int) -> None:
        super().__init__()
        width = channels if up is None else up
        self.radial = linear(n_radial, channels, bias=False)
        self.up = None if up is None else linear(channels, up, bias=False)
        self.dense = nn.ModuleList([linear(width, width) for _ in range(n_dense)])
        self.last = linear(width, 1, bias=False)

    def forward(
        self, m: Float[Tensor, "pairs channels"], e: Float[Tensor, "pairs n"], i: Tensor, rows: int
    ) -> Float[Tensor, "rows"]:
        x = segment_sum(self.radial(e) * m, i, rows)
        if self.up is not None:
            x = self.up(x)
        for layer in self.dense:
            x = silu(layer(x))
        return self.last(x).squeeze(1)  # type: ignore[no-any-return]


def linear(n_in: int, n_out: int, *, bias: bool = True) -> nn.Linear:
    """A layer that starts with a random orthogonal matrix of Glorot's variance 2/(n_in + n_out), no bias."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    with torch.no_grad():
        nn.init.orthogonal_(layer.weight)
        size = layer.weight.square().mean().sqrt()
        layer.weight *= sqrt(2.0 / (n_in + n_out)) / size
        if bias:
            layer.bias.zero_()
    return layer
