"""Arrays and matrix products of a MACE's compiled program for given numbers of atoms of each type.

Made once and kept from call to call: a sweep then is a walk through lists.
"""

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from .mace_weights import Layer

_CHUNK_BYTES = 2**19
"""Messages of a chunk of atoms stay in cache."""


class Packed:
    """Equivariant features of n atoms in one flat array: a block [n, 2l+1, channels] per degree."""

    def __init__(self, n: int, degrees: int, channels: int, dtype: torch.dtype) -> None:
        self.n = n
        self.flat = torch.zeros(n * degrees * degrees * channels, dtype=dtype)
        self.array = self.flat.numpy()
        blocks = self.flat.split([n * (2 * l + 1) * channels for l in range(degrees)])
        self.blocks = [b.view(n, (2 * l + 1) * channels) for l, b in enumerate(blocks)]
        self.channels = channels

    def rows(self, l: int, first: int, last: int) -> Tensor:
        """Degree l of some atoms, [atoms·(2l+1), channels]."""
        return self.blocks[l][first:last].view(-1, self.channels)


@dataclass(frozen=True)
class Chunk:
    """Atoms first … last − 1 with the matrix products of their sweeps as (left, right, out)."""

    first: int
    last: int
    spans: list[tuple[int, int, int]]
    """(type, first, last), types that share weights together."""
    worker: int
    """The thread that computes it, which has scratch arrays of its own."""
    message: np.ndarray
    """A where products take it mixed, otherwise the products' input itself …"""
    message_slope: np.ndarray
    """… and ∂E/∂A."""
    product: Packed
    """The products' input …"""
    product_slope: Packed
    """… and its derivative."""
    output: Packed
    output_slope: Packed
    hidden: np.ndarray
    """Of the last layer."""
    mix: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    unmix: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    product_to: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    product_from: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    connect: list[tuple[Tensor, Tensor | None, Tensor]] = field(default_factory=list)
    """(previous, weights, out), or (row, None, out) to add a row."""
    unconnect: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)


class LayerSpace:
    """Arrays of one layer for given numbers of atoms per type, with its chunks."""

    def __init__(
        self,
        layer: Layer,
        spans: list[tuple[int, int, int]],
        before: "LayerSpace | None",
        last: bool,
        workers: int,
    ) -> None:
        n, dtype = spans[-1][2], layer.linear[0].dtype
        channels = layer.linear[0].shape[0]
        widths = layer.message_rows.width
        n_rows, degrees = len(widths), round(sqrt(len(layer.product_rows.start)))
        l_out = round(sqrt(len(layer.output_rows.start)))
        size = max(16, min(512, _CHUNK_BYTES // (n_rows * channels * dtype.itemsize)))
        size = -(-n // (workers * -(-n // (workers * size)))) if workers > 1 else size
        ranges = [(a, min(a + size, n)) for a in range(0, n, size)]
        self.parts = [
            range(len(ranges) * w // workers, len(ranges) * (w + 1) // workers) for w in range(workers)
        ]
        """Chunks of each worker."""
        most = max(b - a for a, b in ranges)
        self.layer, self.before = layer, before
        self.product_weights = [w.numpy() for w in layer.product]
        self.readout = None if layer.readout is None else layer.readout.numpy()
        self.degrees_out: int = l_out
        self.ranges, self.spans = ranges, spans
        l_in = before.degrees_out if before else 1
        self.features = Packed(n, l_in, channels, dtype)
        self.feature_slopes = [Packed(n if before else 0, l_in, channels, dtype) for _ in range(workers)]
        """Of the pairs of each worker's chunks."""
        self.out = Packed(0 if last else n, l_out, channels, dtype)
        self.out_slope = Packed(0 if last else n, l_out, channels, dtype)
        # the last layer's chunks go forward and back at once, so their arrays are shared
        self.products = [Packed(b - a, degrees, channels, dtype) for a, b in ranges] if not last else []
        self._scratch: dict[tuple[str, int, int], Packed] = {}
        self._messages = torch.zeros((workers, most * n_rows * channels), dtype=dtype)
        self._hidden = torch.zeros((workers, most, layer.linear[0].shape[1] if last else 0), dtype=dtype)
        self.chunks = [
            self._chunk(k, w, last, degrees, l_out) for w, part in enumerate(self.parts) for k in part
        ]

    def _packed(self, name: str, worker: int, n: int, degrees: int) -> Packed:
        """A packed array that a worker's chunks of equal size share."""
        key = (name, worker, n)
        if key not in self._scratch:
            like = self.features
            self._scratch[key] = Packed(n, degrees, like.channels, like.flat.dtype)
        return self._scratch[key]

    def _within(self, a: int, b: int, shared: bool) -> list[tuple[int, int, int]]:
        if shared:
            return [(0, a, b)]
        return [(k, max(s, a), min(e, b)) for k, s, e in self.spans if max(s, a) < min(e, b)]

    def _chunk(self, number: int, worker: int, last: bool, degrees: int, l_out: int) -> Chunk:
        a, b = self.ranges[number]
        layer, n = self.layer, b - a
        messages, hidden = self._messages[worker], self._hidden[worker, :n]
        product = self.products[number] if self.products else self._packed("product", worker, n, degrees)
        slope = self._packed("product_slope", worker, n, degrees)
        output = self._packed("output", worker, n, l_out)
        output_slope = self._packed("output_slope", worker, n, l_out)
        mixed = messages.numpy()
        chunk = Chunk(
            a, b, self._within(a, b, len(layer.product) == 1), worker,
            mixed if layer.mix else product.array, mixed if layer.mix else slope.array,
            product, slope, output, output_slope, hidden.numpy(),
        )  # fmt: skip
        at = 0
        for l in range(degrees if layer.mix else 0):
            inputs = layer.mix[0][l].shape[0]
            size = n * (2 * l + 1) * inputs
            message = messages[at : at + size].view(n, -1)
            at += size
            for k, s, e in self._within(a, b, len(layer.mix) == 1):
                part = message[s - a : e - a].view(-1, inputs)
                chunk.mix.append((part, layer.mix[k][l], product.rows(l, s - a, e - a)))
                chunk.unmix.append((slope.rows(l, s - a, e - a), layer.mix[k][l].T, part))
        for l in range(l_out):
            to = hidden if last else self.out.rows(l, a, b)
            back = hidden if last else self.out_slope.rows(l, a, b)
            chunk.product_to.append((output.rows(l, 0, n), layer.linear[l], to))
            chunk.product_from.append((back, layer.linear[l].T, output_slope.rows(l, 0, n)))
        for k, s, e in self._within(a, b, False) if layer.skip else []:
            for l, w in enumerate(layer.skip[k]):
                to = hidden[s - a : e - a] if last else self.out.rows(l, s, e)
                if self.before is None:
                    chunk.connect.append((w, None, to))
                    continue
                back = hidden[s - a : e - a] if last else self.out_slope.rows(l, s, e)
                chunk.connect.append((self.before.out.rows(l, s, e), w, to))
                chunk.unconnect.append((back, w.T, self.before.out_slope.rows(l, s, e)))
        return chunk
