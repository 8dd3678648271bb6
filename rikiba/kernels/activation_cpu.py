"""Compiled activations with their derivatives, sixteen numbers at a time.

    silu(x) = x·σ(x),  shifted softplus(x) = ln(½eˣ + ½),  tanh(x),  σ(x) = 1/(1 + e⁻ˣ)
    celu(x) = x for x ≥ 0, (e^{10x} − 1)/10 below

Relative errors of e^−|x| and ln(1 + u) are a few units in the last place. NaN stays NaN.
"""

import math

from .compiled import compiled, inlined
from .lanes import (
    LANES,
    add,
    divide,
    load,
    multiply,
    multiply_add,
    smaller,
    splat,
    splat_as,
    store,
    times_power_of_two,
    wide,
)

SILU, SHIFTED_SOFTPLUS, TANH, CELU = 1, 2, 3, 4

_LOG2 = math.log(2.0)
_LOG2_HIGH = math.floor(_LOG2 * 2.0**14) / 2.0**14
"""With 14 bits, so that its products with whole numbers below 1024 are exact in float32 too."""
_SINGLE = (0.500000001, 0.16666577, 0.0416664648, 0.00836318154, 0.00139336581)
"""c with eʳ = 1 + r + r² Σ_k c_k rᵏ on |r| ≤ ½ ln 2 within 1.1e-8: least squares on Chebyshev's nodes."""


@inlined
def exponential(x):  # type: ignore[no-untyped-def]
    """eˣ for x ≤ 0; below −87 (−700 in float64) that of this value."""
    n, p, r = _exponential_parts(_not_below(x))
    return times_power_of_two(multiply_add(p, r, splat_as(x, 1.0)), n)


@inlined
def logistic(x):  # type: ignore[no-untyped-def]
    """σ(x) and σ(−x), those of ±87 (±700 in float64) beyond."""
    highest = splat_as(x, 700.0 if wide(x) else 87.0)
    x = _not_below(smaller(highest, x, highest, x))
    one = splat_as(x, 1.0)
    n, p, r = _exponential_parts(multiply(x, splat_as(x, -1.0)))
    u = times_power_of_two(multiply_add(p, r, one), n)
    share = divide(one, add(one, u))
    return share, multiply(u, share)


@inlined
def _not_below(x):  # type: ignore[no-untyped-def]
    """x or the least power whose eˣ is a normal number."""
    lowest = splat_as(x, -700.0 if wide(x) else -87.0)
    return smaller(x, lowest, lowest, x)


@inlined
def _exponential_parts(x):  # type: ignore[no-untyped-def]
    """(n, p, r) with eˣ = 2ⁿ·(1 + p·r), |p·r| < 0.42, n as `times_power_of_two` reads it."""
    # the sum's last digit is one, so that its last bits are the whole number nearest to x/ln 2
    shift = splat_as(x, 1.5 * 2.0**52 if wide(x) else 1.5 * 2.0**23)
    n = multiply_add(x, splat_as(x, 1.0 / _LOG2), shift)
    whole = add(n, multiply(shift, splat_as(x, -1.0)))
    r = multiply_add(whole, splat_as(x, -_LOG2_HIGH), x)
    r = multiply_add(whole, splat_as(x, _LOG2_HIGH - _LOG2), r)
    if wide(x):
        # Taylor's series on |r| ≤ ½ ln 2
        p = splat_as(x, 1.0 / 6227020800.0)
        p = multiply_add(p, r, splat_as(x, 1.0 / 479001600.0))
        p = multiply_add(p, r, splat_as(x, 1.0 / 39916800.0))
        p = multiply_add(p, r, splat_as(x, 1.0 / 3628800.0))
        p = multiply_add(p, r, splat_as(x, 1.0 / 362880.0))
        p = multiply_add(p, r, splat_as(x, 1.0 / 40320.0))
        p = multiply_add(p, r, splat_as(x, 1.0 / 5040.0))
        p = multiply_add(p, r, splat_as(x, 1.0 / 720.0))
        p = multiply_add(p, r, splat_as(x, 1.0 / 120.0))
        p = multiply_add(p, r, splat_as(x, 1.0 / 24.0))
        p = multiply_add(p, r, splat_as(x, 1.0 / 6.0))
        p = multiply_add(p, r, splat_as(x, 0.5))
    else:
        p = splat_as(x, _SINGLE[4])
        p = multiply_add(p, r, splat_as(x, _SINGLE[3]))
        p = multiply_add(p, r, splat_as(x, _SINGLE[2]))
        p = multiply_add(p, r, splat_as(x, _SINGLE[1]))
        p = multiply_add(p, r, splat_as(x, _SINGLE[0]))
    return n, multiply_add(p, r, splat_as(x, 1.0)), r


