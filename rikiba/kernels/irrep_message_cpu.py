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
    """The couplings of a layer, line by line, and their terms (m2, m3).

    A line is one component m2 of the features and at most four components m3 of the message.
    """

    feature: np.ndarray
    """Of each line: numbers per sender before the block of features that it reads …"""
    size: np.ndarray
    """… numbers per sender in this block …"""
    shift: np.ndarray
    """… the component's place in it …"""
    channels: np.ndarray
    """… and its channels …"""
    column: np.ndarray
    """… its first column of R …"""
    term: np.ndarray
    """… and its first term (one more entry: the number of terms)."""
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


MOST_TERMS = 4
"""Of a line."""


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


@inlined
def _spread_tile(tau, t, n_terms):  # type: ignore[no-untyped-def]
    """The angular factors of a term for the four pairs of a tile."""
    return (
        spread(tau, t), spread(tau, t + n_terms), spread(tau, t + 2 * n_terms), spread(tau, t + 3 * n_terms)
    )  # fmt: skip


@inlined
def _products(radial, at, stride, features, f0, f1, f2, f3, v):  # type: ignore[no-untyped-def]
    """R·h of the four pairs of a tile."""
    return (
        multiply(load(radial, at), load(features, f0 + v)),
        multiply(load(radial, at + stride), load(features, f1 + v)),
        multiply(load(radial, at + 2 * stride), load(features, f2 + v)),
        multiply(load(radial, at + 3 * stride), load(features, f3 + v)),
    )


@inlined
def _add_tile(acc, k, y0, y1, y2, y3, m0, m1, m2, m3):  # type: ignore[no-untyped-def]
    x = multiply_add(y0, m0, load(acc, k))
    x = multiply_add(y1, m1, x)
    x = multiply_add(y2, m2, x)
    store(acc, k, multiply_add(y3, m3, x))


@compiled
def irrep_message_forward(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, stride, features, n_senders, harmonics, n_lm,
    couplings, places, out, origin, count
):  # fmt: skip
    """Fill the packed A [count atoms from `origin` on] of centres first … last − 1.

    `row` and `weights` [pairs·12] address the table [rows·stride]; `harmonics` is [pairs·n_lm].
    """
    feature, shift, size, channels = couplings.feature, couplings.shift, couplings.size, couplings.channels
    column, term, target, matrix = couplings.column, couplings.term, couplings.target, couplings.matrix
    n_lines, n_terms = len(feature), len(matrix) // n_lm
    width = places.at[-1] + places.channels[-1]
    acc = aligned(width, out)
    radial = aligned(_TILE * stride, out)
    tau = aligned(_TILE * n_terms, out)
    zero = splat(acc.dtype.type(0))
    for a in range(first, last):
        for at in range(0, len(acc), LANES):
            store(acc, at, zero)
        end = start[a + 1]
        for tile in range(start[a], end, _TILE):
            s0, s1 = sender[tile], sender[min(tile + 1, end - 1)]
            s2, s3 = sender[min(tile + 2, end - 1)], sender[min(tile + 3, end - 1)]
            for n in range(_TILE):
                if tile + n < end:
                    q = tile + n
                    _values(table, row[q] * stride, stride, weights, q * 12, radial, n * stride)
                    _terms(harmonics, q * n_lm, n_lm, matrix, n_terms, tau, n * n_terms)
                else:
                    for at in range(0, stride, LANES):
                        store(radial, n * stride + at, zero)
                    for at in range(0, n_terms, LANES):
                        store(tau, n * n_terms + at, zero)
            for line in range(n_lines):
                base, d, t = feature[line] * n_senders + shift[line], size[line], term[line]
                f0, f1, f2, f3 = base + s0 * d, base + s1 * d, base + s2 * d, base + s3 * d
                n, at, width = term[line + 1] - t, column[line], channels[line]
                k0, k1 = target[t], target[t + min(1, n - 1)]
                k2, k3 = target[t + min(2, n - 1)], target[t + n - 1]
                a0, a1, a2, a3 = _spread_tile(tau, t, n_terms)
                b0, b1, b2, b3 = _spread_tile(tau, t + min(1, n - 1), n_terms)
                if n == 1:
                    for v in range(0, width, LANES):
                        m0, m1, m2, m3 = _products(radial, at + v, stride, features, f0, f1, f2, f3, v)
                        _add_tile(acc, k0 + v, a0, a1, a2, a3, m0, m1, m2, m3)
                    continue
                if n == 2:
                    for v in range(0, width, LANES):
                        m0, m1, m2, m3 = _products(radial, at + v, stride, features, f0, f1, f2, f3, v)
                        _add_tile(acc, k0 + v, a0, a1, a2, a3, m0, m1, m2, m3)
                        _add_tile(acc, k1 + v, b0, b1, b2, b3, m0, m1, m2, m3)
                    continue
                c0, c1, c2, c3 = _spread_tile(tau, t + 2, n_terms)
                if n == 3:
                    for v in range(0, width, LANES):
                        m0, m1, m2, m3 = _products(radial, at + v, stride, features, f0, f1, f2, f3, v)
                        _add_tile(acc, k0 + v, a0, a1, a2, a3, m0, m1, m2, m3)
                        _add_tile(acc, k1 + v, b0, b1, b2, b3, m0, m1, m2, m3)
                        _add_tile(acc, k2 + v, c0, c1, c2, c3, m0, m1, m2, m3)
                    continue
                d0, d1, d2, d3 = _spread_tile(tau, t + 3, n_terms)
                for v in range(0, width, LANES):
                    m0, m1, m2, m3 = _products(radial, at + v, stride, features, f0, f1, f2, f3, v)
                    _add_tile(acc, k0 + v, a0, a1, a2, a3, m0, m1, m2, m3)
                    _add_tile(acc, k1 + v, b0, b1, b2, b3, m0, m1, m2, m3)
                    _add_tile(acc, k2 + v, c0, c1, c2, c3, m0, m1, m2, m3)
                    _add_tile(acc, k3 + v, d0, d1, d2, d3, m0, m1, m2, m3)
        for k in range(len(places.at)):
            to = places.block[k] * count + (a - origin) * places.width[k] + places.inner[k]
            at = places.at[k]
            for v in range(0, places.channels[k], LANES):
                store(out, to + v, load(acc, at + v))


