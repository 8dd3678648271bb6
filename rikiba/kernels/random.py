"""Counter-based random numbers: a pure function of (seed, step, stream, index), whoever else is in the batch.

Philox 4×32 with 10 rounds (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC'11, doi:10.1145/2063384.2063405). The key is a system's seed; the counter holds the step (64 bits), the
index (an atom's place within its system) and the stream (which operator asks) with the block drawn.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import choose

PER_SYSTEM = 0xFFFFFFFF
"""Index of draws that belong to a system rather than to one of its atoms."""

_MASK = 0xFFFFFFFF
_MULTIPLIER = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_BLOCK_BITS = 12


def _multiply(a: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a·m for 32-bit numbers held in int64."""
    low, high = (a & 0xFFFF) * m, (a >> 16) * m
    return ((high + (low >> 16)) >> 16) & _MASK, (low + ((high & 0xFFFF) << 16)) & _MASK


def philox(counter: Int[Tensor, "*rows 4"], key: Int[Tensor, "*rows 2"]) -> Int[Tensor, "*rows 4"]:
    """Four random 32-bit words (in int64) for each counter and key of 32-bit words; 10 rounds."""
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key.unbind(-1)
    for _ in range(10):
        high0, low0 = _multiply(c0, _MULTIPLIER[0])
        high1, low1 = _multiply(c2, _MULTIPLIER[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.stack([c0, c1, c2, c3], -1)


def last_word(stream: int, block: int) -> int:
    """The counter's last word; raises ValueError where stream or block are out of range."""
    if not 0 <= stream < 1 << (32 - _BLOCK_BITS) or not 0 <= block < 1 << _BLOCK_BITS:
        raise ValueError(
            f"stream must be in [0, 2^{32 - _BLOCK_BITS}) and at most 2^{_BLOCK_BITS} blocks may be drawn "
            f"from it; given stream {stream}, block {block}."
        )
    return (stream << _BLOCK_BITS) | block


def uniforms_reference(
    seeds: Int[Tensor, "rows"], index: Int[Tensor, "rows"], step: int, stream: int, n: int
) -> Float[Tensor, "rows n"]:
    """n numbers in (0, 1] with 53 random bits for each row, float64."""
    key = torch.stack([seeds & _MASK, (seeds >> 32) & _MASK], -1)
    columns = []
    for block in range((n + 1) // 2):
        counter = torch.stack(
            [
                torch.full_like(index, step & _MASK),
                torch.full_like(index, (step >> 32) & _MASK),
                index,
                torch.full_like(index, last_word(stream, block)),
            ],
            -1,
        )
        words = philox(counter, key)
        for first in (0, 2):
            bits = ((words[:, first] >> 5) << 26) + (words[:, first + 1] >> 6)
            columns.append((bits.double() + 0.5) * 2.0**-53)
    return torch.stack(columns, -1)[:, :n] if columns else seeds.new_zeros((len(seeds), 0)).double()


def normals_reference(
    seeds: Int[Tensor, "rows"], index: Int[Tensor, "rows"], step: int, stream: int, n: int
) -> Float[Tensor, "rows n"]:
    """The definition of `normals` in plain torch."""
    u = uniforms_reference(seeds, index, step, stream, 2 * ((n + 1) // 2))
    radius, angle = torch.sqrt(-2.0 * torch.log(u[:, 0::2])), (2.0 * math.pi) * u[:, 1::2]
    pairs = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1)
    return pairs.reshape(len(seeds), -1)[:, :n]


def normals(
    seeds: Int[Tensor, "rows"], index: Int[Tensor, "rows"], step: int, stream: int, n: int
) -> Float[Tensor, "rows n"]:
    """n independent standard normal numbers for each row by Box and Muller's transform, float64.

    A row's numbers depend on its own seed and index only, with `step` and `stream` (both at least 0).
    """
    if step < 0:
        raise ValueError(f"A step counter is at least 0; given {step}.")
    last_word(stream, (n + 1) // 2)
    return choose("normals", normals_reference, seeds)(seeds, index, step, stream, n)


def uniforms(
    seeds: Int[Tensor, "rows"], index: Int[Tensor, "rows"], step: int, stream: int, n: int
) -> Float[Tensor, "rows n"]:
    """n independent numbers in (0, 1] for each row, float64; see `normals`."""
    if step < 0:
        raise ValueError(f"A step counter is at least 0; given {step}.")
    last_word(stream, (n + 1) // 2)
    return choose("uniforms", uniforms_reference, seeds)(seeds, index, step, stream, n)
