"""Compiled bispectrum: sums U of the neighbours' rotation matrices, ∂E/∂U, and ∂E/∂r of every pair.

Sixteen pairs of a centre, or sixteen centres, are taken together. The matrices are kept without their
normalisation: u = N v with N² = (j−ma)! ma!/((j−mb)! mb!), so that the recursion in j has no coefficients,
and only rows mb ≤ j/2, which determine the others. A derivative with respect to the rotation (a, b) is the
action of the three generators of SU(2) on column indices, so it needs no derivative of U: three rotated
copies of ∂E/∂U are made once per centre instead.
"""

import math
from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, add, aligned, load, multiply, multiply_add, splat, spread, store, total

COSINE, POLYNOMIAL, NONE = 0, 1, 2


class Layout(NamedTuple):
    """Elements of U for j = 0 … twojmax (doubled), row by row."""

    twojmax: int
    first: np.ndarray
    """First element of each j, rows mb ≤ j/2 only (one more entry: their number)."""
    full: np.ndarray
    """The same with all rows."""
    scale: np.ndarray
    """N of each element."""
    count: np.ndarray
    """How often each element of half a matrix stands in the whole."""


class Couplings(NamedTuple):
    """Products of U^{j1} of one element and U^{j2} of another, j1 ≥ j2, and what they couple to."""

    left: np.ndarray
    """(j1, element) of each product."""
    right: np.ndarray
    start: np.ndarray
    """First result of each product (one more entry)."""
    result: np.ndarray
    """j of each result."""
    table: np.ndarray
    """First Clebsch–Gordan coefficient [j1+1, j2+1] of each result …"""
    coefficients: np.ndarray
    """… in this array."""
    slot: np.ndarray
    """∂E/∂U^{result} of an element gains factor · β_component times the result: one entry for each such term."""
    channel: np.ndarray
    component: np.ndarray
    factor: np.ndarray


class Shape(NamedTuple):
    """How a distance becomes an angle and a weight."""

    envelope: int
    power: int
    angle_fraction: float
    r_min: float


@compiled
def arrange(vectors, i, j, types, reach, channels, n_atoms):  # type: ignore[no-untyped-def]
    """(start, parent): pairs within their own cutoff by centre and element channel, rows padded to 16.

    Row n occupies start[n] … start[n+1] − 1 of `parent`, which is −1 where a row is padded.
    """
    counts = np.zeros(n_atoms * channels, np.int64)
    row_of = np.empty(len(i), np.int64)
    for p in range(len(i)):
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        c = reach[types[i[p]], types[j[p]]]
        row_of[p] = -1
        if x * x + y * y + z * z < c * c:
            row_of[p] = i[p] * channels + (types[j[p]] if channels > 1 else 0)
            counts[row_of[p]] += 1
    start = np.zeros(len(counts) + 1, np.int64)
    for n in range(len(counts)):
        start[n + 1] = start[n] + (counts[n] + LANES - 1) // LANES * LANES
    parent = np.full(start[-1], -1, np.int64)
    at = start.copy()
    for p in range(len(i)):
        if row_of[p] >= 0:
            parent[at[row_of[p]]] = p
            at[row_of[p]] += 1
    return start, parent


@inlined
def _sine_cosine(x):  # type: ignore[no-untyped-def]
    """(sin x, cos x) for |x| ≤ π/2 by their series, to rounding."""
    t = x * x
    s, c = 1.0 / 51090942171709440000.0, 1.0 / 1124000727777607680000.0
    s = s * t - 1.0 / 121645100408832000.0
    s = s * t + 1.0 / 355687428096000.0
    s = s * t - 1.0 / 1307674368000.0
    s = s * t + 1.0 / 6227020800.0
    s = s * t - 1.0 / 39916800.0
    s = s * t + 1.0 / 362880.0
    s = s * t - 1.0 / 5040.0
    s = s * t + 1.0 / 120.0
    s = s * t - 1.0 / 6.0
    s = x + x * t * s
    c = -c * t + 1.0 / 2432902008176640000.0
    c = c * t - 1.0 / 6402373705728000.0
    c = c * t + 1.0 / 20922789888000.0
    c = c * t - 1.0 / 87178291200.0
    c = c * t + 1.0 / 479001600.0
    c = c * t - 1.0 / 3628800.0
    c = c * t + 1.0 / 40320.0
    c = c * t - 1.0 / 720.0
    c = c * t + 1.0 / 24.0
    c = c * t - 0.5
    c = c * t + 1.0
    return s, c


