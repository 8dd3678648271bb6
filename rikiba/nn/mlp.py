"""Multilayer perceptrons: bias-free with unit-variance activations, as equivariant networks use; plain."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "mish": functional.mish,
    "softplus": functional.softplus,
    "relu": torch.relu,
    "celu": lambda x: _celu(x),
    "gaussian": lambda x: torch.exp(-x * x),
    "gaussian_half": lambda x: torch.exp(-0.5 * x * x),
    "cosine": torch.cos,
    "reversed_sigmoid": lambda x: torch.sigmoid(-x),
    "exponential": lambda x: torch.exp(-x),
    "harmonic": torch.square,
    "identity": lambda x: x,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """An activation function by name; raises ValueError for an unknown one."""
    if name == "shifted_softplus":
        return shifted_softplus
    if name not in ACTIVATIONS:
        raise ValueError(f"No activation '{name}'; there are shifted_softplus, {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def _celu(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    # torch's own rounds 1/α to float32 in its derivative, in float64 too
    return torch.where(x > 0.0, x, 0.1 * torch.expm1(10.0 * x.clamp(max=0.0)))


def shifted_softplus(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """ln(½eˣ + ½). Schütt et al., doi:10.1063/1.5019779."""
    return functional.softplus(x) - 0.6931471805599453


@cache
def unit_variance_factor(name: str) -> float:
    """c with ⟨(c·f(x))²⟩ = 1 for standard normal x, by quadrature: 1.6765 for silu, 1.5925 for tanh.

    e3nn estimates the same numbers by sampling and so differs in the third decimal.
    """
    x = torch.linspace(-12.0, 12.0, 48001, dtype=torch.float64)
    density = torch.exp(-0.5 * x * x) / sqrt(2.0 * torch.pi)
    return float(torch.trapezoid(activation(name)(x) ** 2 * density, x)) ** -0.5


class NormalisedMLP(nn.Module):
    """y = W_n c·f(… c·f(W_1 x)), no biases, W_k = w_k/√(inputs) with w standard normal at the start.

    Every layer keeps unit variance; an input of zero gives zero, so an envelope on the input carries over to
    the output with its smoothness.

    Args:
        widths: sizes from input to output.
        activation: name of f; c makes its second moment one.
    """

    def __init__(self, *, widths: Sequence[int], activation: str = "silu") -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths need an input and an output size; given {list(widths)}.")
        self.function = activation
        self.factor = unit_variance_factor(activation)
        pairs = pairwise(widths)
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(a, b)) for a, b in pairs])

    def forward(self, x: Float[Tensor, "*n inputs"]) -> Float[Tensor, "*n outputs"]:
        f = activation(self.function)
        for k, w in enumerate(self.weights):
            scale = (self.factor if k else 1.0) / sqrt(w.shape[0])
            x = (f(x) if k else x) @ (w * scale).to(x.dtype)
        return x

    def with_slope(
        self, x: Float[Tensor, "n inputs"], slope: Float[Tensor, "n inputs"]
    ) -> tuple[Float[Tensor, "n outputs"], Float[Tensor, "n outputs"]]:
        """The output and its derivative along `slope`, layer by layer; weights get no history.

        Raises ValueError for activations other than silu and tanh.
        """
        if self.function not in ("silu", "tanh"):
            raise ValueError(f"with_slope knows silu and tanh; this network has '{self.function}'.")
        for k, w in enumerate(self.weights):
            if k and self.function == "silu":
                s = torch.sigmoid(x)
                x, slope = x * s, slope * (s * (1.0 + x * (1.0 - s)))
            elif k:
                x = torch.tanh(x)
                slope = slope * (1.0 - x * x)
            w = w.detach() * ((self.factor if k else 1.0) / sqrt(w.shape[0]))
            x, slope = x @ w, slope @ w
        return x, slope


class MLP(nn.Module):
    """y = W_n f(… f(W_1 x + b_1) …) + b_n.

    Args:
        widths: sizes from input to output.
        activation: name of f.
        bias: give every layer a bias.
    """

    def __init__(self, *, widths: Sequence[int], activation: str = "silu", bias: bool = True) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths need an input and an output size; given {list(widths)}.")
        self.function = activation
        pairs = pairwise(widths)
        self.layers = nn.ModuleList([nn.Linear(a, b, bias=bias) for a, b in pairs])

    def forward(self, x: Float[Tensor, "*n inputs"]) -> Float[Tensor, "*n outputs"]:
        f = activation(self.function)
        for k, layer in enumerate(self.layers):
            x = layer(f(x) if k else x)
        return x
