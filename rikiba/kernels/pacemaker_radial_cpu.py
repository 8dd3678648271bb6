"""Compiled radial functions and cores of pairs as the program pacemaker defines them, with their slopes.

A row of `table` holds cutoff r_c, cutoff_width, decay, repulsion p, its decay q, inner cutoff, inner width and
the factor of the nuclear repulsion; `kind` numbers the radial functions as in `rikiba.nn.pacemaker_radial`.
"""

import math

from .compiled import compiled, inlined


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
def _chebyshev(y, dy, first, n, g, d):  # type: ignore[no-untyped-def]
    """g_k = ½(1 − T_(k + first)(y)) for k = 0 … n − 1 and slopes; with first = 0, g_0 = 1."""
    t, dt, last, d_last = 1.0, 0.0, 0.0, 0.0
    for k in range(-first, n):
        if k >= 0:
            g[k], d[k] = 0.5 * (1.0 - t), -0.5 * dt
        if k == -first:
            t, dt, last, d_last = y, dy, 1.0, 0.0
        else:
            t, dt, last, d_last = 2.0 * y * t - last, 2.0 * (dy * t + y * dt) - d_last, t, dt
    if first == 0:
        g[0], d[0] = 1.0, 0.0


@inlined
def _bessel(r, cutoff, bessel, n, g, d):  # type: ignore[no-untyped-def]
    """g_k = b_k (a_k (sinc (k+1)πx + sinc (k+2)πx)) + c_k g_(k−1), rows of `bessel` a, b, c."""
    x = math.pi * r / cutoff
    s1, c1 = math.sin(x), math.cos(x)
    s, c = s1, c1
    size = cutoff**-1.5
    previous, d_previous = s / x, (c - s / x) / r
    for k in range(n):
        s, c = s * c1 + c * s1, c * c1 - s * s1
        sinc = s / (x * (k + 2))
        d_sinc = (c - sinc) / r
        g[k] = size * bessel[0, k] * bessel[1, k] * (previous + sinc)
        d[k] = size * bessel[0, k] * bessel[1, k] * (d_previous + d_sinc)
        if k > 0:
            g[k] += bessel[2, k] * g[k - 1]
            d[k] += bessel[2, k] * d[k - 1]
        previous, d_previous = sinc, d_sinc


@inlined
def _base(r, row, kind, bessel, n, g, d):  # type: ignore[no-untyped-def]
    """g_k and slopes of one pair inside its cutoff, before any inner cutoff."""
    cutoff, width, decay = row[0], row[1], row[2]
    x, per = r / cutoff, 1.0 / cutoff
    if kind == 0:
        end, e = math.exp(-decay), math.exp(-decay * x)
        scale = 2.0 / (1.0 - end)
        _chebyshev(1.0 - scale * (e - end), scale * decay * per * e, 0, n, g, d)
        f, df = _cosine(x, per)
        u = (r - cutoff) / width + 1.0
        if u > 0.0:
            last, d_last = _cosine(u, 1.0 / width)
            f, df = f * last, df * last + f * d_last
        for k in range(n):
            g[k], d[k] = g[k] * f, d[k] * f + g[k] * df
    elif kind == 1:
        inside = 1.0 - x
        power = inside ** (decay - 1.0)
        _chebyshev(1.0 - 2.0 * inside * power, 2.0 * decay * power * per, 1, n, g, d)
    elif kind == 2:
        _bessel(r, cutoff, bessel, n, g, d)
    else:
        _chebyshev(1.0 - x, -per, 1, n, g, d)


@compiled
def radial_columns(  # type: ignore[no-untyped-def]
    r, centre, neighbour, table, kind, bessel, mixing, n_first, g, d, out, slope
):
    """R_n0, g and R_nl of pairs and their slopes.

    `mixing[centre, neighbour, k]` holds the coefficients c of g_k in all R_nl, the `n_first` of l = 0 first;
    g and d are scratch.
    """
    n, n_mixed = len(g), mixing.shape[3]
    for q in range(len(r)):
        i, j = centre[q], neighbour[q]
        row, values, slopes, c = table[i, j], out[q], slope[q], mixing[i, j]
        values[:] = 0.0
        slopes[:] = 0.0
        if r[q] >= row[0]:
            continue
        _base(r[q], row, kind[i, j], bessel, n, g, d)
        if row[6] > 0.0 and row[7] == 0.0:
            s, ds = _step((r[q] - row[5]) / row[6] + 1.0)
            for k in range(n):
                g[k], d[k] = g[k] * (1.0 - s), d[k] * (1.0 - s) - g[k] * ds / row[6]
        for k in range(n):
            values[n_first + k], slopes[n_first + k] = g[k], d[k]
        first, d_first, rest, d_rest = (
            values[:n_first], slopes[:n_first], values[n_first + n :], slopes[n_first + n :]
        )  # fmt: skip
        for k in range(n):
            x, dx, head, tail = g[k], d[k], c[k, :n_first], c[k, n_first:]
            for t in range(n_first):
                first[t] += x * head[t]
                d_first[t] += dx * head[t]
            for t in range(n_mixed - n_first):
                rest[t] += x * tail[t]
                d_rest[t] += dx * tail[t]


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

    `nuclear[centre, neighbour]` is e²Z_iZ_j/(4πε₀), 1/a, four coefficients and four exponents of the screening,
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
def closest(start, kinds, sender, r, table, u, share):  # type: ignore[no-untyped-def]
    """u = (r − r_in + w)/w of the pair of each centre whose r − r_in + w is least, and share[pair] = ∂u/∂r.

    Pairs at the same least distance share it. u = 1 without neighbours.
    """
    share[:] = 0.0
    for c in range(len(start) - 1):
        least, count, u[c] = math.inf, 0, 1.0
        for q in range(start[c], start[c + 1]):
            row = table[kinds[c], kinds[sender[q]]]
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
            row = table[kinds[c], kinds[sender[q]]]
            if r[q] < row[0] and r[q] - row[5] + row[6] == least:
                share[q] = 1.0 / (row[6] * count)