@compiled
def pair_geometry(vectors, i, j, types, reach, weights, parent, shape, out):  # type: ignore[no-untyped-def]
    """Fill out[11, padded pairs]: x, y, z of the unit vector, 1/r, sin θ0, cos θ0, dθ0/dr, w f, w f', 0, 0.

    Where a row is padded the weights are 0 and the rest is a valid point.
    """
    r, c, w = out[9], out[10], out[7]
    for q in range(len(parent)):
        p = parent[q]
        if p < 0:
            out[0, q], out[1, q], out[2, q], r[q], c[q], w[q] = 0.0, 0.0, 1.0, 1.0, 2.0, 0.0
            continue
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        r[q] = math.sqrt(x * x + y * y + z * z)
        out[0, q], out[1, q], out[2, q] = x / r[q], y / r[q], z / r[q]
        c[q], w[q] = reach[types[i[p]], types[j[p]]], weights[types[j[p]]]
    r_min, power = shape.r_min, shape.power
    for q in range(len(parent)):
        span = c[q] - r_min
        slope = shape.angle_fraction * math.pi / span
        out[3, q], out[6, q] = 1.0 / r[q], slope
        s, k = _sine_cosine(slope * (r[q] - r_min) - 0.5 * math.pi)
        out[4, q], out[5, q] = k, -s
        inside = r[q] > r_min
        x = (r[q] - r_min) / span if inside else 0.0
        f, df = 1.0, 0.0
        if shape.envelope == COSINE:
            s, k = _sine_cosine(math.pi * (x - 0.5))
            f, df = 0.5 * (1.0 - s), -0.5 * math.pi * k / span
        elif shape.envelope == POLYNOMIAL:
            n = float(power)
            low = x ** (power - 1)
            inner = 0.5 * (n + 1.0) * (n + 2.0) - n * (n + 2.0) * x + 0.5 * n * (n + 1.0) * x * x
            f = 1.0 - inner * low * x
            df = -0.5 * n * (n + 1.0) * (n + 2.0) * low * (1.0 - x) ** 2 / span
        out[8, q] = w[q] * df if inside else 0.0
        out[7, q] = w[q] * f


@inlined
def _rotation(pairs, n, q):  # type: ignore[no-untyped-def]
    """(Re a, Im a, Re b, Im b) of 16 pairs."""
    sine = load(pairs, 4 * n + q)
    minus = multiply(splat(-1.0), sine)
    return (
        load(pairs, 5 * n + q),
        multiply(minus, load(pairs, 2 * n + q)),
        multiply(sine, load(pairs, n + q)),
        multiply(minus, load(pairs, q)),
    )


