"""Compiled radial functions and cores of pairs as the program pacemaker defines them, with their slopes.

A row of `table` holds cutoff r_c, cutoff_width, decay, repulsion p, its decay q, inner cutoff, inner width
and the factor of the nuclear repulsion; `kind` numbers the radial functions as in
`rikiba.nn.pacemaker_radial`.
"""

import math

from .compiled import compiled, inlined
from .lanes import LANES, add, aligned, divide, load, multiply, multiply_add, splat, spread, store


@inlined
def _step(u):  # type: ignore[no-untyped-def]
    """The quintic step from 1 at u = 0 to 0 at u = 1 and its slope."""
    if u <= 0.0:
        return 1.0, 0.0
    if u >= 1.0:
        return 0.0, 0.0
    return 1.0 - u**3 * (10.0 - 15.0 * u + 6.0 * u * u), -30.0 * (u * (1.0 - u)) ** 2


@inlined
def _cosine(x, per):  # type: ignore[no-untyped-def]
    """½(1 + cos πx) and its slope, where dx/dr = per."""
    angle = math.pi * x
    return 0.5 * (1.0 + math.cos(angle)), -0.5 * math.pi * per * math.sin(angle)


@inlined
def _argument(r, row, kind):  # type: ignore[no-untyped-def]
    """(y, ∂y/∂r, f, ∂f/∂r) of one pair; f with the inner step, 0 beyond the cutoff. Of bessel y is sin πx."""
    cutoff, width, decay = row[0], row[1], row[2]
    if r >= cutoff:
        return 0.0, 0.0, 0.0, 0.0
    x, per = r / cutoff, 1.0 / cutoff
    y, dy, f, df = 1.0 - x, -per, 1.0, 0.0
    if kind == 0:
        end, e = math.exp(-decay), math.exp(-decay * x)
        scale = 2.0 / (1.0 - end)
        y, dy = 1.0 - scale * (e - end), scale * decay * per * e
        f, df = _cosine(x, per)
        u = (r - cutoff) / width + 1.0
        if u > 0.0:
            last, d_last = _cosine(u, 1.0 / width)
            f, df = f * last, df * last + f * d_last
    elif kind == 1:
        power = (1.0 - x) ** (decay - 1.0)
        y, dy = 1.0 - 2.0 * (1.0 - x) * power, 2.0 * decay * power * per
    elif kind == 2:
        y, dy = math.sin(math.pi * x), math.cos(math.pi * x)
    if row[6] > 0.0 and row[7] == 0.0:
        s, ds = _step((r - row[5]) / row[6] + 1.0)
        f, df = f * (1.0 - s), df * (1.0 - s) - f * ds / row[6]
    return y, dy, f, df


@inlined
def _chebyshev(lanes, first, n, g, d):  # type: ignore[no-untyped-def]
    """g_k = ½(1 − T_(k + first)(y)) for k = 0 … n − 1 and slopes; with first = 0, g_0 = 1."""
    y, dy = load(lanes, 0), load(lanes, LANES)
    half, minus, one, zero = splat(0.5), splat(-1.0), splat(1.0), splat(0.0)
    minus_half = splat(-0.5)
    twice, d_twice = add(y, y), add(dy, dy)
    t, dt, last, d_last = one, zero, y, multiply(minus, dy)
    # T_−1 = T_1
    for k in range(-first, n):
        if k >= 0:
            store(g, k * LANES, multiply_add(minus_half, t, half))
            store(d, k * LANES, multiply(minus_half, dt))
        if k == -first:
            t, dt, last, d_last = y, dy, one, zero
        else:
            following = multiply_add(twice, t, multiply(minus, last))
            slope = multiply_add(twice, dt, multiply(minus, d_last))
            slope = multiply_add(d_twice, t, slope)
            t, dt, last, d_last = following, slope, t, dt
    if first == 0:
        store(g, 0, one)
        store(d, 0, zero)


@inlined
def _bessel(lanes, cutoff, bessel, n, g, d):  # type: ignore[no-untyped-def]
    """g_k = b_k a_k (sinc (k+1)πx + sinc (k+2)πx) + c_k g_(k−1), rows of `bessel` a, b, c."""
    s1, c1, r = load(lanes, 0), load(lanes, LANES), load(lanes, 4 * LANES)
    minus, per_r = splat(-1.0), divide(splat(1.0), r)
    per_x = multiply(splat(cutoff / math.pi), per_r)
    minus_s1, s, c, size = multiply(minus, s1), s1, c1, cutoff**-1.5
    previous = multiply(s1, per_x)
    d_previous = multiply(multiply_add(minus, previous, c1), per_r)
    above, d_above = splat(0.0), splat(0.0)
    for k in range(n):
        s, c = multiply_add(s, c1, multiply(c, s1)), multiply_add(c, c1, multiply(s, minus_s1))
        sinc = multiply(multiply(s, per_x), splat(1.0 / (k + 2)))
        d_sinc = multiply(multiply_add(minus, sinc, c), per_r)
        scale, back = splat(size * bessel[0, k] * bessel[1, k]), splat(bessel[2, k])
        above = multiply_add(scale, add(previous, sinc), multiply(back, above))
        d_above = multiply_add(scale, add(d_previous, d_sinc), multiply(back, d_above))
        store(g, k * LANES, above)
        store(d, k * LANES, d_above)
        previous, d_previous = sinc, d_sinc


