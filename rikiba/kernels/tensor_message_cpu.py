"""Compiled messages of 3×3 tensors in nine components, and their reverse sweep; see `rikiba.nn.cartesian`.

    embedding   X_i = Σ_j (f_I, f_A, f_S)(r_ij) ∘ (u_i + v_j) · Y(r̂_ij),  u and v by element
    messages    M_i = Σ_j (f_I I_j, f_A A_j, f_S S_j)

f stands in a spline table [rows, 3·channels], as in `filter_message_cpu`. Arrays are flat, channels last,
their number a multiple of 16; tensors are [atoms, 9, channels].
"""

import math

from .compiled import compiled
from .lanes import LANES, add, load, multiply, multiply_add, splat, spread, store, total

_ROOT2, _ROOT6 = math.sqrt(2.0), math.sqrt(6.0)


@compiled
def direction_tensors(unit, out):  # type: ignore[no-untyped-def]
    """Components of 1 + [r̂]_× + (r̂r̂ᵀ − ⅓) of every pair, [pairs·9]."""
    for q in range(len(unit)):
        x, y, z = unit[q, 0], unit[q, 1], unit[q, 2]
        o = 9 * q
        out[o] = math.sqrt(3.0)
        out[o + 1], out[o + 2], out[o + 3] = _ROOT2 * x, _ROOT2 * y, _ROOT2 * z
        out[o + 4], out[o + 5], out[o + 6] = _ROOT2 * x * y, _ROOT2 * y * z, _ROOT2 * z * x
        out[o + 7] = (x * x - y * y) / _ROOT2
        out[o + 8] = (2.0 * z * z - x * x - y * y) / _ROOT6


@compiled
def direction_tensors_reverse(unit, g, unit_slope):  # type: ignore[no-untyped-def]
    """Add to ∂E/∂r̂ [pairs·3] from g = ∂E/∂Y [pairs·9]."""
    for q in range(len(unit)):
        x, y, z = unit[q, 0], unit[q, 1], unit[q, 2]
        o, last = 9 * q, 2.0 / _ROOT6 * g[9 * q + 8]
        unit_slope[3 * q] += _ROOT2 * (g[o + 1] + y * g[o + 4] + z * g[o + 6] + x * g[o + 7]) - x * last
        unit_slope[3 * q + 1] += _ROOT2 * (g[o + 2] + x * g[o + 4] + z * g[o + 5] - y * g[o + 7]) - y * last
        unit_slope[3 * q + 2] += _ROOT2 * (g[o + 3] + y * g[o + 5] + x * g[o + 6]) + 2.0 * z * last


@compiled
def tensor_embeddings(  # type: ignore[no-untyped-def]
    first, last, start, sender, types, row, weights, table, harmonics, centre, neighbour, channels, out
):
    """X of atoms first … last − 1 into out[atom]."""
    zero = splat(out.dtype.type(0))
    for a in range(first, last):
        o, own = a * 9 * channels, types[a] * channels
        for v in range(o, o + 9 * channels, LANES):
            store(out, v, zero)
        for q in range(start[a], start[a + 1]):
            s, other = row[q] * 3 * channels, types[sender[q]] * channels
            for v in range(0, channels, LANES):
                z = add(load(centre, own + v), load(neighbour, other + v))
                m = 0
                for part in range(3):
                    t = s + part * channels + v
                    x = multiply(spread(weights, 12 * q), load(table, t))
                    for k in range(1, 6):
                        x = multiply_add(spread(weights, 12 * q + k), load(table, t + 3 * k * channels), x)
                    x = multiply(x, z)
                    for _ in range(2 * part + 1):
                        to = o + m * channels + v
                        store(out, to, multiply_add(spread(harmonics, 9 * q + m), x, load(out, to)))
                        m += 1


