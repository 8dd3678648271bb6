"""Sums over neighbours and products of them, which every form of the atomic cluster expansion begins with."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.nn.double_buffers import DoubleBuffers
from rikiba.nn.so3 import spherical_harmonics

from .ace_products import OneParticle

ORTHONORMAL = (4.0 * torch.pi) ** -0.5
"""From harmonics of component normalisation to orthonormal ones."""


class ClusterSums(DoubleBuffers, ABC):
    """A_i,znlm = Σ_j δ(z, z_j) R_nl(r_ij) Y_lm(r̂_ij) and monomials of them.

    A subclass calls `tabulate` and says what R_nl are. Harmonics are real.
    """

    harmonic: float = ORTHONORMAL
    """Factor of the component-normalised harmonics."""

    elements: tuple[str, ...]
    one: OneParticle
    l_max: int
    order: int
    """Largest number of factors."""
    first_column: tuple[int, ...]
    """Column of R_1l for each l."""

    column: Tensor
    lm: Tensor
    monomials: Tensor

    @abstractmethod
    def radial_columns(
        self, r: Float[Tensor, "pairs"], centre: Int[Tensor, "pairs"], neighbour: Int[Tensor, "pairs"]
    ) -> Float[Tensor, "pairs columns"]:
        """R_nl of each pair, for which `first_column[l]` + n − 1 is the column."""

    def tabulate(self, first_column: Sequence[int], monomials: Tensor) -> None:
        """Keep the tables of sums (from `one`) and of products, [monomials, order] indices of A.

        Behind the last factor of a monomial stands the number of functions A.
        """
        self.first_column, self.order = tuple(first_column), monomials.shape[1]
        column, lm = [], []
        for l, count in enumerate(self.one.count):
            for m in range(2 * l + 1):
                column += [first_column[l] + n for n in range(count)]
                lm += [l * l + m] * count
        self.register_buffer("column", torch.tensor(column), persistent=False)
        self.register_buffer("lm", torch.tensor(lm), persistent=False)
        self.register_buffer("monomials", monomials, persistent=False)

    def sums(
        self,
        vectors: Float[Tensor, "pairs 3"],
        i: Int[Tensor, "pairs"],
        neighbour: Int[Tensor, "pairs"],
        types: Int[Tensor, "atoms"],
    ) -> Float[Tensor, "atoms functions"]:
        """A of every atom."""
        r = vectors.norm(dim=-1)
        y = spherical_harmonics(vectors / r[:, None], self.l_max) * self.harmonic
        phi = self.radial_columns(r, types[i], neighbour)[:, self.column] * y[:, self.lm]
        n = len(self.elements)
        out = phi.new_zeros((len(types) * n, self.one.per_element)).index_add(0, i * n + neighbour, phi)
        return out.view(len(types), self.one.size)

    def products(self, sums: Float[Tensor, "atoms functions"]) -> Float[Tensor, "atoms monomials"]:
        """Π_t A of every monomial."""
        a = torch.cat([sums, torch.ones_like(sums[:, :1])], 1)
        out = a[:, self.monomials[:, 0]]
        for t in range(1, self.order):
            out = out * a[:, self.monomials[:, t]]
        return out
