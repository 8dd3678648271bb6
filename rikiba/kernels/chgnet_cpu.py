"""Messages of CHGNet on rows of pairs and angles, forward and reverse; see `rikiba.potentials.chgnet`.

Of what is between the two sweeps a limited number of rows is kept, the others are made again (`Kept`).
Functions of a distance or an angle stand in spline tables, see `table_rows_cpu`. Arrays are flat,
channels last.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .dense_cpu import dense
from .gated_cpu import ROWS, gated_outputs, gated_reverse, gated_values, place
from .lanes import LANES, add, load, multiply, multiply_add, splat, spread, store, total
from .table_rows_cpu import table_row, table_slope, table_value


class Graph(NamedTuple):
    """Pairs in order of their centre, edges and angles; see `chgnet_graph_cpu`."""

    centre: np.ndarray
    sender: np.ndarray
    edge: np.ndarray
    """Of each pair, −1 for those that are not bonds."""
    one: np.ndarray
    """Edges of each angle's bonds."""
    other: np.ndarray
    middle: np.ndarray
    """Centre of each angle."""


@compiled
def _pair_inputs(a, b, graph, points, table, atoms, edges, width, x):  # type: ignore[no-untyped-def]
    """x of pairs a … b − 1: parts of both atoms, and of the edge or the table of its distance."""
    for p in range(a, b):
        i, j, o = graph.centre[p] * 2 * width, graph.sender[p] * 2 * width + width, (p - a) * width
        if graph.edge[p] >= 0:
            e = graph.edge[p] * width
            for v in range(0, width, LANES):
                y = add(load(atoms, i + v), load(atoms, j + v))
                store(x, o + v, add(y, load(edges, e + v)))
            continue
        w, at = p * 12, points.row[p] * width
        w0, w1, w2 = spread(points.weights, w), spread(points.weights, w + 1), spread(points.weights, w + 2)
        w3, w4 = spread(points.weights, w + 3), spread(points.weights, w + 4)
        w5 = spread(points.weights, w + 5)
        for v in range(0, width, LANES):
            y = add(load(atoms, i + v), load(atoms, j + v))
            store(x, o + v, add(y, table_value(table, at + v, width, w0, w1, w2, w3, w4, w5)))


@compiled
def pair_messages(  # type: ignore[no-untyped-def]
    net, t, s, graph, points, filters, table, atoms, edges, width, out
):
    """out[i] += Σ_j φ ∘ ẽ. `atoms` [atoms, 2·width] are parts of centres, then neighbours.

    `filters` is the table of ẽ, `table` that of the first layer's part of pairs that are not bonds.
    """
    c, n = net.channels, len(graph.centre)
    for a in range(0, n, ROWS):
        b = min(n, a + ROWS)
        at, _ = place(net, s, t, a, b)
        _pair_inputs(a, b, graph, points, table, atoms, edges, width, s.x)
        gated_outputs(net, t, b - a, s, at)
        gated_values(net, t, b - a, s, at, False, at + ROWS)
        for p in range(a, b):
            w, row, o, k = p * 12, points.row[p] * c, graph.centre[p] * c, (p - a) * c
            w0, w1 = spread(points.weights, w), spread(points.weights, w + 1)
            w2, w3 = spread(points.weights, w + 2), spread(points.weights, w + 3)
            w4, w5 = spread(points.weights, w + 4), spread(points.weights, w + 5)
            for v in range(0, c, LANES):
                e = table_value(filters, row + v, c, w0, w1, w2, w3, w4, w5)
                store(out, o + v, multiply_add(e, load(s.phi, k + v), load(out, o + v)))


@inlined
def _pair_filters_reverse(p, points, filters, c, given, o, phi, k):  # type: ignore[no-untyped-def]
    """φ of a pair becomes ∂E/∂φ; gives Σ_v g ẽ′ φ."""
    w, row, sums = p * 12, points.row[p] * c, splat(phi.dtype.type(0))
    w0, w1, w2 = spread(points.weights, w), spread(points.weights, w + 1), spread(points.weights, w + 2)
    w3, w4, w5 = spread(points.weights, w + 3), spread(points.weights, w + 4), spread(points.weights, w + 5)
    d0, d1, d2 = spread(points.weights, w + 6), spread(points.weights, w + 7), spread(points.weights, w + 8)
    d3, d4 = spread(points.weights, w + 9), spread(points.weights, w + 10)
    d5 = spread(points.weights, w + 11)
    for v in range(0, c, LANES):
        e = table_value(filters, row + v, c, w0, w1, w2, w3, w4, w5)
        d = table_value(filters, row + v, c, d0, d1, d2, d3, d4, d5)
        g = load(given, o + v)
        sums = multiply_add(multiply(d, g), load(phi, k + v), sums)
        store(phi, k + v, multiply(e, g))
    return total(sums)


