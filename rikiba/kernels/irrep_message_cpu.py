"""Compiled messages A_i = Σ_j R(r_ij)·[Y(r̂_ij) ⊗ h_j] between features of several numbers of channels.

As `message_cpu`, for any representations: every coupling has its own number of channels, and only components
that couple are visited. R is summed from its spline for one pair at a time, nothing of size pairs × channels
is stored. Arrays are flat, channels last, their numbers multiples of 32.

Packed features: blocks [atoms, components, channels] one after another, one for each representation.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, add, aligned, load, multiply, multiply_add, splat, spread, store, total

_TILE = 4


class Couplings(NamedTuple):
    """The couplings of a layer and their terms (m2, m3), in the order coupling, m2, m3."""

    feature: np.ndarray
    """Of each coupling: numbers per sender before the block of features that it reads …"""
    d2: np.ndarray
    """… the components of that block …"""
    channels: np.ndarray
    """… and its channels …"""
    column: np.ndarray
    """… its first column of R …"""
    line: np.ndarray
    """… and the place of its first component in `term`."""
    term: np.ndarray
    """Of each coupling and m2: the first term (one more entry: the number of terms)."""
    target: np.ndarray
    """Of each term: where its row of the centre's messages starts."""
    matrix: np.ndarray
    """Coefficients [harmonics, terms], terms padded to a multiple of 16, flat."""
    entry: np.ndarray
    """Of each harmonic: its first nonzero coefficient (one more entry: their number) …"""
    of_term: np.ndarray
    """… the terms of these …"""
    coefficient: np.ndarray
    """… and they themselves."""


class Places(NamedTuple):
    """Where the rows of a centre's messages stand in a packed array."""

    at: np.ndarray
    """Where the row starts among the centre's messages …"""
    channels: np.ndarray
    """… its length …"""
    block: np.ndarray
    """… numbers per atom before its block …"""
    width: np.ndarray
    """… numbers per atom in its block …"""
    inner: np.ndarray
    """… and its place in the block."""


@inlined
def _values(table, at, stride, weights, k, out, to):  # type: ignore[no-untyped-def]
    """R of one pair, all columns."""
    w0, w1, w2 = spread(weights, k), spread(weights, k + 1), spread(weights, k + 2)
    w3, w4, w5 = spread(weights, k + 3), spread(weights, k + 4), spread(weights, k + 5)
    for v in range(0, stride, LANES):
        t = at + v
        x = multiply(w0, load(table, t))
        y = multiply(w1, load(table, t + stride))
        x = multiply_add(w2, load(table, t + 2 * stride), x)
        y = multiply_add(w3, load(table, t + 3 * stride), y)
        x = multiply_add(w4, load(table, t + 4 * stride), x)
        y = multiply_add(w5, load(table, t + 5 * stride), y)
        store(out, to + v, add(x, y))


@inlined
def _values_and_slopes(table, at, stride, weights, k, out):  # type: ignore[no-untyped-def]
    """R and R′ of one pair, all columns of the one and then of the other."""
    w0, w1, w2 = spread(weights, k), spread(weights, k + 1), spread(weights, k + 2)
    w3, w4, w5 = spread(weights, k + 3), spread(weights, k + 4), spread(weights, k + 5)
    s0, s1, s2 = spread(weights, k + 6), spread(weights, k + 7), spread(weights, k + 8)
    s3, s4, s5 = spread(weights, k + 9), spread(weights, k + 10), spread(weights, k + 11)
    for v in range(0, stride, LANES):
        t = at + v
        c0, c1 = load(table, t), load(table, t + stride)
        x, dx = multiply(w0, c0), multiply(s0, c0)
        y, dy = multiply(w1, c1), multiply(s1, c1)
        c0, c1 = load(table, t + 2 * stride), load(table, t + 3 * stride)
        x, dx = multiply_add(w2, c0, x), multiply_add(s2, c0, dx)
        y, dy = multiply_add(w3, c1, y), multiply_add(s3, c1, dy)
        c0, c1 = load(table, t + 4 * stride), load(table, t + 5 * stride)
        x, dx = multiply_add(w4, c0, x), multiply_add(s4, c0, dx)
        y, dy = multiply_add(w5, c1, y), multiply_add(s5, c1, dy)
        store(out, v, add(x, y))
        store(out, stride + v, add(dx, dy))


@inlined
def _terms(harmonics, at, n_lm, matrix, n_terms, out, to):  # type: ignore[no-untyped-def]
    """The angular factor of every term for one pair."""
    for t in range(0, n_terms, LANES):
        x = multiply(spread(harmonics, at), load(matrix, t))
        for k in range(1, n_lm):
            x = multiply_add(spread(harmonics, at + k), load(matrix, k * n_terms + t), x)
        store(out, to + t, x)


