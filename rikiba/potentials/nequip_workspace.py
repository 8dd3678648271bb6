"""A NequIP's layers packed for `rikiba.kernels.nequip_cpu`: whole and real numbers, section after section."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from rikiba.kernels.dense_cpu import at_cache_line, panels
from rikiba.kernels.lanes import LANES
from rikiba.kernels.nequip_cpu import NequIPWeights

from .nequip_weights import Block, Layer


def per_atom(blocks: Sequence[Block]) -> int:
    """Numbers of an atom in these blocks."""
    return sum(b.d * b.channels for b in blocks)


def _before(blocks: Sequence[Block]) -> list[int]:
    """Numbers of an atom before each block."""
    return [per_atom(blocks[:k]) for k in range(len(blocks))]


class _Panels:
    """Panels of the matrices of one layer, one after another."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.size = 0

    def _put(self, w: np.ndarray) -> int:
        self.parts.append(panels(np.ascontiguousarray(w)))
        self.size += w.size
        return self.size - w.size

    def product(self, x: tuple[int, Block], y: tuple[int, Block], kinds: Sequence[Tensor]) -> list[int]:
        """One row of `nequip_cpu.PRODUCT`: from a block to another, the matrices of all types."""
        start, places = self.size, []
        for w in kinds:
            places.append((self._put(w.detach().numpy()), self._put(w.detach().numpy().T)))
        step = (self.size - start) // len(kinds) if len(kinds) > 1 else 0
        (x_at, a), (y_at, b) = x, y
        return [x_at, a.channels, a.d, y_at, b.channels, *places[0], step]


def _placed(blocks: Sequence[Block]) -> list[tuple[int, Block]]:
    return list(zip(_before(blocks), blocks, strict=True))


def _layer(
    layer: Layer, before: Layer | None, real: type[np.floating]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(whole, real) sections of one layer."""
    held = _Panels()
    message, ungated, inputs = (_placed(x) for x in (layer.message, layer.ungated, layer.inputs))
    outputs = _placed(before.outputs) if before else []
    mix = [held.product(message[k], ungated[k], [w]) for k, w in enumerate(layer.mix)]
    up = [
        held.product(outputs[k], inputs[k], [kind[k] for kind in layer.up])
        for k in range(len(layer.up[0]) if layer.up else 0)
    ]
    skip = [
        held.product(outputs[i], ungated[o], [kind[k][2] for kind in layer.skip])
        for k, (i, o, _) in enumerate(layer.skip[0] if layer.skip else [])
    ]
    opened = layer.ungated[0].channels - layer.outputs[0].channels
    rows, biases = (np.concatenate([np.zeros(0, real), *x]) for x in (layer.row, layer.up_bias))
    sizes = [
        per_atom(layer.inputs) if before else 0,
        per_atom(layer.message) if before else 0,
        per_atom(layer.ungated),
        opened,
        per_atom(layer.outputs),
        layer.columns,
        len(rows) // len(layer.row) if len(layer.row) > 1 else 0,
        len(biases) // len(layer.up_bias) if len(layer.up_bias) > 1 else 0,
    ]
    c, g = layer.couplings, layer.gates
    whole = [
        c.feature, c.size, c.shift, c.channels, c.column, c.term, c.target, c.entry, c.of_term,
        *layer.places, *g[:-1], *(np.array(x).reshape(-1) for x in (mix, up, skip, sizes)),
    ]  # fmt: skip
    weights = np.concatenate([np.zeros(0, real), *held.parts])
    return whole, [c.matrix, c.coefficient, g.factor, weights, rows, biases]


def sections(layers: list[list[np.ndarray]], dtype: type[np.generic]) -> tuple[np.ndarray, np.ndarray]:
    """All sections in one array that starts at a cache line, as does every section; and where they are."""
    parts, at = [], np.zeros((len(layers), len(layers[0]), 2), np.int64)
    size = 0
    for t, layer in enumerate(layers):
        for k, x in enumerate(layer):
            at[t, k] = size, size + len(x)
            parts.append(np.pad(x.astype(dtype), (0, -len(x) % LANES)))
            size += len(parts[-1])
    return at_cache_line(np.concatenate(parts)), at


def packed(layers: Sequence[Layer], real: type[np.floating]) -> NequIPWeights:
    """All layers for the compiled sweeps."""
    found = [_layer(layer, layers[t - 1] if t else None, real) for t, layer in enumerate(layers)]
    whole, numbers = (list(x) for x in zip(*found, strict=True))
    return NequIPWeights(*sections(whole, np.int64), *sections(numbers, real))
