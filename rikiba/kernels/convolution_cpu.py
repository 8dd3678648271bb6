"""Compiled pair convolution: A_i = Σ_j R·C(Y ⊗ h_j), its reverse sweep, and the derivative of that sweep.

R[q, p, c] = Σ_m w[q, m] t[row(q) + m, p, c]: a table of functions of distance with six weights a pair, or
with one tap, weight 1 and row(q) = q the values themselves (taps are 6 or 1). C·Y comes as `angular`,
[pairs, terms], terms of a coupling with m3 outside and m2 inside (only m3 = m2 where all others vanish).
Nothing of size pairs × channels × harmonics is stored. Arrays are flat, channels last, their number a
multiple of 32.

Each function works on the channels v0 … v1 − 1 alone. Sums over channels are written apart for each such
group, and groups do not depend on the number of threads: neither do the results.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, add, aligned, load, multiply, multiply_add, splat, spread, store, total

WIDE = 2 * LANES
"""Channels taken together."""


class Couplings(NamedTuple):
    """Where each coupling reads and writes; numbered as the radial functions."""

    feature: np.ndarray
    """First row of h."""
    d2: np.ndarray
    n3: np.ndarray
    """Outputs of each m2: all m3, or m3 = m2 alone where C·Y is diagonal."""
    shift: np.ndarray
    """1 where C·Y is diagonal: m2 starts at output m2; otherwise 0."""
    term: np.ndarray
    """First column of `angular`."""
    row: np.ndarray
    """Output row of m3 = 0 …"""
    step: np.ndarray
    """… and the distance to the next m3's."""


@inlined
def _six(weights, at):  # type: ignore[no-untyped-def]
    """The weights of a pair, each in all lanes."""
    return (
        spread(weights, at), spread(weights, at + 1), spread(weights, at + 2),
        spread(weights, at + 3), spread(weights, at + 4), spread(weights, at + 5),
    )  # fmt: skip


@inlined
def _dot(w, table, at, stride):  # type: ignore[no-untyped-def]
    x = multiply(w[0], load(table, at))
    x = multiply_add(w[1], load(table, at + stride), x)
    x = multiply_add(w[2], load(table, at + 2 * stride), x)
    x = multiply_add(w[3], load(table, at + 3 * stride), x)
    x = multiply_add(w[4], load(table, at + 4 * stride), x)
    return multiply_add(w[5], load(table, at + 5 * stride), x)


@inlined
def _accumulate(slope, at, w, x):  # type: ignore[no-untyped-def]
    store(slope, at, multiply_add(w, x, load(slope, at)))


@inlined
def _scatter(slope, at, stride, w, x):  # type: ignore[no-untyped-def]
    _accumulate(slope, at, w[0], x)
    _accumulate(slope, at + stride, w[1], x)
    _accumulate(slope, at + 2 * stride, w[2], x)
    _accumulate(slope, at + 3 * stride, w[3], x)
    _accumulate(slope, at + 4 * stride, w[4], x)
    _accumulate(slope, at + 5 * stride, w[5], x)


@inlined
def _scatter_both(slope, at, stride, w, x, dw, y):  # type: ignore[no-untyped-def]
    store(slope, at, multiply_add(dw[0], y, multiply_add(w[0], x, load(slope, at))))
    at += stride
    store(slope, at, multiply_add(dw[1], y, multiply_add(w[1], x, load(slope, at))))
    at += stride
    store(slope, at, multiply_add(dw[2], y, multiply_add(w[2], x, load(slope, at))))
    at += stride
    store(slope, at, multiply_add(dw[3], y, multiply_add(w[3], x, load(slope, at))))
    at += stride
    store(slope, at, multiply_add(dw[4], y, multiply_add(w[4], x, load(slope, at))))
    at += stride
    store(slope, at, multiply_add(dw[5], y, multiply_add(w[5], x, load(slope, at))))


@inlined
def _inner(x0, x1, table, at, sum_):  # type: ignore[no-untyped-def]
    """sum + x·table, lane by lane, of two vectors."""
    return multiply_add(x0, load(table, at), multiply_add(x1, load(table, at + LANES), sum_))


@compiled
def row_starts(i, start):  # type: ignore[no-untyped-def]
    """Offsets of each centre's pairs; False where the centres are not sorted."""
    n, q = len(start) - 1, 0
    for a in range(n):
        start[a] = q
        while q < len(i) and i[q] == a:
            q += 1
    start[n] = q
    return q == len(i)