@inlined
def _logarithm(u):  # type: ignore[no-untyped-def]
    """ln(1 + u) for 0 ≤ u ≤ 1: 2 artanh(w) with w = u/(2 + u) ≤ ⅓, by its series."""
    w = divide(u, add(u, splat_as(u, 2.0)))
    s = multiply(w, w)
    p = splat_as(u, 1.0 / 15.0)
    if wide(u):
        p = splat_as(u, 1.0 / 33.0)
        p = multiply_add(p, s, splat_as(u, 1.0 / 31.0))
        p = multiply_add(p, s, splat_as(u, 1.0 / 29.0))
        p = multiply_add(p, s, splat_as(u, 1.0 / 27.0))
        p = multiply_add(p, s, splat_as(u, 1.0 / 25.0))
        p = multiply_add(p, s, splat_as(u, 1.0 / 23.0))
        p = multiply_add(p, s, splat_as(u, 1.0 / 21.0))
        p = multiply_add(p, s, splat_as(u, 1.0 / 19.0))
        p = multiply_add(p, s, splat_as(u, 1.0 / 17.0))
        p = multiply_add(p, s, splat_as(u, 1.0 / 15.0))
    p = multiply_add(p, s, splat_as(u, 1.0 / 13.0))
    p = multiply_add(p, s, splat_as(u, 1.0 / 11.0))
    p = multiply_add(p, s, splat_as(u, 1.0 / 9.0))
    p = multiply_add(p, s, splat_as(u, 1.0 / 7.0))
    p = multiply_add(p, s, splat_as(u, 1.0 / 5.0))
    p = multiply_add(p, s, splat_as(u, 1.0 / 3.0))
    p = multiply_add(p, s, splat_as(u, 1.0))
    return multiply(multiply(w, splat_as(u, 2.0)), p)


@inlined
def silu(x):  # type: ignore[no-untyped-def]
    """x·σ(x) and its slope."""
    sigmoid, rest = logistic(x)
    value = multiply(x, sigmoid)
    return value, multiply_add(value, rest, sigmoid)


@compiled
def activate(z, at, n, activation, slope, slope_at):  # type: ignore[no-untyped-def]
    """z becomes f(z) and `slope` f′(z): n numbers, a multiple of 16, of flat arrays from the given places."""
    real = z.dtype.type
    zero, one, minus = splat(real(0.0)), splat(real(1.0)), splat(real(-1.0))
    for k in range(0, n, LANES):
        x = load(z, at + k)
        if activation == CELU:
            u = exponential(multiply(splat(real(10.0)), smaller(x, zero, x, zero)))
            tenth = splat(real(0.1))
            store(z, at + k, smaller(x, zero, multiply(tenth, add(u, minus)), x))
            store(slope, slope_at + k, smaller(x, zero, u, one))
            continue
        if activation == SILU:
            value, along = silu(x)
            store(z, at + k, value)
            store(slope, slope_at + k, along)
            continue
        negative = multiply(x, smaller(x, zero, one, minus))  # −|x|
        if activation == TANH:
            # tanh|x| = −w/(2 + w) with w = e^{−2|x|} − 1, f′ = 4·(1 + w)/(2 + w)²: right to the last places
            # of f and f′ themselves, for small and for large |x|
            exponent, p, r = _exponential_parts(_not_below(add(negative, negative)))
            power, rest = times_power_of_two(one, exponent), multiply(p, r)
            w = multiply_add(rest, power, add(power, minus))
            share = divide(one, add(w, splat(real(2.0))))
            store(z, at + k, multiply(smaller(x, zero, w, multiply(minus, w)), share))
            u = multiply_add(rest, power, power)
            store(slope, slope_at + k, multiply(multiply(splat(real(4.0)), u), multiply(share, share)))
            continue
        u = exponential(negative)
        share = divide(one, add(one, u))
        sigmoid = smaller(x, zero, multiply(u, share), share)
        # torch's softplus is x from 20 on, where the rest is below 3e-9
        positive, far = smaller(x, zero, zero, x), splat(real(20.0))
        rest = smaller(far, x, zero, _logarithm(u))
        store(z, at + k, add(add(positive, splat(real(-_LOG2))), rest))
        store(slope, slope_at + k, smaller(far, x, one, sigmoid))
