"""One perceptron per element, several members of an ensemble side by side."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.grouping import TypeGroups

from .mlp import activation as activation_of


class ElementNetworks(nn.Module):
    """y = W_n f(… f(W_1 x + b_1) …) + b_n with weights of the atom's element, one number a member.

    Weights start normally distributed with variance 1/inputs, biases zero.

    Args:
        n_inputs: length of x.
        hidden: widths of the hidden layers of each element.
        n_members: networks of an element, all of the same widths.
        activation: name of f.
    """

    def __init__(
        self, *, n_inputs: int, hidden: Sequence[Sequence[int]], n_members: int = 1, activation: str = "silu"
    ) -> None:
        super().__init__()
        activation_of(activation)  # refuses an unknown one
        self.n_members, self.function = n_members, activation
        self.networks = nn.ModuleList([_Members(n_members, (n_inputs, *h, 1)) for h in hidden])

    def forward(self, x: Float[Tensor, "rows inputs"], groups: TypeGroups) -> Float[Tensor, "rows members"]:
        """Rows of x are atoms, grouped by their element."""
        if not groups.spans:
            return x.new_zeros((0, self.n_members))
        grouped, f = groups.gather(x), activation_of(self.function)
        parts = []
        for kind, start, stop in groups.spans:
            network = self.networks[kind]
            assert isinstance(network, _Members)
            y = grouped[start:stop].expand(self.n_members, -1, -1)
            for k, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
                y = torch.baddbmm(b, f(y) if k else y, w)
            parts.append(y.squeeze(-1).transpose(0, 1))
        return groups.restore(torch.cat(parts))


def spread_of(members: Tensor, system: System) -> Results | None:
    """Sample standard deviation of the members' energies, per atom and per system, eV."""
    if members.shape[1] == 1:
        return None
    return Results(energies=members.std(1), energy=system.total(members).std(1))


class _Members(nn.Module):
    """Weights [members, n_in, n_out] and biases [members, 1, n_out] of each layer."""

    def __init__(self, n_members: int, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(n_members, a, b) / a**0.5) for a, b in pairs]
        )
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(n_members, 1, b)) for _, b in pairs])
