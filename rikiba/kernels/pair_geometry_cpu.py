"""Compiled distances, harmonics and spline weights of pairs, grouped by centre, with the reverse sweep."""

import math

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, aligned, load, multiply, multiply_add, splat, store


@compiled
def lengths(vectors):  # type: ignore[no-untyped-def]
    """|r| of every pair, and the shortest."""
    r = np.empty(len(vectors))
    shortest = math.inf
    for p in range(len(vectors)):
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        r[p] = math.sqrt(x * x + y * y + z * z)
        shortest = min(shortest, r[p])
    return r, shortest


@compiled
def arrange(types, n_types, i, j, r):  # type: ignore[no-untyped-def]
    """Order atoms by type, pairs by centre in that order and by distance (the given order breaks ties).

    Neighbours of similar distance read the same rows of a table, which then are in cache. Returns (order,
    place, spans, start, parent, sender): atom of each place, place of each atom, first place of each type,
    first pair of each centre, and for each pair its index in the given list and the place of its neighbour.
    """
    n_atoms, n_pairs = len(types), len(i)
    spans = np.zeros(n_types + 1, np.int64)
    for kind in types:
        spans[kind + 1] += 1
    spans = np.cumsum(spans)
    fill = spans.copy()
    order, place = np.empty(n_atoms, np.int64), np.empty(n_atoms, np.int64)
    for a in range(n_atoms):
        place[a] = fill[types[a]]
        order[place[a]] = a
        fill[types[a]] += 1
    start = np.zeros(n_atoms + 1, np.int64)
    for p in range(n_pairs):
        start[place[i[p]] + 1] += 1
    start = np.cumsum(start)
    at = start.copy()
    parent, sender = np.empty(n_pairs, np.int64), np.empty(n_pairs, np.int64)
    for p in range(n_pairs):
        centre = place[i[p]]
        q = at[centre]
        at[centre] += 1
        while q > start[centre] and r[parent[q - 1]] > r[p]:
            parent[q] = parent[q - 1]
            q -= 1
        parent[q] = p
    for q in range(n_pairs):
        sender[q] = place[j[parent[q]]]
    return order, place, spans, start, parent, sender


@compiled
def unit_vectors(vectors, lengths, parent, unit, r):  # type: ignore[no-untyped-def]
    """Fill unit vectors and lengths in grouped order."""
    for q in range(len(parent)):
        p = parent[q]
        r[q] = lengths[p]
        for k in range(3):
            unit[q, k] = vectors[p, k] / lengths[p]


@inlined
def _columns(values, q0, n, out):  # type: ignore[no-untyped-def]
    """Rows q0 … q0 + n − 1 as columns of 16; zeros behind."""
    for k in range(values.shape[1]):
        for m in range(LANES):
            out[k * LANES + m] = values[q0 + m, k] if m < n else 0.0


@compiled
def harmonics(unit, first, second, axis, coefficients, out):  # type: ignore[no-untyped-def]
    """Y of every pair: Y_0 = 1, Y_1 = √3·r̂, then Y[first] += c·Y[second]·r̂[axis] term by term."""
    n_lm = out.shape[1]
    u, y = aligned(3 * LANES, unit), aligned(n_lm * LANES, unit)
    for q0 in range(0, len(unit), LANES):
        n = min(LANES, len(unit) - q0)
        _columns(unit, q0, n, u)
        y[:LANES] = 1.0
        y[LANES:] = 0.0
        for k in range(min(3, n_lm - 1)):
            for m in range(LANES):
                y[(k + 1) * LANES + m] = math.sqrt(3.0) * u[k * LANES + m]
        for k in range(len(first)):
            to = first[k] * LANES
            x = multiply(splat(coefficients[k]), load(u, axis[k] * LANES))
            store(y, to, multiply_add(x, load(y, second[k] * LANES), load(y, to)))
        for m in range(n):
            for k in range(n_lm):
                out[q0 + m, k] = y[k * LANES + m]


