"""Compiled symmetric contraction B_o = Σ_k w_ok Π_{a ∈ k} A_a per channel, and its reverse sweep.

The monomials form a tree: each is its parent times one more feature. Inner nodes (those with children) are
numbered parents first, node 0 is the empty product. A weight stands for one (monomial, output) with a
coefficient that is not zero.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled
from .lanes import LANES, load, multiply, multiply_add, splat, store
from .message_cpu import Rows


class Tree(NamedTuple):
    """The monomials, grouped by parent."""

    parent: np.ndarray
    """Of each inner node: its parent's number …"""
    factor: np.ndarray
    """… and the feature that it multiplies the parent by."""
    child: np.ndarray
    """First child of each inner node, and the number of children in all."""
    feature: np.ndarray
    """Of each child: the feature it multiplies by …"""
    inner: np.ndarray
    """… its number as an inner node or −1 …"""
    weight: np.ndarray
    """… and its first weight (one more entry: the number of weights)."""
    output: np.ndarray
    """Of each weight: the output row."""


@compiled
def _gather(packed, rows, count, a, channels, v, out):  # type: ignore[no-untyped-def]
    for k in range(len(rows.start)):
        at = (rows.start[k] * count + a * rows.width[k] + rows.inner[k]) * channels + v
        store(out, k * LANES, load(packed, at))


@compiled
def _monomials(tree, a, m):  # type: ignore[no-untyped-def]
    for s in range(1, len(tree.parent)):
        store(m, s * LANES, multiply(load(m, tree.parent[s] * LANES), load(a, tree.factor[s] * LANES)))


@compiled
def contraction_forward(  # type: ignore[no-untyped-def]
    tree, weights, features, rows, f_first, f_count, out, out_rows, o_first, o_count, first, last, channels
):
    """Packed B of atoms first … last − 1, one type; weights [channels/16, weights, 16] flat."""
    n_inner, n_weights, n_out = len(tree.parent), len(tree.output), len(out_rows.start)
    a = np.empty(len(rows.start) * LANES, out.dtype)
    m = np.empty(n_inner * LANES, out.dtype)
    b = np.empty(n_out * LANES, out.dtype)
    store(m, 0, splat(m.dtype.type(1)))
    zero = splat(m.dtype.type(0))
    for v in range(0, channels, LANES):
        w = v * n_weights
        for atom in range(first, last):
            _gather(features, rows, f_count, atom - f_first, channels, v, a)
            _monomials(tree, a, m)
            for o in range(n_out):
                store(b, o * LANES, zero)
            for s in range(n_inner):
                base = load(m, s * LANES)
                for c in range(tree.child[s], tree.child[s + 1]):
                    x = multiply(base, load(a, tree.feature[c] * LANES))
                    for e in range(tree.weight[c], tree.weight[c + 1]):
                        o = tree.output[e] * LANES
                        store(b, o, multiply_add(load(weights, w + e * LANES), x, load(b, o)))
            for o in range(n_out):
                at = out_rows.start[o] * o_count + (atom - o_first) * out_rows.width[o] + out_rows.inner[o]
                store(out, at * channels + v, load(b, o * LANES))


@compiled
def contraction_reverse(  # type: ignore[no-untyped-def]
    tree, weights, features, rows, f_first, f_count, cotangent, out_rows, o_first, o_count,
    first, last, channels, slope, s_first, s_count
):  # fmt: skip
    """Packed ∂E/∂A (`slope`) from the packed features A and `cotangent` = ∂E/∂B."""
    n_inner, n_weights, n_rows = len(tree.parent), len(tree.output), len(rows.start)
    a = np.empty(n_rows * LANES, slope.dtype)
    g = np.empty(n_rows * LANES, slope.dtype)
    m = np.empty(n_inner * LANES, slope.dtype)
    back = np.empty(n_inner * LANES, slope.dtype)
    b = np.empty(len(out_rows.start) * LANES, slope.dtype)
    store(m, 0, splat(m.dtype.type(1)))
    zero = splat(m.dtype.type(0))
    for v in range(0, channels, LANES):
        w = v * n_weights
        for atom in range(first, last):
            _gather(features, rows, f_count, atom - f_first, channels, v, a)
            _gather(cotangent, out_rows, o_count, atom - o_first, channels, v, b)
            _monomials(tree, a, m)
            for k in range(n_rows):
                store(g, k * LANES, zero)
            for s in range(n_inner - 1, -1, -1):
                base, total = load(m, s * LANES), zero
                for c in range(tree.child[s], tree.child[s + 1]):
                    inner = tree.inner[c]
                    x = load(back, inner * LANES) if inner >= 0 else zero
                    for e in range(tree.weight[c], tree.weight[c + 1]):
                        x = multiply_add(load(weights, w + e * LANES), load(b, tree.output[e] * LANES), x)
                    f = tree.feature[c] * LANES
                    total = multiply_add(x, load(a, f), total)
                    store(g, f, multiply_add(x, base, load(g, f)))
                store(back, s * LANES, total)
            for k in range(n_rows):
                at = rows.start[k] * s_count + (atom - s_first) * rows.width[k] + rows.inner[k]
                store(slope, at * channels + v, load(g, k * LANES))
