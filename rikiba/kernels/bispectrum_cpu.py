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
    multiplicity: np.ndarray
    """How often each element of half a matrix stands in the whole."""


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
    # the recursion of `summed`, written again: each element is used while it is in registers, for another end
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
def force_rows(i, j, types, values, gradients, width, products, out):  # type: ignore[no-untyped-def]
    """out[atom, xyz, coefficients] −= ∂(B, ½B_a², B_a B_b)/∂r, in the block of the centre's type.

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
