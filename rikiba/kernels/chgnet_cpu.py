"""Layers of CHGNet on rows of pairs and angles, forward and reverse; see `rikiba.potentials.chgnet`.

Nothing of size pairs × channels is kept: the reverse sweep makes each chunk of rows again. Pairs are grouped
by centre, bonds are the short ones in the same order, angles are ordered pairs of bonds of one centre.
Functions of the distance stand in spline tables, see `filter_message_cpu`. Arrays are flat, channels last.
"""

import math

import numpy as np

from .compiled import compiled, inlined
from .dense_cpu import dense
from .gated_cpu import ROWS, gated_forward, gated_reverse
from .lanes import LANES, add, load, multiply, multiply_add, splat, spread, store, total


@compiled
def find_bonds(centre, r, unit, cutoff, n_atoms):  # type: ignore[no-untyped-def]
    """(bond of each pair or −1, pair of each bond, first bond of each atom, each angle's bonds, cos θ)."""
    n = len(centre)
    bond = np.full(n, -1, np.int64)
    parent = np.empty(n, np.int64)
    start = np.zeros(n_atoms + 1, np.int64)
    found = 0
    for p in range(n):
        if r[p] < cutoff:
            bond[p], parent[found] = found, p
            start[centre[p] + 1] += 1
            found += 1
    start = np.cumsum(start)
    angles = 0
    for a in range(n_atoms):
        k = start[a + 1] - start[a]
        angles += k * (k - 1)
    first, second = np.empty(angles, np.int64), np.empty(angles, np.int64)
    cosine = np.empty(angles)
    m = 0
    for a in range(n_atoms):
        for p in range(start[a], start[a + 1]):
            for q in range(start[a], start[a + 1]):
                if p != q:
                    first[m], second[m] = p, q
                    u, w = unit[parent[p]], unit[parent[q]]
                    cosine[m] = u[0] * w[0] + u[1] * w[1] + u[2] * w[2]
                    m += 1
    return bond, parent[:found], start, first, second, cosine


@compiled
def opposite_bonds(start, centre, sender, parent, vectors):  # type: ignore[no-untyped-def]
    """The bond j → i of each bond i → j; −1 where there is none."""
    out = np.full(len(parent), -1, np.int64)
    for b in range(len(parent)):
        p = parent[b]
        i, j = centre[p], sender[p]
        for c in range(start[j], start[j + 1]):
            q = parent[c]
            if sender[q] != i or c == b:
                continue
            off = 0.0
            for k in range(3):
                off = max(off, abs(vectors[q, k] + vectors[p, k]))
            if off < 1e-6:
                out[b] = c
                break
    return out


@inlined
def _value(table, at, stride, w0, w1, w2, w3, w4, w5):  # type: ignore[no-untyped-def]
    x = multiply(w0, load(table, at))
    x = multiply_add(w1, load(table, at + stride), x)
    x = multiply_add(w2, load(table, at + 2 * stride), x)
    x = multiply_add(w3, load(table, at + 3 * stride), x)
    x = multiply_add(w4, load(table, at + 4 * stride), x)
    return multiply_add(w5, load(table, at + 5 * stride), x)


@compiled
def read_table(row, weights, w_at, table, width, out):  # type: ignore[no-untyped-def]
    """Rows of a table's values (w_at 0) or slopes (w_at 6) into out [rows, width]."""
    for p in range(len(row)):
        w = p * 12 + w_at
        w0, w1, w2 = spread(weights, w), spread(weights, w + 1), spread(weights, w + 2)
        w3, w4, w5 = spread(weights, w + 3), spread(weights, w + 4), spread(weights, w + 5)
        at = row[p] * width
        for v in range(0, width, LANES):
            store(out, p * width + v, _value(table, at + v, width, w0, w1, w2, w3, w4, w5))


@compiled
def read_table_reverse(row, weights, table, width, given, slope):  # type: ignore[no-untyped-def]
    """slope[p] += Σ given[p]·(derivative of the table's columns)."""
    for p in range(len(row)):
        w = p * 12 + 6
        w0, w1, w2 = spread(weights, w), spread(weights, w + 1), spread(weights, w + 2)
        w3, w4, w5 = spread(weights, w + 3), spread(weights, w + 4), spread(weights, w + 5)
        at, sums = row[p] * width, splat(given.dtype.type(0))
        for v in range(0, width, LANES):
            d = _value(table, at + v, width, w0, w1, w2, w3, w4, w5)
            sums = multiply_add(d, load(given, p * width + v), sums)
        slope[p] += total(sums)


