"""Radial filters: networks that turn a distance into weights of a message, for all layers in one go."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .cutoff import cosine, polynomial
from .mlp import activation
from .radial import Bessel, ExpNormal, Gaussian, SmoothBessel
from .radial_spline import RadialSpline, SplinePoints

RadialBasis = Literal["gaussian", "bessel", "exp_normal", "smooth_bessel"]
Envelope = Literal["polynomial", "cosine"]


class RadialFilters(nn.Module):
    """W_t(r) = N_t(e(r)) f_c(r), t = 1 … layers: N_t a network with biases, e radial functions.

    The envelope f_c multiplies the network's output; on its input it would be lifted off zero by the biases.
    At the cutoff W is as smooth as f_c: C² for `polynomial`, C¹ for `cosine`. Weights start Glorot uniform,
    biases at zero.

    Args:
        n_layers: number of networks.
        widths: of every network: radial functions, hidden layers, filters.
        cutoff: Å.
        basis: gaussian (equally spaced from 0 to the cutoff), bessel (sin(nπr/r_c)/r), exp_normal or
            smooth_bessel, see `radial`.
        gamma: exponent of the Gaussians, Å⁻²; None takes 1/(2Δ²) from their spacing Δ.
        envelope: polynomial or cosine.
        envelope_power: of the polynomial.
        activation: after every hidden layer.
        output_activation: after the last layer; identity for none.

    Raises:
        ValueError: for an unknown basis, envelope or activation, a `gamma` for Bessel functions, or widths
            of no network.
    """

    def __init__(
        self,
        *,
        n_layers: int,
        widths: Sequence[int],
        cutoff: float,
        basis: RadialBasis = "gaussian",
        gamma: float | None = None,
        envelope: Envelope = "polynomial",
        envelope_power: int = 6,
        activation: str = "identity",
        output_activation: str = "identity",
    ) -> None:
        super().__init__()
        if len(widths) < 2 or n_layers < 1:
            raise ValueError(f"Filters need a layer and two widths; given {n_layers} and {list(widths)}.")
        if envelope not in ("polynomial", "cosine"):
            raise ValueError(f"envelope is 'polynomial' or 'cosine'; given '{envelope}'.")
        self.cutoff, self.envelope, self.envelope_power = cutoff, envelope, envelope_power
        self.hidden_function, self.output_function = activation, output_activation
        self.basis = _basis(basis, widths[0], cutoff, gamma)
        self.envelope_of(torch.zeros(1))  # refuses a bad power now
        shapes = list(pairwise(widths))
        self.weights = nn.ParameterList([nn.Parameter(_glorot(n_layers, a, b)) for a, b in shapes])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(n_layers, 1, b)) for _, b in shapes])

    def envelope_of(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
        """f_c(r)."""
        x = r / self.cutoff
        return cosine(x) if self.envelope == "cosine" else polynomial(x, self.envelope_power)

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "layers pairs filters"]:
        hidden, last = activation(self.hidden_function), activation(self.output_function)
        x = self.basis(r).expand(self.weights[0].shape[0], -1, -1)
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b.to(x.dtype), hidden(x) if k else x, w.to(x.dtype))
        return last(x) * self.envelope_of(r)[:, None]

    def at(
        self, r: Float[Tensor, "pairs"], spline: RadialSpline | None
    ) -> tuple[Float[Tensor, "layers rows filters"], SplinePoints | None]:
        """Filters of every pair or, given a spline, its coefficients and where pairs fall on it."""
        if spline is None:
            return self(r), None
        return spline.table(self(spline.samples(r.device)), r.dtype), spline.points(r)


def _basis(
    name: str, n: int, cutoff: float, gamma: float | None
) -> Gaussian | Bessel | ExpNormal | SmoothBessel:
    if name == "gaussian":
        return Gaussian(n=n, cutoff=cutoff, gamma=gamma)
    if gamma is not None:
        raise ValueError(f"gamma is the exponent of Gaussians; leave it out with radial basis '{name}'.")
    if name == "bessel":
        return Bessel(n=n, cutoff=cutoff, normalised=False)
    if name == "exp_normal":
        return ExpNormal(n=n, cutoff=cutoff)
    if name == "smooth_bessel":
        return SmoothBessel(n=n, cutoff=cutoff)
    raise ValueError(
        f"The radial basis is 'gaussian', 'bessel', 'exp_normal' or 'smooth_bessel'; given '{name}'."
    )


def _glorot(n_layers: int, n_in: int, n_out: int) -> Float[Tensor, "layers n_in n_out"]:
    limit = (6.0 / (n_in + n_out)) ** 0.5
    return torch.empty(n_layers, n_in, n_out).uniform_(-limit, limit)


def start_glorot(module: nn.Module) -> None:
    """Give every linear layer inside Glorot-uniform weights and a bias of zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
