"""Compiled gated perceptrons on rows of flat arrays: f(N(core)) ∘ σ(N(gate)) with its reverse sweep.

    x = [core | gate] of the hidden layer (or of the output where there is none), y = W f(x) + b,
    z = N(y), N a layer norm or nothing, φ = silu(z_core) ∘ σ(z_gate)

Channels are padded with zeros to a multiple of 32. A norm does not subtract the mean: W and b, or where there
is no hidden layer all that adds up to x, have columns whose mean over the channels is zero (`centred`), which
takes the mean's part from the derivative too.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .activation_cpu import SILU, activate, logistic
from .compiled import compiled, inlined
from .dense_cpu import at_cache_line, dense
from .lanes import LANES, add, divide, fetch, load, multiply, multiply_add, splat, square_root, store, total

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
    count: int  # type: ignore[assignment]
    """True channels."""

    @property
    def width(self) -> int:
        """Columns of x."""
        return 2 * (self.hidden or self.channels)

    @property
    def row_kept(self) -> int:
        """Numbers that a row needs between forward and reverse."""
        return 2 * self.channels + 2 + 2 * self.hidden


def centred(w: Tensor) -> Tensor:
    """w − its mean over the first axis, the channels."""
    wide = w.to(torch.float64)
    return (wide - wide.mean(0)).to(w.dtype)


class Kept(NamedTuple):
    """What rows need between forward and reverse, the first `most` rows of every network, and a chunk's own.

    Rows beyond are swept forward a second time, where the last ROWS rows have room.
    """

    most: int
    slopes: np.ndarray
    """[rows, width]: f′ of the hidden layer; empty where there is none."""
    y: np.ndarray
    """[rows, 2, channels]"""
    inverse: np.ndarray
    """[rows, 2]: 1/standard deviation."""
    x: np.ndarray
    """[ROWS, width]: input of a chunk, then ∂E/∂x."""
    phi: np.ndarray
    """[ROWS, channels]: φ, then ∂E/∂φ."""
    slope: np.ndarray
    """[ROWS, 2, channels]: ∂φ/∂z, then ∂E/∂y."""
    sums: np.ndarray
    """[ROWS, 2]: of squares of y."""


def kept(gates: Gates, networks: int, most: int, real: type[np.floating]) -> Kept:
    """Room for so many rows of each network and one chunk more."""
    c, rows = gates.channels, networks * most + ROWS

    def array(n: int) -> np.ndarray:
        return at_cache_line(np.zeros(n, real))

    stay = (array(rows * n) for n in (2 * gates.hidden, 2 * c, 2))
    return Kept(most, *stay, *(array(ROWS * n) for n in (gates.width, c, 2 * c, 2)))


@compiled
def place(net, s, number, first, last):  # type: ignore[no-untyped-def]
    """Where a chunk of rows of the number-th network has its room, and whether it stays there."""
    if last <= s.most:
        return number * s.most + first, True
    return len(s.y) // (2 * net.channels) - ROWS, False


@compiled
def gated_outputs(net, t, rows, s, at):  # type: ignore[no-untyped-def]
    """y of rows from x, for network t, kept from row `at` on; x is overwritten with f(x)."""
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
        _inverse_deviations(net, rows, s, at)


@compiled
def _inverse_deviations(net, rows, s, at):  # type: ignore[no-untyped-def]
    """1/√(Σ y²/count + ε) of both halves of every row; all sums come first, so that no root waits for one."""
    y, c, sums = s.y, net.channels, s.sums
    real = y.dtype.type
    for k in range(2 * rows):
        row, a, b = (2 * at + k) * c, splat(real(0.0)), splat(real(0.0))
        for v in range(row, row + c, 2 * LANES):
            m, n = load(y, v), load(y, v + LANES)
            a, b = multiply_add(m, m, a), multiply_add(n, n, b)
        sums[k] = total(add(a, b))
    one, share, epsilon = splat(real(1.0)), splat(real(1.0 / net.count)), splat(real(_EPSILON))
    for k in range(0, 2 * rows, LANES):
        store(sums, k, divide(one, square_root(multiply_add(load(sums, k), share, epsilon))))
    for k in range(2 * rows):
        s.inverse[2 * at + k] = sums[k]


@inlined
def _fetch(net, s, at, read):  # type: ignore[no-untyped-def]
    """Ask for what is kept of a row, to be read or written; places outside of the arrays do no harm."""
    for v in range(at * 2 * net.channels, (at + 1) * 2 * net.channels, LANES):
        if read:
            fetch(s.y, v, 0)
        else:
            fetch(s.y, v, 1)
    for v in range(at * 2 * net.hidden, (at + 1) * 2 * net.hidden, LANES):
        if read:
            fetch(s.slopes, v, 0)
        else:
            fetch(s.slopes, v, 1)


@compiled
def gated_values(net, t, rows, s, at, slopes, next_at):  # type: ignore[no-untyped-def]
    """φ of rows after `gated_outputs` or as they were kept; with `slopes` ∂φ/∂z too.

    Asks for what is kept from row `next_at` on, of the next chunk, which would be waited for otherwise.
    """
    y, norm, phi, slope, c = s.y, net.norm, s.phi, s.slope, net.channels
    scale, shift, one = 4 * t * c, (4 * t + 2) * c, splat(y.dtype.type(1.0))
    for k in range(rows):
        _fetch(net, s, next_at + k, slopes)
        core, gate = 2 * (at + k) * c, (2 * (at + k) + 1) * c
        by_core, by_gate = one, one
        if len(norm):
            by_core, by_gate = splat(s.inverse[2 * (at + k)]), splat(s.inverse[2 * (at + k) + 1])
        for v in range(0, c, LANES):
            x, z = load(y, core + v), load(y, gate + v)
            if len(norm):
                x = multiply_add(multiply(x, by_core), load(norm, scale + v), load(norm, shift + v))
                z = multiply_add(multiply(z, by_gate), load(norm, scale + c + v), load(norm, shift + c + v))
            core_on, core_off = logistic(x)
            gate_on, gate_off = logistic(z)
            x = multiply(x, core_on)
            value = multiply(x, gate_on)
            store(phi, k * c + v, value)
            if slopes:
                along = multiply(multiply_add(x, core_off, core_on), gate_on)
                store(slope, 2 * k * c + v, along)
                store(slope, (2 * k + 1) * c + v, multiply(value, gate_off))


@compiled
def gated_reverse(net, t, rows, s, at):  # type: ignore[no-untyped-def]
    """∂E/∂x into x from ∂E/∂φ in phi, after `gated_values` with slopes; ∂φ/∂z becomes ∂E/∂y."""
    c, h = net.channels, net.hidden
    _gate_reverse(net, t, rows, s, at)
    x, slope, slopes, nothing = s.x, s.slope, s.slopes, s.x[:0]
    if not h:
        for v in range(0, rows * 2 * c, LANES):
            store(x, v, load(slope, v))
        return
    for half in range(2):
        dense(
            slope, half * c, 2 * c, rows, c, net.back, (2 * t + half) * h * c, nothing, 0, x, half * h, 2 * h,
            h, False,
        )  # fmt: skip
    for v in range(0, rows * 2 * h, LANES):
        store(x, v, multiply(load(x, v), load(slopes, at * 2 * h + v)))


@compiled
def _gate_reverse(net, t, rows, s, at):  # type: ignore[no-untyped-def]
    """∂E/∂y in place of ∂φ/∂z, with a norm but for a constant, which centred weights do not see."""
    slope, phi, y, norm, c = s.slope, s.phi, s.y, net.norm, net.channels
    real = y.dtype.type
    zero, scale, count = splat(real(0.0)), 4 * t * c, real(net.count)
    for k in range(rows):
        core, gate, row = 2 * k * c, (2 * k + 1) * c, k * c
        if not len(norm):
            for v in range(0, c, LANES):
                g = load(phi, row + v)
                store(slope, core + v, multiply(g, load(slope, core + v)))
                store(slope, gate + v, multiply(g, load(slope, gate + v)))
            continue
        by_core, by_gate, start = s.inverse[2 * (at + k)], s.inverse[2 * (at + k) + 1], 2 * at * c
        p, q, one, other = zero, zero, splat(by_core), splat(by_gate)
        for v in range(0, c, LANES):
            g = load(phi, row + v)
            d = multiply(multiply(load(slope, core + v), multiply(g, one)), load(norm, scale + v))
            e = multiply(multiply(load(slope, gate + v), multiply(g, other)), load(norm, scale + c + v))
            p = multiply_add(d, load(y, start + core + v), p)
            q = multiply_add(e, load(y, start + gate + v), q)
            store(slope, core + v, d)
            store(slope, gate + v, e)
        p = splat(-total(p) / count * by_core * by_core)
        q = splat(-total(q) / count * by_gate * by_gate)
        for v in range(0, c, LANES):
            store(slope, core + v, multiply_add(p, load(y, start + core + v), load(slope, core + v)))
            store(slope, gate + v, multiply_add(q, load(y, start + gate + v), load(slope, gate + v)))
