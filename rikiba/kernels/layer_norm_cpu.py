"""Compiled layer norm of rows of flat arrays, and its reverse."""

import math

from .compiled import compiled

_EPSILON = 1e-5
"""Torch's default."""


@compiled
def _moments(x, at, n, count):  # type: ignore[no-untyped-def]
    """Mean and 1/√(variance + ε) of `count` numbers among n, the others being zero."""
    mean, squares = 0.0, 0.0
    for k in range(n):
        mean += x[at + k]
    mean /= count
    for k in range(n):
        squares += (x[at + k] - mean) ** 2
    return mean, 1.0 / math.sqrt((squares - (n - count) * mean * mean) / count + _EPSILON)


@compiled
def layer_norm(x, at, n, count, weights):  # type: ignore[no-untyped-def]
    """The layer norm of n numbers, in place."""
    mean, inverse = _moments(x, at, n, count)
    for k in range(n):
        x[at + k] = (x[at + k] - mean) * inverse * weights[k] + weights[n + k]


@compiled
def layer_norm_reverse(x, at, n, count, weights, g, g_at):  # type: ignore[no-untyped-def]
    """g = ∂E/∂(the norm of x) becomes ∂E/∂x."""
    mean, inverse = _moments(x, at, n, count)
    first, second = 0.0, 0.0
    for k in range(n):
        h = g[g_at + k] * weights[k]
        first += h
        second += h * (x[at + k] - mean) * inverse
    first, second = first / count, second / count
    for k in range(n):
        away = (x[at + k] - mean) * inverse
        g[g_at + k] = inverse * (g[g_at + k] * weights[k] - first - away * second)
