"""Compiled pair convolution: A_i = Σ_j R·C(Y ⊗ h_j), its reverse sweep, and the derivative of that sweep.

R[q, p, c] = Σ_m w[q, m] t[row(q) + m, p, c]: a table of functions of distance with `taps` weights a pair, or
with one tap, weight 1 and row(q) = q the values themselves. C·Y comes as `angular`, [pairs, terms], terms of a
coupling with m3 outside and m2 inside. Nothing of size pairs × channels × harmonics is stored. Arrays are
flat, channels last, their number a multiple of 16.

Each function works on the channels v0 … v1 − 1 alone. Sums over channels are written apart for each such
group, and groups do not depend on the number of threads: neither do the results.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, add, aligned, load, multiply, multiply_add, splat, spread, store, total


class Couplings(NamedTuple):
    """Where each coupling reads and writes; numbered as the radial functions."""

    feature: np.ndarray
    """First row of h."""
    d2: np.ndarray
    d3: np.ndarray
    term: np.ndarray
    """First column of `angular`."""
    row: np.ndarray
    """Output row of m3 = 0 …"""
    step: np.ndarray
    """… and the distance to the next m3's."""


@inlined
def _radial(table, at, stride, weights, w, taps):  # type: ignore[no-untyped-def]
    value = multiply(spread(weights, w), load(table, at))
    for m in range(1, taps):
        value = multiply_add(spread(weights, w + m), load(table, at + m * stride), value)
    return value


