"""Compiled products of features of pairs with the surroundings of their centre, channel by channel.

For every centre i with pairs ij:

    Γ_i[b] = n_i Σ_j w_ij[l of b] Y_ij[b]
    M_i[o, a] = Σ_t c_t Γ_i[b_t]  over the terms t of (o, a), c_t a coefficient times the weight of a path
    y_ij[o] = Σ_a M_i[o, a] x_ij[a]

M is made once for each centre, so that a pair costs one small matrix product per channel. Arrays are flat,
channels last, their number a multiple of 16: x [pairs, d_x, channels], w [pairs, degrees, channels] (w a part
of longer rows), Γ and M of one centre at a time, M kept for the reverse sweep.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, add, aligned, load, multiply, multiply_add, splat, splat_as, spread, store, total


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
def table_values(row, weights, table, width, first, last, out):  # type: ignore[no-untyped-def]
    """Splines of pairs first … last − 1: out [pairs, width]; `weights` has six of value and six of slope."""
    for q in range(first, last):
        at, k, to = row[q] * width, 12 * q, (q - first) * width
        w0, w1, w2 = spread(weights, k), spread(weights, k + 1), spread(weights, k + 2)
        w3, w4, w5 = spread(weights, k + 3), spread(weights, k + 4), spread(weights, k + 5)
        for v in range(0, width, LANES):
            t = at + v
            x = multiply(w0, load(table, t))
            y = multiply(w1, load(table, t + width))
            x = multiply_add(w2, load(table, t + 2 * width), x)
            y = multiply_add(w3, load(table, t + 3 * width), y)
            x = multiply_add(w4, load(table, t + 4 * width), x)
            y = multiply_add(w5, load(table, t + 5 * width), y)
            store(out, to + v, add(x, y))


@compiled
def table_reverse(row, weights, table, width, first, last, gradient, slope):  # type: ignore[no-untyped-def]
    """Add Σ_v g_v R′_v to the slope of each pair."""
    zero = splat(table.dtype.type(0))
    for q in range(first, last):
        at, k, to = row[q] * width, 12 * q + 6, (q - first) * width
        w0, w1, w2 = spread(weights, k), spread(weights, k + 1), spread(weights, k + 2)
        w3, w4, w5 = spread(weights, k + 3), spread(weights, k + 4), spread(weights, k + 5)
        found = zero
        for v in range(0, width, LANES):
            t = at + v
            x = multiply(w0, load(table, t))
            y = multiply(w1, load(table, t + width))
            x = multiply_add(w2, load(table, t + 2 * width), x)
            y = multiply_add(w3, load(table, t + 3 * width), y)
            x = multiply_add(w4, load(table, t + 4 * width), x)
            y = multiply_add(w5, load(table, t + 5 * width), y)
            found = multiply_add(load(gradient, to + v), add(x, y), found)
        slope[q] += total(found)


@compiled
def weighted_harmonics(  # type: ignore[no-untyped-def]
    y, n_lm, degree, w, stride, channels, first, last, out
):
    """out[pair, lm] = w[pair, l of lm] Y[pair, lm]; w begins each row of `stride` numbers."""
    for q in range(first, last):
        for lm in range(n_lm):
            factor = spread(y, q * n_lm + lm)
            at, to = (q - first) * stride + degree[lm] * channels, ((q - first) * n_lm + lm) * channels
            for v in range(0, channels, LANES):
                store(out, to + v, multiply(factor, load(w, at + v)))


@compiled
def weighted_harmonics_reverse(  # type: ignore[no-untyped-def]
    y, n_lm, degree, w, stride, channels, first, last, gradient, w_slope, y_slope
):
    """Set ∂E/∂w (in rows like w's) and add to ∂E/∂Y."""
    zero = splat(w.dtype.type(0))
    for q in range(first, last):
        at = (q - first) * stride
        _set_zero(w_slope, at, (degree[n_lm - 1] + 1) * channels)
        for lm in range(n_lm):
            here, to = ((q - first) * n_lm + lm) * channels, at + degree[lm] * channels
            factor, found = spread(y, q * n_lm + lm), zero
            for v in range(0, channels, LANES):
                g = load(gradient, here + v)
                store(w_slope, to + v, multiply_add(factor, g, load(w_slope, to + v)))
                found = multiply_add(g, load(w, to + v), found)
            y_slope[q * n_lm + lm] += total(found)


@inlined
def _set_zero(x, at, n):  # type: ignore[no-untyped-def]
    zero = splat(x.dtype.type(0))
    for v in range(at, at + n, LANES):
        store(x, v, zero)


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
def product_forward(  # type: ignore[no-untyped-def]
    first, last, start, norm, y, n_lm, degree, w, w_at, stride, channels, product, x, matrices, out
):
    """M of centres first … last − 1 and the products of their pairs.

    Arrays of pairs begin at the first centre's first pair, y excepted.
    """
    base, n_entries = start[first], len(product.feature)
    gamma = aligned(n_lm * channels, w)
    zero = splat(w.dtype.type(0))
    for c in range(first, last):
        q0, q1 = start[c], start[c + 1]
        if q0 == q1:
            continue
        for lm in range(n_lm):
            column = w_at + degree[lm] * channels
            for v in range(0, channels, LANES):
                found = zero
                for q in range(q0, q1):
                    found = multiply_add(
                        spread(y, q * n_lm + lm), load(w, (q - base) * stride + column + v), found
                    )
                store(gamma, lm * channels + v, multiply(found, splat_as(found, norm[c])))
        m0 = (c - first) * n_entries * channels
        for e in range(n_entries):
            for v in range(0, channels, LANES):
                found = zero
                for t in range(product.term[e], product.term[e + 1]):
                    found = multiply_add(
                        load(product.coefficient, t * channels + v),
                        load(gamma, product.surrounding[t] * channels + v),
                        found,
                    )
                store(matrices, m0 + e * channels + v, found)
        _multiply(
            matrices, m0, channels, product.output, product.entry, product.feature, q0 - base, q1 - base,
            x, product.d_in, out, product.d_out,
        )  # fmt: skip


@compiled
def product_reverse(  # type: ignore[no-untyped-def]
    first, last, start, norm, y, n_lm, degree, w, w_at, stride, channels, product, x, matrices, out_slope,
    x_slope, w_slope, ws_at, ws_stride, y_slope,
):  # fmt: skip
    """From ∂E/∂y set ∂E/∂x and ∂E/∂w and add to ∂E/∂Y."""
    base, n_entries, n_degrees = start[first], len(product.feature), degree[n_lm - 1] + 1
    gamma_slope, matrix_slope = aligned(n_lm * channels, w), aligned(n_entries * channels, w)
    zero = splat(w.dtype.type(0))
    for c in range(first, last):
        q0, q1 = start[c], start[c + 1]
        if q0 == q1:
            continue
        m0 = (c - first) * n_entries * channels
        for e in range(n_entries):
            from_x, from_y = product.feature[e] * channels, product.output_of[e] * channels
            for v in range(0, channels, LANES):
                found = zero
                for q in range(q0 - base, q1 - base):
                    found = multiply_add(
                        load(x, q * product.d_in * channels + from_x + v),
                        load(out_slope, q * product.d_out * channels + from_y + v),
                        found,
                    )
                store(matrix_slope, e * channels + v, found)
        _set_zero(gamma_slope, 0, n_lm * channels)
        for e in range(n_entries):
            for t in range(product.term[e], product.term[e + 1]):
                for v in range(0, channels, LANES):
                    to = product.surrounding[t] * channels + v
                    store(
                        gamma_slope,
                        to,
                        multiply_add(
                            load(product.coefficient, t * channels + v),
                            load(matrix_slope, e * channels + v),
                            load(gamma_slope, to),
                        ),
                    )
        for v in range(0, n_lm * channels, LANES):
            g = load(gamma_slope, v)
            store(gamma_slope, v, multiply(g, splat_as(g, norm[c])))
        _multiply(
            matrices, m0, channels, product.feature_start, product.entry_of_feature, product.output_of,
            q0 - base, q1 - base, out_slope, product.d_out, x_slope, product.d_in,
        )  # fmt: skip
        for q in range(q0, q1):
            at, to = (q - base) * stride + w_at, (q - base) * ws_stride + ws_at
            _set_zero(w_slope, to, n_degrees * channels)
            for lm in range(n_lm):
                column, found = degree[lm] * channels, zero
                factor = spread(y, q * n_lm + lm)
                for v in range(0, channels, LANES):
                    g = load(gamma_slope, lm * channels + v)
                    here = to + column + v
                    store(w_slope, here, multiply_add(factor, g, load(w_slope, here)))
                    found = multiply_add(g, load(w, at + column + v), found)
                y_slope[q * n_lm + lm] += total(found)
