"""Inference of an equivariant transformer as one compiled function; see its kernels' file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.kernels.activation_cpu import SILU
from rikiba.kernels.dense_cpu import Network, network
from rikiba.kernels.equivariant_transformer_cpu import (
    TransformerWeights,
    transformer_space,
    transformer_sweep,
)
from rikiba.kernels.gated_vector_block_cpu import GatedReadout
from rikiba.kernels.lanes import LANES

from .filter_program import CompiledFilters, Grouped, flat, padded, panelled

if TYPE_CHECKING:
    from .equivariant_transformer import EquivariantTransformer


def fits(heads: int) -> bool:
    """Whether the kernels have a lane for every head."""
    return heads <= LANES


class _Filters(nn.Module):
    """All filters of all layers: of the embedding, then K, V¹, V², V³ of layer after layer."""

    def __init__(self, potential: "EquivariantTransformer", places: Tensor, channels: int) -> None:
        super().__init__()
        self.radial, self.first = potential.radial, potential.neighbour_filter
        self.layers: Any = potential.layers
        self._envelope, self._places, self._channels = potential.envelope_of, places, channels

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs filters"]:
        envelope = self._envelope(r)[:, None]
        basis = self.radial(r) * envelope
        found = [self._placed(self.first(basis) * envelope)]
        for layer in self.layers:
            key, value = (torch.nn.functional.silu(f(basis)) for f in (layer.key_filter, layer.value_filter))
            v1, v2, v3 = (v.flatten(1) for v in value.unflatten(1, (layer.heads, 3, -1)).unbind(2))
            # the envelope multiplies s¹ or the attention: of y the same
            found += [self._placed(key), self._placed(v1 * envelope)]
            found += [self._placed(v * envelope if layer.on_values else v) for v in (v2, v3)]
        return torch.cat(found, 1)

    def _placed(self, x: Tensor) -> Tensor:
        return x.new_zeros((len(x), self._channels)).index_copy(1, self._places, x)


class CompiledEquivariantTransformer(CompiledFilters):
    """A snapshot of an equivariant transformer; see `EquivariantTransformer.program`."""

    _directions = True

    def __init__(self, potential: "EquivariantTransformer", *, tabulate: bool, tolerance: float) -> None:
        super().__init__(potential, tabulate=tabulate, tolerance=tolerance)
        model: Any = self._exact
        heads, c = model.layers[0].heads, potential.embedding.shape[1]
        self._group = 1 << (heads - 1).bit_length()
        self._half = c // 2
        # channel k of head h stands at k·group + h
        at = torch.arange(c)
        self._places = at % (c // heads) * self._group + at // (c // heads)
        self._wide, self._layers = padded(c // heads * self._group), len(model.layers)
        with torch.no_grad():
            self._weights = self._all_weights(model)
        self._prepare()

    def _all_weights(self, model: Any) -> TransformerWeights:
        c, layers = model.embedding.shape[1], list(model.layers)
        own, near = model.combine.weight[:, :c], model.combine.weight[:, c:]
        start = model.embedding @ own.T + model.combine.bias
        projections = [_projection(layer) for layer in layers]
        norms = [x for m in (*(layer.norm for layer in layers), model.norm) for x in (m.weight, m.bias)]
        at_zero = self._filters_of(model)(model.embedding.new_zeros(1))[0].view(-1, self._wide)
        project = [torch.cat([self._matrix(w) for w, _ in p]) for p in projections]
        output = [self._blocks(layer.output.weight) for layer in layers]
        mix = [
            torch.zeros_like(o) if m.mix is None else self._blocks(m.mix.weight)
            for o, m in zip(output, layers, strict=True)
        ]
        return TransformerWeights(
            channels=c,
            group=self._group,
            start=flat(self._row(start)),
            neighbour=flat(self._row(model.neighbour_embedding)),
            seen=self._panels([self._matrix(near)], False),
            seen_back=self._panels([self._matrix(near)], True),
            norms=flat(torch.cat([self._row(x) for x in norms])),
            project=self._panels(project, False),
            project_back=self._panels(project, True),
            project_bias=flat(torch.cat([self._row(b) for p in projections for _, b in p])),
            own=flat(torch.stack([at_zero[1 + 4 * t : 4 + 4 * t] for t in range(len(layers))])),
            output=self._panels(output, False),
            output_back=self._panels(output, True),
            output_bias=flat(torch.cat([self._row(b) for m in layers for b in m.output.bias.chunk(3)])),
            mix=self._panels(mix, False),
            mix_back=self._panels(mix, True),
            readout=self._readout(*model.readout),
        )

    def _readout(self, first: Any, last: Any) -> GatedReadout:
        h, wide = self._half, padded(self._half)
        half = torch.arange(h)
        second = _placed(self._row(first.second.weight), half, wide, 0)
        own = _placed(_placed(last.first.weight, half, wide, 0), half, wide, 1)
        return GatedReadout(
            first=self._panels([self._matrix(first.first.weight)], False),
            first_back=self._panels([self._matrix(first.first.weight)], True),
            second=self._panels([second], False),
            second_back=self._panels([second], True),
            update=_network(first.update, (self._places, self._wide), (half, wide)),
            last=self._panels([own], False),
            last_back=self._panels([own], True),
            last_update=_network(last.update, (half, wide), (torch.arange(1), padded(1))),
            norm_epsilon=float(first.norm_epsilon),
        )

    def _row(self, x: Tensor) -> Tensor:
        """Channels, the last dimension, where the kernels want them."""
        return _placed(x, self._places, self._wide, -1)

    def _matrix(self, w: Float[Tensor, "channels channels"]) -> Float[Tensor, "wide wide"]:
        return _placed(self._row(w), self._places, self._wide, 0)

    def _blocks(self, w: Float[Tensor, "three_channels channels"]) -> Float[Tensor, "three_wide wide"]:
        return torch.cat([self._matrix(part) for part in w.chunk(3)])

    def _panels(self, weights: Sequence[Tensor], back: bool) -> np.ndarray:
        """Of matrices [n_out, n_in]."""
        return panelled([(w if back else w.T) for w in weights], self._real)

    def _filters_of(self, model: Any) -> nn.Module:
        return _Filters(model, self._places, self._wide)

    def _columns(self, filters: Tensor) -> list[Tensor]:
        one, layers = self._wide, self._layers
        return list(filters.split([one, *[4 * one] * layers], 1))

    def _space_for(self, n_atoms: int) -> int:
        return int(transformer_space(n_atoms, self._weights, self._layers))

    def _sweep(self, types: np.ndarray, p: Grouped, space: np.ndarray, energies: np.ndarray) -> None:
        directions = p.unit.astype(self._real).reshape(-1)
        transformer_sweep(
            types, p.start, p.sender, p.row, p.weights, p.table, self._layers, directions, self._weights,
            space, self._scale, energies, p.slope, p.unit_slope,
        )  # fmt: skip


def _placed(x: Tensor, places: Tensor, n: int, dim: int) -> Tensor:
    shape = list(x.shape)
    shape[dim] = n
    return x.detach().new_zeros(shape).index_copy(dim, places, x.detach())


def _projection(layer: Any) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of q, k, s¹, s², s³; heads side by side."""
    value, bias = (x.unflatten(0, (layer.heads, 3, -1)) for x in (layer.value.weight, layer.value.bias))
    parts = [(value[:, m].flatten(0, 1), bias[:, m].flatten()) for m in range(3)]
    return [(m.weight, m.bias) for m in (layer.query, layer.key)] + parts


def _network(mlp: Any, given: tuple[Tensor, int], made: tuple[Tensor, int]) -> Network:
    """A perceptron that reads blocks of channels at given places and makes blocks at others."""
    weights, biases, last = [], [], len(mlp.layers) - 1
    hidden = [torch.arange(m.out_features) for m in mlp.layers[:-1]]
    inner = [(at, padded(len(at))) for at in hidden]
    for k, m in enumerate(mlp.layers):
        into, out = given if k == 0 else inner[k - 1], made if k == last else inner[k]
        w = _blocked(_blocked(m.weight, *into, 1), *out, 0)
        weights.append(w.T.numpy())
        biases.append(_blocked(m.bias, *out, 0).numpy())
    return network([weights], [biases], SILU)


def _blocked(x: Tensor, places: Tensor, n: int, dim: int) -> Tensor:
    blocks = x.detach().split(len(places), dim)
    return torch.cat([_placed(b, places, n, dim) for b in blocks], dim)