@compiled
def _pair_inputs(t, a, b, centre, sender, row, weights, table, bond, atoms, bonds, h, x):  # type: ignore[no-untyped-def]
    """x of pairs a … b − 1: parts of both atoms, and of the bond or the table of its distance."""
    for p in range(a, b):
        i, j, o = centre[p] * 4 * h, sender[p] * 4 * h + 2 * h, (p - a) * 2 * h
        if bond[p] >= 0:
            e = bond[p] * 2 * h
            for v in range(0, 2 * h, LANES):
                store(x, o + v, add(add(load(atoms, i + v), load(atoms, j + v)), load(bonds, e + v)))
            continue
        w, at = p * 12, row[p] * 2 * h
        w0, w1, w2 = spread(weights, w), spread(weights, w + 1), spread(weights, w + 2)
        w3, w4, w5 = spread(weights, w + 3), spread(weights, w + 4), spread(weights, w + 5)
        for v in range(0, 2 * h, LANES):
            e = _value(table, at + v, 2 * h, w0, w1, w2, w3, w4, w5)
            store(x, o + v, add(add(load(atoms, i + v), load(atoms, j + v)), e))


@compiled
def pair_messages(  # type: ignore[no-untyped-def]
    net, t, s, centre, sender, row, weights, filters, table, bond, atoms, bonds, out
):
    """out[i] += Σ_j φ ∘ ẽ. `atoms` [atoms, 4·width] are parts of centres, then neighbours.

    `filters` is the table of ẽ, `table` that of the first layer's part of bonds beyond the short ones.
    """
    c, h = net.channels, net.hidden
    if not h:
        h = c
    phi, n = s.phi, len(centre)
    for a in range(0, n, ROWS):
        b = min(n, a + ROWS)
        _pair_inputs(t, a, b, centre, sender, row, weights, table, bond, atoms, bonds, h, s.x)
        gated_forward(net, t, b - a, s)
        for p in range(a, b):
            w, at, o = p * 12, row[p] * c, centre[p] * c
            w0, w1, w2 = spread(weights, w), spread(weights, w + 1), spread(weights, w + 2)
            w3, w4, w5 = spread(weights, w + 3), spread(weights, w + 4), spread(weights, w + 5)
            for v in range(0, c, LANES):
                e = _value(filters, at + v, c, w0, w1, w2, w3, w4, w5)
                store(out, o + v, multiply_add(e, load(phi, (p - a) * c + v), load(out, o + v)))


@compiled
def pair_messages_reverse(  # type: ignore[no-untyped-def]
    net, t, s, centre, sender, row, weights, filters, table, bond, atoms, bonds, given, atoms_back,
    bonds_back, slope,
):  # fmt: skip
    """From `given` = ∂E/∂out add to the derivatives of `atoms` and the distances; fill those of `bonds`."""
    c, h = net.channels, net.hidden
    if not h:
        h = c
    phi, x, n = s.phi, s.x, len(centre)
    zero = splat(phi.dtype.type(0))
    for a in range(0, n, ROWS):
        b = min(n, a + ROWS)
        _pair_inputs(t, a, b, centre, sender, row, weights, table, bond, atoms, bonds, h, x)
        gated_forward(net, t, b - a, s)
        for p in range(a, b):
            w, at, o = p * 12, row[p] * c, centre[p] * c
            w0, w1, w2 = spread(weights, w), spread(weights, w + 1), spread(weights, w + 2)
            w3, w4, w5 = spread(weights, w + 3), spread(weights, w + 4), spread(weights, w + 5)
            d0, d1, d2 = spread(weights, w + 6), spread(weights, w + 7), spread(weights, w + 8)
            d3, d4, d5 = spread(weights, w + 9), spread(weights, w + 10), spread(weights, w + 11)
            sums = zero
            for v in range(0, c, LANES):
                e = _value(filters, at + v, c, w0, w1, w2, w3, w4, w5)
                d = _value(filters, at + v, c, d0, d1, d2, d3, d4, d5)
                g, to = load(given, o + v), (p - a) * c + v
                sums = multiply_add(multiply(d, g), load(phi, to), sums)
                store(phi, to, multiply(e, g))
            slope[p] += total(sums)
        gated_reverse(net, t, b - a, s)
        for p in range(a, b):
            i, j, o = centre[p] * 4 * h, sender[p] * 4 * h + 2 * h, (p - a) * 2 * h
            for v in range(0, 2 * h, LANES):
                g = load(x, o + v)
                store(atoms_back, i + v, add(load(atoms_back, i + v), g))
                store(atoms_back, j + v, add(load(atoms_back, j + v), g))
            if bond[p] >= 0:
                for v in range(0, 2 * h, LANES):
                    store(bonds_back, bond[p] * 2 * h + v, load(x, o + v))
                continue
            w, at = p * 12 + 6, row[p] * 2 * h
            d0, d1, d2 = spread(weights, w), spread(weights, w + 1), spread(weights, w + 2)
            d3, d4, d5 = spread(weights, w + 3), spread(weights, w + 4), spread(weights, w + 5)
            sums = zero
            for v in range(0, 2 * h, LANES):
                d = _value(table, at + v, 2 * h, d0, d1, d2, d3, d4, d5)
                sums = multiply_add(d, load(x, o + v), sums)
            slope[p] += total(sums)


