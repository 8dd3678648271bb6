"""Compiled products of features of pairs with the surroundings of their centre, channel by channel.

For every centre i with pairs ij:

    Γ_i[b] = n_i Σ_j w_ij[l of b] Y_ij[b]
    M_i[o, a] = Σ_t c_t Γ_i[b_t]  over the terms t of (o, a), c_t a coefficient times the weight of a path
    y_ij[o] = Σ_a M_i[o, a] x_ij[a]

M is made once for each centre, so that a pair costs one small matrix product per channel. Arrays are flat,
channels last, their number a multiple of 16: x [pairs, d_x, channels], w [pairs, degrees, channels] (w a part
of longer rows, degrees 0 … degrees − 1), Γ and M of one centre at a time, M kept for the reverse sweep.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, add, load, multiply, multiply_add, splat, splat_as, spread, store, total


class Product(NamedTuple):
    """The terms of one layer."""

    d_in: int
    d_out: int
    output: np.ndarray
    """First entry of M of each output component (one more: their number) …"""
    entry: np.ndarray
    """… and the entries, in this order …"""
    feature: np.ndarray
    """… of each entry the component of x that it multiplies …"""
    term: np.ndarray
    """… and its first term (one more: their number)."""
    surrounding: np.ndarray
    """Of each term its component of Γ …"""
    coefficient: np.ndarray
    """… and its coefficient [terms, channels], flat."""
    entry_of_feature: np.ndarray
    """Entries ordered by component of x …"""
    feature_start: np.ndarray
    """… where each component's begin (one more: their number) …"""
    output_of: np.ndarray
    """… and of each entry (in the first order) its output component."""


@compiled
def weighted_harmonics(  # type: ignore[no-untyped-def]
    y, degrees, w, stride, channels, first, last, out
):
    """out[pair, lm] = w[pair, l of lm] Y[pair, lm]; w begins each row of `stride` numbers."""
    n_lm = degrees * degrees
    for q in range(first, last):
        for l in range(degrees):
            at, to = (q - first) * stride + l * channels, (q - first) * n_lm * channels
            for v in range(0, channels, LANES):
                weight = load(w, at + v)
                for lm in range(l * l, (l + 1) * (l + 1)):
                    factor = spread(y, q * n_lm + lm)
                    store(out, to + lm * channels + v, multiply(factor, weight))


@compiled
def weighted_harmonics_reverse(  # type: ignore[no-untyped-def]
    y, degrees, w, stride, channels, first, last, gradient, w_slope, y_back, y_slope
):
    """Set ∂E/∂w (in rows like w's); add to ∂E/∂Y, also what `y_back` holds from the products."""
    zero, n_lm = splat(w.dtype.type(0)), degrees * degrees
    for q in range(first, last):
        k = q - first
        for l in range(degrees):
            at = k * stride + l * channels
            for v in range(0, channels, LANES):
                found, weight = zero, load(w, at + v)
                for lm in range(l * l, (l + 1) * (l + 1)):
                    g, to = load(gradient, (k * n_lm + lm) * channels + v), (k * n_lm + lm) * LANES
                    found = multiply_add(spread(y, q * n_lm + lm), g, found)
                    store(y_back, to, multiply_add(g, weight, load(y_back, to)))
                store(w_slope, at + v, found)
        for lm in range(n_lm):
            y_slope[q * n_lm + lm] += total(load(y_back, (k * n_lm + lm) * LANES))


@compiled
def _multiply(  # type: ignore[no-untyped-def]
    matrices, m0, channels, start, entry, component, first, last, x, d_in, out, d_out
):
    """out[o] = Σ_e M_e x[component of e] over the entries e of row o, for pairs first … last − 1."""
    zero = splat(x.dtype.type(0))
    for p0 in range(first, last, 4):
        # beyond the end the last pair is taken again
        p1, p2, p3 = min(p0 + 1, last - 1), min(p0 + 2, last - 1), min(p0 + 3, last - 1)
        x0, x1, x2, x3 = (
            p0 * d_in * channels,
            p1 * d_in * channels,
            p2 * d_in * channels,
            p3 * d_in * channels,
        )
        for o in range(d_out):
            for v in range(0, channels, LANES):
                s0, s1, s2, s3 = zero, zero, zero, zero
                for k in range(start[o], start[o + 1]):
                    e = entry[k]
                    m = load(matrices, m0 + e * channels + v)
                    at = component[e] * channels + v
                    s0 = multiply_add(m, load(x, x0 + at), s0)
                    s1 = multiply_add(m, load(x, x1 + at), s1)
                    s2 = multiply_add(m, load(x, x2 + at), s2)
                    s3 = multiply_add(m, load(x, x3 + at), s3)
                to = o * channels + v
                store(out, p0 * d_out * channels + to, s0)
                store(out, p1 * d_out * channels + to, s1)
                store(out, p2 * d_out * channels + to, s2)
                store(out, p3 * d_out * channels + to, s3)


