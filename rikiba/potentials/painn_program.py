"""PaiNN inference as compiled kernels: a forward and a reverse sweep, with plain matrix products between.

Channels are padded with zeros to a multiple of 16; every network keeps the padding at zero.
"""

from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rikiba.kernels import pair_geometry_cpu as geometry

from .filter_program import NO_TERMS, CompiledFilters, Dense, Grouped, couplings, padded, widened

if TYPE_CHECKING:
    from .painn import PaiNN


class _Kept(NamedTuple):
    """What the reverse sweep of a layer reads."""

    features: Tensor
    x3: Tensor
    mu_before: Tensor | None
    message: list[Tensor]
    v: Tensor
    u: Tensor
    norm: Tensor
    update: list[Tensor]
    b: Tensor
    c: Tensor
    dot: Tensor


class CompiledPaiNN(CompiledFilters):
    """A snapshot of a PaiNN; see `PaiNN.program`."""

    def __init__(self, potential: "PaiNN", *, tabulate: bool, tolerance: float) -> None:
        self._n = potential.embedding.shape[1]
        super().__init__(potential, tabulate=tabulate, tolerance=tolerance)
        model: PaiNN = self._exact  # type: ignore[assignment]
        n = self._n
        self._width = padded(n)
        self._embedding = widened(model.embedding, n, 1)
        # both ways to a vector end in the same rows; the second is absent where vectors are zero
        paths = [(0, 1, 0, 1), (1, 1, 1, 3), (2, 3, 1, 3)]
        rows = [(0, 1, 0), (1, 3, 0), (1, 3, 1), (1, 3, 2)]
        self._messages = [couplings(paths[: 3 if t else 2], rows, self._width) for t in range(model.n_layers)]
        coupling = torch.zeros(4, 13, dtype=self.dtype)
        coupling[0, [0, 4, 8, 12]] = 1.0
        coupling[[1, 2, 3], [1, 2, 3]] = 1.0 / sqrt(3.0)
        self._coupling = [coupling if t else coupling[:, :4].contiguous() for t in range(model.n_layers)]
        self._message_nets, self._update_nets, self._mix, self._mix_transposed = [], [], [], []
        for layer in model.layers:
            self._message_nets.append(self._dense(layer.message))  # type: ignore[union-attr]
            self._update_nets.append(self._dense(layer.update))  # type: ignore[union-attr]
            mix = widened(widened(layer.mix.weight, n, 0), n, 1)  # type: ignore[union-attr, arg-type]
            self._mix.append(mix)
            self._mix_transposed.append(mix.T.contiguous())
        linear: list[Any] = list(model.readout.layers)
        weights = [widened(linear[0].weight, n, 1), *(m.weight for m in linear[1:])]
        self._readout = Dense(model.readout, weights, [m.bias for m in linear])
        self._prepare()

    def _dense(self, mlp: Any) -> Dense:
        n = self._n
        weights = [widened(widened(m.weight, n, 0), n, 1) for m in mlp.layers]
        return Dense(mlp, weights, [widened(m.bias, n, 0) for m in mlp.layers])

    def _columns(self, filters: Tensor) -> list[Tensor]:
        wide = pad(filters.unflatten(2, (3, -1)), (0, padded(self._n) - self._n))
        return [(w if t else w[:, :2]).flatten(1) for t, w in enumerate(wide.unbind(0))]

    def _sweep(self, types: Tensor, p: Grouped) -> tuple[Tensor, Tensor, Tensor]:
        q, mu = self._embedding[types], None
        harmonics = q.new_empty((len(p.r), 4))
        geometry.harmonics(p.unit, *NO_TERMS, np.empty(0), harmonics.numpy())
        angular = [harmonics @ c for c in self._coupling[:2]]
        kept = []
        for t in range(len(self._messages)):
            q, mu, saved = self._forward(t, q, mu, p, angular[min(t, 1)])
            kept.append(saved)
        energies, hidden = self._readout.forward(q)
        g = self._readout.reverse(torch.full_like(energies, self._exact.scale), hidden)
        g_mu, harmonics_slope = None, torch.zeros_like(harmonics)
        for t in range(len(kept) - 1, -1, -1):
            g, g_mu, slope = self._reverse(t, g, g_mu, kept[t], p, angular[min(t, 1)])
            harmonics_slope.addmm_(slope, self._coupling[t].T)
        return energies[:, 0], harmonics, harmonics_slope

    def _forward(
        self, t: int, q: Tensor, mu: Tensor | None, p: Grouped, angular: Tensor
    ) -> tuple[Tensor, Tensor | None, _Kept]:
        n, width = q.shape
        x, message = self._message_nets[t].forward(q)
        x1, x2, x3 = x.split(width, 1)
        parts = [x1.reshape(-1), x2.reshape(-1)]
        if mu is not None:
            parts.append((x3[:, None] * mu).view(-1))
        features = torch.cat(parts)
        out = self._messages[t].forward(p, t, features, angular, n)
        q = q + out[: n * width].view(n, width)
        vectors = out[n * width :].view(n, 3, width)
        new = vectors if mu is None else vectors + mu
        v, u = (new @ self._mix_transposed[t]).split(width, 2)
        norm = torch.sqrt((v * v).sum(1) + self._exact.layers[t].norm_epsilon)  # type: ignore[union-attr, operator]
        a, b, c = (y := self._update_nets[t].forward(torch.cat([q, norm], 1)))[0].split(width, 1)
        dot = (v * u).sum(1)
        last = t == len(self._messages) - 1
        saved = _Kept(features, x3, mu, message, v, u, norm, y[1], b, c, dot)
        return q + a + c * dot, None if last else new + b[:, None] * u, saved

    def _reverse(
        self, t: int, g: Tensor, g_mu: Tensor | None, k: _Kept, p: Grouped, angular: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        n, width = g.shape
        g_b = torch.zeros_like(g) if g_mu is None else (g_mu * k.u).sum(1)
        back = self._update_nets[t].reverse(torch.cat([g, g_b, g * k.dot], 1), k.update)
        g_dot = (g * k.c)[:, None]
        g_v = g_dot * k.u + (back[:, width:] / k.norm)[:, None] * k.v
        g_u = g_dot * k.v if g_mu is None else g_dot * k.v + g_mu * k.b[:, None]
        mixed = torch.cat([g_v, g_u], 2) @ self._mix[t]
        g_new = mixed if g_mu is None else mixed + g_mu
        g = g + back[:, :width]
        cotangent = torch.cat([g.reshape(-1), g_new.reshape(-1)])
        slope, fs = self._messages[t].reverse(p, t, k.features, angular, n, cotangent, wanted=t > 0)
        if k.mu_before is None:
            return g, None, slope
        s1, s2, s3 = fs.split([n * width, n * width, 3 * n * width])
        s3 = s3.view(n, 3, width)
        g_x = torch.cat([s1.view(n, -1), s2.view(n, -1), (s3 * k.mu_before).sum(1)], 1)
        g = g + self._message_nets[t].reverse(g_x, k.message)
        return g, g_new + k.x3[:, None] * s3, slope
