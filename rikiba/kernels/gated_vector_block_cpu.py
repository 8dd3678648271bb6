"""Two gated blocks of scalars and vectors to one number per atom, there and back, in chunks of atoms.

(x, v) → (silu(a), b ∘ U²v) with (a, b) = φ(x, √(|U¹v|² + ε)), then the same with one number a: see
`rikiba.potentials.equivariant_transformer.GatedBlock`.
"""

from typing import NamedTuple

import numpy as np

from .activation_cpu import silu
from .compiled import compiled
from .dense_cpu import Network, dense, hidden_width, network_forward, network_reverse
from .gated_readout_cpu import network_energies
from .lanes import LANES, divide, load, multiply, multiply_add, splat, square_root, store
from .workspace_cpu import carved, widest_hidden


class GatedReadout(NamedTuple):
    """Channels c and half as many h, each padded with zeros to a multiple of 32."""

    first: np.ndarray
    """Panels of U¹, c → c."""
    first_back: np.ndarray
    second: np.ndarray
    """U², c → h."""
    second_back: np.ndarray
    update: Network
    """2c → 2h."""
    last: np.ndarray
    """U¹ of the second block, h → h."""
    last_back: np.ndarray
    last_update: Network
    """2h → 1."""
    norm_epsilon: float


@compiled
def _sizes(rows, net):  # type: ignore[no-untyped-def]
    """Of the arrays of `gated_readout`, in order."""
    c, h = net.update.widths[0] // 2, net.last_update.widths[0] // 2
    widest = max(widest_hidden(net.update), widest_hidden(net.last_update))
    return (
        rows * 3 * c, rows * 3 * h, rows * 2 * h, rows * 2 * h, rows * h, rows * 3 * h, rows * 3 * h,
        rows * hidden_width(net.update), rows * hidden_width(net.last_update), rows * 2 * widest,
        rows * net.last_update.widths[-1],
    )  # fmt: skip


@compiled
def gated_readout_space(rows, net):  # type: ignore[no-untyped-def]
    """How many numbers `gated_readout` needs for so many atoms."""
    return sum(_sizes(rows, net))


@compiled
def _norms(v, v_at, rows, c, epsilon, x, x_stride):  # type: ignore[no-untyped-def]
    """√(|v|² + ε) of every channel into the second half of each row of x."""
    for k in range(rows):
        for m in range(0, c, LANES):
            squares = splat(x.dtype.type(epsilon))
            for d in range(3):
                y = load(v, v_at + (3 * k + d) * c + m)
                squares = multiply_add(y, y, squares)
            store(x, k * x_stride + c + m, square_root(squares))


@compiled
def _norms_reverse(v, rows, c, x, g, stride):  # type: ignore[no-untyped-def]
    """v becomes ∂E/∂v from ∂E/∂(norm) in the second half of each row of g; x holds the norms."""
    for k in range(rows):
        for m in range(0, c, LANES):
            along = divide(load(g, k * stride + c + m), load(x, k * stride + c + m))
            for d in range(3):
                at = (3 * k + d) * c + m
                store(v, at, multiply(along, load(v, at)))


@compiled
def gated_readout(rows, x, v, v_at, net, space, scale, energies, e_at, g, g_v, g_at):  # type: ignore[no-untyped-def]
    """Energies of some atoms; ∂(scale·Σ energies)/∂x begins g [rows, 2c], that of v is g_v [atoms, 3, c].

    x [rows, 2c] begins with the scalars; the norms are written behind them.
    """
    c, h = net.update.widths[0] // 2, net.last_update.widths[0] // 2
    sizes, sides, ab, y, slopes, w, w_sizes, hidden, last_hidden, work, out = carved(space, _sizes(rows, net))
    nothing = space[:0]
    dense(v, v_at, c, 3 * rows, c, net.first, 0, nothing, 0, sizes, 0, c, c, False)
    dense(v, v_at, c, 3 * rows, c, net.second, 0, nothing, 0, sides, 0, h, h, False)
    _norms(sizes, 0, rows, c, net.norm_epsilon, x, 2 * c)
    network_forward(net.update, 0, x, 0, 2 * c, rows, hidden, 0, work, ab, 0, 2 * h, False)
    for k in range(rows):
        for m in range(0, h, LANES):
            value, slope = silu(load(ab, 2 * k * h + m))
            store(y, 2 * k * h + m, value)
            store(slopes, k * h + m, slope)
            for d in range(3):
                at = (3 * k + d) * h + m
                store(w, at, multiply(load(ab, (2 * k + 1) * h + m), load(sides, at)))
    dense(w, 0, h, 3 * rows, h, net.last, 0, nothing, 0, w_sizes, 0, h, h, False)
    _norms(w_sizes, 0, rows, h, net.norm_epsilon, y, 2 * h)
    back = g[: rows * 2 * h]
    network_energies(net.last_update, y, 0, rows, last_hidden, work, out, scale, energies, e_at, back, 0)
    _norms_reverse(w_sizes, rows, h, y, back, 2 * h)
    dense(w_sizes, 0, h, 3 * rows, h, net.last_back, 0, nothing, 0, w, 0, h, h, False)
    for k in range(rows):
        for m in range(0, h, LANES):
            at_a, dot = 2 * k * h + m, splat(x.dtype.type(0))
            gate = load(ab, at_a + h)
            for d in range(3):
                at = (3 * k + d) * h + m
                slope = load(w, at)
                dot = multiply_add(slope, load(sides, at), dot)
                store(sides, at, multiply(slope, gate))
            store(ab, at_a, multiply(load(back, at_a), load(slopes, k * h + m)))
            store(ab, at_a + h, dot)
    network_reverse(net.update, 0, ab, 0, 2 * h, rows, hidden, 0, work, g, 0, 2 * c, False)
    _norms_reverse(sizes, rows, c, x, g, 2 * c)
    dense(sizes, 0, c, 3 * rows, c, net.first_back, 0, nothing, 0, g_v, g_at, c, c, False)
    dense(sides, 0, h, 3 * rows, h, net.second_back, 0, nothing, 0, g_v, g_at, c, c, True)
