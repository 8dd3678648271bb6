"""Compiled sums over pairs of closed-form pair potentials, with their derivative. All float64."""

import math

import numpy as np

from .compiled import compiled, inlined

LENNARD_JONES, MORSE, BUCKINGHAM, ZBL, CHEBYSHEV, BUCKINGHAM_CORE = range(6)
FORMS = {
    "lennard_jones": LENNARD_JONES,
    "morse": MORSE,
    "buckingham": BUCKINGHAM,
    "zbl": ZBL,
    "chebyshev": CHEBYSHEV,
    "buckingham_core": BUCKINGHAM_CORE,
}
_ZBL_C = (0.1818, 0.5099, 0.2802, 0.02817)
_ZBL_E = (3.2, 0.9423, 0.4029, 0.2016)


@inlined
def _lennard_jones(r, p):  # type: ignore[no-untyped-def]
    """p = (4ε, σ)."""
    x = p[1] / r
    s6 = x * x * x * x * x * x
    return p[0] * (s6 * s6 - s6), p[0] * (6.0 * s6 - 12.0 * s6 * s6) / r


@inlined
def _morse(r, p):  # type: ignore[no-untyped-def]
    """p = (D, α, r₀)."""
    x = math.exp(-p[1] * (r - p[2]))
    return p[0] * (x * x - 2.0 * x), -2.0 * p[0] * p[1] * (x * x - x)


@inlined
def _buckingham(r, p):  # type: ignore[no-untyped-def]
    """p = (A, ρ, C)."""
    repulsion, dispersion = p[0] * math.exp(-r / p[1]), p[2] / (r * r * r * r * r * r)
    return repulsion - dispersion, 6.0 * dispersion / r - repulsion / p[1]


@inlined
def _core(r, p):  # type: ignore[no-untyped-def]
    """p[3:] = (4ε, σ) of a 30-6 term."""
    x = p[4] / r
    s6 = x * x * x * x * x * x
    s30 = s6 * s6 * s6 * s6 * s6
    return p[3] * (s30 - s6), p[3] * (6.0 * s6 - 30.0 * s30) / r


@inlined
def _zbl(r, p):  # type: ignore[no-untyped-def]
    """p = (Z_i Z_j e²/4πε₀, 1/a)."""
    screening, slope = 0.0, 0.0
    for k in range(4):
        part = _ZBL_C[k] * math.exp(-_ZBL_E[k] * r * p[1])
        screening += part
        slope -= _ZBL_E[k] * p[1] * part
    return p[0] / r * screening, p[0] / r * (slope - screening / r)


@inlined
def _chebyshev(r, p):  # type: ignore[no-untyped-def]
    """p = (cutoff, power of the polynomial envelope, coefficients of T_0, T_1 …)."""
    cutoff, power = p[0], p[1]
    x = r / cutoff
    xi = 2.0 * x - 1.0
    value, slope = 0.0, 0.0
    t0, t1, u0, u1 = 1.0, xi, 0.0, 1.0  # T_k, T_{k+1}, U_{k−1}, U_k
    for k in range(len(p) - 2):
        value += p[k + 2] * t0
        slope += p[k + 2] * k * u0
        t0, t1 = t1, 2.0 * xi * t1 - t0
        u0, u1 = u1, 2.0 * xi * u1 - u0
    inner = (
        0.5 * (power + 1.0) * (power + 2.0) - power * (power + 2.0) * x + 0.5 * power * (power + 1.0) * x * x
    )
    envelope = 1.0 - inner * x**power
    falling = -0.5 * power * (power + 1.0) * (power + 2.0) * x ** (power - 1.0) * (1.0 - x) * (1.0 - x)
    return value * envelope, (slope * 2.0 * envelope + value * falling) / cutoff


@compiled
def pair_sum(  # type: ignore[no-untyped-def]
    form, vectors, i, j, types, parameters, ends, both, energies, gradient
):
    """Add ½w(r_ij) to energies[i] and ∂/∂r_ij of it to `gradient`, w(r) = v(r)·S(r) − a − (r − stop)·b.

    `parameters` [types, types, …] are those of the form, `ends` [types, types, 4] hold (start, stop, a, b): S
    is the quintic switch from start to stop, 1 where start = stop; w = 0 from stop on. Atoms at one place
    give NaN. With `both` the energy goes to energies[j] too: for a list that has each pair once.
    """
    for q in range(len(i)):
        x, y, z = vectors[q, 0], vectors[q, 1], vectors[q, 2]
        r2 = x * x + y * y + z * z
        ti, tj = types[i[q]], types[j[q]]
        start, stop = ends[ti, tj, 0], ends[ti, tj, 1]
        if r2 >= stop * stop:
            continue
        if form == LENNARD_JONES and ends[ti, tj, 3] == 0.0 and 0.0 < r2 <= start * start:
            # even in r: no square root
            inverse = 1.0 / r2
            s2 = parameters[ti, tj, 1] * parameters[ti, tj, 1] * inverse
            s6 = s2 * s2 * s2
            half = 0.5 * (parameters[ti, tj, 0] * (s6 * s6 - s6) - ends[ti, tj, 2])
            energies[i[q]] += half
            if both:
                energies[j[q]] += half
            along = parameters[ti, tj, 0] * s6 * (3.0 - 6.0 * s6) * inverse
            gradient[q, 0] += along * x
            gradient[q, 1] += along * y
            gradient[q, 2] += along * z
            continue
        r = math.sqrt(r2)
        value, slope = math.nan, math.nan
        p = parameters[ti, tj]
        if not r > 0.0:
            pass
        elif form == LENNARD_JONES:
            value, slope = _lennard_jones(r, p)
        elif form == MORSE:
            value, slope = _morse(r, p)
        elif form == BUCKINGHAM:
            value, slope = _buckingham(r, p)
        elif form == ZBL:
            value, slope = _zbl(r, p)
        elif form == CHEBYSHEV:
            value, slope = _chebyshev(r, p)
        elif form == BUCKINGHAM_CORE:
            value, slope = _buckingham(r, p)
            core, core_slope = _core(r, p)
            value, slope = value + core, slope + core_slope
        if r > start:
            u = (r - start) / (stop - start)
            switch = 1.0 - u * u * u * (10.0 - 15.0 * u + 6.0 * u * u)
            falling = -30.0 * u * u * (1.0 - u) * (1.0 - u) / (stop - start)
            value, slope = value * switch, slope * switch + value * falling
        value -= ends[ti, tj, 2] + (r - stop) * ends[ti, tj, 3]
        slope -= ends[ti, tj, 3]
        energies[i[q]] += 0.5 * value
        if both:
            energies[j[q]] += 0.5 * value
        along = 0.5 * slope / r if r > 0.0 else np.nan
        gradient[q, 0] += along * x
        gradient[q, 1] += along * y
        gradient[q, 2] += along * z