@inlined
def _scatter(slope, at, stride, weights, w, taps, x):  # type: ignore[no-untyped-def]
    for m in range(taps):
        to = at + m * stride
        store(slope, to, multiply_add(spread(weights, w + m), x, load(slope, to)))


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
    for a in range(len(start) - 1):
        for at in range(0, n_rows * width, LANES):
            store(acc, at, zero)
        for q in range(start[a], start[a + 1]):
            for p in range(n_paths):
                d2, d3 = couplings.d2[p], couplings.d3[p]
                step = couplings.step[p] * width
                t0 = q * n_terms + couplings.term[p]
                f = (sender[q] * n_features + couplings.feature[p]) * channels
                at = row[q] * stride + p * channels
                for v in range(v0, v1, LANES):
                    r = _radial(table, at + v, stride, weights, q * taps, taps)
                    for m2 in range(d2):
                        x = multiply(r, load(features, f + m2 * channels + v))
                        k, t = couplings.row[p] * width + v - v0, t0 + m2
                        for _ in range(d3):
                            store(acc, k, multiply_add(spread(angular, t), x, load(acc, k)))
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
    """From G = ∂E/∂A add to the derivatives by w, t, angular and h; an empty array is not wanted.

    An argument whose derivative is the only one wanted is not read.
    """
    n_paths = len(couplings.d2)
    stride = n_paths * channels
    by_weight, by_table = len(weight_slope) > 0, len(table_slope) > 0
    by_angular, by_feature = len(angular_slope) > 0, len(feature_slope) > 0
    sums = aligned(n_terms * LANES, cotangent)
    tap = aligned(taps * LANES, cotangent)
    zero = splat(sums.dtype.type(0))
    for a in range(len(start) - 1):
        for q in range(start[a], start[a + 1]):
            for t in range(n_terms):
                store(sums, t * LANES, zero)
            for m in range(taps):
                store(tap, m * LANES, zero)
            for p in range(n_paths):
                d2, d3 = couplings.d2[p], couplings.d3[p]
                step = couplings.step[p] * channels
                term = couplings.term[p]
                f = (sender[q] * n_features + couplings.feature[p]) * channels
                g0 = (a * n_rows + couplings.row[p]) * channels
                at = row[q] * stride + p * channels
                for v in range(v0, v1, LANES):
                    r, u = zero, zero
                    if by_angular or by_feature:
                        r = _radial(table, at + v, stride, weights, q * taps, taps)
                    for m2 in range(d2):
                        to = f + m2 * channels + v
                        h = zero
                        if by_angular or by_table or by_weight:
                            h = load(features, to)
                        x, b = multiply(r, h), zero
                        k, t = g0 + v, term + m2
                        if by_angular:
                            for _ in range(d3):
                                s = t * LANES
                                store(sums, s, multiply_add(load(cotangent, k), x, load(sums, s)))
                                k += step
                                t += d2
                        if by_feature or by_table or by_weight:
                            k, t = g0 + v, q * n_terms + term + m2
                            for _ in range(d3):
                                b = multiply_add(spread(angular, t), load(cotangent, k), b)
                                k += step
                                t += d2
                        u = multiply_add(b, h, u)
                        if by_feature:
                            store(feature_slope, to, multiply_add(r, b, load(feature_slope, to)))
                    if by_table:
                        _scatter(table_slope, at + v, stride, weights, q * taps, taps, u)
                    if by_weight:
                        for m in range(taps):
                            s = m * LANES
                            store(tap, s, multiply_add(load(table, at + v + m * stride), u, load(tap, s)))
            if by_angular:
                for t in range(n_terms):
                    angular_slope[q * n_terms + t] = total(load(sums, t * LANES))
            if by_weight:
                for m in range(taps):
                    weight_slope[q * taps + m] = total(load(tap, m * LANES))


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
    for a in range(len(start) - 1):
        for at in range(0, n_rows * width, LANES):
            store(acc, at, zero)
        for q in range(start[a], start[a + 1]):
            for p in range(n_paths):
                d2, d3 = couplings.d2[p], couplings.d3[p]
                step, far = couplings.step[p] * width, couplings.step[p] * channels
                t0 = q * n_terms + couplings.term[p]
                f = (sender[q] * n_features + couplings.feature[p]) * channels
                g0 = (a * n_rows + couplings.row[p]) * channels
                at = row[q] * stride + p * channels
                for v in range(v0, v1, LANES):
                    r, dr = _radial(table, at + v, stride, weights, q * taps, taps), zero
                    if weights_change:
                        dr = _radial(table, at + v, stride, weight_change, q * taps, taps)
                    if tables_change:
                        dr = add(dr, _radial(table_change, at + v, stride, weights, q * taps, taps))
                    u, du = zero, zero
                    for m2 in range(d2):
                        to = f + m2 * channels + v
                        h, dh = load(features, to), zero
                        if features_change:
                            dh = load(feature_change, to)
                        x, dx = multiply(r, h), multiply_add(r, dh, multiply(dr, h))
                        b, db = zero, zero
                        k, t, g = couplings.row[p] * width + v - v0, t0 + m2, g0 + v
                        if angles_change:
                            for _ in range(d3):
                                y, dy, c = spread(angular, t), spread(angular_change, t), load(cotangent, g)
                                b, db = multiply_add(y, c, b), multiply_add(dy, c, db)
                                store(acc, k, multiply_add(dy, x, multiply_add(y, dx, load(acc, k))))
                                k += step
                                g += far
                                t += d2
                        else:
                            for _ in range(d3):
                                y = spread(angular, t)
                                b = multiply_add(y, load(cotangent, g), b)
                                store(acc, k, multiply_add(y, dx, load(acc, k)))
                                k += step
                                g += far
                                t += d2
                        u = multiply_add(b, h, u)
                        du = multiply_add(db, h, multiply_add(b, dh, du))
                        if by_feature:
                            x = multiply_add(r, db, load(feature_slope, to))
                            store(feature_slope, to, multiply_add(dr, b, x))
                    if by_table:
                        _scatter(table_slope, at + v, stride, weights, q * taps, taps, du)
                        if weights_change:
                            _scatter(table_slope, at + v, stride, weight_change, q * taps, taps, u)
        if by_out:
            for k in range(n_rows):
                to = (a * n_rows + k) * channels
                for v in range(v0, v1, LANES):
                    store(out, to + v, load(acc, k * width + v - v0))