@compiled
def geometry_reverse(  # type: ignore[no-untyped-def]
    unit, r, y, first, second, axis, coefficients, parent, slope, y_slope, out
):
    """out[pair] = ∂E/∂r_ij from ∂E/∂r (`slope`) and ∂E/∂Y (`y_slope`)."""
    n_lm = y.shape[1]
    u, back = aligned(3 * LANES, unit), aligned(3 * LANES, unit)
    h, g = aligned(n_lm * LANES, unit), aligned(n_lm * LANES, unit)
    for q0 in range(0, len(unit), LANES):
        n = min(LANES, len(unit) - q0)
        _columns(unit, q0, n, u)
        _columns(y, q0, n, h)
        _columns(y_slope, q0, n, g)
        back[:] = 0.0
        for k in range(len(first) - 1, -1, -1):
            x = multiply(splat(coefficients[k]), load(g, first[k] * LANES))
            at, to = axis[k] * LANES, second[k] * LANES
            store(g, to, multiply_add(x, load(u, at), load(g, to)))
            store(back, at, multiply_add(x, load(h, to), load(back, at)))
        for k in range(min(3, n_lm - 1)):
            for m in range(LANES):
                back[k * LANES + m] += math.sqrt(3.0) * g[(k + 1) * LANES + m]
        for m in range(n):
            q = q0 + m
            along = 0.0
            for k in range(3):
                along += back[k * LANES + m] * unit[q, k]
            for k in range(3):
                out[parent[q], k] = slope[q] * unit[q, k] + (back[k * LANES + m] - along * unit[q, k]) / r[q]


@compiled
def direction_reverse(unit, r, parent, slope, unit_slope, out):  # type: ignore[no-untyped-def]
    """out[pair] = ∂E/∂r_ij from ∂E/∂r (`slope`) and ∂E/∂r̂ (`unit_slope`, flat; empty where that is zero)."""
    for q in range(len(parent)):
        p = parent[q]
        along = 0.0
        if len(unit_slope):
            for k in range(3):
                along += unit_slope[3 * q + k] * unit[q, k]
        for k in range(3):
            out[p, k] = (slope[q] - along / r[q]) * unit[q, k]
            if len(unit_slope):
                out[p, k] += unit_slope[3 * q + k] / r[q]


@inlined
def quintic_weights(t, spacing, w, d):  # type: ignore[no-untyped-def]
    """Weights of six consecutive coefficients of a quintic spline at t of its interval: value and slope."""
    s = 1.0 - t
    f, g = 1.0 / 120.0, 1.0 / (120.0 * spacing)
    s2, t2 = s * s, t * t
    w[0] = f * (s2 * s2 * s)
    w[1] = f * (26.0 + t * (-50.0 + t * (20.0 + t * (20.0 + t * (-20.0 + t * 5.0)))))
    w[2] = f * (66.0 + t2 * (-60.0 + t2 * (30.0 - t * 10.0)))
    w[3] = f * (66.0 + s2 * (-60.0 + s2 * (30.0 - s * 10.0)))
    w[4] = f * (26.0 + s * (-50.0 + s * (20.0 + s * (20.0 + s * (-20.0 + s * 5.0)))))
    w[5] = f * (t2 * t2 * t)
    d[0] = -5.0 * g * (s2 * s2)
    d[1] = g * (-50.0 + t * (40.0 + t * (60.0 + t * (-80.0 + t * 25.0))))
    d[2] = g * t * (-120.0 + t2 * (120.0 - t * 50.0))
    d[3] = -g * s * (-120.0 + s2 * (120.0 - s * 50.0))
    d[4] = -g * (-50.0 + s * (40.0 + s * (60.0 + s * (-80.0 + s * 25.0))))
    d[5] = 5.0 * g * (t2 * t2)


@compiled
def spline_rows(r, kind, start, spacing, offset, n_rows, row, weights):  # type: ignore[no-untyped-def]
    """First coefficient row of each pair, its six value weights and its six slope weights (per Å).

    The table's coordinate is r, or ln(r + offset) for a positive offset.
    """
    step = spacing
    for q in range(len(r)):
        x = (r[q] - start) / step
        if offset > 0.0:
            x = (math.log(r[q] + offset) - start) / step
            spacing = step * (r[q] + offset)
        interval = max(0, min(int(x), n_rows - 6))
        row[q] = kind[q] * n_rows + interval
        quintic_weights(x - interval, spacing, weights[q, :6], weights[q, 6:])