@compiled
def tensor_embeddings_reverse(  # type: ignore[no-untyped-def]
    first, last, start, sender, types, row, weights, table, harmonics, centre, neighbour, channels,
    cotangent, slope, harmonic_slope,
):  # fmt: skip
    """From ∂E/∂X add to ∂E/∂r per pair and to ∂E/∂Y."""
    zero = splat(cotangent.dtype.type(0))
    for a in range(first, last):
        o, own = a * 9 * channels, types[a] * channels
        for q in range(start[a], start[a + 1]):
            s, other = row[q] * 3 * channels, types[sender[q]] * channels
            radial = zero
            m = 0
            for part in range(3):
                for _ in range(2 * part + 1):
                    along = zero
                    y = spread(harmonics, 9 * q + m)
                    for v in range(0, channels, LANES):
                        t = s + part * channels + v
                        c = load(table, t)
                        x = multiply(spread(weights, 12 * q), c)
                        d = multiply(spread(weights, 12 * q + 6), c)
                        for k in range(1, 6):
                            c = load(table, t + 3 * k * channels)
                            x = multiply_add(spread(weights, 12 * q + k), c, x)
                            d = multiply_add(spread(weights, 12 * q + 6 + k), c, d)
                        z = add(load(centre, own + v), load(neighbour, other + v))
                        g = multiply(z, load(cotangent, o + m * channels + v))
                        along = multiply_add(x, g, along)
                        radial = multiply_add(multiply(d, y), g, radial)
                    harmonic_slope[9 * q + m] += total(along)
                    m += 1
            slope[q] += total(radial)


@compiled
def tensor_messages(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, t_at, features, f_at, channels, out, out_at
):
    """M of atoms first … last − 1 into out[out_at + atom]."""
    zero = splat(out.dtype.type(0))
    for a in range(first, last):
        o = out_at + a * 9 * channels
        for v in range(o, o + 9 * channels, LANES):
            store(out, v, zero)
        for q in range(start[a], start[a + 1]):
            s, h = t_at + row[q] * 3 * channels, f_at + sender[q] * 9 * channels
            for v in range(0, channels, LANES):
                at = v
                for part in range(3):
                    t = s + part * channels + v
                    x = multiply(spread(weights, 12 * q), load(table, t))
                    for k in range(1, 6):
                        x = multiply_add(spread(weights, 12 * q + k), load(table, t + 3 * k * channels), x)
                    for _ in range(2 * part + 1):
                        store(out, o + at, multiply_add(x, load(features, h + at), load(out, o + at)))
                        at += channels


@compiled
def tensor_messages_reverse(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, t_at, features, f_at, channels, cotangent, slope,
    feature_slope,
):  # fmt: skip
    """From ∂E/∂M (of atoms from `first`) add to ∂E/∂r per pair and to ∂E/∂(I, A, S) of the senders."""
    zero = splat(cotangent.dtype.type(0))
    for a in range(first, last):
        o = (a - first) * 9 * channels
        for q in range(start[a], start[a + 1]):
            s, j = t_at + row[q] * 3 * channels, sender[q] * 9 * channels
            h = f_at + j
            radial = zero
            for v in range(0, channels, LANES):
                at = v
                for part in range(3):
                    t = s + part * channels + v
                    c = load(table, t)
                    x, d = multiply(spread(weights, 12 * q), c), multiply(spread(weights, 12 * q + 6), c)
                    for k in range(1, 6):
                        c = load(table, t + 3 * k * channels)
                        x = multiply_add(spread(weights, 12 * q + k), c, x)
                        d = multiply_add(spread(weights, 12 * q + 6 + k), c, d)
                    dot = zero
                    for _ in range(2 * part + 1):
                        g = load(cotangent, o + at)
                        dot = multiply_add(g, load(features, h + at), dot)
                        store(feature_slope, j + at, multiply_add(x, g, load(feature_slope, j + at)))
                        at += channels
                    radial = multiply_add(d, dot, radial)
            slope[q] += total(radial)
