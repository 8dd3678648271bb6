"""PaiNN inference as one compiled function; see `rikiba.kernels.painn_cpu`."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rikiba.kernels.painn_cpu import PaiNNWeights, painn_space, painn_sweep

from .filter_program import CompiledFilters, Grouped, flat, networks, padded, panelled, widened

if TYPE_CHECKING:
    from .painn import PaiNN


class CompiledPaiNN(CompiledFilters):
    """A snapshot of a PaiNN; see `PaiNN.program`."""

    _directions = True

    def __init__(self, potential: "PaiNN", *, tabulate: bool, tolerance: float) -> None:
        super().__init__(potential, tabulate=tabulate, tolerance=tolerance)
        model: Any = self._exact
        c = self._channels = potential.embedding.shape[1]
        layers = list(model.layers)
        with torch.no_grad():
            first = layers[0].message(model.embedding)[:, : 2 * c]
        mix = [widened(widened(layer.mix.weight, c, 0), c, 1) for layer in layers]
        self._weights = PaiNNWeights(
            embedding=flat(widened(model.embedding, c, 1)),
            first=flat(widened(first, c, 1)),
            message=networks([layer.message for layer in layers], c, c),
            mix=panelled([w.T for w in mix], self._real),
            mix_back=panelled(mix, self._real),
            update=networks([layer.update for layer in layers], c, c),
            readout=networks([model.readout], c, 1),
            norm_epsilon=float(layers[0].norm_epsilon),
        )
        self._layers = len(layers)
        self._prepare()

    def _columns(self, filters: Tensor) -> list[Tensor]:
        wide = pad(filters.unflatten(2, (3, -1)), (0, padded(self._channels) - self._channels))
        return [(w if t else w[:, :2]).flatten(1) for t, w in enumerate(wide.unbind(0))]

    def _space_for(self, n_atoms: int) -> int:
        return int(painn_space(n_atoms, self._weights, self._layers))

    def _sweep(self, types: np.ndarray, p: Grouped, space: np.ndarray, energies: np.ndarray) -> None:
        directions = p.unit.astype(self._real).reshape(-1)
        painn_sweep(
            types, p.start, p.sender, p.row, p.weights, p.table, self._layers, directions, self._weights,
            space, self._scale, energies, p.slope, p.unit_slope,
        )  # fmt: skip