@compiled
def near_pairs(i, j, shift, positions, cell, system, cutoff):  # type: ignore[no-untyped-def]
    """(i, j, shift, r_ij) of the pairs whose r_ij = r_j + shift·cell − r_i is shorter than the cutoff.

    Where that is all of them i, j and shift are those given: a list without a skin is not copied.
    """
    n = len(i)
    vectors = np.empty((n, 3))
    centre, other, image = i, j, shift
    found, square = 0, cutoff * cutoff
    for q in range(n):
        a, b = i[q], j[q]
        box = cell[system[a]]
        s, t, u = shift[q, 0], shift[q, 1], shift[q, 2]
        # the same sums as in `core.pairs.pair_vectors`
        x = positions[b, 0] - positions[a, 0] + (s * box[0, 0] + t * box[1, 0] + u * box[2, 0])
        y = positions[b, 1] - positions[a, 1] + (s * box[0, 1] + t * box[1, 1] + u * box[2, 1])
        z = positions[b, 2] - positions[a, 2] + (s * box[0, 2] + t * box[1, 2] + u * box[2, 2])
        vectors[found, 0], vectors[found, 1], vectors[found, 2] = x, y, z
        if found < q:
            centre[found], other[found] = a, b
            image[found, 0], image[found, 1], image[found, 2] = s, t, u
        if x * x + y * y + z * z < square:
            found += 1
        elif found == q:
            # the first that is too far: from here on the rest is written elsewhere
            centre, other, image = np.empty_like(i), np.empty_like(j), np.empty_like(shift)
            centre[:q], other[:q], image[:q] = i[:q], j[:q], shift[:q]
    return centre[:found], other[:found], image[:found], vectors[:found]


@compiled
def pair_sums(i, j, system, vectors, gradient, forces, virial):  # type: ignore[no-untyped-def]
    """From g = ∂E/∂r_ij add g to the force on i, −g to that on j, and Σ g_a r_b to each system's virial.

    `virial` [systems, 3, 3] is symmetrised; nothing is added to what is empty.
    """
    for q in range(len(i) if len(forces) else 0):
        a, b = i[q], j[q]
        for k in range(3):
            forces[a, k] += gradient[q, k]
            forces[b, k] -= gradient[q, k]
    for q in range(len(i) if len(virial) else 0):
        to = virial[system[i[q]]]
        for k in range(3):
            for m in range(3):
                to[k, m] += 0.5 * (gradient[q, k] * vectors[q, m] + gradient[q, m] * vectors[q, k])


@compiled
def volumes(cell, out):  # type: ignore[no-untyped-def]
    """|det| of each cell; 0 where it is below 1e-12 Å³ or a lattice vector is zero. The least of them."""
    least = math.inf
    for k in range(len(cell)):
        a, b, c = cell[k, 0], cell[k, 1], cell[k, 2]
        x, y, z = b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]
        volume = abs(a[0] * x + a[1] * y + a[2] * z)
        out[k] = volume if volume > 1e-12 else 0.0
        least = min(least, out[k])
    return least


@compiled
def results(i, j, system, vectors, gradient, energies, volume, forces, stress):  # type: ignore[no-untyped-def]
    """Forces and stress from g = ∂E/∂r_ij into arrays of zeros; whether they and `energies` are finite.

    `stress` [systems, 3, 3] = Σ (g ⊗ r + r ⊗ g)/(2V), V from `volume`. An empty array stays empty.
    """
    pair_sums(i, j, system, vectors, gradient, forces, stress)
    check = 0.0
    for k in range(len(stress)):
        stress[k] /= volume[k]
        check += 0.0 * np.sum(stress[k])
    for a in range(len(energies)):
        check += 0.0 * energies[a]
    for a in range(len(forces)):
        check += 0.0 * (forces[a, 0] + forces[a, 1] + forces[a, 2])
    return check == 0.0