@compiled
def narrow_dense(x, x_at, x_stride, rows, n_in, weights, w_at, y, y_stride, n_out, adding):  # type: ignore[no-untyped-def]
    """y = (y if adding) + x·W, as `dense_cpu.dense` for columns by 16: panels [n_out/16, n_in, 16]."""
    zero, last = splat(x.dtype.type(0)), rows - 1
    for column in range(0, n_out, LANES):
        panel = w_at + column * n_in
        for first in range(0, rows, 8):
            # beyond the end the last row is taken again
            i1, i2, i3 = min(first + 1, last), min(first + 2, last), min(first + 3, last)
            i4, i5, i6, i7 = (
                min(first + 4, last), min(first + 5, last), min(first + 6, last), min(first + 7, last),
            )  # fmt: skip
            a0, a1, a2, a3 = (
                x_at + first * x_stride, x_at + i1 * x_stride, x_at + i2 * x_stride, x_at + i3 * x_stride,
            )  # fmt: skip
            a4, a5, a6, a7 = (
                x_at + i4 * x_stride, x_at + i5 * x_stride, x_at + i6 * x_stride, x_at + i7 * x_stride,
            )  # fmt: skip
            s0, s1, s2, s3, s4, s5, s6, s7 = zero, zero, zero, zero, zero, zero, zero, zero
            for k in range(n_in):
                w = load(weights, panel + k * LANES)
                s0, s1 = multiply_add(spread(x, a0 + k), w, s0), multiply_add(spread(x, a1 + k), w, s1)
                s2, s3 = multiply_add(spread(x, a2 + k), w, s2), multiply_add(spread(x, a3 + k), w, s3)
                s4, s5 = multiply_add(spread(x, a4 + k), w, s4), multiply_add(spread(x, a5 + k), w, s5)
                s6, s7 = multiply_add(spread(x, a6 + k), w, s6), multiply_add(spread(x, a7 + k), w, s7)
            o0, o1, o2, o3 = (
                column + first * y_stride, column + i1 * y_stride, column + i2 * y_stride,
                column + i3 * y_stride,
            )  # fmt: skip
            o4, o5, o6, o7 = (
                column + i4 * y_stride, column + i5 * y_stride, column + i6 * y_stride,
                column + i7 * y_stride,
            )  # fmt: skip
            if adding:
                s0, s1, s2, s3 = (
                    add(s0, load(y, o0)),
                    add(s1, load(y, o1)),
                    add(s2, load(y, o2)),
                    add(s3, load(y, o3)),
                )
                s4, s5, s6, s7 = (
                    add(s4, load(y, o4)),
                    add(s5, load(y, o5)),
                    add(s6, load(y, o6)),
                    add(s7, load(y, o7)),
                )
            store(y, o0, s0)
            store(y, o1, s1)
            store(y, o2, s2)
            store(y, o3, s3)
            store(y, o4, s4)
            store(y, o5, s5)
            store(y, o6, s6)
            store(y, o7, s7)


@inlined
def _sum_of_products(x, x_at, x_step, y, y_at, y_step, n):  # type: ignore[no-untyped-def]
    """Σ_k x_k y_k, four sums at a time: one would wait for each addition."""
    zero = splat(x.dtype.type(0))
    a, b, c, d = zero, zero, zero, zero
    k = 0
    while k + 4 <= n:
        at, to = x_at + k * x_step, y_at + k * y_step
        a = multiply_add(load(x, at), load(y, to), a)
        b = multiply_add(load(x, at + x_step), load(y, to + y_step), b)
        at, to = at + 2 * x_step, to + 2 * y_step
        c = multiply_add(load(x, at), load(y, to), c)
        d = multiply_add(load(x, at + x_step), load(y, to + y_step), d)
        k += 4
    while k < n:
        a = multiply_add(load(x, x_at + k * x_step), load(y, y_at + k * y_step), a)
        k += 1
    return add(add(a, b), add(c, d))


@inlined
def _weighted_sum(y, y_at, y_step, w, w_at, w_step, n):  # type: ignore[no-untyped-def]
    """Σ_k y_k w_k of numbers y and channels w, in the same way."""
    zero = splat(w.dtype.type(0))
    a, b, c, d = zero, zero, zero, zero
    k = 0
    while k + 4 <= n:
        at, to = y_at + k * y_step, w_at + k * w_step
        a = multiply_add(spread(y, at), load(w, to), a)
        b = multiply_add(spread(y, at + y_step), load(w, to + w_step), b)
        at, to = at + 2 * y_step, to + 2 * w_step
        c = multiply_add(spread(y, at), load(w, to), c)
        d = multiply_add(spread(y, at + y_step), load(w, to + w_step), d)
        k += 4
    while k < n:
        a = multiply_add(spread(y, y_at + k * y_step), load(w, w_at + k * w_step), a)
        k += 1
    return add(add(a, b), add(c, d))


