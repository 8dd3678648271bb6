"""Compiled products of 3×3 matrices in nine components, sixteen channels at a time, and their reverse sweeps.

The components are those of `rikiba.nn.cartesian`; tensors are flat [.., 9, channels].
"""

import math

from .compiled import compiled, inlined
from .lanes import LANES, add, aligned, divide, load, multiply, multiply_add, splat, store

_ROOT2, _ROOT3, _ROOT6 = math.sqrt(2.0), math.sqrt(3.0), math.sqrt(6.0)


@inlined
def _matrix(x, at, c, out):  # type: ignore[no-untyped-def]
    """Components → entries out[(3·i + j)·16]."""
    real = x.dtype.type
    minus, half = splat(real(-1.0)), splat(real(1.0 / _ROOT2))
    trace = multiply(splat(real(1.0 / _ROOT3)), load(x, at))
    p, q = multiply(half, load(x, at + 7 * c)), multiply(splat(real(1.0 / _ROOT6)), load(x, at + 8 * c))
    rest = multiply_add(minus, q, trace)
    store(out, 0, add(rest, p))
    store(out, 4 * LANES, multiply_add(minus, p, rest))
    store(out, 8 * LANES, add(trace, add(q, q)))
    for k in range(3):
        # [e_k]_× has +1 at (b, a) and −1 at (a, b); the symmetric one of number k stands at (k, a)
        a, b = (k + 1) % 3, (k + 2) % 3
        skew = multiply(half, load(x, at + (1 + k) * c))
        even = multiply(half, load(x, at + (4 + a) * c))
        store(out, (3 * b + a) * LANES, add(even, skew))
        store(out, (3 * a + b) * LANES, multiply_add(minus, skew, even))


@inlined
def _components(x, out, at, c):  # type: ignore[no-untyped-def]
    """Entries x[(3·i + j)·16] → components."""
    real = x.dtype.type
    minus, half = splat(real(-1.0)), splat(real(1.0 / _ROOT2))
    first, second, third = load(x, 0), load(x, 4 * LANES), load(x, 8 * LANES)
    both = add(first, second)
    store(out, at, multiply(splat(real(1.0 / _ROOT3)), add(both, third)))
    store(out, at + 7 * c, multiply(half, multiply_add(minus, second, first)))
    double = multiply_add(minus, both, add(third, third))
    store(out, at + 8 * c, multiply(splat(real(1.0 / _ROOT6)), double))
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        left, right = load(x, (3 * b + a) * LANES), load(x, (3 * a + b) * LANES)
        store(out, at + (1 + k) * c, multiply(half, multiply_add(minus, right, left)))
        store(out, at + (4 + a) * c, multiply(half, add(left, right)))


@inlined
def _product(x, xi, xk, y, yk, yj, out, adding):  # type: ignore[no-untyped-def]
    """out_ij = (out_ij if adding) + Σ_k x_ik y_kj; strides (3, 1), or (1, 3) for a transposed factor."""
    for i in range(3):
        for j in range(3):
            s = multiply(load(x, i * xi * LANES), load(y, j * yj * LANES))
            for k in range(1, 3):
                s = multiply_add(load(x, (i * xi + k * xk) * LANES), load(y, (k * yk + j * yj) * LANES), s)
            to = (3 * i + j) * LANES
            store(out, to, add(s, load(out, to)) if adding else s)


@compiled
def normalised(x, x_at, rows, c, out, out_at, size, size_at):  # type: ignore[no-untyped-def]
    """out = X/s with s = ‖X‖² + 1 into `size`."""
    one = splat(x.dtype.type(1.0))
    for a in range(rows):
        for v in range(0, c, LANES):
            s = one
            for m in range(9):
                value = load(x, x_at + (9 * a + m) * c + v)
                s = multiply_add(value, value, s)
            store(size, size_at + a * c + v, s)
            for m in range(9):
                at = (9 * a + m) * c + v
                store(out, out_at + at, divide(load(x, x_at + at), s))


