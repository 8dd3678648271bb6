"""Compiled messages A_i = n_i Σ_j R(r_ij)·[Y(r̂_ij) ⊗ h_j] and their reverse sweep; R from a spline table.

Nothing of size pairs × channels is stored: R is evaluated in registers from its coefficients, in the reverse
sweep again. Arrays are flat, channels last, their number a multiple of 32.

Packed layout of equivariant features: blocks [atoms, width, channels] one after another; `Rows` says for each
row of an atom its block's first row, its block's width and its place in the block.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, add, aligned, load, multiply, multiply_add, splat, spread, store, total

_TILE = 4


class Paths(NamedTuple):
    """Couplings (l1, l2) → l3 of a layer; terms are numbered path by path, m2 outside, m3 inside."""

    feature: np.ndarray
    """First row of h."""
    d2: np.ndarray
    row: np.ndarray
    """First row of A, in path order."""
    d3: np.ndarray
    term: np.ndarray
    """First term."""


class Rows(NamedTuple):
    """Where each row of an atom stands in a packed array."""

    start: np.ndarray
    width: np.ndarray
    inner: np.ndarray


@inlined
def _value(table, at, stride, weights, k):  # type: ignore[no-untyped-def]
    value = multiply(spread(weights, k), load(table, at))
    for m in range(1, 6):
        value = multiply_add(spread(weights, k + m), load(table, at + m * stride), value)
    return value


@inlined
def _both(table, at, stride, weights, k):  # type: ignore[no-untyped-def]
    c = load(table, at)
    value, slope = multiply(spread(weights, k), c), multiply(spread(weights, k + 6), c)
    for m in range(1, 6):
        c = load(table, at + m * stride)
        value = multiply_add(spread(weights, k + m), c, value)
        slope = multiply_add(spread(weights, k + m + 6), c, slope)
    return value, slope


@compiled
def message_forward(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, features, n_senders, angular, q0,
    paths, rows, channels, norm, out
):  # fmt: skip
    """Fill the packed A of centres first … last − 1.

    `row` and `weights` [pairs·12] address the table [rows·paths·channels]; `angular`
    [pairs from q0 on, terms] couples Y; `norm` is n_i, or empty for 1.
    """
    n_paths, n_rows = len(paths.d3), len(rows.start)
    n_terms = paths.term[-1] + paths.d2[-1] * paths.d3[-1]
    stride = n_paths * channels
    acc = aligned(n_rows * channels, out)
    tau = np.zeros(_TILE * n_terms, out.dtype)
    zero = splat(acc.dtype.type(0))
    count = last - first
    for a in range(first, last):
        for at in range(0, n_rows * channels, LANES):
            store(acc, at, zero)
        end = start[a + 1]
        for tile in range(start[a], end, _TILE):
            p0 = tile
            p1, p2, p3 = min(tile + 1, end - 1), min(tile + 2, end - 1), min(tile + 3, end - 1)
            for n in range(_TILE):
                for t in range(n_terms):
                    inside = tile + n < end
                    tau[n * n_terms + t] = angular[(tile + n - q0) * n_terms + t] if inside else 0.0
            t0, t1, t2, t3 = (row[p0] * stride, row[p1] * stride, row[p2] * stride, row[p3] * stride)
            for p in range(n_paths):
                d2, d3, at_row, at_term = paths.d2[p], paths.d3[p], paths.row[p] * channels, paths.term[p]
                base = paths.feature[p] * n_senders
                f0, f1 = (base + sender[p0] * d2) * channels, (base + sender[p1] * d2) * channels
                f2, f3 = (base + sender[p2] * d2) * channels, (base + sender[p3] * d2) * channels
                for v in range(0, channels, LANES):
                    at = p * channels + v
                    r0 = _value(table, t0 + at, stride, weights, p0 * 12)
                    r1 = _value(table, t1 + at, stride, weights, p1 * 12)
                    r2 = _value(table, t2 + at, stride, weights, p2 * 12)
                    r3 = _value(table, t3 + at, stride, weights, p3 * 12)
                    for m2 in range(d2):
                        at = m2 * channels + v
                        m0 = multiply(r0, load(features, f0 + at))
                        m1 = multiply(r1, load(features, f1 + at))
                        w2 = multiply(r2, load(features, f2 + at))
                        w3 = multiply(r3, load(features, f3 + at))
                        t, k = at_term + m2 * d3, at_row + v
                        for _ in range(d3):
                            x = multiply_add(spread(tau, t), m0, load(acc, k))
                            x = multiply_add(spread(tau, t + n_terms), m1, x)
                            x = multiply_add(spread(tau, t + 2 * n_terms), w2, x)
                            store(acc, k, multiply_add(spread(tau, t + 3 * n_terms), w3, x))
                            t += 1
                            k += channels
        factor = splat(norm[a] if len(norm) else acc.dtype.type(1))
        for k in range(n_rows):
            to = (rows.start[k] * count + (a - first) * rows.width[k] + rows.inner[k]) * channels
            for v in range(0, channels, LANES):
                store(out, to + v, multiply(factor, load(acc, k * channels + v)))


@compiled
def message_reverse(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, features, n_senders, angular, q0,
    paths, rows, channels, norm, cotangent, slope, angular_slope, feature_slope
):  # fmt: skip
    """From `cotangent` = ∂E/∂A (packed) add to ∂E/∂r per pair, ∂E/∂(angular) and, unless empty, ∂E/∂h."""
    n_paths, n_rows = len(paths.d3), len(rows.start)
    n_terms = paths.term[-1] + paths.d2[-1] * paths.d3[-1]
    stride = n_paths * channels
    g = aligned(n_rows * channels, cotangent)
    sums = aligned(n_terms * LANES, cotangent)
    zero = splat(g.dtype.type(0))
    count = last - first
    wanted = len(feature_slope) > 0
    for a in range(first, last):
        factor = splat(norm[a] if len(norm) else g.dtype.type(1))
        for k in range(n_rows):
            to = (rows.start[k] * count + (a - first) * rows.width[k] + rows.inner[k]) * channels
            for v in range(0, channels, LANES):
                store(g, k * channels + v, multiply(factor, load(cotangent, to + v)))
        for q in range(start[a], start[a + 1]):
            for t in range(n_terms):
                store(sums, t * LANES, zero)
            radial = zero
            local = (q - q0) * n_terms
            for p in range(n_paths):
                d2, d3, at_row, at_term = paths.d2[p], paths.d3[p], paths.row[p] * channels, paths.term[p]
                f = (paths.feature[p] * n_senders + sender[q] * d2) * channels
                at = row[q] * stride + p * channels
                for v in range(0, channels, 2 * LANES):
                    r0, s0 = _both(table, at + v, stride, weights, q * 12)
                    r1, s1 = _both(table, at + v + LANES, stride, weights, q * 12)
                    for m2 in range(d2):
                        to = f + m2 * channels + v
                        h0, h1 = load(features, to), load(features, to + LANES)
                        f0, f1 = multiply(r0, h0), multiply(r1, h1)
                        b0, b1 = zero, zero
                        t, k = at_term + m2 * d3, at_row + v
                        for _ in range(d3):
                            y = spread(angular, local + t)
                            x0, x1 = load(g, k), load(g, k + LANES)
                            b0, b1 = multiply_add(y, x0, b0), multiply_add(y, x1, b1)
                            both = multiply_add(x0, f0, multiply(x1, f1))
                            store(sums, t * LANES, add(both, load(sums, t * LANES)))
                            t += 1
                            k += channels
                        radial = multiply_add(multiply(s0, h0), b0, radial)
                        radial = multiply_add(multiply(s1, h1), b1, radial)
                        if wanted:
                            store(feature_slope, to, multiply_add(r0, b0, load(feature_slope, to)))
                            to += LANES
                            store(feature_slope, to, multiply_add(r1, b1, load(feature_slope, to)))
            slope[q] += total(radial)
            for t in range(n_terms):
                angular_slope[local + t] += total(load(sums, t * LANES))
