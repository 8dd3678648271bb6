"""Compiled CPU versions of `random.normals` and `random.uniforms`."""

import math

import numpy as np
import torch
from torch import Tensor

from .compiled import compiled
from .random import _BLOCK_BITS


@compiled
def _philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    mask = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0 = (p1 >> half) ^ c1 ^ k0
        c1 = p1 & mask
        c2 = (p0 >> half) ^ c3 ^ k1
        c3 = p0 & mask
        k0 = (k0 + np.uint64(0x9E3779B9)) & mask
        k1 = (k1 + np.uint64(0xBB67AE85)) & mask
    return c0, c1, c2, c3


@compiled
def _uniform(high, low):  # type: ignore[no-untyped-def]
    bits = ((high >> np.uint64(5)) << np.uint64(26)) + (low >> np.uint64(6))
    return (np.float64(bits) + 0.5) * 2.0**-53


@compiled
def _two_normals(seed, index, step, last):  # type: ignore[no-untyped-def]
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    s, t = np.uint64(seed), np.uint64(step)
    w0, w1, w2, w3 = _philox(
        t & mask, t >> half, np.uint64(index) & mask, np.uint64(last), s & mask, s >> half
    )
    radius = math.sqrt(-2.0 * math.log(_uniform(w0, w1)))
    angle = (2.0 * math.pi) * _uniform(w2, w3)
    return radius * math.cos(angle), radius * math.sin(angle)


@compiled
def _fill_uniforms(seeds, index, step, stream_word, out):  # type: ignore[no-untyped-def]
    rows, n = out.shape
    mask, half, t = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(step)
    for row in range(rows):
        s = np.uint64(seeds[row])
        for block in range((n + 1) // 2):
            w0, w1, w2, w3 = _philox(
                t & mask,
                t >> half,
                np.uint64(index[row]) & mask,
                np.uint64(stream_word + block),
                s & mask,
                s >> half,
            )
            out[row, 2 * block] = _uniform(w0, w1)
            if 2 * block + 1 < n:
                out[row, 2 * block + 1] = _uniform(w2, w3)


@compiled
def _fill_normals(seeds, index, step, stream_word, out):  # type: ignore[no-untyped-def]
    rows, n = out.shape
    for row in range(rows):
        for block in range((n + 1) // 2):
            a, b = _two_normals(seeds[row], index[row], step, stream_word + block)
            out[row, 2 * block] = a
            if 2 * block + 1 < n:
                out[row, 2 * block + 1] = b


def normals(seeds: Tensor, index: Tensor, step: int, stream: int, n: int) -> Tensor:
    """See `random.normals`."""
    out = np.empty((len(seeds), n))
    _fill_normals(seeds.numpy(), index.numpy(), step, stream << _BLOCK_BITS, out)
    return torch.from_numpy(out)


def uniforms(seeds: Tensor, index: Tensor, step: int, stream: int, n: int) -> Tensor:
    """See `random.uniforms`."""
    out = np.empty((len(seeds), n))
    _fill_uniforms(seeds.numpy(), index.numpy(), step, stream << _BLOCK_BITS, out)
    return torch.from_numpy(out)
