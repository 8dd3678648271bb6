"""Compiled atomic cluster expansion: sums A over neighbours, products of them, and ∂E/∂R, ∂E/∂Y of pairs.

Functions A of one element stand in the order l, m, n, with count[l] values of n; R_nl of a pair is column
first[l] + n − 1. Pairs are grouped by centre. Sixteen centres of one element are taken together.
"""

import math

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, aligned, load, multiply, multiply_add, splat, spread, store


@compiled
def sums(start, kind, y, radial, count, first, per_element, out):  # type: ignore[no-untyped-def]
    """out[centre, function] = Σ R_nl Y_lm over its pairs; `kind` is the neighbour's element."""
    out[:] = 0.0
    for c in range(len(start) - 1):
        for q in range(start[c], start[c + 1]):
            at = kind[q] * per_element
            for l in range(len(count)):
                n, column = count[l], first[l]
                for m in range(l * l, (l + 1) * (l + 1)):
                    x = y[q, m]
                    for k in range(n):
                        out[c, at + k] += x * radial[q, column + k]
                    at += n


@compiled
def pair_slopes(  # type: ignore[no-untyped-def]
    start, kind, y, radial, radial_slope, count, first, per_element, slopes, slope, y_slope
):
    """slope[pair] = ∂E/∂r at fixed direction and y_slope[pair, lm] = ∂E/∂Y from slopes = ∂E/∂A."""
    y_slope[:] = 0.0
    for c in range(len(start) - 1):
        for q in range(start[c], start[c + 1]):
            at, along = kind[q] * per_element, 0.0
            for l in range(len(count)):
                n, column = count[l], first[l]
                for m in range(l * l, (l + 1) * (l + 1)):
                    turned, radially = 0.0, 0.0
                    for k in range(n):
                        turned += slopes[c, at + k] * radial[q, column + k]
                        radially += slopes[c, at + k] * radial_slope[q, column + k]
                    y_slope[q, m] = turned
                    along += radially * y[q, m]
                    at += n
            slope[q] = along


@inlined
def _root(rho, exponent, form):  # type: ignore[no-untyped-def]
    """f(ρ) ≈ sign(ρ)|ρ|^m and its slope; see `root` in `rikiba.potentials.embedded_ace`."""
    if exponent == 1.0:
        return rho, 1.0
    if form == 2:
        a = abs(rho)
        x, start = (1e6 * a) ** 3, 1e6 ** (1.0 - exponent)
        if a < 1e-10:
            return start * rho, start
        g, power = math.exp(-x), a**exponent
        f = (1.0 - g) * power + start * g * a
        slope = exponent * (1.0 - g) * power / a + start * g - 3.0 * x * g * (start - power / a)
        return math.copysign(f, rho), slope
    if form == 0:
        s = 1.0 + rho * rho
        power = s ** (0.5 * (exponent - 1.0))
        return rho * power, power * (1.0 + (exponent - 1.0) * rho * rho / s)
    a, n = abs(rho), 1.0 / exponent
    e = math.exp(-a)
    x, z = n ** (n / (1.0 - n)) * e, n ** (1.0 / (1.0 - n)) * e
    f = (x + a) ** exponent
    return math.copysign(f - z, rho), exponent * f / (x + a) * (1.0 - x) + z


@compiled
def centres(  # type: ignore[no-untyped-def]
    a, spans, left, right, weights, factors, exponents, forms, energies, slopes
):
    """E_i = Σ_p w_p f(ρ_p, m_p), ρ_p = Σ_k weights[element, p, k] v_k, and slopes = ∂E/∂A.

    v are the functions A of a centre and behind them products v[left] v[right] of earlier ones. `spans`
    are the first centres of each element, `factors[element, p]` are w, `exponents[element, p]` m, and
    `forms[element]` says which f: 0 smooth, 1 shifted_scaled, 2 finnis_sinclair.
    """
    n_a, n_products, n_densities = a.shape[1], len(left), weights.shape[1]
    n_nodes = n_a + n_products
    v, g = aligned(n_nodes * LANES, a), aligned(n_nodes * LANES, a)
    rho = aligned(n_densities * LANES, a)
    flat = weights.reshape(-1)
    zero = splat(0.0)
    for kind in range(len(spans) - 1):
        for c in range(spans[kind], spans[kind + 1], LANES):
            n = min(LANES, spans[kind + 1] - c)
            for k in range(n_a):
                for m in range(LANES):
                    v[k * LANES + m] = a[c + m, k] if m < n else 0.0
            for k in range(n_products):
                to = (n_a + k) * LANES
                store(v, to, multiply(load(v, left[k] * LANES), load(v, right[k] * LANES)))
            for p in range(n_densities):
                total, at = zero, (kind * n_densities + p) * n_nodes
                for k in range(n_nodes):
                    total = multiply_add(spread(flat, at + k), load(v, k * LANES), total)
                store(rho, p * LANES, total)
                for m in range(LANES):
                    f, df = _root(rho[p * LANES + m], exponents[kind, p], forms[kind])
                    rho[p * LANES + m] = factors[kind, p] * df
                    if m < n:
                        energies[c + m] += factors[kind, p] * f
            for k in range(n_nodes):
                total = zero
                for p in range(n_densities):
                    at = (kind * n_densities + p) * n_nodes + k
                    total = multiply_add(spread(flat, at), load(rho, p * LANES), total)
                store(g, k * LANES, total)
            for k in range(n_products - 1, -1, -1):
                x, at, to = load(g, (n_a + k) * LANES), left[k] * LANES, right[k] * LANES
                store(g, at, multiply_add(x, load(v, to), load(g, at)))
                store(g, to, multiply_add(x, load(v, at), load(g, to)))
            for k in range(n_a):
                for m in range(n):
                    slopes[c + m, k] = g[k * LANES + m]


