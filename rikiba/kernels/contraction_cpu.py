"""Compiled symmetric contraction B_o = Σ_k w_ok Π_{a ∈ k} A_a per channel, and its reverse sweep.

The monomials form a tree: each is its parent times one more feature. Inner nodes (those with children) are
numbered parents first, node 0 is the empty product. A weight stands for one (monomial, output) with a
coefficient that is not zero; weights of the same parent and output are neighbours, a run. So B is evaluated
as by Horner: per run, m·Σ w A with m the parent's monomial.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, aligned, load, multiply, multiply_add, splat, store

WIDE = 2 * LANES
"""Channels taken together."""


class Tree(NamedTuple):
    """The monomials, grouped by parent."""

    parent: np.ndarray
    """Of each inner node: its parent's number …"""
    factor: np.ndarray
    """… and the feature that it multiplies the parent by."""
    run: np.ndarray
    """First run of each inner node (one more entry: the number of runs)."""
    output: np.ndarray
    """Of each run: the output row …"""
    weight: np.ndarray
    """… and its first weight (one more entry: the number of weights)."""
    feature: np.ndarray
    """Of each weight: the feature that makes its monomial of the node's."""


@inlined
def _gather(packed, rows, count, a, channels, v, out):  # type: ignore[no-untyped-def]
    for k in range(len(rows.start)):
        at = (rows.start[k] * count + a * rows.width[k] + rows.inner[k]) * channels + v
        store(out, k * WIDE, load(packed, at))
        store(out, k * WIDE + LANES, load(packed, at + LANES))


@inlined
def _monomials(tree, a, m):  # type: ignore[no-untyped-def]
    for s in range(1, len(tree.parent)):
        p, f = tree.parent[s] * WIDE, tree.factor[s] * WIDE
        store(m, s * WIDE, multiply(load(m, p), load(a, f)))
        store(m, s * WIDE + LANES, multiply(load(m, p + LANES), load(a, f + LANES)))


@inlined
def _run(tree, k, weights, w, a):  # type: ignore[no-untyped-def]
    x0 = splat(a.dtype.type(0))
    x1 = x0
    for e in range(tree.weight[k], tree.weight[k + 1]):
        f, at = tree.feature[e] * WIDE, w + e * WIDE
        x0 = multiply_add(load(weights, at), load(a, f), x0)
        x1 = multiply_add(load(weights, at + LANES), load(a, f + LANES), x1)
    return x0, x1


@inlined
def _push(tree, s, a, m, back, g, t0, t1):  # type: ignore[no-untyped-def]
    p, f = tree.parent[s] * WIDE, tree.factor[s] * WIDE
    store(back, p, multiply_add(t0, load(a, f), load(back, p)))
    store(g, f, multiply_add(t0, load(m, p), load(g, f)))
    p, f = p + LANES, f + LANES
    store(back, p, multiply_add(t1, load(a, f), load(back, p)))
    store(g, f, multiply_add(t1, load(m, p), load(g, f)))


@inlined
def _clear(x):  # type: ignore[no-untyped-def]
    zero = splat(x.dtype.type(0))
    for at in range(0, len(x), LANES):
        store(x, at, zero)


@compiled
def contraction_forward(  # type: ignore[no-untyped-def]
    tree, weights, features, rows, f_first, f_count, out, out_rows, o_first, o_count, first, last, channels
):
    """Packed B of atoms first … last − 1, one type; weights [channels/32, weights, 32] flat."""
    n_inner, n_weights, n_out = len(tree.parent), len(tree.feature), len(out_rows.start)
    a = aligned(len(rows.start) * WIDE, out)
    m = aligned(n_inner * WIDE, out)
    b = aligned(n_out * WIDE, out)
    store(m, 0, splat(m.dtype.type(1)))
    store(m, LANES, splat(m.dtype.type(1)))
    for v in range(0, channels, WIDE):
        w = v * n_weights
        for atom in range(first, last):
            _gather(features, rows, f_count, atom - f_first, channels, v, a)
            _monomials(tree, a, m)
            _clear(b)
            for s in range(n_inner):
                m0, m1 = load(m, s * WIDE), load(m, s * WIDE + LANES)
                for k in range(tree.run[s], tree.run[s + 1]):
                    x0, x1 = _run(tree, k, weights, w, a)
                    o = tree.output[k] * WIDE
                    store(b, o, multiply_add(m0, x0, load(b, o)))
                    store(b, o + LANES, multiply_add(m1, x1, load(b, o + LANES)))
            for o in range(n_out):
                at = out_rows.start[o] * o_count + (atom - o_first) * out_rows.width[o] + out_rows.inner[o]
                store(out, at * channels + v, load(b, o * WIDE))
                store(out, at * channels + v + LANES, load(b, o * WIDE + LANES))


@compiled
def contraction_reverse(  # type: ignore[no-untyped-def]
    tree, weights, features, rows, f_first, f_count, cotangent, out_rows, o_first, o_count,
    first, last, channels, slope, s_first, s_count
):  # fmt: skip
    """Packed ∂E/∂A (`slope`) from the packed features A and `cotangent` = ∂E/∂B."""
    n_inner, n_weights, n_rows = len(tree.parent), len(tree.feature), len(rows.start)
    a = aligned(n_rows * WIDE, slope)
    g = aligned(n_rows * WIDE, slope)
    m = aligned(n_inner * WIDE, slope)
    back = aligned(n_inner * WIDE, slope)
    b = aligned(len(out_rows.start) * WIDE, slope)
    store(m, 0, splat(m.dtype.type(1)))
    store(m, LANES, splat(m.dtype.type(1)))
    zero = splat(m.dtype.type(0))
    for v in range(0, channels, WIDE):
        w = v * n_weights
        for atom in range(first, last):
            _gather(features, rows, f_count, atom - f_first, channels, v, a)
            _gather(cotangent, out_rows, o_count, atom - o_first, channels, v, b)
            _monomials(tree, a, m)
            _clear(g)
            _clear(back)
            for s in range(n_inner - 1, -1, -1):
                m0, m1 = load(m, s * WIDE), load(m, s * WIDE + LANES)
                t0, t1 = load(back, s * WIDE), load(back, s * WIDE + LANES)
                for k in range(tree.run[s], tree.run[s + 1]):
                    o = tree.output[k] * WIDE
                    b0, b1 = load(b, o), load(b, o + LANES)
                    g0, g1 = multiply(b0, m0), multiply(b1, m1)
                    x0, x1 = zero, zero
                    for e in range(tree.weight[k], tree.weight[k + 1]):
                        f, at = tree.feature[e] * WIDE, w + e * WIDE
                        w0, w1 = load(weights, at), load(weights, at + LANES)
                        x0 = multiply_add(w0, load(a, f), x0)
                        x1 = multiply_add(w1, load(a, f + LANES), x1)
                        store(g, f, multiply_add(w0, g0, load(g, f)))
                        store(g, f + LANES, multiply_add(w1, g1, load(g, f + LANES)))
                    t0, t1 = multiply_add(b0, x0, t0), multiply_add(b1, x1, t1)
                if s:
                    _push(tree, s, a, m, back, g, t0, t1)
            for k in range(n_rows):
                at = rows.start[k] * s_count + (atom - s_first) * rows.width[k] + rows.inner[k]
                store(slope, at * channels + v, load(g, k * WIDE))
                store(slope, at * channels + v + LANES, load(g, k * WIDE + LANES))
