"""Compiled matrix products and dense networks for chains of kernels: rows of flat arrays, no call overhead.

Weights are kept as panels of 32 columns (`panels`), numbers of columns are multiples of 32. Eight rows by 32
columns stay in registers while a product is summed, always in the same order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .activation_cpu import activate
from .compiled import compiled, inlined
from .lanes import LANES, add, load, multiply, multiply_add, splat, spread, store

PANEL = 2 * LANES
BLOCK = 256
"""Terms that are summed before they are added to the rest: a part of a panel that stays in the first-level
cache, and rounding errors that grow with the number of blocks rather than of terms."""


def panels(w: np.ndarray) -> np.ndarray:
    """[n_in, n_out] → flat [n_out/32, n_in, 32] that starts at a cache line.

    Raises ValueError where n_out is not a multiple of 32.
    """
    n_in, n_out = w.shape
    if n_out % PANEL:
        raise ValueError(f"Weights need a multiple of {PANEL} columns; given {n_out}.")
    return at_cache_line(w.reshape(n_in, n_out // PANEL, PANEL).transpose(1, 0, 2))


def at_cache_line(x: np.ndarray) -> np.ndarray:
    """A flat copy whose first number lies at a multiple of 64 bytes."""
    buffer = np.empty(x.size + 64 // x.itemsize, x.dtype)
    shift = (-buffer.ctypes.data % 64) // x.itemsize
    out = buffer[shift : shift + x.size]
    out[:] = x.reshape(-1)
    return out


class Network(NamedTuple):
    """Several networks of equal shape, y = W_n f(… f(W_1 x + b_1) …) + b_n."""

    widths: np.ndarray
    """Input, hidden layers, output."""
    weights: np.ndarray
    """Panels of W_1 … W_n, network after network."""
    back: np.ndarray
    """Panels of their transposes."""
    biases: np.ndarray
    activation: int
    """One of those of `activation_cpu`."""


def network(
    weights: Sequence[Sequence[np.ndarray]], biases: Sequence[Sequence[np.ndarray]], activation: int
) -> Network:
    """From weights [n_in, n_out] and biases [n_out] of each layer of each network, of padded widths."""
    first = weights[0]
    widths = [first[0].shape[0], *(w.shape[1] for w in first)]
    return Network(
        np.array(widths, np.int64),
        at_cache_line(np.concatenate([panels(w) for net in weights for w in net])),
        at_cache_line(np.concatenate([panels(w.T) for net in weights for w in net])),
        at_cache_line(np.concatenate([b for net in biases for b in net])),
        activation,
    )


@compiled
def dense(  # type: ignore[no-untyped-def]
    x, x_at, x_stride, rows, n_in, weights, w_at, bias, b_at, y, y_at, y_stride, n_out, adding
):
    """y = (y if adding) + bias + x·W; y[r, c] is y[y_at + r·y_stride + c]. No bias where that is empty.

    Written out: a call inside the loops would count references to its arrays and empty the registers.
    """
    zero = splat(y.dtype.type(0))
    if len(bias) or not adding:
        for c in range(0, n_out, LANES):
            first_sum = load(bias, b_at + c) if len(bias) else zero
            for at in range(y_at + c, y_at + c + rows * y_stride, y_stride):
                store(y, at, add(first_sum, load(y, at)) if adding else first_sum)
    last = rows - 1
    for part in range((n_in + BLOCK - 1) // BLOCK * (n_out // PANEL)):
        column, k0 = part % (n_out // PANEL) * PANEL, part // (n_out // PANEL) * BLOCK
        panel, width, begin = w_at + column * n_in + k0 * PANEL, min(BLOCK, n_in - k0), x_at + k0
        first = 0
        while first < rows:
            # beyond the end the last row is taken again: its sums are read before any is stored
            i1, i2, i3 = min(first + 1, last), min(first + 2, last), min(first + 3, last)
            a0, a1 = begin + first * x_stride, begin + i1 * x_stride
            a2, a3 = begin + i2 * x_stride, begin + i3 * x_stride
            o0, o1 = y_at + first * y_stride + column, y_at + i1 * y_stride + column
            o2, o3 = y_at + i2 * y_stride + column, y_at + i3 * y_stride + column
            if rows - first <= 4:
                s00, s01, s10, s11, s20, s21, s30, s31 = zero, zero, zero, zero, zero, zero, zero, zero
                for k in range(width):
                    b0, b1 = load(weights, panel + k * PANEL), load(weights, panel + k * PANEL + LANES)
                    v = spread(x, a0 + k)
                    s00, s01 = multiply_add(v, b0, s00), multiply_add(v, b1, s01)
                    v = spread(x, a1 + k)
                    s10, s11 = multiply_add(v, b0, s10), multiply_add(v, b1, s11)
                    v = spread(x, a2 + k)
                    s20, s21 = multiply_add(v, b0, s20), multiply_add(v, b1, s21)
                    v = spread(x, a3 + k)
                    s30, s31 = multiply_add(v, b0, s30), multiply_add(v, b1, s31)
                s00, s01 = add(s00, load(y, o0)), add(s01, load(y, o0 + LANES))
                s10, s11 = add(s10, load(y, o1)), add(s11, load(y, o1 + LANES))
                s20, s21 = add(s20, load(y, o2)), add(s21, load(y, o2 + LANES))
                s30, s31 = add(s30, load(y, o3)), add(s31, load(y, o3 + LANES))
                store(y, o0, s00)
                store(y, o0 + LANES, s01)
                store(y, o1, s10)
                store(y, o1 + LANES, s11)
                store(y, o2, s20)
                store(y, o2 + LANES, s21)
                store(y, o3, s30)
                store(y, o3 + LANES, s31)
                first += 4
                continue
            i4, i5, i6, i7 = first + 4, min(first + 5, last), min(first + 6, last), min(first + 7, last)
            a4, a5 = begin + i4 * x_stride, begin + i5 * x_stride
            a6, a7 = begin + i6 * x_stride, begin + i7 * x_stride
            o4, o5 = y_at + i4 * y_stride + column, y_at + i5 * y_stride + column
            o6, o7 = y_at + i6 * y_stride + column, y_at + i7 * y_stride + column
            s00, s01, s10, s11, s20, s21, s30, s31 = zero, zero, zero, zero, zero, zero, zero, zero
            s40, s41, s50, s51, s60, s61, s70, s71 = zero, zero, zero, zero, zero, zero, zero, zero
            for k in range(width):
                b0, b1 = load(weights, panel + k * PANEL), load(weights, panel + k * PANEL + LANES)
                v = spread(x, a0 + k)
                s00, s01 = multiply_add(v, b0, s00), multiply_add(v, b1, s01)
                v = spread(x, a1 + k)
                s10, s11 = multiply_add(v, b0, s10), multiply_add(v, b1, s11)
                v = spread(x, a2 + k)
                s20, s21 = multiply_add(v, b0, s20), multiply_add(v, b1, s21)
                v = spread(x, a3 + k)
                s30, s31 = multiply_add(v, b0, s30), multiply_add(v, b1, s31)
                v = spread(x, a4 + k)
                s40, s41 = multiply_add(v, b0, s40), multiply_add(v, b1, s41)
                v = spread(x, a5 + k)
                s50, s51 = multiply_add(v, b0, s50), multiply_add(v, b1, s51)
                v = spread(x, a6 + k)
                s60, s61 = multiply_add(v, b0, s60), multiply_add(v, b1, s61)
                v = spread(x, a7 + k)
                s70, s71 = multiply_add(v, b0, s70), multiply_add(v, b1, s71)
            s00, s01 = add(s00, load(y, o0)), add(s01, load(y, o0 + LANES))
            s10, s11 = add(s10, load(y, o1)), add(s11, load(y, o1 + LANES))
            s20, s21 = add(s20, load(y, o2)), add(s21, load(y, o2 + LANES))
            s30, s31 = add(s30, load(y, o3)), add(s31, load(y, o3 + LANES))
            s40, s41 = add(s40, load(y, o4)), add(s41, load(y, o4 + LANES))
            s50, s51 = add(s50, load(y, o5)), add(s51, load(y, o5 + LANES))
            s60, s61 = add(s60, load(y, o6)), add(s61, load(y, o6 + LANES))
            s70, s71 = add(s70, load(y, o7)), add(s71, load(y, o7 + LANES))
            store(y, o0, s00)
            store(y, o0 + LANES, s01)
            store(y, o1, s10)
            store(y, o1 + LANES, s11)
            store(y, o2, s20)
            store(y, o2 + LANES, s21)
            store(y, o3, s30)
            store(y, o3 + LANES, s31)
            store(y, o4, s40)
            store(y, o4 + LANES, s41)
            store(y, o5, s50)
            store(y, o5 + LANES, s51)
            store(y, o6, s60)
            store(y, o6 + LANES, s61)
            store(y, o7, s70)
            store(y, o7 + LANES, s71)
            first += 8


@compiled
def hidden_width(net):  # type: ignore[no-untyped-def]
    """Widths of all hidden layers together: how many slopes a row has."""
    total = 0
    for w in net.widths[1:-1]:
        total += w
    return total


@inlined
def _places(net, which):  # type: ignore[no-untyped-def]
    """Where one network's weights and biases begin, and its number of layers."""
    n_weights, n_biases = 0, 0
    for k in range(len(net.widths) - 1):
        n_weights += net.widths[k] * net.widths[k + 1]
        n_biases += net.widths[k + 1]
    return which * n_weights, which * n_biases, len(net.widths) - 1


