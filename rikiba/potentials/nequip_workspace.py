"""Arrays and matrix products of a NequIP's compiled program for given numbers of atoms of each type.

Made once and kept from call to call: a sweep then is a walk through lists.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rikiba.kernels.gate_cpu import TANH

from .nequip_weights import Block, Layer

_CHUNK_BYTES = 2**19
"""Messages of a chunk of atoms stay in cache."""
Product = tuple[Tensor, Tensor, Tensor]
"""(left, right, out)."""


class Packed:
    """Features of n atoms in one flat array: a block [n, d, channels] per representation."""

    def __init__(self, n: int, blocks: Sequence[Block], flat: Tensor) -> None:
        sizes = [n * b.d * b.channels for b in blocks]
        self.flat = flat[: sum(sizes)]
        self.array = self.flat.numpy()
        self.widths = [b.channels for b in blocks]
        parts = self.flat.split(sizes) if sizes else []
        self.blocks = [p.view(n, b.d * b.channels) for p, b in zip(parts, blocks, strict=True)]

    def rows(self, k: int, first: int, last: int) -> Tensor:
        """Block k of some atoms, [atoms·d, channels]."""
        return self.blocks[k][first:last].view(-1, self.widths[k])


def per_atom(blocks: Sequence[Block]) -> int:
    """Numbers of an atom in these blocks."""
    return sum(b.d * b.channels for b in blocks)


@dataclass
class Chunk:
    """Atoms first … last − 1 with the matrix products of their sweeps."""

    first: int
    last: int
    message: Packed
    given: Packed
    """Sigmoids of scalars and gates."""
    out: Packed
    """Output of the last layer."""
    out_slope: Packed
    mix: list[Product] = field(default_factory=list)
    unmix: list[Product] = field(default_factory=list)
    skip: list[Product] = field(default_factory=list)
    rows: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """(row to add, out)."""
    activate: list[tuple[Callable[..., Tensor], Tensor, Tensor]] = field(default_factory=list)
    up: list[Product] = field(default_factory=list)
    """Features of the next layer."""
    up_rows: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    back: list[Product] = field(default_factory=list)
    """∂E/∂(output) from the next layer: the first product of each block sets …"""
    back_more: list[Product] = field(default_factory=list)
    """… and these add."""


class LayerSpace:
    """Arrays of one layer for given numbers of atoms per type, with its chunks.

    `message` is a buffer that all layers share, of `size` atoms' messages.
    """

    def __init__(
        self,
        layer: Layer,
        spans: list[tuple[int, int, int]],
        ranges: list[tuple[int, int]],
        message: Tensor,
        before: "LayerSpace | None",
        last: bool,
    ) -> None:
        n, dtype = spans[-1][2], message.dtype
        most = max(b - a for a, b in ranges)
        self.layer, self.spans, self.before, self.last, self.n = layer, spans, before, last, n

        def array(count: int, blocks: Sequence[Block]) -> Packed:
            return Packed(count, blocks, torch.zeros(count * per_atom(blocks), dtype=dtype))

        self.mixed = array(n, layer.ungated)
        self.opened = torch.zeros(n * (layer.ungated[0].channels - layer.outputs[0].channels), dtype=dtype)
        self.out = array(0 if last else n, layer.outputs)
        self.features = array(n if before else 0, layer.inputs)
        self.feature_slope = array(n if before else 0, layer.inputs)
        scalars = [b for b, g in zip(layer.ungated, layer.gates.gate, strict=True) if g < 0]
        buffers = [torch.zeros(most * per_atom(b), dtype=dtype) for b in (scalars, layer.outputs)]
        slopes = torch.zeros_like(buffers[1])
        self.chunks = []
        for a, b in ranges:
            given, out = Packed(b - a, scalars, buffers[0]), Packed(b - a, layer.outputs, buffers[1])
            chunk = Chunk(
                a, b, Packed(b - a, layer.message, message), given, out, Packed(b - a, layer.outputs, slopes)
            )
            self._products(chunk)
            self._activations(chunk)
            self.chunks.append(chunk)

    def _within(self, a: int, b: int, sets: int) -> list[tuple[int, int, int]]:
        """(set of weights, first, last) of the atoms of a chunk."""
        if sets == 1:
            return [(0, a, b)]
        return [(k, max(s, a), min(e, b)) for k, s, e in self.spans if max(s, a) < min(e, b)]

    def _products(self, chunk: Chunk) -> None:
        a, b, layer = chunk.first, chunk.last, self.layer
        for k, w in enumerate(layer.mix):
            message, mixed = chunk.message.rows(k, 0, b - a), self.mixed.rows(k, a, b)
            chunk.mix.append((message, w, mixed))
            chunk.unmix.append((mixed, w.T, message))
        for k, s, e in self._within(a, b, len(layer.row)) if layer.row else []:
            chunk.rows.append((layer.row[k], self.mixed.rows(0, s, e)))
        if self.before is None:
            return
        for k, s, e in self._within(a, b, len(layer.skip)) if layer.skip else []:
            for i, o, w in layer.skip[k]:
                chunk.skip.append((self.before.out.rows(i, s, e), w, self.mixed.rows(o, s, e)))
        # the chunks of all layers are the same
        earlier = next(c for c in self.before.chunks if c.first == a)
        for k, s, e in self._within(a, b, len(layer.up)):
            for i, w in enumerate(layer.up[k]):
                features, slope = self.features.rows(i, s, e), self.feature_slope.rows(i, s, e)
                earlier.up.append((self.before.out.rows(i, s, e), w, features))
                earlier.back.append((slope, w.T, earlier.out_slope.rows(i, s - a, e - a)))
            if layer.up_bias:
                earlier.up_rows.append((layer.up_bias[k], self.features.rows(0, s, e)))
        for k, s, e in self._within(a, b, len(layer.skip)) if layer.skip else []:
            for i, o, w in layer.skip[k]:
                product = (self.mixed.rows(o, s, e), w.T, earlier.out_slope.rows(i, s - a, e - a))
                earlier.back_more.append(product)

    def _activations(self, chunk: Chunk) -> None:
        a, b, gates = chunk.first, chunk.last, self.layer.gates
        scalars = self.layer.outputs[0].channels
        sources = [k for k, g in enumerate(gates.gate) if g < 0]
        codes = [int(c) for c in gates.code]
        for n, k in enumerate(sources):
            source, out = self.mixed.rows(k, a, b), chunk.given.rows(n, 0, b - a)
            parts = [(codes[k], source, out)]
            gated = [c for c, g in zip(codes, gates.gate, strict=True) if g >= 0]
            if k == 0 and gated and (gated[0] == TANH) != (codes[0] == TANH):
                parts = [
                    (codes[0], source[:, :scalars], out[:, :scalars]),
                    (gated[0], source[:, scalars:], out[:, scalars:]),
                ]
            for code, x, y in parts:
                chunk.activate.append((torch.tanh if code == TANH else torch.sigmoid, x, y))


def layer_spaces(layers: Sequence[Layer], spans: list[tuple[int, int, int]]) -> list[LayerSpace]:
    """Arrays for atoms (type, first, last) in order of their type."""
    n = spans[-1][2]
    most = max(per_atom(layer.message) for layer in layers)
    dtype = layers[0].row[0].dtype if layers[0].row else torch.from_numpy(layers[0].couplings.matrix).dtype
    size = max(16, min(512, _CHUNK_BYTES // (most * dtype.itemsize)))
    ranges = [(a, min(a + size, n)) for a in range(0, n, size)]
    message = torch.zeros(min(size, n) * most, dtype=dtype)
    spaces: list[LayerSpace] = []
    for t, layer in enumerate(layers):
        before = spaces[-1] if spaces else None
        spaces.append(LayerSpace(layer, spans, ranges, message, before, t == len(layers) - 1))
    return spaces
