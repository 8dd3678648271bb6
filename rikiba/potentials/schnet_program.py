"""SchNet inference as one compiled function; see `rikiba.kernels.schnet_cpu`."""

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.nn.functional import pad

from rikiba.kernels.schnet_cpu import SchNetWeights, schnet_space, schnet_sweep

from .filter_program import CompiledFilters, Grouped, flat, networks, padded, panelled, widened

if TYPE_CHECKING:
    from .schnet import SchNet


class CompiledSchNet(CompiledFilters):
    """A snapshot of a SchNet; see `SchNet.program`."""

    def __init__(self, potential: "SchNet", *, tabulate: bool, tolerance: float) -> None:
        super().__init__(potential, tabulate=tabulate, tolerance=tolerance)
        model: Any = self._exact
        c, self._n_filters = potential.embedding.shape[1], potential.filters.weights[-1].shape[2]
        inward = [widened(widened(layer.inward.weight, self._n_filters, 0), c, 1).T for layer in model.layers]
        embedding = widened(model.embedding, c, 1)
        self._weights = SchNetWeights(
            embedding=flat(embedding),
            first=flat(embedding @ inward[0]),
            inward=panelled(inward[1:], self._real),
            inward_back=panelled([w.T for w in inward[1:]], self._real),
            outward=networks([layer.outward for layer in model.layers], self._n_filters, c),
            readout=networks([model.readout], c, 1),
        )
        self._layers = len(inward)
        self._prepare()

    def _columns(self, filters: Tensor) -> list[Tensor]:
        return list(pad(filters, (0, padded(self._n_filters) - self._n_filters)).unbind(0))

    def _space_for(self, n_atoms: int) -> int:
        return int(schnet_space(n_atoms, self._weights, self._layers))

    def _sweep(self, types: np.ndarray, p: Grouped, space: np.ndarray, energies: np.ndarray) -> None:
        schnet_sweep(
            types, p.start, p.sender, p.row, p.weights, p.table, self._layers, self._weights, space,
            self._scale, energies, p.slope,
        )  # fmt: skip