@compiled
def _angle_inputs(t, a, b, first, second, centre, angles, matrix, bonds, atoms, c, h, x):  # type: ignore[no-untyped-def]
    """x of angles a … b − 1: what their own features, both bonds' and the centre's give the first layer."""
    dense(angles, a * c, c, b - a, c, matrix, t * 2 * c * h, x[:0], 0, x, 0, 2 * h, 2 * h, False)
    for k in range(a, b):
        p, q, i, o = first[k] * 4 * h, second[k] * 4 * h + 2 * h, centre[first[k]] * 2 * h, (k - a) * 2 * h
        for v in range(0, 2 * h, LANES):
            y = add(add(load(bonds, p + v), load(bonds, q + v)), load(atoms, i + v))
            store(x, o + v, add(load(x, o + v), y))


@compiled
def angle_messages(  # type: ignore[no-untyped-def]
    net, t, s, first, second, centre, angles, matrix, bonds, atoms, filters, out
):
    """out[ij] += Σ_k φ ∘ ẽ_ij ∘ ẽ_ik; without filters out[jik] = angles[jik] + φ."""
    c, h = net.channels, net.hidden
    if not h:
        h = c
    phi, n = s.phi, len(first)
    for a in range(0, n, ROWS):
        b = min(n, a + ROWS)
        _angle_inputs(t, a, b, first, second, centre, angles, matrix, bonds, atoms, c, h, s.x)
        gated_forward(net, t, b - a, s)
        for k in range(a, b):
            p, q, o = first[k] * c, second[k] * c, (k - a) * c
            for v in range(0, c, LANES):
                y = load(phi, o + v)
                if len(filters):
                    y = multiply(y, multiply(load(filters, p + v), load(filters, q + v)))
                    store(out, p + v, add(load(out, p + v), y))
                else:
                    store(out, k * c + v, add(load(angles, k * c + v), y))


@compiled
def angle_messages_reverse(  # type: ignore[no-untyped-def]
    net, t, s, first, second, centre, angles, matrix, matrix_back, bonds, atoms, filters, given, angles_back,
    bonds_back, atoms_back, filters_back,
):  # fmt: skip
    """From `given` = ∂E/∂out add to the derivatives of angles, bonds, atoms and filters.

    Without filters `given` is `angles_back` itself, which stays as the way around φ.
    """
    c, h = net.channels, net.hidden
    if not h:
        h = c
    phi, x, n = s.phi, s.x, len(first)
    for a in range(0, n, ROWS):
        b = min(n, a + ROWS)
        _angle_inputs(t, a, b, first, second, centre, angles, matrix, bonds, atoms, c, h, x)
        gated_forward(net, t, b - a, s)
        for k in range(a, b):
            p, q, o = first[k] * c, second[k] * c, (k - a) * c
            for v in range(0, c, LANES):
                if not len(filters):
                    store(phi, o + v, load(given, k * c + v))
                    continue
                g, f, w = load(given, p + v), load(filters, p + v), load(filters, q + v)
                y = multiply(g, load(phi, o + v))
                store(filters_back, p + v, multiply_add(y, w, load(filters_back, p + v)))
                store(filters_back, q + v, multiply_add(y, f, load(filters_back, q + v)))
                store(phi, o + v, multiply(g, multiply(f, w)))
        gated_reverse(net, t, b - a, s)
        for k in range(a, b):
            p, q, i, o = (
                first[k] * 4 * h,
                second[k] * 4 * h + 2 * h,
                centre[first[k]] * 2 * h,
                (k - a) * 2 * h,
            )
            for v in range(0, 2 * h, LANES):
                g = load(x, o + v)
                store(bonds_back, p + v, add(load(bonds_back, p + v), g))
                store(bonds_back, q + v, add(load(bonds_back, q + v), g))
                store(atoms_back, i + v, add(load(atoms_back, i + v), g))
        dense(x, 0, 2 * h, b - a, 2 * h, matrix_back, t * 2 * c * h, x[:0], 0, angles_back, a * c, c, c, True)


@compiled
def add_opposites(opposite, c, x, out):  # type: ignore[no-untyped-def]
    """out[b] = x[b] + x[opposite of b]."""
    for b in range(len(opposite)):
        for v in range(0, c, LANES):
            store(out, b * c + v, add(load(x, b * c + v), load(x, opposite[b] * c + v)))


@compiled
def angle_slopes(first, second, parent, unit, cosine, shrink, slope, unit_slope):  # type: ignore[no-untyped-def]
    """From ∂E/∂θ, θ = arccos(shrink·cos θ'), add to ∂E/∂r̂ of the pairs (flat)."""
    for k in range(len(first)):
        p, q = parent[first[k]], parent[second[k]]
        x = shrink * cosine[k]
        g = -slope[k] * shrink / math.sqrt(1.0 - x * x)
        for m in range(3):
            unit_slope[3 * p + m] += g * unit[q, m]
            unit_slope[3 * q + m] += g * unit[p, m]