@compiled
def convolution_forward(  # type: ignore[no-untyped-def]
    v0, v1, start, sender, row, weights, taps, table, angular, features, n_features, couplings, n_terms,
    n_rows, channels, out
):  # fmt: skip
    """A [centres, rows, channels]."""
    n_paths, width = len(couplings.d2), v1 - v0
    stride = n_paths * channels
    acc = aligned(n_rows * width, out)
    zero = splat(acc.dtype.type(0))
    w = (zero, zero, zero, zero, zero, zero)
    for a in range(len(start) - 1):
        for at in range(0, n_rows * width, LANES):
            store(acc, at, zero)
        for q in range(start[a], start[a + 1]):
            if taps == 6:
                w = _six(weights, 6 * q)
            for p in range(n_paths):
                d2, n3, shift = couplings.d2[p], couplings.n3[p], couplings.shift[p]
                step = couplings.step[p] * width
                t0 = q * n_terms + couplings.term[p]
                f = (sender[q] * n_features + couplings.feature[p]) * channels
                at = row[q] * stride + p * channels
                for v in range(v0, v1, WIDE):
                    if taps == 6:
                        r0, r1 = _dot(w, table, at + v, stride), _dot(w, table, at + v + LANES, stride)
                    else:
                        r0, r1 = load(table, at + v), load(table, at + v + LANES)
                    for m2 in range(d2):
                        h = f + m2 * channels + v
                        x0, x1 = multiply(r0, load(features, h)), multiply(r1, load(features, h + LANES))
                        k, t = couplings.row[p] * width + v - v0 + m2 * shift * step, t0 + m2
                        for _ in range(n3):
                            y = spread(angular, t)
                            _accumulate(acc, k, y, x0)
                            _accumulate(acc, k + LANES, y, x1)
                            k += step
                            t += d2
        for k in range(n_rows):
            to = (a * n_rows + k) * channels
            for v in range(v0, v1, LANES):
                store(out, to + v, load(acc, k * width + v - v0))


@compiled
def convolution_reverse(  # type: ignore[no-untyped-def]
    v0, v1, start, sender, row, weights, taps, table, angular, features, n_features, couplings, n_terms,
    n_rows, channels, cotangent, weight_slope, table_slope, angular_slope, feature_slope
):  # fmt: skip
    """From G = ∂E/∂A derivatives by w and angular (written), t and h (added); empty ones are not wanted."""
    n_paths = len(couplings.d2)
    stride = n_paths * channels
    by_weight, by_table = len(weight_slope) > 0, len(table_slope) > 0
    by_angular, by_feature = len(angular_slope) > 0, len(feature_slope) > 0
    sums = aligned(n_terms * LANES, cotangent)
    zero = splat(sums.dtype.type(0))
    w = (zero, zero, zero, zero, zero, zero)
    for a in range(len(start) - 1):
        for q in range(start[a], start[a + 1]):
            s0, s1, s2, s3, s4, s5 = zero, zero, zero, zero, zero, zero
            if by_angular:
                for t in range(n_terms):
                    store(sums, t * LANES, zero)
            if taps == 6:
                w = _six(weights, 6 * q)
            for p in range(n_paths):
                d2, n3, shift = couplings.d2[p], couplings.n3[p], couplings.shift[p]
                step = couplings.step[p] * channels
                term, t0 = couplings.term[p], q * n_terms
                f = (sender[q] * n_features + couplings.feature[p]) * channels
                g0 = (a * n_rows + couplings.row[p]) * channels
                at = row[q] * stride + p * channels
                for v in range(v0, v1, WIDE):
                    if taps == 6:
                        r0, r1 = _dot(w, table, at + v, stride), _dot(w, table, at + v + LANES, stride)
                    else:
                        r0, r1 = load(table, at + v), load(table, at + v + LANES)
                    u0, u1 = zero, zero
                    for m2 in range(d2):
                        to = f + m2 * channels + v
                        h0, h1 = load(features, to), load(features, to + LANES)
                        b0, b1 = zero, zero
                        k, t = g0 + v + m2 * shift * step, term + m2
                        if by_angular:
                            x0, x1 = multiply(r0, h0), multiply(r1, h1)
                            for _ in range(n3):
                                y, c0, c1 = (
                                    spread(angular, t0 + t),
                                    load(cotangent, k),
                                    load(cotangent, k + LANES),
                                )
                                b0, b1 = multiply_add(y, c0, b0), multiply_add(y, c1, b1)
                                both = multiply_add(c0, x0, multiply(c1, x1))
                                store(sums, t * LANES, add(both, load(sums, t * LANES)))
                                k += step
                                t += d2
                        else:
                            for _ in range(n3):
                                y = spread(angular, t0 + t)
                                b0 = multiply_add(y, load(cotangent, k), b0)
                                b1 = multiply_add(y, load(cotangent, k + LANES), b1)
                                k += step
                                t += d2
                        u0, u1 = multiply_add(b0, h0, u0), multiply_add(b1, h1, u1)
                        if by_feature:
                            _accumulate(feature_slope, to, r0, b0)
                            _accumulate(feature_slope, to + LANES, r1, b1)
                    at_v = at + v
                    if by_table:
                        if taps == 6:
                            _scatter(table_slope, at_v, stride, w, u0)
                            _scatter(table_slope, at_v + LANES, stride, w, u1)
                        else:
                            store(table_slope, at_v, u0)
                            store(table_slope, at_v + LANES, u1)
                    if by_weight:
                        s0 = _inner(u0, u1, table, at_v, s0)
                        s1 = _inner(u0, u1, table, at_v + stride, s1)
                        s2 = _inner(u0, u1, table, at_v + 2 * stride, s2)
                        s3 = _inner(u0, u1, table, at_v + 3 * stride, s3)
                        s4 = _inner(u0, u1, table, at_v + 4 * stride, s4)
                        s5 = _inner(u0, u1, table, at_v + 5 * stride, s5)
            if by_angular:
                for t in range(n_terms):
                    angular_slope[q * n_terms + t] = total(load(sums, t * LANES))
            if by_weight:
                to = 6 * q
                weight_slope[to], weight_slope[to + 1] = total(s0), total(s1)
                weight_slope[to + 2], weight_slope[to + 3] = total(s2), total(s3)
                weight_slope[to + 4], weight_slope[to + 5] = total(s4), total(s5)


