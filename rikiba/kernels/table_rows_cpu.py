"""Compiled reading of spline tables: rows of values and of slopes, sums along them.

A point's six coefficient rows are neighbours in a flat table; see `spline_table` and `pair_geometry_cpu`.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, add, load, multiply, multiply_add, splat, spread, store, total


class Samples(NamedTuple):
    """Points of spline tables."""

    row: np.ndarray
    """First coefficient row of each point."""
    weights: np.ndarray
    """[points, 12]: six of values, six of slopes."""


@inlined
def table_value(table, at, stride, w0, w1, w2, w3, w4, w5):  # type: ignore[no-untyped-def]
    """Sixteen columns of a row from its six weights."""
    x, y = multiply(w0, load(table, at)), multiply(w1, load(table, at + stride))
    x = multiply_add(w2, load(table, at + 2 * stride), x)
    y = multiply_add(w3, load(table, at + 3 * stride), y)
    x = multiply_add(w4, load(table, at + 4 * stride), x)
    y = multiply_add(w5, load(table, at + 5 * stride), y)
    return add(x, y)


@inlined
def table_row(points, p, first, table, width, out, to):  # type: ignore[no-untyped-def]
    """A row of the table's values, with `first` = 6 of its slopes."""
    w, at = p * 12 + first, points.row[p] * width
    w0, w1, w2 = spread(points.weights, w), spread(points.weights, w + 1), spread(points.weights, w + 2)
    w3, w4, w5 = spread(points.weights, w + 3), spread(points.weights, w + 4), spread(points.weights, w + 5)
    for v in range(0, width, LANES):
        store(out, to + v, table_value(table, at + v, width, w0, w1, w2, w3, w4, w5))


@inlined
def table_slope(points, p, table, width, given, g_at):  # type: ignore[no-untyped-def]
    """Σ given·(derivative of a row of the table)."""
    w, at, sums = p * 12 + 6, points.row[p] * width, splat(given.dtype.type(0))
    w0, w1, w2 = spread(points.weights, w), spread(points.weights, w + 1), spread(points.weights, w + 2)
    w3, w4, w5 = spread(points.weights, w + 3), spread(points.weights, w + 4), spread(points.weights, w + 5)
    for v in range(0, width, LANES):
        d = table_value(table, at + v, width, w0, w1, w2, w3, w4, w5)
        sums = multiply_add(d, load(given, g_at + v), sums)
    return total(sums)


@compiled
def read_table(points, first, table, width, out):  # type: ignore[no-untyped-def]
    """Rows of a table's values into out [points, width], with `first` = 6 of its slopes."""
    for p in range(len(points.row)):
        table_row(points, p, first, table, width, out, p * width)


@compiled
def read_table_reverse(points, table, width, given, slope):  # type: ignore[no-untyped-def]
    """slope[p] += Σ given[p]·(derivative of the table's columns)."""
    for p in range(len(points.row)):
        slope[p] += table_slope(points, p, table, width, given, p * width)
