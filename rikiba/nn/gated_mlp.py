"""Gated perceptrons: one network's output, weighted by the sigmoid of another's."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .mlp import MLP, activation


class GatedMLP(nn.Module):
    """y = N(x) ∘ σ(G(x)), N and G perceptrons of equal widths.

    Chen & Ong, doi:10.1038/s43588-022-00349-3, the gated networks of eqs. 3–5.

    Args:
        widths: sizes from input to output.
        activation: of the hidden layers of both.
        output_activation: after the last layer of N; identity for none.
        bias: give every layer a bias.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        activation: str = "silu",
        output_activation: str = "silu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.values = MLP(widths=widths, activation=activation, bias=bias)
        self.gates = MLP(widths=widths, activation=activation, bias=bias)
        self.output_function = output_activation

    def forward(self, x: Float[Tensor, "*n inputs"]) -> Float[Tensor, "*n outputs"]:
        return self.gate(self.values(x), self.gates(x))

    def gate(self, values: Float[Tensor, "*n"], gates: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """f(values) ∘ σ(gates), what follows the last layers."""
        return activation(self.output_function)(values) * torch.sigmoid(gates)
