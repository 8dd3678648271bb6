"""Filters read from a spline table inside compiled functions, sixteen columns at a time.

    W(r) = Σ_m a_m t[row + m],  ∂W/∂r = Σ_m b_m t[row + m],  m = 0 … 5

`weights` hold a_0 … a_5 and b_0 … b_5 of every pair (`pair_geometry_cpu.spline_rows`). A pair's six stay in
registers while the columns pass; `t` is where its first row begins, at the column wanted, and `stride` the
length of a row. Written out, for a loop over an array would not stay in registers.
"""

from .compiled import inlined
from .lanes import load, multiply, multiply_add, spread


@inlined
def _six(weights, w):  # type: ignore[no-untyped-def]
    return (
        spread(weights, w),
        spread(weights, w + 1),
        spread(weights, w + 2),
        spread(weights, w + 3),
        spread(weights, w + 4),
        spread(weights, w + 5),
    )


@inlined
def value_weights(weights, q):  # type: ignore[no-untyped-def]
    """a of pair q."""
    return _six(weights, 12 * q)


@inlined
def slope_weights(weights, q):  # type: ignore[no-untyped-def]
    """b of pair q."""
    return _six(weights, 12 * q + 6)


@inlined
def filtered(table, t, stride, a):  # type: ignore[no-untyped-def]
    """W of sixteen columns."""
    x = multiply(a[0], load(table, t))
    x = multiply_add(a[1], load(table, t + stride), x)
    x = multiply_add(a[2], load(table, t + 2 * stride), x)
    x = multiply_add(a[3], load(table, t + 3 * stride), x)
    x = multiply_add(a[4], load(table, t + 4 * stride), x)
    return multiply_add(a[5], load(table, t + 5 * stride), x)


@inlined
def filtered_and_slope(table, t, stride, a, b):  # type: ignore[no-untyped-def]
    """W of sixteen columns and its derivative, of one reading."""
    c = load(table, t)
    x, y = multiply(a[0], c), multiply(b[0], c)
    c = load(table, t + stride)
    x, y = multiply_add(a[1], c, x), multiply_add(b[1], c, y)
    c = load(table, t + 2 * stride)
    x, y = multiply_add(a[2], c, x), multiply_add(b[2], c, y)
    c = load(table, t + 3 * stride)
    x, y = multiply_add(a[3], c, x), multiply_add(b[3], c, y)
    c = load(table, t + 4 * stride)
    x, y = multiply_add(a[4], c, x), multiply_add(b[4], c, y)
    c = load(table, t + 5 * stride)
    return multiply_add(a[5], c, x), multiply_add(b[5], c, y)
