"""Networks whose layers add to their input, y = x + dt∘f(Wx + b): several of equal shape, one per type."""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.kernels.grouping import TypeGroups

from .mlp import activation


class ResidualNetworks(nn.Module):
    """x ← f(Wx + b)∘dt + x̂ layer by layer, then W x + b; one network for each type.

    x̂ is x where a layer keeps the width, (x, x) where it doubles it, and 0 otherwise (He, Zhang, Ren & Sun,
    doi:10.1109/CVPR.2016.90; the doubling: Zhang et al., arXiv:1805.09003, eq. 9). dt is trained where
    `timesteps` is set, and 1 otherwise. Weights start normal with standard deviation 1/√(inputs + outputs),
    biases with 1, timesteps with 0.1 ± 0.001.

    Args:
        n_networks: number of networks.
        widths: input and hidden layers.
        outputs: width of a last layer without activation; none leaves that layer out.
        timesteps: give every unit of the hidden layers that keep or double the width a trained dt.
        activation: name of f.
    """

    def __init__(
        self,
        *,
        n_networks: int,
        widths: Sequence[int],
        outputs: int | None = None,
        timesteps: bool = False,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"A network needs an input and a hidden layer; given widths {list(widths)}.")
        self.function, self.n_networks = activation, n_networks
        shapes = list(pairwise(widths))
        self.steps = [b // a if b in (a, 2 * a) else 0 for a, b in shapes]
        """How often each layer adds its input."""
        shapes += [] if outputs is None else [(widths[-1], outputs)]
        self.weights = nn.ParameterList([_normal(n_networks, a, b) / sqrt(a + b) for a, b in shapes])
        self.biases = nn.ParameterList([_normal(n_networks, b) for _, b in shapes])
        if outputs is not None:
            nn.init.zeros_(self.biases[-1])
        timed = {str(k): shapes[k][1] for k, n in enumerate(self.steps) if n and timesteps}
        self.timesteps = nn.ParameterDict({k: 0.1 + 0.001 * _normal(n_networks, b) for k, b in timed.items()})

    def forward(self, x: Float[Tensor, "rows n_in"], groups: TypeGroups) -> Float[Tensor, "rows n_out"]:
        """Each row by the network of its type."""
        if not groups.spans:
            return x.new_zeros((len(x), self.weights[-1].shape[-1]))
        grouped = groups.gather(x)
        parts = [self.one(kind, grouped[start:stop]) for kind, start, stop in groups.spans]
        return groups.restore(torch.cat(parts) if len(parts) > 1 else parts[0])

    def one(self, network: int, x: Float[Tensor, "rows n_in"]) -> Float[Tensor, "rows n_out"]:
        """All rows by one network, in the precision of x."""
        f = activation(self.function)
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = torch.addmm(b[network].to(x.dtype), x, w[network].to(x.dtype))
            if k == len(self.steps):
                return z
            y = f(z)
            if str(k) in self.timesteps:
                y = y * self.timesteps[str(k)][network].to(x.dtype)
            x = y if self.steps[k] == 0 else y + (x if self.steps[k] == 1 else torch.cat([x, x], 1))
        return x

    def with_slope(
        self, network: int, x: Float[Tensor, "rows n_in"], slope: Float[Tensor, "rows n_in"]
    ) -> tuple[Float[Tensor, "rows n_out"], Float[Tensor, "rows n_out"]]:
        """The output of one network and its derivative along `slope`, layer by layer; without history.

        Raises ValueError for activations other than silu and tanh and where there is an output layer.
        """
        if self.function not in ("silu", "tanh") or len(self.weights) > len(self.steps):
            raise ValueError(f"with_slope knows hidden layers of silu and tanh; given '{self.function}'.")
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            w = w[network].detach().to(x.dtype)
            z, change = torch.addmm(b[network].detach().to(x.dtype), x, w), slope @ w
            if self.function == "tanh":
                y = torch.tanh(z)
                change = torch.addcmul(change, change * y, y, value=-1.0)
            else:
                s = torch.sigmoid(z)
                y, change = z * s, change * (s * (1.0 + z * (1.0 - s)))
            if str(k) in self.timesteps:
                dt = self.timesteps[str(k)][network].detach().to(x.dtype)
                y, change = y * dt, change * dt
            if self.steps[k]:
                y = y + (x if self.steps[k] == 1 else torch.cat([x, x], 1))
                change = change + (slope if self.steps[k] == 1 else torch.cat([slope, slope], 1))
            x, slope = y, change
        return x, slope


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape)
