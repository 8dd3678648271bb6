"""Compiled bond-order sums of Tersoff and of Kumagai et al. with their derivative. All float64."""

import math

import numpy as np

from .compiled import compiled, inlined

TERSOFF, MODIFIED = range(2)


@inlined
def _taper(r, middle, width, smooth):  # type: ignore[no-untyped-def]
    """f_C and its slope."""
    x = (r - middle) / width
    value, slope = 1.0, 0.0
    if x >= 1.0:
        value = 0.0
    elif x > -1.0:
        x *= 0.5 * math.pi
        s, c = math.sin(x), math.cos(x)
        if smooth:  # sin 3x = 3s − 4s³, cos 3x = 4c³ − 3c
            value = 0.5 - (9.0 * s + s * (3.0 - 4.0 * s * s)) / 16.0
            slope = -(0.5 * math.pi / width) * (9.0 * c + 3.0 * c * (4.0 * c * c - 3.0)) / 16.0
        else:
            value = 0.5 - 0.5 * s
            slope = -(0.25 * math.pi / width) * c
    return value, slope


@inlined
def _angular(form, cosine, p):  # type: ignore[no-untyped-def]
    """g(cos θ) and its slope; the first four of p belong to the distance."""
    if form == TERSOFF:
        c2, d2, x = p[4] * p[4], p[5] * p[5], cosine - p[6]
        below = 1.0 / (d2 + x * x)
        value, slope = p[7] * (1.0 + c2 / d2 * x * x * below), 2.0 * p[7] * c2 * x * below * below
    else:
        x = cosine - p[9]
        x2 = x * x
        below = 1.0 / (p[6] + x2)
        e = p[7] * math.exp(-p[8] * x2)
        ratio = p[5] * x2 * below
        value = p[4] + ratio * (1.0 + e)
        slope = 2.0 * x * (p[5] * p[6] * below * below * (1.0 + e) - ratio * p[8] * e)
    return value, slope


@inlined
def _order(zeta, beta, eta, half_n):  # type: ignore[no-untyped-def]
    """b = [1 + (βζ)^η]^(−half_n) and ∂b/∂ζ; 1 and 0 where nothing crowds the bond."""
    value, slope = 1.0, 0.0
    if beta * zeta > 0.0:
        y = eta * math.log(beta * zeta)
        if y > 0.0:
            e = math.exp(-y)
            value, share = math.exp(-half_n * (y + math.log1p(e))), 1.0 / (1.0 + e)
        else:
            e = math.exp(y)
            value, share = math.exp(-half_n * math.log1p(e)), e / (1.0 + e)
        slope = -half_n * value * share * eta / zeta
    elif not zeta == zeta:
        value, slope = math.nan, math.nan
    return value, slope


@compiled
def bond_order(  # type: ignore[no-untyped-def]
    vectors, i, j, types, form, smooth, bond, angle, reach, energies, gradient
):
    """Add each centre's energy to `energies` and ∂E/∂r_ij to `gradient`.

    Pairs are ordered by centre. `bond` [types, types, 9] holds (A, λ₁, B, λ₂, β, η, 1/2n, R, D), `angle`
    [types, types, types, 4 + k] (m, λ₃, R, D, parameters of g), `reach` [types, types] the distance from
    which on a neighbour does nothing. Atoms at one place give NaN.
    """
    n_pairs, n_types = len(i), len(reach)
    start, widest = 0, 0
    while start < n_pairs:
        stop = start + 1
        while stop < n_pairs and i[stop] == i[start]:
            stop += 1
        widest = max(widest, stop - start)
        start = stop
    # per neighbour: unit vector, r, 1/r, radial slope, tangential slope (3)
    near = np.empty((widest, 9))
    ends = np.empty((widest, n_types, 2))  # f_C and its slope beside a bond to each type
    side = np.empty((widest, 3))  # cosine, ∂ζ/∂r_ik, ∂ζ/∂cos of each k
    which, kinds = np.empty(widest, np.int64), np.empty(widest, np.int64)
    start = 0
    while start < n_pairs:
        centre = i[start]
        ti = types[centre]
        stop, n, energy = start, 0, 0.0
        while stop < n_pairs and i[stop] == centre:
            x, y, z = vectors[stop, 0], vectors[stop, 1], vectors[stop, 2]
            r = math.sqrt(x * x + y * y + z * z)
            tj = types[j[stop]]
            if not r > 0.0:
                energy = math.nan
                gradient[stop, :] = math.nan
            elif r < reach[ti, tj]:
                near[n, 0], near[n, 1], near[n, 2] = x / r, y / r, z / r
                near[n, 3], near[n, 4] = r, 1.0 / r
                near[n, 5:] = 0.0
                which[n], kinds[n] = stop, tj
                for t in range(n_types):
                    value, slope = _taper(r, angle[ti, t, tj, 2], angle[ti, t, tj, 3], smooth)
                    ends[n, t, 0], ends[n, t, 1] = value, slope
                n += 1
            stop += 1
        for b in range(n):
            tb, r = kinds[b], near[b, 3]
            p = bond[ti, tb]
            here, here_slope = _taper(r, p[7], p[8], smooth)
            if here == 0.0:
                continue
            zeta, along = 0.0, 0.0
            for c in range(n):
                f, f_slope = ends[c, tb, 0], ends[c, tb, 1]
                side[c, 1], side[c, 2] = 0.0, 0.0
                if c == b or f == 0.0:
                    continue
                q = angle[ti, tb, kinds[c]]
                cosine = near[b, 0] * near[c, 0] + near[b, 1] * near[c, 1] + near[b, 2] * near[c, 2]
                g, g_slope = _angular(form, cosine, q)
                stretch, growth = 1.0, 0.0
                if q[1] != 0.0:
                    x = q[1] * (r - near[c, 3])
                    if q[0] == 3.0:
                        stretch, growth = math.exp(x * x * x), 3.0 * x * x * q[1]
                    else:
                        stretch, growth = math.exp(x), q[1]
                zeta += f * g * stretch
                along += f * g * stretch * growth
                side[c, 0], side[c, 1] = cosine, (f_slope - f * growth) * g * stretch
                side[c, 2] = f * g_slope * stretch
            order, order_slope = _order(zeta, p[4], p[5], p[6])
            repulsion, attraction = p[0] * math.exp(-p[1] * r), p[2] * math.exp(-p[3] * r)
            energy += 0.5 * here * (repulsion - order * attraction)
            near[b, 5] += 0.5 * here_slope * (repulsion - order * attraction)
            near[b, 5] += 0.5 * here * (p[3] * order * attraction - p[1] * repulsion)
            pull = -0.5 * here * attraction * order_slope
            if pull == 0.0:
                continue
            near[b, 5] += pull * along
            for c in range(n):
                turn = pull * side[c, 2]
                near[c, 5] += pull * side[c, 1]
                if turn != 0.0:
                    for k in range(3):
                        near[b, 6 + k] += turn * (near[c, k] - side[c, 0] * near[b, k])
                        near[c, 6 + k] += turn * (near[b, k] - side[c, 0] * near[c, k])
        for b in range(n):
            for k in range(3):
                gradient[which[b], k] += near[b, 5] * near[b, k] + near[b, 6 + k] * near[b, 4]
        energies[centre] += energy
        start = stop