@compiled
def normalised_reverse(g, g_at, rows, c, out, out_at, size, size_at):  # type: ignore[no-untyped-def]
    """g = ∂E/∂out becomes ∂E/∂X = g/s − 2 out (g·out)."""
    zero, minus = splat(g.dtype.type(0.0)), splat(g.dtype.type(-2.0))
    for a in range(rows):
        for v in range(0, c, LANES):
            dot = zero
            for m in range(9):
                at = (9 * a + m) * c + v
                dot = multiply_add(load(g, g_at + at), load(out, out_at + at), dot)
            dot, s = multiply(minus, dot), load(size, size_at + a * c + v)
            for m in range(9):
                at = (9 * a + m) * c + v
                value = divide(load(g, g_at + at), s)
                store(g, g_at + at, multiply_add(dot, load(out, out_at + at), value))


@compiled
def coupled(y, y_at, message, m_at, rows, c, special, out, out_at):  # type: ignore[no-untyped-def]
    """YM + MY, or 2YM where `special`."""
    one, other = aligned(9 * LANES, y), aligned(9 * LANES, y)
    found = aligned(9 * LANES, y)
    for a in range(rows):
        for v in range(0, c, LANES):
            at = 9 * a * c + v
            _matrix(y, y_at + at, c, one)
            _matrix(message, m_at + at, c, other)
            _product(one, 3, 1, other, 3, 1, found, False)
            if special:
                _product(one, 3, 1, other, 3, 1, found, True)
            else:
                _product(other, 3, 1, one, 3, 1, found, True)
            _components(found, out, out_at + at, c)


@compiled
def coupled_reverse(  # type: ignore[no-untyped-def]
    g, g_at, y, y_at, message, m_at, rows, c, special, y_slope, ys_at, message_slope
):
    """From g = ∂E/∂(YM + MY): adds to ∂E/∂Y, writes ∂E/∂M from the beginning of `message_slope`."""
    one, other, slope = aligned(9 * LANES, y), aligned(9 * LANES, y), aligned(9 * LANES, y)
    found, parts = aligned(9 * LANES, y), aligned(9 * LANES, y)
    for a in range(rows):
        for v in range(0, c, LANES):
            at = 9 * a * c + v
            _matrix(y, y_at + at, c, one)
            _matrix(message, m_at + at, c, other)
            _matrix(g, g_at + at, c, slope)
            _product(slope, 3, 1, other, 1, 3, found, False)
            if special:
                _product(slope, 3, 1, other, 1, 3, found, True)
            else:
                _product(other, 1, 3, slope, 3, 1, found, True)
            _components(found, parts, 0, LANES)
            for m in range(9):
                to = ys_at + at + m * c
                store(y_slope, to, add(load(y_slope, to), load(parts, m * LANES)))
            _product(one, 1, 3, slope, 3, 1, found, False)
            if special:
                _product(one, 1, 3, slope, 3, 1, found, True)
            else:
                _product(slope, 3, 1, one, 1, 3, found, True)
            _components(found, message_slope, at, c)


@compiled
def with_square(x, x_at, d, d_at, rows, c, out, out_at):  # type: ignore[no-untyped-def]
    """X + D + D²."""
    one, found, parts = aligned(9 * LANES, x), aligned(9 * LANES, x), aligned(9 * LANES, x)
    for a in range(rows):
        for v in range(0, c, LANES):
            at = 9 * a * c + v
            _matrix(d, d_at + at, c, one)
            _product(one, 3, 1, one, 3, 1, found, False)
            _components(found, parts, 0, LANES)
            for m in range(9):
                k = at + m * c
                value = add(add(load(x, x_at + k), load(d, d_at + k)), load(parts, m * LANES))
                store(out, out_at + k, value)


@compiled
def with_square_reverse(g, g_at, d, d_at, rows, c, out):  # type: ignore[no-untyped-def]
    """∂E/∂D = G + G Dᵀ + Dᵀ G into the beginning of `out`."""
    one, slope = aligned(9 * LANES, g), aligned(9 * LANES, g)
    found, parts = aligned(9 * LANES, g), aligned(9 * LANES, g)
    for a in range(rows):
        for v in range(0, c, LANES):
            at = 9 * a * c + v
            _matrix(d, d_at + at, c, one)
            _matrix(g, g_at + at, c, slope)
            _product(slope, 3, 1, one, 1, 3, found, False)
            _product(one, 1, 3, slope, 3, 1, found, True)
            _components(found, parts, 0, LANES)
            for m in range(9):
                store(out, at + m * c, add(load(g, g_at + at + m * c), load(parts, m * LANES)))