@compiled
def irrep_message_forward(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, stride, features, n_senders, harmonics, n_lm,
    couplings, places, out, origin, count
):  # fmt: skip
    """Fill the packed A [count atoms from `origin` on] of centres first … last − 1.

    `row` and `weights` [pairs·12] address the table [rows·stride]; `harmonics` is [pairs·n_lm].
    """
    n_terms = len(couplings.matrix) // n_lm
    size = 0
    for k in range(len(places.at)):
        size = max(size, places.at[k] + places.channels[k])
    acc = aligned(size, out)
    radial = aligned(_TILE * stride, out)
    tau = aligned(_TILE * n_terms, out)
    zero = splat(acc.dtype.type(0))
    n_paths = len(couplings.feature)
    for a in range(first, last):
        for at in range(0, size, LANES):
            store(acc, at, zero)
        end = start[a + 1]
        for tile in range(start[a], end, _TILE):
            p0 = tile
            p1, p2, p3 = min(tile + 1, end - 1), min(tile + 2, end - 1), min(tile + 3, end - 1)
            for n in range(_TILE):
                if tile + n < end:
                    q = tile + n
                    _values(table, row[q] * stride, stride, weights, q * 12, radial, n * stride)
                    _terms(harmonics, q * n_lm, n_lm, couplings.matrix, n_terms, tau, n * n_terms)
                else:
                    for at in range(0, stride, LANES):
                        store(radial, n * stride + at, zero)
                    for at in range(0, n_terms, LANES):
                        store(tau, n * n_terms + at, zero)
            for p in range(n_paths):
                d2, channels, column = couplings.d2[p], couplings.channels[p], couplings.column[p]
                base, size2, line = couplings.feature[p] * n_senders, d2 * channels, couplings.line[p]
                f0, f1 = base + sender[p0] * size2, base + sender[p1] * size2
                f2, f3 = base + sender[p2] * size2, base + sender[p3] * size2
                for v in range(0, channels, LANES):
                    r0, r1 = load(radial, column + v), load(radial, column + stride + v)
                    r2, r3 = load(radial, column + 2 * stride + v), load(radial, column + 3 * stride + v)
                    for m2 in range(d2):
                        at = m2 * channels + v
                        m0, m1 = multiply(r0, load(features, f0 + at)), multiply(r1, load(features, f1 + at))
                        w2, w3 = multiply(r2, load(features, f2 + at)), multiply(r3, load(features, f3 + at))
                        for t in range(couplings.term[line + m2], couplings.term[line + m2 + 1]):
                            k = couplings.target[t] + v
                            x = multiply_add(spread(tau, t), m0, load(acc, k))
                            x = multiply_add(spread(tau, t + n_terms), m1, x)
                            x = multiply_add(spread(tau, t + 2 * n_terms), w2, x)
                            store(acc, k, multiply_add(spread(tau, t + 3 * n_terms), w3, x))
        for k in range(len(places.at)):
            to = places.block[k] * count + (a - origin) * places.width[k] + places.inner[k]
            at = places.at[k]
            for v in range(0, places.channels[k], LANES):
                store(out, to + v, load(acc, at + v))


@compiled
def irrep_message_reverse(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, stride, features, n_senders, harmonics, n_lm,
    couplings, places, cotangent, origin, count, slope, harmonics_slope, feature_slope
):  # fmt: skip
    """From `cotangent` = ∂E/∂A (packed) add to ∂E/∂r and ∂E/∂Y of the pairs and, unless empty, ∂E/∂h."""
    n_terms = len(couplings.matrix) // n_lm
    size = 0
    for k in range(len(places.at)):
        size = max(size, places.at[k] + places.channels[k])
    g = aligned(size, cotangent)
    both = aligned(2 * stride, cotangent)
    tau = aligned(n_terms, cotangent)
    sums = aligned(n_terms * LANES, cotangent)
    zero = splat(g.dtype.type(0))
    wanted = len(feature_slope) > 0
    n_paths, used = len(couplings.feature), couplings.term[-1]
    for a in range(first, last):
        for k in range(len(places.at)):
            to = places.block[k] * count + (a - origin) * places.width[k] + places.inner[k]
            at = places.at[k]
            for v in range(0, places.channels[k], LANES):
                store(g, at + v, load(cotangent, to + v))
        for q in range(start[a], start[a + 1]):
            _values_and_slopes(table, row[q] * stride, stride, weights, q * 12, both)
            _terms(harmonics, q * n_lm, n_lm, couplings.matrix, n_terms, tau, 0)
            for t in range(used):
                store(sums, t * LANES, zero)
            radial = zero
            for p in range(n_paths):
                d2, channels, column = couplings.d2[p], couplings.channels[p], couplings.column[p]
                line = couplings.line[p]
                f = couplings.feature[p] * n_senders + sender[q] * d2 * channels
                for v in range(0, channels, 2 * LANES):
                    at = column + v
                    r0, r1 = load(both, at), load(both, at + LANES)
                    s0, s1 = load(both, at + stride), load(both, at + stride + LANES)
                    for m2 in range(d2):
                        to = f + m2 * channels + v
                        h0, h1 = load(features, to), load(features, to + LANES)
                        f0, f1 = multiply(r0, h0), multiply(r1, h1)
                        b0, b1 = zero, zero
                        for t in range(couplings.term[line + m2], couplings.term[line + m2 + 1]):
                            k = couplings.target[t] + v
                            y = spread(tau, t)
                            x0, x1 = load(g, k), load(g, k + LANES)
                            b0, b1 = multiply_add(y, x0, b0), multiply_add(y, x1, b1)
                            x0 = multiply_add(x0, f0, load(sums, t * LANES))
                            store(sums, t * LANES, multiply_add(x1, f1, x0))
                        radial = multiply_add(multiply(s0, h0), b0, radial)
                        radial = multiply_add(multiply(s1, h1), b1, radial)
                        if wanted:
                            store(feature_slope, to, multiply_add(r0, b0, load(feature_slope, to)))
                            to += LANES
                            store(feature_slope, to, multiply_add(r1, b1, load(feature_slope, to)))
            slope[q] += total(radial)
            for k in range(1, n_lm):  # Y_0 is constant
                x = zero
                for e in range(couplings.entry[k], couplings.entry[k + 1]):
                    x = multiply_add(
                        spread(couplings.coefficient, e), load(sums, couplings.of_term[e] * LANES), x
                    )
                harmonics_slope[q * n_lm + k] += total(x)
