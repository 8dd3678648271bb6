"""Gated multilayer perceptrons: one network's output times another's between 0 and 1."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .mlp import MLP, activation

Part = tuple[Tensor, Tensor | None]
"""Some columns of the input: (table [entries, columns], entry of each row; None where rows are entries)."""


class GatedMLP(nn.Module):
    """y = f(N(core(x))) ∘ σ(N(gate(x))): two networks of equal shape, N layer norms or nothing.

    Xie & Grossman, doi:10.1103/PhysRevLett.120.145301, eq. 5; Chen & Ong, doi:10.1038/s43588-022-00349-3;
    with norms in Deng et al., doi:10.1038/s42256-023-00716-3, from version 0.3.0 of their code on.

    Args:
        widths: sizes from input to output.
        activation: of the hidden layers of both.
        output_activation: f; that of the hidden layers if not given, identity for none.
        norm: normalise both outputs over their columns.
        bias: give every layer a bias.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        activation: str = "silu",
        output_activation: str | None = None,
        norm: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.core = MLP(widths=widths, activation=activation, bias=bias)
        self.gate = MLP(widths=widths, activation=activation, bias=bias)
        self.output_function = output_activation or activation
        self.core_norm = nn.LayerNorm(widths[-1]) if norm else nn.Identity()
        self.gate_norm = nn.LayerNorm(widths[-1]) if norm else nn.Identity()

    def forward(self, *parts: Part) -> Float[Tensor, "rows outputs"]:
        """The output for rows whose columns are those of the parts, side by side.

        The first layer acts on each part's entries before they are gathered.
        """
        core, gate = (_network(net, parts) for net in (self.core, self.gate))
        f = activation(self.output_function)
        return f(self.core_norm(core)) * torch.sigmoid(self.gate_norm(gate))


def _network(net: MLP, parts: Sequence[Part]) -> Tensor:
    first, *rest = net.layers
    blocks = first.weight.split([table.shape[1] for table, _ in parts], 1)  # type: ignore[operator, union-attr]
    x: Tensor | None = None
    for (table, entries), w in zip(parts, blocks, strict=True):
        y = functional.linear(table, w, first.bias if x is None else None)  # type: ignore[arg-type]
        y = y if entries is None else y.index_select(0, entries)
        x = y if x is None else x + y
    assert x is not None
    f = activation(net.function)
    for layer in rest:
        x = layer(f(x))
    return x
