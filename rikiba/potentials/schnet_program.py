"""SchNet inference as compiled kernels: a forward and a reverse sweep, with plain matrix products between."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .filter_program import CompiledFilters, Dense, Grouped, couplings, padded, widened

if TYPE_CHECKING:
    from .schnet import SchNet


class CompiledSchNet(CompiledFilters):
    """A snapshot of a SchNet; see `SchNet.program`."""

    def __init__(self, potential: "SchNet", *, tabulate: bool, tolerance: float) -> None:
        self._n_filters = potential.filters.weights[-1].shape[2]
        super().__init__(potential, tabulate=tabulate, tolerance=tolerance)
        model: SchNet = self._exact  # type: ignore[assignment]
        n = self._n_filters
        self._messages = couplings([(0, 1, 0, 1)], [(0, 1, 0)], padded(n))
        self._inward = [widened(layer.inward.weight, n, 0) for layer in model.layers]  # type: ignore[union-attr, arg-type]
        self._inward_transposed = [w.T.contiguous() for w in self._inward]
        self._outward = []
        for layer in model.layers:
            a, b = layer.outward.layers  # type: ignore[union-attr, misc]
            self._outward.append(
                Dense(layer.outward, [widened(a.weight, n, 1), b.weight], [a.bias, b.bias])  # type: ignore[arg-type]
            )
        linear = list(model.readout.layers)
        self._readout = Dense(model.readout, [m.weight for m in linear], [m.bias for m in linear])  # type: ignore[misc]
        self._prepare()

    def _columns(self, filters: Tensor) -> list[Tensor]:
        extra = padded(self._n_filters) - self._n_filters
        return list(torch.nn.functional.pad(filters, (0, extra)).unbind(0))

    def _sweep(self, types: Tensor, p: Grouped) -> tuple[Tensor, Tensor, Tensor]:
        n, width = len(types), self._messages.channels
        x = self._exact.embedding[types]
        ones = x.new_ones((len(p.r), 1))
        kept = []
        for t, outward in enumerate(self._outward):
            senders = x @ self._inward_transposed[t]
            message = self._messages.forward(p, t, senders, ones, n)
            change, saved = outward.forward(message.view(n, width))
            kept.append((senders, saved))
            x = x + change
        energies, saved = self._readout.forward(x)
        g = self._readout.reverse(torch.full_like(energies, self._exact.scale), saved)
        for t in range(len(kept) - 1, -1, -1):
            senders, saved = kept[t]
            back = self._outward[t].reverse(g, saved).contiguous().view(-1)
            _, slope = self._messages.reverse(p, t, senders, ones, n, back, wanted=t > 0)
            if t:
                g = g + slope.view(n, width) @ self._inward[t]
        return energies[:, 0], ones, torch.zeros_like(ones)