@inlined
def _receive(both, at, stride, features, feature_slope, f, b, part):  # type: ignore[no-untyped-def]
    """Add R·b to ∂E/∂h; returns R·h and `part` + R′·h·b."""
    h, r = load(features, f), load(both, at)
    store(feature_slope, f, multiply_add(r, b, load(feature_slope, f)))
    return multiply(r, h), multiply_add(multiply(load(both, at + stride), h), b, part)


@compiled
def irrep_message_reverse(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, stride, features, n_senders, harmonics, n_lm,
    couplings, places, cotangent, origin, count, slope, harmonics_slope, feature_slope
):  # fmt: skip
    """From `cotangent` = ∂E/∂A (packed) add to ∂E/∂r and ∂E/∂Y of the pairs and to ∂E/∂h.

    Pairs go two by two: what a line costs beside its arithmetic is paid, and ∂E/∂A is read, once for both.
    """
    feature, shift, size, channels = couplings.feature, couplings.shift, couplings.size, couplings.channels
    column, term, target, matrix = couplings.column, couplings.term, couplings.target, couplings.matrix
    n_lines, n_terms = len(feature), len(matrix) // n_lm
    width = places.at[-1] + places.channels[-1]
    entry, of_term, coefficient = couplings.entry, couplings.of_term, couplings.coefficient
    g = aligned(width, cotangent)
    one, two = aligned(2 * stride, cotangent), aligned(2 * stride, cotangent)
    tau = aligned(2 * n_terms, cotangent)
    sums = aligned(2 * n_terms * LANES, cotangent)
    zero = splat(g.dtype.type(0))
    half = n_terms * LANES
    for a in range(first, last):
        for k in range(len(places.at)):
            to = places.block[k] * count + (a - origin) * places.width[k] + places.inner[k]
            at = places.at[k]
            for v in range(0, places.channels[k], LANES):
                store(g, at + v, load(cotangent, to + v))
        for q in range(start[a], start[a + 1], 2):
            paired = q + 1 < start[a + 1]
            p = q + 1 if paired else q
            _values_and_slopes(table, row[q] * stride, stride, weights, q * 12, one)
            _terms(harmonics, q * n_lm, n_lm, matrix, n_terms, tau, 0)
            _values_and_slopes(table, row[p] * stride, stride, weights, p * 12, two)
            _terms(harmonics, p * n_lm, n_lm, matrix, n_terms, tau, n_terms)
            if not paired:
                for v in range(0, 2 * stride, LANES):
                    store(two, v, zero)
                for v in range(n_terms, 2 * n_terms, LANES):
                    store(tau, v, zero)
            radial, radial_two = zero, zero
            for line in range(n_lines):
                base, d = feature[line] * n_senders + shift[line], size[line]
                f, e = base + sender[q] * d, base + sender[p] * d
                t, at, width = term[line], column[line], channels[line]
                n, w = term[line + 1] - t, term[line] + n_terms
                to, to_two = t * LANES, t * LANES + half
                u1, u2, u3 = min(1, n - 1), min(2, n - 1), n - 1
                k0, k1, k2, k3 = target[t], target[t + u1], target[t + u2], target[t + u3]
                y0, y1 = spread(tau, t), spread(tau, t + u1)
                y2, y3 = spread(tau, t + u2), spread(tau, t + u3)
                z0, z1 = spread(tau, w), spread(tau, w + u1)
                z2, z3 = spread(tau, w + u2), spread(tau, w + u3)
                s0, s1, s2, s3, part = zero, zero, zero, zero, zero
                r0, r1, r2, r3, other = zero, zero, zero, zero, zero
                if n == 1:
                    for v in range(0, width, LANES):
                        x0 = load(g, k0 + v)
                        b, c = multiply(y0, x0), multiply(z0, x0)
                        m, part = _receive(one, at + v, stride, features, feature_slope, f + v, b, part)
                        o, other = _receive(two, at + v, stride, features, feature_slope, e + v, c, other)
                        s0, r0 = multiply_add(m, x0, s0), multiply_add(o, x0, r0)
                    store(sums, to, s0)
                    store(sums, to_two, r0)
                elif n == 2:
                    for v in range(0, width, LANES):
                        x0, x1 = load(g, k0 + v), load(g, k1 + v)
                        b, c = multiply_add(y1, x1, multiply(y0, x0)), multiply_add(z1, x1, multiply(z0, x0))
                        m, part = _receive(one, at + v, stride, features, feature_slope, f + v, b, part)
                        o, other = _receive(two, at + v, stride, features, feature_slope, e + v, c, other)
                        s0, r0 = multiply_add(m, x0, s0), multiply_add(o, x0, r0)
                        s1, r1 = multiply_add(m, x1, s1), multiply_add(o, x1, r1)
                    store(sums, to, s0)
                    store(sums, to + LANES, s1)
                    store(sums, to_two, r0)
                    store(sums, to_two + LANES, r1)
                elif n == 3:
                    for v in range(0, width, LANES):
                        x0, x1, x2 = load(g, k0 + v), load(g, k1 + v), load(g, k2 + v)
                        b = multiply_add(y2, x2, multiply_add(y1, x1, multiply(y0, x0)))
                        c = multiply_add(z2, x2, multiply_add(z1, x1, multiply(z0, x0)))
                        m, part = _receive(one, at + v, stride, features, feature_slope, f + v, b, part)
                        o, other = _receive(two, at + v, stride, features, feature_slope, e + v, c, other)
                        s0, r0 = multiply_add(m, x0, s0), multiply_add(o, x0, r0)
                        s1, r1 = multiply_add(m, x1, s1), multiply_add(o, x1, r1)
                        s2, r2 = multiply_add(m, x2, s2), multiply_add(o, x2, r2)
                    store(sums, to, s0)
                    store(sums, to + LANES, s1)
                    store(sums, to + 2 * LANES, s2)
                    store(sums, to_two, r0)
                    store(sums, to_two + LANES, r1)
                    store(sums, to_two + 2 * LANES, r2)
                else:
                    for v in range(0, width, LANES):
                        x0, x1, x2, x3 = load(g, k0 + v), load(g, k1 + v), load(g, k2 + v), load(g, k3 + v)
                        b, c = multiply_add(y1, x1, multiply(y0, x0)), multiply_add(z1, x1, multiply(z0, x0))
                        b = multiply_add(y3, x3, multiply_add(y2, x2, b))
                        c = multiply_add(z3, x3, multiply_add(z2, x2, c))
                        m, part = _receive(one, at + v, stride, features, feature_slope, f + v, b, part)
                        o, other = _receive(two, at + v, stride, features, feature_slope, e + v, c, other)
                        s0, r0 = multiply_add(m, x0, s0), multiply_add(o, x0, r0)
                        s1, r1 = multiply_add(m, x1, s1), multiply_add(o, x1, r1)
                        s2, r2 = multiply_add(m, x2, s2), multiply_add(o, x2, r2)
                        s3, r3 = multiply_add(m, x3, s3), multiply_add(o, x3, r3)
                    store(sums, to, s0)
                    store(sums, to + LANES, s1)
                    store(sums, to + 2 * LANES, s2)
                    store(sums, to + 3 * LANES, s3)
                    store(sums, to_two, r0)
                    store(sums, to_two + LANES, r1)
                    store(sums, to_two + 2 * LANES, r2)
                    store(sums, to_two + 3 * LANES, r3)
                radial, radial_two = add(radial, part), add(radial_two, other)
            slope[q] += total(radial)
            if paired:
                slope[p] += total(radial_two)
            for k in range(1, n_lm):  # Y_0 is constant
                x, z = zero, zero
                for e in range(entry[k], entry[k + 1]):
                    c, at = spread(coefficient, e), of_term[e] * LANES
                    x = multiply_add(c, load(sums, at), x)
                    z = multiply_add(c, load(sums, half + at), z)
                harmonics_slope[q * n_lm + k] += total(x)
                if paired:
                    harmonics_slope[p * n_lm + k] += total(z)
