"""The energy that a NequIP's program reads from the last layer's scalars, with its reverse sweep."""

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rikiba.kernels.atom_energy_cpu import scaled_readout
from rikiba.nn.mlp import activation

from .nequip_weights import padded

if TYPE_CHECKING:
    from .nequip import NequIP

_aten = torch.ops.aten


def _slope(name: str, g: Tensor, x: Tensor) -> Tensor:
    """g·f′(x)."""
    if name == "silu":
        return _aten.silu_backward(g, x)  # type: ignore[no-any-return]
    if name == "gelu":
        return _aten.gelu_backward(g, x)  # type: ignore[no-any-return]
    if name == "mish":
        return _aten.mish_backward(g, x)  # type: ignore[no-any-return]
    return g * (1.0 - torch.tanh(x) ** 2)


class Readout:
    """E_i = scale of i's type × the readout network; a linear network is one row of weights."""

    def __init__(self, model: "NequIP") -> None:
        network = model.readout
        self.name = network.function
        self.matrices = [
            w.detach() * ((network.factor if k else 1.0) / sqrt(w.shape[0]))
            for k, w in enumerate(network.weights)
        ]
        if self.name == "identity":
            self.matrices = [
                torch.linalg.multi_dot(self.matrices) if len(self.matrices) > 1 else self.matrices[0]
            ]
        first = self.matrices[0]
        self.matrices[0] = pad(first, (0, 0, 0, padded(first.shape[0]) - first.shape[0])).contiguous()
        *self.matrices, last = self.matrices
        self.last = last[:, 0].contiguous().numpy()
        self.scale = model.scale.double().numpy()

    def __call__(self, h: Tensor, types: np.ndarray, energies: np.ndarray, first: int, slope: Tensor) -> None:
        """Add to the energies of atoms `first` … and set `slope` = ∂E/∂h [atoms, channels], like h."""
        scale = self.scale[types[first : first + len(h)]]
        if not self.matrices:
            scaled_readout(h.numpy(), self.last, scale, energies, first, slope.numpy())
            return
        f, x, inner = activation(self.name), h, []
        for w in self.matrices:
            inner.append(x @ w)
            x = f(inner[-1])
        g = torch.empty_like(x)
        scaled_readout(x.contiguous().numpy(), self.last, scale, energies, first, g.numpy())
        for z, w in zip(reversed(inner), reversed(self.matrices), strict=True):
            g = _slope(self.name, g, z) @ w.T
        slope.copy_(g)
