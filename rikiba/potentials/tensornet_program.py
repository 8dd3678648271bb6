"""TensorNet as one chain of compiled kernels: tables of filters, tensors, gates, read-out, and back."""

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rikiba.kernels.tensor_message_cpu import direction_tensors, direction_tensors_reverse
from rikiba.kernels.tensornet_cpu import TensorNetWeights, tensornet_space, tensornet_sweep
from rikiba.nn.equivariant import DegreeLinear
from rikiba.nn.mlp import MLP

from .filter_program import CompiledFilters, Grouped, flat, networks, padded, panelled, widened

if TYPE_CHECKING:
    from .tensornet import TensorNet


class CompiledTensorNet(CompiledFilters):
    """A snapshot of a TensorNet as a program; see `TensorNet.program`."""

    _directions = True

    def __init__(self, potential: "TensorNet", *, tabulate: bool, tolerance: float) -> None:
        super().__init__(potential, tabulate=tabulate, tolerance=tolerance)
        model: Any = self._exact
        c = self._channels = potential.embedding.shape[1]
        layers = list(model.layers)
        with torch.no_grad():
            centre, neighbour = model.element_parts()
            readouts = _readouts(model.readout)
        mixes = {"mix_in": [x.mix_in for x in layers], "mix_out": [x.mix_out for x in layers]}
        panels = {name: self._panels(mix, False) for name, mix in mixes.items()}
        back = {f"{name}_back": self._panels(mix, True) for name, mix in mixes.items()}
        self._weights = TensorNetWeights(
            channels=c,
            centre=flat(widened(centre, c, 1)),
            neighbour=flat(widened(neighbour, c, 1)),
            first_norm=_norm(model.first_norm, c),
            first_mix=self._panels([model.first_mix], False),
            first_mix_back=self._panels([model.first_mix], True),
            gate=networks([model.first_gate], c, c),
            last_norm=_norm(model.last_norm, c),
            readout=networks(readouts, c, 1),
            readouts=len(readouts),
            special=model.group == "SO(3)",
            **panels,
            **back,
        )
        self._layers = len(layers)
        self._prepare()

    def _panels(self, mixes: list[DegreeLinear], back: bool) -> np.ndarray:
        c = self._channels
        with torch.no_grad():
            found = [w for mix in mixes for w in mix.weight * mix.scale]
        wide = [widened(widened(w, c, 0), c, 1) for w in found]
        return panelled([w.T if back else w for w in wide], self._real)

    def _columns(self, filters: Tensor) -> list[Tensor]:
        wide = pad(filters.unflatten(2, (3, -1)), (0, padded(self._channels) - self._channels))
        return [w.flatten(1) for w in wide.unbind(0)]

    def _space_for(self, n_atoms: int) -> int:
        return int(tensornet_space(n_atoms, self._weights, self._layers))

    def _sweep(self, types: np.ndarray, p: Grouped, space: np.ndarray, energies: np.ndarray) -> None:
        harmonics, slopes = np.empty(9 * len(p.r), self._real), np.zeros(9 * len(p.r))
        direction_tensors(p.unit, harmonics)
        tensornet_sweep(
            types, p.start, p.sender, p.row, p.weights, p.table, self._layers, harmonics, self._weights,
            space, self._scale, energies, p.slope, slopes,
        )  # fmt: skip
        direction_tensors_reverse(p.unit, slopes, p.unit_slope)


def _norm(norm: nn.LayerNorm, channels: int) -> np.ndarray:
    """Weights, then biases, in padded blocks."""
    return flat(torch.cat([widened(x, channels, 0) for x in (norm.weight, norm.bias)]))


def _readouts(readout: Any) -> list[MLP]:
    """The read-out as perceptrons of the normalised norms; its first linear layer joins the networks."""
    first = copy.deepcopy(readout.mix)
    if not readout.gated:
        mlp = copy.deepcopy(readout.network)
        mlp.layers = nn.ModuleList([first, *mlp.layers])
        return [mlp]
    out = []
    for mlp in (copy.deepcopy(readout.network.core), copy.deepcopy(readout.network.gate)):
        own, joined = mlp.layers[0], copy.deepcopy(first)
        joined.weight = nn.Parameter((own.weight.double() @ first.weight.double()).to(own.weight))
        bias = own.weight.double() @ first.bias.double() + own.bias.double()
        joined.bias = nn.Parameter(bias.to(own.bias))
        mlp.layers[0] = joined.requires_grad_(False)
        out.append(mlp)
    return out