@compiled
def radial_columns(  # type: ignore[no-untyped-def]
    order, group, r, table, kind, bessel, mixing, n_first, out, slope
):
    """R_n0, g and R_nl of pairs and their slopes.

    `order` are pairs by their ordered pair of elements, from `group` on for each, which number `table` too.
    `mixing[elements, column, k]` holds the coefficients c of g_k in all R_nl, the `n_first` of l = 0 first.
    """
    n, n_mixed = bessel.shape[1], mixing.shape[1]
    lanes, both = aligned(5 * LANES, r), aligned(2 * LANES, r)
    g, d = aligned(n * LANES, r), aligned(n * LANES, r)
    zero, flat = splat(0.0), mixing.reshape(-1)
    for e in range(len(group) - 1):
        row = table[e]
        for at in range(group[e], group[e + 1], LANES):
            used = min(LANES, group[e + 1] - at)
            for m in range(LANES):
                x = r[order[at + min(m, used - 1)]]
                y, dy, f, df = _argument(x, row, kind[e])
                lanes[m], lanes[LANES + m], lanes[2 * LANES + m] = y, dy, f
                lanes[3 * LANES + m], lanes[4 * LANES + m] = df, x
            if kind[e] == 2:
                _bessel(lanes, row[0], bessel, n, g, d)
            else:
                _chebyshev(lanes, 0 if kind[e] == 0 else 1, n, g, d)
            f, df = load(lanes, 2 * LANES), load(lanes, 3 * LANES)
            for k in range(n):
                value = load(g, k * LANES)
                store(d, k * LANES, multiply_add(load(d, k * LANES), f, multiply(value, df)))
                store(g, k * LANES, multiply(value, f))
                for m in range(used):
                    q = order[at + m]
                    out[q, n_first + k], slope[q, n_first + k] = g[k * LANES + m], d[k * LANES + m]
            for c in range(n_mixed):
                value, d_value, first = zero, zero, (e * n_mixed + c) * n
                for k in range(n):
                    x = spread(flat, first + k)
                    value = multiply_add(x, load(g, k * LANES), value)
                    d_value = multiply_add(x, load(d, k * LANES), d_value)
                store(both, 0, value)
                store(both, LANES, d_value)
                column = c if c < n_first else c + n
                for m in range(used):
                    q = order[at + m]
                    out[q, column], slope[q, column] = both[m], both[LANES + m]


@inlined
def _screened(r, row, nuclear):  # type: ignore[no-untyped-def]
    """½ s (V + S) of two nuclei and its slope, before the step at the cutoff."""
    value, slope = 0.0, 0.0
    for k in range(4):
        e = nuclear[2 + k] * math.exp(-nuclear[6 + k] * nuclear[1] * r)
        value += e / r
        slope -= e / r * (nuclear[6 + k] * nuclear[1] + 1.0 / r)
    t = max(r - row[0] + row[1], 0.0)
    value += nuclear[10] + t**3 * (nuclear[11] + t * nuclear[12])
    slope += t * t * (3.0 * nuclear[11] + 4.0 * t * nuclear[12])
    scale = 0.5 * row[7] * nuclear[0]
    return scale * value, scale * slope


@compiled
def repulsion(r, centre, neighbour, table, nuclear, out, slope):  # type: ignore[no-untyped-def]
    """v of pairs and its slope.

    `nuclear[centre, neighbour]` is e²Z_iZ_j/(4πε₀), 1/a, four coefficients and exponents of the screening,
    and c_0, c_3, c_4 of S = c_0 + c_3 t³ + c_4 t⁴.
    """
    for q in range(len(r)):
        i, j = centre[q], neighbour[q]
        row, x = table[i, j], r[q]
        out[q] = slope[q] = 0.0
        if x >= row[0]:
            continue
        if row[7] != 0.0:
            v, dv = _screened(x, row, nuclear[i, j])
            f, df = _step((x - row[0]) / row[1] + 1.0)
            out[q], slope[q] = v * f, dv * f + v * df / row[1]
        elif row[3] != 0.0:
            v = row[3] * math.exp(-row[4] * x * x) / x
            dv = -v * (2.0 * row[4] * x + 1.0 / x)
            f, df = _cosine(x / row[0], 1.0 / row[0])
            v, dv = v * f, dv * f + v * df
            if row[6] > 0.0:
                s, ds = _step((x - row[5]) / row[6] + 1.0)
                v, dv = v * s, dv * s + v * ds / row[6]
            out[q], slope[q] = v, dv


@compiled
def closest(start, kinds, neighbour, r, table, u, share):  # type: ignore[no-untyped-def]
    """u = (r − r_in + w)/w of the pair of each centre whose r − r_in + w is least, and share[pair] = ∂u/∂r.

    Pairs at the same least distance share it. u = 1 without neighbours.
    """
    share[:] = 0.0
    for c in range(len(start) - 1):
        least, count, u[c] = math.inf, 0, 1.0
        for q in range(start[c], start[c + 1]):
            row = table[kinds[c], neighbour[q]]
            if r[q] >= row[0]:
                continue
            d = r[q] - row[5] + row[6]
            if d < least:
                least, count, u[c] = d, 1, d / row[6]
            elif d == least:
                count += 1
                u[c] += d / row[6]
        if count == 0:
            continue
        u[c] /= count
        for q in range(start[c], start[c + 1]):
            row = table[kinds[c], neighbour[q]]
            if r[q] < row[0] and r[q] - row[5] + row[6] == least:
                share[q] = 1.0 / (row[6] * count)
