"""Compiled gated perceptrons on rows of flat arrays: f(N(core)) ∘ σ(N(gate)) with its reverse sweep.

    x = [core | gate] of the hidden layer (or of the output where there is none), y = W f(x) + b,
    z = N(y), N a layer norm or nothing, φ = silu(z_core) ∘ σ(z_gate)

Channels are padded with zeros to a multiple of 32; a mask keeps the norms to the true ones.
"""

import math
from typing import NamedTuple

import numpy as np

from .activation_cpu import SILU, activate, logistic
from .compiled import compiled
from .dense_cpu import at_cache_line, dense
from .lanes import LANES, add, load, multiply, multiply_add, splat, store, total

ROWS = 32
"""Rows that are worked on together, so that what is between the steps stays in cache."""
_EPSILON = 1e-5
"""Of the layer norm's variance, torch's."""


class Gates(NamedTuple):
    """Gated perceptrons of equal shape with one hidden layer or none."""

    hidden: int
    """Padded width of each half of the hidden layer; 0 where there is none."""
    channels: int
    """Padded width of each half of the output."""
    weights: np.ndarray
    """Panels hidden → channels, core then gate, network after network; empty without hidden layer."""
    back: np.ndarray
    biases: np.ndarray
    """[networks, 2, channels] of the last layer; not read without hidden layer."""
    norm: np.ndarray
    """[networks, weight and bias, 2, channels]; empty for no norm."""
    mask: np.ndarray
    """[channels]: 1, and 0 where padded."""
    count: int  # type: ignore[assignment]
    """True channels."""

    @property
    def width(self) -> int:
        """Columns of x."""
        return 2 * (self.hidden or self.channels)


class Kept(NamedTuple):
    """What rows need between forward and reverse: the first `most` rows of every network, and a chunk's.

    Rows beyond are swept forward a second time, where the last ROWS rows have room.
    """

    most: int
    x: np.ndarray
    """[ROWS, width]: input of a chunk, then ∂E/∂x."""
    slopes: np.ndarray
    """[rows, width]: f′ of the hidden layer; empty where there is none."""
    y: np.ndarray
    """[rows, 2, channels]: the normalised output."""
    inverse: np.ndarray
    """[rows, 2]: 1/standard deviation."""
    slope: np.ndarray
    """[rows, 2, channels]: ∂φ/∂z."""
    phi: np.ndarray
    """[rows, channels]: φ, then ∂E/∂φ."""


def kept(gates: Gates, networks: int, most: int, real: type[np.floating]) -> Kept:
    """Room for so many rows of each network and one chunk more."""
    c, rows = gates.channels, networks * most + ROWS

    def array(n: int) -> np.ndarray:
        return at_cache_line(np.zeros(n, real))

    hidden = gates.width if gates.hidden else 0
    sizes = (hidden, 2 * c, 2, 2 * c, c)
    return Kept(most, array(ROWS * gates.width), *(array(rows * n) for n in sizes))


@compiled
def place(net, s, number, first, last):  # type: ignore[no-untyped-def]
    """Where a chunk of rows of the number-th network has its room, and whether it stays there."""
    if last <= s.most:
        return number * s.most + first, True
    return len(s.phi) // net.channels - ROWS, False


@compiled
def gated_forward(net, t, rows, s, at):  # type: ignore[no-untyped-def]
    """φ of rows from x, for network t, from row `at` on; x is overwritten with f(x)."""
    c, h = net.channels, net.hidden
    y_at = at * 2 * c
    if h:
        activate(s.x, 0, rows * 2 * h, SILU, s.slopes, at * 2 * h)
        for half in range(2):
            dense(
                s.x, half * h, 2 * h, rows, h, net.weights, (2 * t + half) * h * c, net.biases,
                (2 * t + half) * c, s.y, y_at + half * c, 2 * c, c, False,
            )  # fmt: skip
    else:
        for v in range(0, rows * 2 * c, LANES):
            store(s.y, y_at + v, load(s.x, v))
    if len(net.norm):
        _normalise(net, rows, s, at)
    _gate(net, t, rows, s, at)


