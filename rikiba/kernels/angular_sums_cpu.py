"""Compiled sums over a centre's other neighbours, without triplets, there and back.

    s_ij,ln = f_ij Σ_{k≠j} b_ln(r_ik) w_k,ln P_l(r̂_ij·r̂_ik),  P_l = Σ_m Ŷ_lm Ŷ_lm, Ŷ = Y/√(2l+1)

Per pair, N numbers (l, n) stand in lanes, padded with zeros to a multiple of 16; row m + l_max of the
expanded harmonics [pairs, 2·l_max + 1, N] holds Ŷ_lm in the lanes of degree l ≥ |m| and zeros elsewhere. The
functions of a pair are [N] values b and then f, in 16 lanes of which only the first counts.
"""

import math

from .compiled import compiled
from .lanes import LANES, add, load, multiply, multiply_add, splat, spread, store, total


@compiled
def expand_harmonics(y, l_max, n_max, width, out):  # type: ignore[no-untyped-def]
    """Rows of Ŷ in lanes from harmonics y [pairs, (l_max + 1)²], component-normalised."""
    orders = 2 * l_max + 1
    for q in range(len(y)):
        at = q * orders * width
        out[at : at + orders * width] = 0.0
        for l in range(l_max + 1):
            size = 1.0 / math.sqrt(2 * l + 1)
            for m in range(-l, l + 1):
                to = at + (m + l_max) * width + l * n_max
                for n in range(n_max):
                    out[to + n] = size * y[q, l * l + l + m]


@compiled
def expand_harmonics_reverse(given, l_max, n_max, width, y_slope):  # type: ignore[no-untyped-def]
    """∂E/∂y from that of the rows in lanes."""
    orders = 2 * l_max + 1
    for q in range(len(y_slope)):
        for l in range(l_max + 1):
            size = 1.0 / math.sqrt(2 * l + 1)
            for m in range(-l, l + 1):
                at, sums = (q * orders + m + l_max) * width + l * n_max, 0.0
                for n in range(n_max):
                    sums += given[at + n]
                y_slope[q, l * l + l + m] = size * sums


@compiled
def _centre_sums(q0, q1, sender, functions, harmonics, orders, width, v, x, x_at, x_stride, sums):  # type: ignore[no-untyped-def]
    """Σ_k Ŷ b w over the neighbours of one centre, of 16 lanes from v on."""
    for m in range(orders):
        store(sums, m * LANES, splat(sums.dtype.type(0)))
    for q in range(q0, q1):
        own = load(functions, q * (width + LANES) + v)
        own = multiply(own, load(x, x_at + sender[q] * x_stride + v))
        y = q * orders * width + v
        for m in range(orders):
            store(sums, m * LANES, multiply_add(load(harmonics, y + m * width), own, load(sums, m * LANES)))


@compiled
def angular_sums(  # type: ignore[no-untyped-def]
    near_start, sender, functions, harmonics, orders, width, x, x_at, x_stride, sums, out, out_stride
):
    """s of every near pair into `out`; w of atom k stands in x from x_at + k·x_stride on."""
    minus = splat(x.dtype.type(-1))
    for a in range(len(near_start) - 1):
        q0, q1 = near_start[a], near_start[a + 1]
        for v in range(0, width, LANES):
            _centre_sums(q0, q1, sender, functions, harmonics, orders, width, v, x, x_at, x_stride, sums)
            for q in range(q0, q1):
                f = q * (width + LANES)
                own = multiply(load(functions, f + v), load(x, x_at + sender[q] * x_stride + v))
                y = q * orders * width + v
                s = multiply(minus, own)
                for m in range(orders):
                    s = multiply_add(load(harmonics, y + m * width), load(sums, m * LANES), s)
                store(out, q * out_stride + v, multiply(s, spread(functions, f + width)))


@compiled
def angular_sums_reverse(  # type: ignore[no-untyped-def]
    near_start, sender, functions, function_slopes, harmonics, orders, width, x, x_at, x_stride, sums,
    given, given_stride, slope, harmonics_slope, x_slope, to, to_stride,
):  # fmt: skip
    """From `given` = ∂E/∂s add to ∂E/∂r of the pairs, and those of Ŷ and of w (`x_slope`)."""
    zero, minus = splat(x.dtype.type(0)), splat(x.dtype.type(-1))
    back = orders * LANES  # where the derivatives of the sums stand
    for a in range(len(near_start) - 1):
        q0, q1 = near_start[a], near_start[a + 1]
        for v in range(0, width, LANES):
            _centre_sums(q0, q1, sender, functions, harmonics, orders, width, v, x, x_at, x_stride, sums)
            for m in range(orders):
                store(sums, back + m * LANES, zero)
            for q in range(q0, q1):
                f, y = q * (width + LANES), q * orders * width + v
                own = multiply(load(functions, f + v), load(x, x_at + sender[q] * x_stride + v))
                g = load(given, q * given_stride + v)
                around, h = multiply(minus, own), multiply(g, spread(functions, f + width))
                for m in range(orders):
                    k, some = y + m * width, load(sums, m * LANES)
                    harmonic = load(harmonics, k)
                    around = multiply_add(harmonic, some, around)
                    store(harmonics_slope, k, multiply_add(h, some, load(harmonics_slope, k)))
                    k = back + m * LANES
                    store(sums, k, multiply_add(h, harmonic, load(sums, k)))
                slope[q] += total(multiply(g, around)) * function_slopes[f + width]
            for q in range(q0, q1):
                j, f, y = sender[q], q * (width + LANES), q * orders * width + v
                w, b = load(x, x_at + j * x_stride + v), load(functions, f + v)
                own = multiply(b, w)
                g = multiply(load(given, q * given_stride + v), spread(functions, f + width))
                g = multiply(minus, g)
                for m in range(orders):
                    k, some = y + m * width, load(sums, back + m * LANES)
                    g = multiply_add(load(harmonics, k), some, g)
                    store(harmonics_slope, k, multiply_add(own, some, load(harmonics_slope, k)))
                slope[q] += total(multiply(multiply(g, w), load(function_slopes, f + v)))
                k = to + j * to_stride + v
                store(x_slope, k, add(load(x_slope, k), multiply(g, b)))