@compiled
def summed(start, pairs, layout, scale, sums):  # type: ignore[no-untyped-def]
    """sums[row, element of U, (Re, Im)] = Σ w f u over the pairs of each row; `pairs` is flat."""
    n, size = len(pairs) // 11, layout.first[-1]
    acc, v = aligned(2 * size * LANES, pairs), aligned(2 * size * LANES, pairs)
    zero, one = splat(0.0), splat(1.0)
    for row in range(len(start) - 1):
        for k in range(2 * size):
            store(acc, k * LANES, zero)
        for q in range(start[row], start[row + 1], LANES):
            ar, ai, br, bi = _rotation(pairs, n, q)
            weight = load(pairs, 7 * n + q)
            store(v, 0, one)
            store(v, LANES, zero)
            store(acc, 0, add(weight, load(acc, 0)))
            for j in range(1, layout.twojmax + 1):
                for mb in range(j // 2 + 1):
                    # row mb of j is row mb of j−1 times (a*, −b*), but its middle row comes from row j/2−1
                    middle = 2 * mb == j
                    before = (layout.first[j - 1] + (mb - middle) * j) * 2 * LANES
                    to = (layout.first[j] + mb * (j + 1)) * 2 * LANES
                    if middle:
                        xr, xi, yr, yi = br, bi, ar, ai
                    else:
                        xr, xi = ar, multiply(splat(-1.0), ai)
                        yr, yi = multiply(splat(-1.0), br), bi
                    mxi, myi = multiply(splat(-1.0), xi), multiply(splat(-1.0), yi)
                    lr, li = zero, zero
                    for _ in range(j):
                        pr, pi = load(v, before), load(v, before + LANES)
                        vr = multiply_add(myi, li, multiply(yr, lr))
                        vi = multiply_add(yi, lr, multiply(yr, li))
                        vr = multiply_add(mxi, pi, multiply_add(xr, pr, vr))
                        vi = multiply_add(xi, pr, multiply_add(xr, pi, vi))
                        store(v, to, vr)
                        store(v, to + LANES, vi)
                        store(acc, to, multiply_add(weight, vr, load(acc, to)))
                        store(acc, to + LANES, multiply_add(weight, vi, load(acc, to + LANES)))
                        lr, li = pr, pi
                        before += 2 * LANES
                        to += 2 * LANES
                    vr = multiply_add(myi, li, multiply(yr, lr))
                    vi = multiply_add(yi, lr, multiply(yr, li))
                    store(v, to, vr)
                    store(v, to + LANES, vi)
                    store(acc, to, multiply_add(weight, vr, load(acc, to)))
                    store(acc, to + LANES, multiply_add(weight, vi, load(acc, to + LANES)))
        for k in range(size):
            sums[row, k, 0] = scale[k] * total(load(acc, 2 * k * LANES))
            sums[row, k, 1] = scale[k] * total(load(acc, (2 * k + 1) * LANES))


@compiled
def pair_slopes(start, parent, pairs, layout, rotated, out):  # type: ignore[no-untyped-def]
    """out[pair] = ∂E/∂r_ij; `rotated` [row · element of U · 8] is what `adjoint` makes."""
    n, size = len(pairs) // 11, layout.first[-1]
    v = aligned(2 * size * LANES, pairs)
    found = aligned(4 * LANES, pairs)
    zero, one = splat(0.0), splat(1.0)
    for row in range(len(start) - 1):
        for q in range(start[row], start[row + 1], LANES):
            ar, ai, br, bi = _rotation(pairs, n, q)
            store(v, 0, one)
            store(v, LANES, zero)
            w = row * size * 8
            h, h1, h2, h3 = spread(rotated, w), zero, zero, zero
            w += 8
            for j in range(1, layout.twojmax + 1):
                for mb in range(j // 2 + 1):
                    middle = 2 * mb == j
                    before = (layout.first[j - 1] + (mb - middle) * j) * 2 * LANES
                    to = (layout.first[j] + mb * (j + 1)) * 2 * LANES
                    if middle:
                        xr, xi, yr, yi = br, bi, ar, ai
                    else:
                        xr, xi = ar, multiply(splat(-1.0), ai)
                        yr, yi = multiply(splat(-1.0), br), bi
                    mxi, myi = multiply(splat(-1.0), xi), multiply(splat(-1.0), yi)
                    lr, li = zero, zero
                    for ma in range(j + 1):
                        vr = multiply_add(myi, li, multiply(yr, lr))
                        vi = multiply_add(yi, lr, multiply(yr, li))
                        if ma < j:
                            pr, pi = load(v, before), load(v, before + LANES)
                            vr = multiply_add(mxi, pi, multiply_add(xr, pr, vr))
                            vi = multiply_add(xi, pr, multiply_add(xr, pi, vi))
                            lr, li = pr, pi
                        store(v, to, vr)
                        store(v, to + LANES, vi)
                        h = multiply_add(spread(rotated, w), vr, h)
                        h1 = multiply_add(spread(rotated, w + 2), vr, h1)
                        h2 = multiply_add(spread(rotated, w + 4), vr, h2)
                        h3 = multiply_add(spread(rotated, w + 6), vr, h3)
                        h = multiply_add(spread(rotated, w + 1), vi, h)
                        h1 = multiply_add(spread(rotated, w + 3), vi, h1)
                        h2 = multiply_add(spread(rotated, w + 5), vi, h2)
                        h3 = multiply_add(spread(rotated, w + 7), vi, h3)
                        before += 2 * LANES
                        to += 2 * LANES
                        w += 8
            store(found, 0, h)
            store(found, LANES, h1)
            store(found, 2 * LANES, h2)
            store(found, 3 * LANES, h3)
            for m in range(LANES):
                p = parent[q + m]
                if p >= 0:
                    _direct(pairs, n, q + m, found, m, out, p)


@inlined
def _direct(pairs, n, q, found, m, out, p):  # type: ignore[no-untyped-def]
    """∂E/∂r of one pair from Σ ∂E/∂U u and its derivatives along the three generators."""
    x, y, z, inverse = pairs[q], pairs[n + q], pairs[2 * n + q], pairs[3 * n + q]
    sine, cosine, slope = pairs[4 * n + q], pairs[5 * n + q], pairs[6 * n + q]
    f, df = pairs[7 * n + q], pairs[8 * n + q]
    g1, g2, g3 = -found[3 * LANES + m], -found[2 * LANES + m], found[LANES + m]
    along = g1 * x + g2 * y + g3 * z
    radial = df * found[m] + f * slope * along
    around, turn = f * sine * cosine * inverse, f * sine * sine * inverse
    out[p, 0] = radial * x + around * (g1 - along * x) - turn * (y * g3 - z * g2)
    out[p, 1] = radial * y + around * (g2 - along * y) - turn * (z * g1 - x * g3)
    out[p, 2] = radial * z + around * (g3 - along * z) - turn * (x * g2 - y * g1)


@compiled
def whole(sums, first_atom, channels, own, types, layout, half, full):  # type: ignore[no-untyped-def]
    """U of 16 atoms with the atom itself added: rows mb ≤ j/2 into `half`, all into `full`, 16 lanes each."""
    size, all_size = layout.first[-1], layout.full[-1]
    n_atoms = len(types)
    for e in range(channels):
        for m in range(LANES):
            a = min(first_atom + m, n_atoms - 1)
            for k in range(size):
                at = ((e * size + k) * 2) * LANES + m
                half[at], half[at + LANES] = sums[a * channels + e, k, 0], sums[a * channels + e, k, 1]
            for j in range(layout.twojmax + 1):
                for mb in range(j // 2 + 1):
                    k = layout.first[j] + mb * (j + 2)
                    half[((e * size + k) * 2) * LANES + m] += own[types[a], e]
        for j in range(layout.twojmax + 1):
            for mb in range(j // 2 + 1):
                for ma in range(j + 1):
                    at = (e * size + layout.first[j] + mb * (j + 1) + ma) * 2 * LANES
                    to = (e * all_size + layout.full[j] + mb * (j + 1) + ma) * 2 * LANES
                    back = (e * all_size + layout.full[j] + (j - mb) * (j + 1) + j - ma) * 2 * LANES
                    sign = 1.0 - 2.0 * ((ma + mb) % 2)
                    re, im = load(half, at), load(half, at + LANES)
                    store(full, to, re)
                    store(full, to + LANES, im)
                    if 2 * mb < j:
                        store(full, back, multiply(splat(sign), re))
                        store(full, back + LANES, multiply(splat(-sign), im))


@inlined
def _products(full, at1, at2, low, high, s, scratch):  # type: ignore[no-untyped-def]
    """u1[ma1]·u2[s − ma1] of 16 atoms for ma1 = low … high − 1."""
    for ma1 in range(low, high):
        x, y = at1 + 2 * ma1 * LANES, at2 + 2 * (s - ma1) * LANES
        r1, i1 = load(full, x), load(full, x + LANES)
        r2, i2 = load(full, y), load(full, y + LANES)
        to = 2 * (ma1 - low) * LANES
        store(scratch, to, multiply_add(multiply(splat(-1.0), i1), i2, multiply(r1, r2)))
        store(scratch, to + LANES, multiply_add(i1, r2, multiply(r1, i2)))


@inlined
def _coupled(table, at, step, low, high, scratch):  # type: ignore[no-untyped-def]
    """Σ C · product over ma1."""
    re, im = splat(0.0), splat(0.0)
    for k in range(high - low):
        c = spread(table, at + k * step)
        re = multiply_add(c, load(scratch, 2 * k * LANES), re)
        im = multiply_add(c, load(scratch, (2 * k + 1) * LANES), im)
    return re, im


@compiled
def components(full, half, layout, couplings, wanted, out):  # type: ignore[no-untyped-def]
    """out[slot · channel · 16] = Re Σ U* · result for the (slot, channel) that are wanted."""
    size, all_size = layout.first[-1], layout.full[-1]
    channels = wanted.shape[1]
    scratch = aligned(2 * (layout.twojmax + 1) * LANES, full)
    out[:] = 0.0
    for pair in range(len(couplings.left)):
        first, last = couplings.start[pair], couplings.start[pair + 1]
        if not wanted[first:last].any():
            continue
        j1, j2 = couplings.left[pair, 0], couplings.right[pair, 0]
        for mb1 in range(j1 + 1):
            at1 = (couplings.left[pair, 1] * all_size + layout.full[j1] + mb1 * (j1 + 1)) * 2 * LANES
            for mb2 in range(min(j2, (j1 + j2) // 2 - mb1) + 1):
                at2 = (couplings.right[pair, 1] * all_size + layout.full[j2] + mb2 * (j2 + 1)) * 2 * LANES
                row = j1 + j2 - 2 * (mb1 + mb2)
                for s in range(j1 + j2 + 1):
                    low, high = max(0, s - j2), min(j1, s) + 1
                    column = abs(j1 + j2 - 2 * s)
                    if max(row, column) > couplings.result[last - 1]:
                        continue
                    _products(full, at1, at2, low, high, s, scratch)
                    for slot in range(first, last):
                        j = couplings.result[slot]
                        if j < max(row, column) or not wanted[slot].any():
                            continue
                        c = couplings.table[slot]
                        at = c + low * (j2 + 1) + s - low
                        re, im = _coupled(couplings.coefficients, at, j2, low, high, scratch)
                        mb, ma = (j - row) // 2, s - (j1 + j2 - j) // 2
                        k = layout.first[j] + mb * (j + 1) + ma
                        x = splat(couplings.coefficients[c + mb1 * (j2 + 1) + mb2] * layout.count[k])
                        for e in range(channels):
                            if wanted[slot, e]:
                                u = (e * size + k) * 2 * LANES
                                b = (slot * channels + e) * LANES
                                part = multiply_add(im, load(half, u + LANES), multiply(re, load(half, u)))
                                store(out, b, multiply_add(x, part, load(out, b)))


@compiled
def adjoint(full, layout, couplings, wanted, strength, out):  # type: ignore[no-untyped-def]
    """out = ∂E/∂U* of 16 atoms, rows mb ≤ j/2: the sum of the wanted results times `strength` (16 lanes)."""
    size, all_size = layout.first[-1], layout.full[-1]
    channels = wanted.shape[1]
    scratch = aligned(2 * (layout.twojmax + 1) * LANES, full)
    out[:] = 0.0
    for pair in range(len(couplings.left)):
        first, last = couplings.start[pair], couplings.start[pair + 1]
        if not wanted[first:last].any():
            continue
        j1, j2 = couplings.left[pair, 0], couplings.right[pair, 0]
        for mb1 in range(j1 + 1):
            at1 = (couplings.left[pair, 1] * all_size + layout.full[j1] + mb1 * (j1 + 1)) * 2 * LANES
            for mb2 in range(min(j2, (j1 + j2) // 2 - mb1) + 1):
                at2 = (couplings.right[pair, 1] * all_size + layout.full[j2] + mb2 * (j2 + 1)) * 2 * LANES
                row = j1 + j2 - 2 * (mb1 + mb2)
                for s in range(j1 + j2 + 1):
                    low, high = max(0, s - j2), min(j1, s) + 1
                    column = abs(j1 + j2 - 2 * s)
                    if max(row, column) > couplings.result[last - 1]:
                        continue
                    _products(full, at1, at2, low, high, s, scratch)
                    for slot in range(first, last):
                        j = couplings.result[slot]
                        if j < max(row, column) or not wanted[slot].any():
                            continue
                        c = couplings.table[slot]
                        at = c + low * (j2 + 1) + s - low
                        re, im = _coupled(couplings.coefficients, at, j2, low, high, scratch)
                        k = layout.first[j] + (j - row) // 2 * (j + 1) + s - (j1 + j2 - j) // 2
                        x = splat(couplings.coefficients[c + mb1 * (j2 + 1) + mb2])
                        for e in range(channels):
                            if wanted[slot, e]:
                                to = (e * size + k) * 2 * LANES
                                t = multiply(x, load(strength, (slot * channels + e) * LANES))
                                store(out, to, multiply_add(t, re, load(out, to)))
                                store(out, to + LANES, multiply_add(t, im, load(out, to + LANES)))


@compiled
def rotate(slope, layout, channels, first_atom, n_atoms, rotated):  # type: ignore[no-untyped-def]
    """rotated[row, element of U, 8] of up to 16 atoms: ∂E/∂v and its image under the three generators."""
    size = layout.first[-1]
    w = aligned(2 * (layout.twojmax + 3) * LANES, slope)
    for e in range(channels):
        for j in range(layout.twojmax + 1):
            for mb in range(j // 2 + 1):
                k0 = layout.first[j] + mb * (j + 1)
                w[:] = 0.0
                for ma in range(j + 1):
                    factor = splat(layout.scale[k0 + ma] * layout.count[k0 + ma])
                    at = (e * size + k0 + ma) * 2 * LANES
                    store(w, 2 * (ma + 1) * LANES, multiply(factor, load(slope, at)))
                    store(w, (2 * ma + 3) * LANES, multiply(factor, load(slope, at + LANES)))
                for m in range(min(LANES, n_atoms - first_atom)):
                    row = (first_atom + m) * channels + e
                    for ma in range(j + 1):
                        low, here, high = (
                            2 * ma * LANES + m,
                            2 * (ma + 1) * LANES + m,
                            2 * (ma + 2) * LANES + m,
                        )
                        to = rotated[row, k0 + ma]
                        up, down, twist = float(j - ma), float(ma), float(j - 2 * ma)
                        to[0], to[1] = w[here], w[here + LANES]
                        to[2], to[3] = twist * w[here + LANES], -twist * w[here]
                        to[4] = up * w[high] - down * w[low]
                        to[5] = up * w[high + LANES] - down * w[low + LANES]
                        to[6] = up * w[high + LANES] + down * w[low + LANES]
                        to[7] = -(up * w[high] + down * w[low])


@compiled
def force_rows(i, j, types, values, gradients, width, products, out):  # type: ignore[no-untyped-def]
    """out[atom, xyz, coefficients] += −∂(B, ½B_a², B_a B_b)/∂r of the atom, in the block of the centre's type.

    A block has `width` columns: a constant, the components, and with `products` those for a ≤ b.
    `gradients` [pairs, components, 3] are ∂B_i/∂r_ij.
    """
    n = values.shape[1]
    d = np.empty(n)
    for p in range(len(i)):
        b, first = values[i[p]], types[i[p]] * width + 1
        for x in range(3):
            plus, minus = out[i[p], x, first:], out[j[p], x, first:]
            for k in range(n):
                d[k] = gradients[p, k, x]
                plus[k] += d[k]
                minus[k] -= d[k]
            if not products:
                continue
            at = n
            for k in range(n):
                bk, dk = b[k], d[k]
                plus[at] += bk * dk
                minus[at] -= bk * dk
                for l in range(k + 1, n):
                    g = bk * d[l] + dk * b[l]
                    plus[at + l - k] += g
                    minus[at + l - k] -= g
                at += n - k


@compiled
def centres(  # type: ignore[no-untyped-def]
    sums, types, own, layout, couplings, wanted, values_wanted, first_slot, trace, linear, quadratic, isolated,
    values, energies, rotated,
):  # fmt: skip
    """Sweep over all atoms, 16 together: B, E = β·(B − B0) + ½ (B − B0)ᵀα(B − B0), and ∂E/∂U rotated.

    `linear` [types, components] is β; `quadratic` [types, components, components] is α, or has no rows;
    B itself (minus `isolated`) goes
    to `values` [atoms, components] unless that has no rows; component k is `trace`[k] times what
    `components` finds in place `first_slot`[k].
    """
    n_atoms, channels, n = len(types), own.shape[1], linear.shape[1]
    size, all_size = layout.first[-1], layout.full[-1]
    half, slope = aligned(channels * size * 2 * LANES, sums), aligned(channels * size * 2 * LANES, sums)
    full = aligned(channels * all_size * 2 * LANES, sums)
    n_slots = wanted.shape[0] * channels
    found, strength = aligned(n_slots * LANES, sums), aligned(n_slots * LANES, sums)
    beta, b = np.zeros((n, LANES)), np.zeros((n, LANES))
    with_values = len(quadratic) > 0 or len(values) > 0
    for first in range(0, n_atoms, LANES):
        count = min(LANES, n_atoms - first)
        whole(sums, first, channels, own, types, layout, half, full)
        if with_values:
            components(full, half, layout, couplings, values_wanted, found)
            for k in range(n):
                for m in range(count):
                    b[k, m] = trace[k] * found[first_slot[k] * LANES + m] - isolated[types[first + m], k]
                    if len(values):
                        values[first + m, k] = b[k, m]
        for m in range(LANES):
            t = types[min(first + m, n_atoms - 1)]
            for k in range(n):
                beta[k, m] = linear[t, k]
        if len(quadratic):
            for m in range(count):
                alpha = quadratic[types[first + m]]
                for k in range(n):
                    x = 0.0
                    for l in range(n):
                        x += alpha[k, l] * b[l, m]
                    energies[first + m] += b[k, m] * (beta[k, m] + 0.5 * x)
                    beta[k, m] += x
        strength[:] = 0.0
        for t in range(len(couplings.slot)):
            at = (couplings.slot[t] * channels + couplings.channel[t]) * LANES
            for m in range(LANES):
                strength[at + m] += couplings.factor[t] * beta[couplings.component[t], m]
        adjoint(full, layout, couplings, wanted, strength, slope)
        if not len(quadratic):
            for m in range(count):
                x = 0.0
                for e in range(channels):
                    for k in range(size):
                        at = (e * size + k) * 2 * LANES + m
                        part = half[at] * slope[at] + half[at + LANES] * slope[at + LANES]
                        x += layout.count[k] * part
                energies[first + m] += x / 3.0
                for k in range(n):
                    energies[first + m] -= beta[k, m] * isolated[types[first + m], k]
        rotate(slope, layout, channels, first, n_atoms, rotated)
