"""From chemical elements to vectors."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class ElementEmbedding(nn.Module):
    """A learned vector per element, standard normal at the start.

    Args:
        types: number of elements.
        channels: length of the vectors.
    """

    def __init__(self, *, types: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(types, channels))

    def forward(self, types: Int[Tensor, "atoms"]) -> Float[Tensor, "atoms channels"]:
        return self.weight[types]


def pair_kind(
    type_i: Int[Tensor, "pairs"], type_j: Int[Tensor, "pairs"], n_types: int
) -> Int[Tensor, "pairs"]:
    """Number of an ordered pair of types, type_i·n_types + type_j: the row of a table per type pair."""
    return type_i * n_types + type_j


def unordered_pair_kind(
    type_i: Int[Tensor, "pairs"], type_j: Int[Tensor, "pairs"], n_types: int
) -> Int[Tensor, "pairs"]:
    """Number of an unordered pair of types, 0 … n_types(n_types + 1)/2 − 1."""
    low, high = torch.minimum(type_i, type_j), torch.maximum(type_i, type_j)
    return low * n_types - low * (low - 1) // 2 + high - low