@inlined
def _harmonic_slopes(y, unit, r, raising, d):  # type: ignore[no-untyped-def]
    """d[lm, xyz] = ∂Y_lm(r̂)/∂r of one pair."""
    first, second, axis, coefficients = raising
    d[:] = 0.0
    for k in range(min(3, len(y) - 1)):
        d[k + 1, k] = math.sqrt(3.0)
    for k in range(len(first)):
        for x in range(3):
            d[first[k], x] += coefficients[k] * d[second[k], x] * unit[axis[k]]
        d[first[k], axis[k]] += coefficients[k] * y[second[k]]
    for k in range(len(y)):
        along = d[k, 0] * unit[0] + d[k, 1] * unit[1] + d[k, 2] * unit[2]
        for x in range(3):
            d[k, x] = (d[k, x] - along * unit[x]) / r


@compiled
def rows(  # type: ignore[no-untyped-def]
    order, kinds, system, start, sender, unit, r, y, raising, radial, radial_slope, count, first, a,
    values_of, derivatives_of, n_functions, energy, forces, virial,
):  # fmt: skip
    """Add B of each atom, and what it gives to forces and virials, to the columns of the atom's element.

    `values_of` is (function, monomial, coefficient, monomials), `derivatives_of` is (slot, others,
    coefficient, function of each slot, A of each slot, first slot of each neighbour element): the derivative
    of one function with respect to one A is a slot, and `others` the factors left of a monomial. `a` ends
    with a column of ones. `forces` and `virial` may be empty.
    """
    function, monomial, coefficient, monomials = values_of
    slot, others, strength, function_of, a_of, slot_start = derivatives_of
    n_pair_functions = 0
    for l in range(len(count)):
        n_pair_functions += (2 * l + 1) * count[l]
    derivative = np.empty(len(function_of))
    d_phi, d_y = np.empty((n_pair_functions, 3)), np.empty((y.shape[1], 3))
    g = np.empty((3, n_functions))
    for c in range(len(order)):
        i = order[c]
        at = kinds[c] * n_functions
        own = energy[system[i], at : at + n_functions]
        for t in range(len(function)):
            x = coefficient[t]
            for s in range(monomials.shape[1]):
                x *= a[c, monomials[monomial[t], s]]
            own[function[t]] += x
        if len(forces) == 0 and len(virial) == 0:
            continue
        derivative[:] = 0.0
        for t in range(len(slot)):
            x = strength[t]
            for s in range(others.shape[1]):
                x *= a[c, others[t, s]]
            derivative[slot[t]] += x
        for q in range(start[c], start[c + 1]):
            _harmonic_slopes(y[q], unit[q], r[q], raising, d_y)
            k = 0
            for l in range(len(count)):
                for m in range(l * l, (l + 1) * (l + 1)):
                    for n in range(first[l], first[l] + count[l]):
                        along = radial_slope[q, n] * y[q, m]
                        for x in range(3):
                            d_phi[k, x] = along * unit[q, x] + radial[q, n] * d_y[m, x]
                        k += 1
            g[:] = 0.0
            kind = kinds[sender[q]]
            for s in range(slot_start[kind], slot_start[kind + 1]):
                for x in range(3):
                    g[x, function_of[s]] += derivative[s] * d_phi[a_of[s], x]
            if len(forces):
                j = order[sender[q]]
                for x in range(3):
                    plus, minus, gx = forces[i, x, at:], forces[j, x, at:], g[x]
                    for f in range(n_functions):
                        plus[f] += gx[f]
                        minus[f] -= gx[f]
            if len(virial):
                for x in range(3):
                    for z in range(x, 3):
                        half, other = 0.5 * r[q] * unit[q, z], 0.5 * r[q] * unit[q, x]
                        w, gx, gz = virial[system[i], x, z, at:], g[x], g[z]
                        for f in range(n_functions):
                            w[f] += half * gx[f] + other * gz[f]
