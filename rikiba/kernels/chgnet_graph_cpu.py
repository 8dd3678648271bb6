"""Bonds and angles of CHGNet from pairs that are grouped by centre and sorted by distance.

A bond is a short pair, an edge both of its directions together, an angle an ordered pair of bonds of one
centre.
"""

import math

import numpy as np

from .compiled import compiled


@compiled
def bonds(start, r, cutoff):  # type: ignore[no-untyped-def]
    """(first bond of each atom and the number of all, pair of each bond)."""
    n = len(start) - 1
    first = np.zeros(n + 1, np.int64)
    for a in range(n):
        p = start[a]
        while p < start[a + 1] and r[p] < cutoff:
            p += 1
        first[a + 1] = first[a] + p - start[a]
    parent = np.empty(first[n], np.int64)
    for a in range(n):
        for k in range(first[a + 1] - first[a]):
            parent[first[a] + k] = start[a] + k
    return first, parent


@compiled
def edges(first, parent, centre, sender, unit, r):  # type: ignore[no-untyped-def]
    """(edge of each bond, −1 where the opposite bond is missing; both pairs of each edge)."""
    edge = np.full(len(parent), -1, np.int64)
    ends = np.empty((len(parent), 2), np.int64)
    n = 0
    for b in range(len(parent)):
        if edge[b] >= 0:
            continue
        p = parent[b]
        i, j = centre[p], sender[p]
        for c in range(first[j], first[j + 1]):
            q = parent[c]
            if sender[q] != i or c == b or edge[c] >= 0:
                continue
            off = 0.0
            for k in range(3):
                off = max(off, abs(unit[q, k] * r[q] + unit[p, k] * r[p]))
            if off < 1e-6:
                edge[b], edge[c] = n, n
                ends[n, 0], ends[n, 1] = p, q
                n += 1
                break
    return edge, ends[:n]


@compiled
def angles(first, parent, unit):  # type: ignore[no-untyped-def]
    """(both bonds, centre and cos θ) of each angle, both orders of two bonds."""
    n = 0
    for a in range(len(first) - 1):
        k = first[a + 1] - first[a]
        n += k * (k - 1)
    one, other, middle = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    cosine = np.empty(n)
    m = 0
    for a in range(len(first) - 1):
        for p in range(first[a], first[a + 1]):
            for q in range(first[a], first[a + 1]):
                if p != q:
                    one[m], other[m], middle[m] = p, q, a
                    s, t = parent[p], parent[q]
                    cosine[m] = unit[s, 0] * unit[t, 0] + unit[s, 1] * unit[t, 1] + unit[s, 2] * unit[t, 2]
                    m += 1
    return one, other, middle, cosine


@compiled
def angle_slopes(one, other, parent, unit, cosine, shrink, slope, unit_slope):  # type: ignore[no-untyped-def]
    """From ∂E/∂θ, θ = arccos(shrink·cos θ'), add to ∂E/∂r̂ of the pairs (flat)."""
    for k in range(len(one)):
        p, q = parent[one[k]], parent[other[k]]
        x = shrink * cosine[k]
        g = -slope[k] * shrink / math.sqrt(1.0 - x * x)
        for m in range(3):
            unit_slope[3 * p + m] += g * unit[q, m]
            unit_slope[3 * q + m] += g * unit[p, m]


@compiled
def edge_slopes(ends, given, slope):  # type: ignore[no-untyped-def]
    """From derivatives by the lengths of edges add to those of their pairs, half to each direction."""
    for e in range(len(ends)):
        slope[ends[e, 0]] += 0.5 * given[e]
        slope[ends[e, 1]] += 0.5 * given[e]
