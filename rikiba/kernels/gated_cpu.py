"""Compiled gated perceptrons on rows of flat arrays: f(N(core)) ∘ σ(N(gate)) with its reverse sweep.

    x = [core | gate] of the hidden layer (or of the output where there is none), y = W f(x) + b,
    z = N(y), N a layer norm or nothing, φ = silu(z_core) ∘ σ(z_gate)

Channels are padded with zeros to a multiple of 32; a mask keeps the norms to the true ones.
"""

from typing import NamedTuple

import numpy as np

from .activation_cpu import SILU, activate, exponential
from .compiled import compiled
from .dense_cpu import dense
from .lanes import LANES, add, divide, load, multiply, multiply_add, smaller, splat, square_root, store, total

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


class Scratch(NamedTuple):
    """What one chunk of rows needs between forward and reverse."""

    x: np.ndarray
    """[rows, 2·width of x]: input, then ∂E/∂x."""
    slopes: np.ndarray
    """f′ of the hidden layer."""
    y: np.ndarray
    """[rows, 2, channels]: the normalised output, then its derivative."""
    inverse: np.ndarray
    """[rows, 2]: 1/standard deviation."""
    slope: np.ndarray
    """[rows, 2, channels]: ∂φ/∂z."""
    phi: np.ndarray
    """[rows, channels]: φ, then ∂E/∂φ."""


def scratch(gates: Gates, real: type[np.floating]) -> Scratch:
    """Room for ROWS rows."""
    c, width = gates.channels, gates.hidden or gates.channels
    sizes = (2 * width, 2 * width, 2 * c, 2, 2 * c, c)
    return Scratch(*(np.zeros(ROWS * n, real) for n in sizes))


@compiled
def gated_forward(net, t, rows, s):  # type: ignore[no-untyped-def]
    """φ of rows from x, for network t; x is overwritten with f(x)."""
    c, h = net.channels, net.hidden
    y = s.y
    if h:
        activate(s.x, 0, rows * 2 * h, SILU, s.slopes, 0)
        for half in range(2):
            dense(
                s.x, half * h, 2 * h, rows, h, net.weights, (2 * t + half) * h * c, net.biases,
                (2 * t + half) * c, y, half * c, 2 * c, c, False,
            )  # fmt: skip
    else:
        y[: rows * 2 * c] = s.x[: rows * 2 * c]
    if len(net.norm):
        _normalise(net, rows, y, s.inverse)
    _gate(net, t, rows, y, s.slope, s.phi)


@compiled
def _normalise(net, rows, y, inverse):  # type: ignore[no-untyped-def]
    real = y.dtype.type
    c, share = net.channels, splat(real(1.0 / net.count))
    mask, zero = net.mask, splat(real(0.0))
    for k in range(2 * rows):
        at = k * c
        sums = zero
        for v in range(0, c, LANES):
            sums = add(sums, load(y, at + v))
        mean = multiply(splat(total(sums)), share)
        minus = multiply(mean, splat(real(-1.0)))
        squares = zero
        for v in range(0, c, LANES):
            d = multiply(add(load(y, at + v), minus), load(mask, v))
            squares = multiply_add(d, d, squares)
            store(y, at + v, d)
        variance = multiply(splat(total(squares)), share)
        one = divide(splat(real(1.0)), square_root(add(variance, splat(real(_EPSILON)))))
        for v in range(0, c, LANES):
            store(y, at + v, multiply(load(y, at + v), one))
        inverse[k] = total(one) / real(LANES)


@compiled
def _gate(net, t, rows, y, slope, phi):  # type: ignore[no-untyped-def]
    real = y.dtype.type
    c, normed = net.channels, len(net.norm) > 0
    zero, one, minus = splat(real(0.0)), splat(real(1.0)), splat(real(-1.0))
    scale_at, shift_at = 4 * t * c, (4 * t + 2) * c
    for k in range(rows):
        for v in range(0, c, LANES):
            a, b = 2 * k * c + v, (2 * k + 1) * c + v
            x, z = load(y, a), load(y, b)
            if normed:
                x = multiply_add(x, load(net.norm, scale_at + v), load(net.norm, shift_at + v))
                z = multiply_add(z, load(net.norm, scale_at + c + v), load(net.norm, shift_at + c + v))
            u = exponential(multiply(x, smaller(x, zero, one, minus)))
            share = divide(one, add(one, u))
            rest = multiply(u, share)
            # σ(x) and σ(−x), the larger one of which is `share`
            core_on, core_off = smaller(x, zero, rest, share), smaller(x, zero, share, rest)
            u = exponential(multiply(z, smaller(z, zero, one, minus)))
            share = divide(one, add(one, u))
            rest = multiply(u, share)
            gate_on, gate_off = smaller(z, zero, rest, share), smaller(z, zero, share, rest)
            core = multiply(x, core_on)
            value = multiply(core, gate_on)
            store(phi, k * c + v, value)
            store(slope, a, multiply(multiply_add(core, core_off, core_on), gate_on))
            store(slope, b, multiply(value, gate_off))


@compiled
def gated_reverse(net, t, rows, s):  # type: ignore[no-untyped-def]
    """∂E/∂x into x from ∂E/∂φ in phi, after `gated_forward` of the same rows."""
    real = s.y.dtype.type
    c, h, normed = net.channels, net.hidden, len(net.norm) > 0
    zero, share = splat(real(0.0)), splat(real(-1.0 / net.count))
    slope, phi, y = s.slope, s.phi, s.y
    for k in range(2 * rows):
        at, row = k * c, (k // 2) * c
        scale_at = 4 * t * c + (k % 2) * c
        sums, along = zero, zero
        for v in range(0, c, LANES):
            g = multiply(load(slope, at + v), load(phi, row + v))
            if normed:
                g = multiply(g, load(net.norm, scale_at + v))
                sums = add(sums, g)
                along = multiply_add(g, load(y, at + v), along)
            store(slope, at + v, g)
        if normed:
            mean = multiply(splat(total(sums)), share)
            along = multiply(splat(total(along)), share)
            inverse = splat(s.inverse[k])
            for v in range(0, c, LANES):
                g = add(load(slope, at + v), multiply_add(along, load(y, at + v), mean))
                store(slope, at + v, multiply(multiply(g, inverse), load(net.mask, v)))
    if not h:
        s.x[: rows * 2 * c] = slope[: rows * 2 * c]
        return
    x, slopes, nothing = s.x, s.slopes, s.x[:0]
    for half in range(2):
        dense(
            slope, half * c, 2 * c, rows, c, net.back, (2 * t + half) * h * c, nothing, 0, x, half * h, 2 * h,
            h, False,
        )  # fmt: skip
    for v in range(0, rows * 2 * h, LANES):
        store(x, v, multiply(load(x, v), load(slopes, v)))