@compiled
def product_forward(  # type: ignore[no-untyped-def]
    first, last, start, norm, y, degrees, w, w_at, stride, channels, product, x, matrices, out, gamma
):
    """M of centres first … last − 1 and the products of their pairs.

    Arrays of pairs begin at the first centre's first pair, y excepted.
    """
    base, n_entries, n_lm = start[first], len(product.feature), degrees * degrees
    for c in range(first, last):
        q0, q1 = start[c], start[c + 1]
        if q0 == q1:
            continue
        for l in range(degrees):
            for lm in range(l * l, (l + 1) * (l + 1)):
                for v in range(0, channels, LANES):
                    at = w_at + (q0 - base) * stride + l * channels + v
                    found = _weighted_sum(y, q0 * n_lm + lm, n_lm, w, at, stride, q1 - q0)
                    store(gamma, lm * channels + v, multiply(found, splat_as(found, norm[c])))
        m0 = (c - first) * n_entries * channels
        _matrices(product, channels, gamma, matrices, m0)
        _multiply(
            matrices, m0, channels, product.output, product.entry, product.feature, q0 - base, q1 - base,
            x, product.d_in, out, product.d_out,
        )  # fmt: skip


@compiled
def _matrices(product, channels, gamma, matrices, m0):  # type: ignore[no-untyped-def]
    """M of one centre."""
    for e in range(len(product.feature)):
        for v in range(0, channels, LANES):
            found = splat(gamma.dtype.type(0))
            for t in range(product.term[e], product.term[e + 1]):
                found = multiply_add(
                    load(product.coefficient, t * channels + v),
                    load(gamma, product.surrounding[t] * channels + v),
                    found,
                )
            store(matrices, m0 + e * channels + v, found)


@compiled
def _matrices_reverse(product, channels, n, x, out_slope, norm, gamma_slope):  # type: ignore[no-untyped-def]
    """∂E/∂Γ of a centre, divided as Γ is, from x and ∂E/∂y of its n pairs."""
    for v in range(0, len(gamma_slope), LANES):
        store(gamma_slope, v, splat(x.dtype.type(0)))
    for e in range(len(product.feature)):
        from_x, from_y = product.feature[e] * channels, product.output_of[e] * channels
        for v in range(0, channels, LANES):
            found = _sum_of_products(
                x, from_x + v, product.d_in * channels, out_slope, from_y + v, product.d_out * channels, n
            )
            found = multiply(found, splat_as(found, norm))
            for t in range(product.term[e], product.term[e + 1]):
                to = product.surrounding[t] * channels + v
                coefficient = load(product.coefficient, t * channels + v)
                store(gamma_slope, to, multiply_add(coefficient, found, load(gamma_slope, to)))


@compiled
def product_reverse(  # type: ignore[no-untyped-def]
    first, last, start, norm, y, degrees, w, w_at, stride, channels, product, x, matrices, out_slope,
    x_slope, w_slope, ws_at, ws_stride, y_back, adding, gamma_slope,
):  # fmt: skip
    """From ∂E/∂y set ∂E/∂x and ∂E/∂w.

    What ∂E/∂Y gets goes to y_back [pairs, lm, 16], lanes still to be summed; `adding` to what stands there.
    """
    base, n_entries, n_lm = start[first], len(product.feature), degrees * degrees
    zero = splat(w.dtype.type(0))
    for c in range(first, last):
        k0, k1, q0 = start[c] - base, start[c + 1] - base, start[c]
        if k0 == k1:
            continue
        here, there = k0 * product.d_in * channels, k0 * product.d_out * channels
        _matrices_reverse(product, channels, k1 - k0, x[here:], out_slope[there:], norm[c], gamma_slope)
        _multiply(
            matrices, (c - first) * n_entries * channels, channels, product.feature_start,
            product.entry_of_feature, product.output_of, k0, k1, out_slope, product.d_out, x_slope,
            product.d_in,
        )  # fmt: skip
        for k in range(k0, k1):
            at, to, q = k * stride + w_at, k * ws_stride + ws_at, (q0 + k - k0) * n_lm
            for l in range(degrees):
                for v in range(l * channels, (l + 1) * channels, LANES):
                    found, weight = zero, load(w, at + v)
                    for lm in range(l * l, (l + 1) * (l + 1)):
                        g = load(gamma_slope, lm * channels + v - l * channels)
                        found = multiply_add(spread(y, q + lm), g, found)
                        b = (k * n_lm + lm) * LANES
                        before = load(y_back, b) if adding or v > l * channels else zero
                        store(y_back, b, multiply_add(g, weight, before))
                    store(w_slope, to + v, found)
