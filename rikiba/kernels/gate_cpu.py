"""Compiled gates: scalars through an activation, channels of l > 0 times a scalar of their own.

Blocks of representations are packed as in `irrep_message_cpu`; the first holds the even scalars and behind
them the gates. Values that are no longer read are overwritten by derivatives: nothing is copied.
"""

from typing import NamedTuple

import numpy as np

from .activation_cpu import exponential
from .compiled import compiled, inlined
from .lanes import LANES, add, divide, load, multiply, multiply_add, smaller, splat, splat_as, store

SILU, SIGMOID, TANH = 0, 1, 2


class Gates(NamedTuple):
    """Of each representation behind the gate:"""

    d: np.ndarray
    channels: np.ndarray
    before: np.ndarray
    """Numbers per atom before its block of what is gated."""
    width: np.ndarray
    """Of a row in that block."""
    gate: np.ndarray
    """Its gates' first column in block 0; −1 for scalars."""
    after: np.ndarray
    """Numbers per atom before its block behind the gate."""
    code: np.ndarray
    """SILU, SIGMOID or TANH, of the scalars or gates."""
    factor: np.ndarray
    """Of the activation."""


@inlined
def _both(x, code, factor):  # type: ignore[no-untyped-def]
    """factor·f(x) and its derivative."""
    zero, one, minus = splat_as(x, 0.0), splat_as(x, 1.0), splat_as(x, -1.0)
    c = splat(factor[0])
    negative = multiply(x, smaller(x, zero, one, minus))  # −|x|
    if code == TANH:
        negative = add(negative, negative)
    u = exponential(negative)
    share = divide(one, add(one, u))
    if code == TANH:
        size = multiply(add(one, multiply(minus, u)), share)
        value = smaller(x, zero, multiply(minus, size), size)
        slope = multiply_add(multiply(minus, value), value, one)
    else:
        s = smaller(x, zero, multiply(u, share), share)
        other = smaller(x, zero, share, multiply(u, share))  # 1 − s
        value, slope = s, multiply(s, other)
        if code == SILU:
            value, slope = multiply(x, s), multiply_add(multiply(x, s), other, s)
    return multiply(c, value), multiply(c, slope)


@compiled
def gate_forward(first, last, gates, mixed, n, opened, out, out_origin, out_n):  # type: ignore[no-untyped-def]
    """Fill `out` (packed, out_n atoms from out_origin on) for atoms first … last − 1.

    `mixed` is packed for n atoms; its scalars become derivatives of the activations. `opened` [n, all gates]
    becomes the gates.
    """
    width = gates.width[0]
    scalars = gates.channels[0]
    for k in range(len(gates.d)):
        d, channels, gate, code = gates.d[k], gates.channels[k], gates.gate[k], gates.code[k]
        factor = gates.factor[k : k + 1]
        for a in range(first, last):
            to = gates.after[k] * out_n + (a - out_origin) * d * channels
            at = gates.before[k] * n + a * d * gates.width[k]
            if gate < 0:
                for v in range(0, channels, LANES):
                    value, slope = _both(load(mixed, at + v), code, factor)
                    store(out, to + v, value)
                    store(mixed, at + v, slope)
            else:
                x = a * width + gate
                o = a * (width - scalars) + gate - scalars
                for v in range(0, channels, LANES):
                    value, slope = _both(load(mixed, x + v), code, factor)
                    store(opened, o + v, value)
                    store(mixed, x + v, slope)
                    for m in range(0, d * channels, channels):
                        store(out, to + m + v, multiply(value, load(mixed, at + m + v)))


@compiled
def gate_reverse(first, last, gates, mixed, n, opened, out_slope, out_origin, out_n):  # type: ignore[no-untyped-def]
    """`mixed`, as `gate_forward` left it, becomes ∂E/∂(what was gated)."""
    width = gates.width[0]
    scalars = gates.channels[0]
    zero = splat(gates.factor.dtype.type(0))
    for k in range(len(gates.d)):
        d, channels, gate = gates.d[k], gates.channels[k], gates.gate[k]
        for a in range(first, last):
            to = gates.after[k] * out_n + (a - out_origin) * d * channels
            at = gates.before[k] * n + a * d * gates.width[k]
            if gate < 0:
                for v in range(0, channels, LANES):
                    store(mixed, at + v, multiply(load(mixed, at + v), load(out_slope, to + v)))
            else:
                x, o = a * width + gate, a * (width - scalars) + gate - scalars
                for v in range(0, channels, LANES):
                    value, along = load(opened, o + v), zero
                    for m in range(0, d * channels, channels):
                        g = load(out_slope, to + m + v)
                        along = multiply_add(g, load(mixed, at + m + v), along)
                        store(mixed, at + m + v, multiply(value, g))
                    store(mixed, x + v, multiply(along, load(mixed, x + v)))
