"""Distances, harmonics and spline weights of all pairs, grouped by centre, with the reverse sweep. Compiled."""

import math

import numpy as np

from .compiled import compiled


@compiled
def arrange(types, n_types, i, j):  # type: ignore[no-untyped-def]
    """Order atoms by type and pairs by centre in that order.

    Returns (order, place, spans, start, parent, sender): atom of each place, place of each atom, first place
    of each type, first pair of each centre, and for each pair its index in the given list and the place of
    its neighbour.
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
        q = at[place[i[p]]]
        at[place[i[p]]] += 1
        parent[q] = p
        sender[q] = place[j[p]]
    return order, place, spans, start, parent, sender


@compiled
def measure(vectors, parent, unit, r):  # type: ignore[no-untyped-def]
    """Fill unit vectors and lengths in grouped order; returns the shortest and the longest length."""
    shortest, longest = math.inf, 0.0
    for q in range(len(parent)):
        p = parent[q]
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        length = math.sqrt(x * x + y * y + z * z)
        r[q] = length
        unit[q, 0], unit[q, 1], unit[q, 2] = x / length, y / length, z / length
        shortest, longest = min(shortest, length), max(longest, length)
    return shortest, longest


@compiled
def harmonics(unit, first, second, axis, coefficients, out):  # type: ignore[no-untyped-def]
    """Y of every pair: Y_0 = 1, Y_1 = √3·r̂, then out[first] += c·out[second]·r̂[axis] term by term."""
    n_lm = out.shape[1]
    for q in range(len(unit)):
        out[q, 0] = 1.0
        for k in range(1, n_lm):
            out[q, k] = math.sqrt(3.0) * unit[q, k - 1] if k < 4 else 0.0
        for k in range(len(first)):
            out[q, first[k]] += coefficients[k] * out[q, second[k]] * unit[q, axis[k]]


@compiled
def geometry_reverse(  # type: ignore[no-untyped-def]
    unit, r, y, first, second, axis, coefficients, parent, slope, y_slope, out
):
    """out[pair] = ∂E/∂r_ij from ∂E/∂r (`slope`) and ∂E/∂Y (`y_slope`, overwritten)."""
    root = math.sqrt(3.0)
    u = np.empty(3)
    for q in range(len(unit)):
        u[:] = 0.0
        for k in range(len(first) - 1, -1, -1):
            g = coefficients[k] * y_slope[q, first[k]]
            y_slope[q, second[k]] += g * unit[q, axis[k]]
            u[axis[k]] += g * y[q, second[k]]
        for k in range(min(3, y.shape[1] - 1)):
            u[k] += root * y_slope[q, k + 1]
        along = u[0] * unit[q, 0] + u[1] * unit[q, 1] + u[2] * unit[q, 2]
        for k in range(3):
            out[parent[q], k] = slope[q] * unit[q, k] + (u[k] - along * unit[q, k]) / r[q]


@compiled
def spline_rows(r, kind, start, spacing, n_rows, row, weights):  # type: ignore[no-untyped-def]
    """First coefficient row of each pair, its six value weights and its six slope weights (per Å)."""
    for q in range(len(r)):
        x = (r[q] - start) / spacing
        interval = min(int(x), n_rows - 6)
        row[q] = kind[q] * n_rows + interval
        t = x - interval
        s = 1.0 - t
        w, d = weights[q, :6], weights[q, 6:]
        w[0] = s**5 / 120.0
        w[1] = (26.0 + t * (-50.0 + t * (20.0 + t * (20.0 + t * (-20.0 + t * 5.0))))) / 120.0
        w[2] = (66.0 + t * t * (-60.0 + t * t * (30.0 - t * 10.0))) / 120.0
        w[3] = (66.0 + s * s * (-60.0 + s * s * (30.0 - s * 10.0))) / 120.0
        w[4] = (26.0 + s * (-50.0 + s * (20.0 + s * (20.0 + s * (-20.0 + s * 5.0))))) / 120.0
        w[5] = t**5 / 120.0
        d[0] = -(s**4) / (24.0 * spacing)
        d[1] = (-50.0 + t * (40.0 + t * (60.0 + t * (-80.0 + t * 25.0)))) / (120.0 * spacing)
        d[2] = t * (-120.0 + t * t * (120.0 - t * 50.0)) / (120.0 * spacing)
        d[3] = -s * (-120.0 + s * s * (120.0 - s * 50.0)) / (120.0 * spacing)
        d[4] = -(-50.0 + s * (40.0 + s * (60.0 + s * (-80.0 + s * 25.0)))) / (120.0 * spacing)
        d[5] = t**4 / (24.0 * spacing)