@compiled
def _normalise(net, rows, s, at):  # type: ignore[no-untyped-def]
    y, c = s.y, net.channels
    real = y.dtype.type
    zero, mask, count = splat(real(0.0)), net.mask, real(net.count)
    for k in range(2 * at, 2 * (at + rows)):
        row, p = k * c, zero
        for v in range(0, c, LANES):
            p = add(p, load(y, row + v))
        below, p = splat(-total(p) / count), zero
        for v in range(0, c, LANES):
            d = multiply(add(load(y, row + v), below), load(mask, v))
            p = multiply_add(d, d, p)
            store(y, row + v, d)
        one = real(1.0) / math.sqrt(total(p) / count + real(_EPSILON))
        s.inverse[k], by = one, splat(one)
        for v in range(0, c, LANES):
            store(y, row + v, multiply(load(y, row + v), by))


@compiled
def _gate(net, t, rows, s, at):  # type: ignore[no-untyped-def]
    y, norm, c = s.y, net.norm, net.channels
    scale, shift = 4 * t * c, (4 * t + 2) * c
    for k in range(at, at + rows):
        for v in range(0, c, LANES):
            a, b = 2 * k * c + v, (2 * k + 1) * c + v
            x, z = load(y, a), load(y, b)
            if len(norm):
                x = multiply_add(x, load(norm, scale + v), load(norm, shift + v))
                z = multiply_add(z, load(norm, scale + c + v), load(norm, shift + c + v))
            core_on, core_off = logistic(x)
            gate_on, gate_off = logistic(z)
            x = multiply(x, core_on)
            value = multiply(x, gate_on)
            store(s.phi, k * c + v, value)
            store(s.slope, a, multiply(multiply_add(x, core_off, core_on), gate_on))
            store(s.slope, b, multiply(value, gate_off))


@compiled
def gated_reverse(net, t, rows, s, at):  # type: ignore[no-untyped-def]
    """∂E/∂x into x from ∂E/∂φ in phi, after `gated_forward` of the same rows; ∂φ/∂z is overwritten."""
    c, h = net.channels, net.hidden
    _gate_reverse(net, t, rows, s, at)
    x, slope, slopes, nothing = s.x, s.slope, s.slopes, s.x[:0]
    if not h:
        for v in range(0, rows * 2 * c, LANES):
            store(x, v, load(slope, at * 2 * c + v))
        return
    for half in range(2):
        dense(
            slope, at * 2 * c + half * c, 2 * c, rows, c, net.back, (2 * t + half) * h * c, nothing, 0, x,
            half * h, 2 * h, h, False,
        )  # fmt: skip
    for v in range(0, rows * 2 * h, LANES):
        store(x, v, multiply(load(x, v), load(slopes, at * 2 * h + v)))


@compiled
def _gate_reverse(net, t, rows, s, at):  # type: ignore[no-untyped-def]
    """∂E/∂(last layer's output) in place of ∂φ/∂z."""
    slope, phi, y, norm, c = s.slope, s.phi, s.y, net.norm, net.channels
    real = y.dtype.type
    zero, scale, count = splat(real(0.0)), 4 * t * c, real(net.count)
    for k in range(at, at + rows):
        core, gate, row = 2 * k * c, (2 * k + 1) * c, k * c
        if not len(norm):
            for v in range(0, c, LANES):
                g = load(phi, row + v)
                store(slope, core + v, multiply(g, load(slope, core + v)))
                store(slope, gate + v, multiply(g, load(slope, gate + v)))
            continue
        p, q, along_p, along_q = zero, zero, zero, zero
        for v in range(0, c, LANES):
            g = load(phi, row + v)
            d = multiply(multiply(load(slope, core + v), g), load(norm, scale + v))
            e = multiply(multiply(load(slope, gate + v), g), load(norm, scale + c + v))
            p, q = add(p, d), add(q, e)
            along_p = multiply_add(d, load(y, core + v), along_p)
            along_q = multiply_add(e, load(y, gate + v), along_q)
            store(slope, core + v, d)
            store(slope, gate + v, e)
        one, other = s.inverse[2 * k], s.inverse[2 * k + 1]
        p, q = splat(-total(p) / count * one), splat(-total(q) / count * other)
        along_p = splat(-total(along_p) / count * one)
        along_q = splat(-total(along_q) / count * other)
        by_core, by_gate = splat(one), splat(other)
        for v in range(0, c, LANES):
            on = load(net.mask, v)
            d = multiply_add(load(slope, core + v), by_core, multiply_add(along_p, load(y, core + v), p))
            e = multiply_add(load(slope, gate + v), by_gate, multiply_add(along_q, load(y, gate + v), q))
            store(slope, core + v, multiply(d, on))
            store(slope, gate + v, multiply(e, on))