@compiled
def convolution_second(  # type: ignore[no-untyped-def]
    v0, v1, start, sender, row, weights, taps, table, angular, features, n_features, couplings, n_terms,
    n_rows, channels, cotangent, weight_change, table_change, angular_change, feature_change,
    out, table_slope, feature_slope
):  # fmt: skip
    """The derivative of the reverse sweep: with dots for the directions given (none where an array is empty),

    Ȧ = dA (written), and added to the derivatives by t and h of Σ G·Ȧ; empty where not wanted.
    """
    n_paths, width = len(couplings.d2), v1 - v0
    stride = n_paths * channels
    weights_change, tables_change = len(weight_change) > 0, len(table_change) > 0
    angles_change, features_change = len(angular_change) > 0, len(feature_change) > 0
    by_out, by_table, by_feature = len(out) > 0, len(table_slope) > 0, len(feature_slope) > 0
    acc = aligned(n_rows * width, cotangent)
    zero = splat(acc.dtype.type(0))
    w = (zero, zero, zero, zero, zero, zero)
    dw = (zero, zero, zero, zero, zero, zero)
    for a in range(len(start) - 1):
        for at in range(0, n_rows * width, LANES):
            store(acc, at, zero)
        for q in range(start[a], start[a + 1]):
            if taps == 6:
                w = _six(weights, 6 * q)
                if weights_change:
                    dw = _six(weight_change, 6 * q)
            for p in range(n_paths):
                d2, n3, shift = couplings.d2[p], couplings.n3[p], couplings.shift[p]
                step, far = couplings.step[p] * width, couplings.step[p] * channels
                t0 = q * n_terms + couplings.term[p]
                f = (sender[q] * n_features + couplings.feature[p]) * channels
                g0 = (a * n_rows + couplings.row[p]) * channels
                at = row[q] * stride + p * channels
                for v in range(v0, v1, LANES):
                    dr = zero
                    if taps == 6:
                        r = _dot(w, table, at + v, stride)
                        if weights_change:
                            dr = _dot(dw, table, at + v, stride)
                        if tables_change:
                            dr = add(dr, _dot(w, table_change, at + v, stride))
                    else:
                        r = load(table, at + v)
                        if tables_change:
                            dr = load(table_change, at + v)
                    u, du = zero, zero
                    for m2 in range(d2):
                        to = f + m2 * channels + v
                        h, dh = load(features, to), zero
                        if features_change:
                            dh = load(feature_change, to)
                        x, dx = multiply(r, h), multiply_add(r, dh, multiply(dr, h))
                        b, db = zero, zero
                        k, t = couplings.row[p] * width + v - v0 + m2 * shift * step, t0 + m2
                        g = g0 + v + m2 * shift * far
                        if angles_change:
                            for _ in range(n3):
                                y, dy, c = spread(angular, t), spread(angular_change, t), load(cotangent, g)
                                b, db = multiply_add(y, c, b), multiply_add(dy, c, db)
                                store(acc, k, multiply_add(dy, x, multiply_add(y, dx, load(acc, k))))
                                k += step
                                g += far
                                t += d2
                        else:
                            for _ in range(n3):
                                y = spread(angular, t)
                                b = multiply_add(y, load(cotangent, g), b)
                                _accumulate(acc, k, y, dx)
                                k += step
                                g += far
                                t += d2
                        u = multiply_add(b, h, u)
                        du = multiply_add(db, h, multiply_add(b, dh, du))
                        if by_feature:
                            x = multiply_add(r, db, load(feature_slope, to))
                            store(feature_slope, to, multiply_add(dr, b, x))
                    if by_table:
                        if taps == 6:
                            _scatter_both(table_slope, at + v, stride, w, du, dw, u)
                        else:
                            store(table_slope, at + v, du)
        if by_out:
            for k in range(n_rows):
                to = (a * n_rows + k) * channels
                for v in range(v0, v1, LANES):
                    store(out, to + v, load(acc, k * width + v - v0))