@compiled
def pair_messages_reverse(  # type: ignore[no-untyped-def]
    net, t, s, graph, points, filters, table, atoms, edges, width, given, atoms_back, edges_back,
    slope,
):  # fmt: skip
    """From `given` = ∂E/∂out add to the derivatives of `atoms`, `edges` and the distances.

    Those of `atoms` are left out where `atoms_back` is empty.
    """
    c, n, x = net.channels, len(graph.centre), s.x
    for chunk in range((n + ROWS - 1) // ROWS - 1, -1, -1):  # what was kept last is still in cache
        a, b = chunk * ROWS, min(n, (chunk + 1) * ROWS)
        at, stayed = place(net, s, t, a, b)
        if not stayed:
            _pair_inputs(a, b, graph, points, table, atoms, edges, width, x)
            gated_outputs(net, t, b - a, s, at)
        gated_values(net, t, b - a, s, at, True, at - ROWS)
        for p in range(a, b):
            k = (p - a) * c
            slope[p] += _pair_filters_reverse(p, points, filters, c, given, graph.centre[p] * c, s.phi, k)
        gated_reverse(net, t, b - a, s, at)
        for p in range(a, b):
            i, j, o = graph.centre[p] * 2 * width, graph.sender[p] * 2 * width + width, (p - a) * width
            for v in range(0, width if len(atoms_back) else 0, LANES):
                g = load(x, o + v)
                store(atoms_back, i + v, add(load(atoms_back, i + v), g))
                store(atoms_back, j + v, add(load(atoms_back, j + v), g))
            if graph.edge[p] >= 0:
                e = graph.edge[p] * width
                for v in range(0, width, LANES):
                    store(edges_back, e + v, add(load(edges_back, e + v), load(x, o + v)))
            else:
                slope[p] += table_slope(points, p, table, width, x, o)


@compiled
def _angle_inputs(  # type: ignore[no-untyped-def]
    a, b, graph, points, table, angles, c, matrix, m_at, ends, middle, width, x
):
    """x of angles a … b − 1: parts of their own features, both edges and the centre.

    The part of their own features is read from `table`, or where that is empty made by `matrix`.
    """
    if not len(table):
        dense(angles, a * c, c, b - a, c, matrix, m_at, x[:0], 0, x, 0, width, width, False)
    for k in range(a, b):
        p, q = graph.one[k] * 2 * width, graph.other[k] * 2 * width + width
        i, o = graph.middle[k] * width, (k - a) * width
        if len(table):
            table_row(points, k, 0, table, width, x, o)
        for v in range(0, width, LANES):
            y = add(add(load(ends, p + v), load(ends, q + v)), load(middle, i + v))
            store(x, o + v, add(load(x, o + v), y))


@compiled
def angle_messages(  # type: ignore[no-untyped-def]
    net, t, s, graph, points, table, angles, matrix, ends, middle, width, filters, out
):
    """out[ij] += Σ_k φ ∘ ẽ_ij ∘ ẽ_ik; without filters out[jik] = angles[jik] + φ.

    `ends` [edges, 2·width] are parts of the first bond, then of the second.
    """
    c, n, phi = net.channels, len(graph.one), s.phi
    for a in range(0, n, ROWS):
        b = min(n, a + ROWS)
        at, _ = place(net, s, t, a, b)
        m_at = t * c * width
        _angle_inputs(a, b, graph, points, table, angles, c, matrix, m_at, ends, middle, width, s.x)
        gated_outputs(net, t, b - a, s, at)
        gated_values(net, t, b - a, s, at, False, at + ROWS)
        for k in range(a, b):
            p, q, o = graph.one[k] * c, graph.other[k] * c, (k - a) * c
            for v in range(0, c, LANES):
                y = load(phi, o + v)
                if len(filters):
                    y = multiply(y, multiply(load(filters, p + v), load(filters, q + v)))
                    store(out, p + v, add(load(out, p + v), y))
                else:
                    store(out, k * c + v, add(load(angles, k * c + v), y))


@compiled
def angle_messages_reverse(  # type: ignore[no-untyped-def]
    net, t, s, graph, points, table, angles, matrix, back, ends, middle, width, filters, given, angles_back,
    ends_back, middle_back, filters_back, slope,
):  # fmt: skip
    """From `given` = ∂E/∂out add to the derivatives of angles, edges, centres and filters.

    Without filters `given` is `angles_back` itself, which stays as the way around φ. With a table the way
    through it is added to the derivatives by the angles.
    """
    c, n, phi, x = net.channels, len(graph.one), s.phi, s.x
    m_at = t * c * width
    for chunk in range((n + ROWS - 1) // ROWS - 1, -1, -1):  # what was kept last is still in cache
        a, b = chunk * ROWS, min(n, (chunk + 1) * ROWS)
        at, stayed = place(net, s, t, a, b)
        if not stayed:
            _angle_inputs(a, b, graph, points, table, angles, c, matrix, m_at, ends, middle, width, x)
            gated_outputs(net, t, b - a, s, at)
        gated_values(net, t, b - a, s, at, True, at - ROWS)
        for k in range(a, b):
            p, q, o = graph.one[k] * c, graph.other[k] * c, (k - a) * c
            for v in range(0, c, LANES):
                if not len(filters):
                    store(phi, o + v, load(given, k * c + v))
                    continue
                g, f, w = load(given, p + v), load(filters, p + v), load(filters, q + v)
                y = multiply(g, load(phi, o + v))
                store(filters_back, p + v, multiply_add(y, w, load(filters_back, p + v)))
                store(filters_back, q + v, multiply_add(y, f, load(filters_back, q + v)))
                store(phi, o + v, multiply(g, multiply(f, w)))
        gated_reverse(net, t, b - a, s, at)
        for k in range(a, b):
            p, q = graph.one[k] * 2 * width, graph.other[k] * 2 * width + width
            i, o = graph.middle[k] * width, (k - a) * width
            for v in range(0, width, LANES):
                g = load(x, o + v)
                store(ends_back, p + v, add(load(ends_back, p + v), g))
                store(ends_back, q + v, add(load(ends_back, q + v), g))
                store(middle_back, i + v, add(load(middle_back, i + v), g))
            if len(table):
                slope[k] += table_slope(points, k, table, width, x, o)
        if not len(table):
            dense(x, 0, width, b - a, width, back, m_at, x[:0], 0, angles_back, a * c, c, c, True)