@compiled
def network_forward(  # type: ignore[no-untyped-def]
    net, which, x, x_at, x_stride, rows, slopes, s_at, work, y, y_at, y_stride, adding
):
    """y = (y if adding) + the network of x; f′ of the hidden layers goes to `slopes`, layer by layer.

    `work` holds twice the widest hidden layer of these rows.
    """
    w_at, b_at, n = _places(net, which)
    for k in range(n):
        n_in, n_out = net.widths[k], net.widths[k + 1]
        if k == n - 1:
            dense(
                x, x_at, x_stride, rows, n_in, net.weights, w_at, net.biases, b_at, y, y_at, y_stride, n_out,
                adding,
            )  # fmt: skip
        else:
            to = (k % 2) * (len(work) // 2)
            dense(
                x, x_at, x_stride, rows, n_in, net.weights, w_at, net.biases, b_at, work, to, n_out, n_out,
                False,
            )  # fmt: skip
            activate(work, to, rows * n_out, net.activation, slopes, s_at)
            s_at += rows * n_out
            x, x_at, x_stride = work, to, n_out
        w_at += n_in * n_out
        b_at += n_out


@compiled
def network_reverse(  # type: ignore[no-untyped-def]
    net, which, g, g_at, g_stride, rows, slopes, s_at, work, y, y_at, y_stride, adding
):
    """y = (y if adding) + ∂E/∂(input) from g = ∂E/∂(output) and the slopes of the forward pass."""
    w_at, _, n = _places(net, which)
    for k in range(n):
        w_at += net.widths[k] * net.widths[k + 1]
        if k < n - 1:
            s_at += rows * net.widths[k + 1]
    nothing = work[:0]
    for k in range(n - 1, -1, -1):
        n_in, n_out = net.widths[k], net.widths[k + 1]
        w_at -= n_in * n_out
        if k == 0:
            dense(g, g_at, g_stride, rows, n_out, net.back, w_at, nothing, 0, y, y_at, y_stride, n_in, adding)
        else:
            to = (k % 2) * (len(work) // 2)
            dense(g, g_at, g_stride, rows, n_out, net.back, w_at, nothing, 0, work, to, n_in, n_in, False)
            s_at -= rows * n_in
            for m in range(0, rows * n_in, LANES):
                store(work, to + m, multiply(load(work, to + m), load(slopes, s_at + m)))
            g, g_at, g_stride = work, to, n_in
