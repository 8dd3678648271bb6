"""Compiled environment vectors of ANI and the reverse sweep; see `rikiba.descriptors.aev`.

Radial functions of one pair, and the angles of one triplet, are taken sixteen at a time. Triplets are
computed again in the reverse sweep: that is cheaper than keeping them.
"""

import math
from typing import NamedTuple

import numpy as np

from .activation_cpu import exponential
from .compiled import compiled, inlined
from .lanes import LANES, add, aligned, load, multiply, multiply_add, splat, spread, store, total

POLYNOMIAL, COSINE, MOLLIFIER = 0, 1, 2


class Functions(NamedTuple):
    """Constants, padded with zeros to multiples of 16."""

    radial_shifts: np.ndarray
    angular_shifts: np.ndarray
    cosines: np.ndarray
    """Of θ_s."""
    sines: np.ndarray
    n_shifts: int
    n_angles: int
    cutoff: float
    angular_cutoff: float
    eta_radial: float
    eta_angular: float
    zeta: float
    radial_factor: float
    cosine_factor: float
    envelope: int
    n_elements: int
    """Elements that have columns."""
    column: np.ndarray
    """First column of each pair of elements."""


@inlined
def _envelope(kind, r, cutoff):  # type: ignore[no-untyped-def]
    """Value and slope for r < cutoff."""
    x = r / cutoff
    if kind == POLYNOMIAL:
        x2 = x * x
        low = x2 * x2 * x
        value = 1.0 - low * x * (28.0 - 48.0 * x + 21.0 * x2)
        slope = -168.0 * low * (1.0 - x) * (1.0 - x)
    elif kind == COSINE:
        value = 0.5 * (1.0 + math.cos(math.pi * x))
        slope = -0.5 * math.pi * math.sin(math.pi * x)
    else:
        below = 1.0 / (1.0 - x * x)
        value = math.exp(1.0 - below)
        slope = -2.0 * x * below * below * value
    return value, slope / cutoff


@compiled
def geometry(i, j, vectors, types, n_atoms, f, unit, r, radial, near, out):  # type: ignore[no-untyped-def]
    """Start of each centre's pairs, and of its pairs within the angular cutoff, sorted by element.

    Fills unit vectors and lengths, `radial` and `near` [pairs, 2] with values and slopes of both envelopes,
    and `out` with the pairs within the angular cutoff. Pairs are ordered by centre; those from the cutoff on
    get a zero envelope.
    """
    start, close = np.zeros(n_atoms + 1, np.int64), np.zeros(n_atoms + 1, np.int64)
    for p in range(len(i)):
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        length = math.sqrt(x * x + y * y + z * z)
        r[p] = length
        unit[p, 0], unit[p, 1], unit[p, 2] = x / length, y / length, z / length
        start[i[p] + 1] += 1
        radial[p, 0], radial[p, 1], near[p, 0], near[p, 1] = 0.0, 0.0, 0.0, 0.0
        if not length >= f.cutoff:
            radial[p, 0], radial[p, 1] = _envelope(f.envelope, length, f.cutoff)
        if not length >= f.angular_cutoff:
            near[p, 0], near[p, 1] = _envelope(f.envelope, length, f.angular_cutoff)
            close[i[p] + 1] += 1
    start, close = np.cumsum(start), np.cumsum(close)
    at = close.copy()
    for p in range(len(i)):
        if not r[p] >= f.angular_cutoff:
            q = at[i[p]]
            at[i[p]] += 1
            while q > close[i[p]] and types[j[out[q - 1]]] > types[j[p]]:
                out[q] = out[q - 1]
                q -= 1
            out[q] = p
    return start, close


@inlined
def _gaussians(f, real, eta, shifts, at, x):  # type: ignore[no-untyped-def]
    """e^{−η d²} and d = x − shift of 16 shifts."""
    d = add(splat(real(x)), multiply(splat(real(-1.0)), load(shifts, at)))
    return exponential(multiply(splat(real(-eta)), multiply(d, d))), d


@inlined
def _turns(f, x, sine, like, power, value):  # type: ignore[no-untyped-def]
    """For all angles h^(ζ−1) into `power` and h^ζ into `value`, h = (1 + cos(θ − θ_s))/2."""
    real = like.dtype.type
    half = splat(real(0.5))
    whole = f.zeta == math.floor(f.zeta)
    for at in range(0, len(f.cosines), LANES):
        h = multiply_add(splat(real(x)), load(f.cosines, at), splat(real(1.0)))
        h = multiply(half, multiply_add(splat(real(sine)), load(f.sines, at), h))
        if whole:
            n, p, square = int(f.zeta) - 1, splat(real(1.0)), h
            while n > 0:
                if n & 1:
                    p = multiply(p, square)
                square = multiply(square, square)
                n >>= 1
            store(power, at, p)
            store(value, at, multiply(p, h))
        else:
            store(value, at, h)
    if not whole:
        for k in range(f.n_angles):
            h = max(value[k], real(0.0))
            power[k] = real(math.exp((f.zeta - 1.0) * math.log(h))) if h > 0.0 else real(0.0)
            value[k] = power[k] * h


@inlined
def _sine(cosine_factor, x, unit, p, q):  # type: ignore[no-untyped-def]
    """sin θ of the scaled cosine x; of unit vectors themselves where it is not scaled."""
    if cosine_factor < 1.0:
        found = math.sqrt(1.0 - x * x)
    else:
        a = unit[p, 1] * unit[q, 2] - unit[p, 2] * unit[q, 1]
        b = unit[p, 2] * unit[q, 0] - unit[p, 0] * unit[q, 2]
        c = unit[p, 0] * unit[q, 1] - unit[p, 1] * unit[q, 0]
        found = math.sqrt(a * a + b * b + c * c)
    return found


@compiled
def environments(  # type: ignore[no-untyped-def]
    j, types, place, start, close, order, unit, r, radial, near, f, stride, out
):
    """Fill out[place of each atom · stride + column]; types number the elements that have columns.

    The radial functions of each element have as many columns as there are padded shifts.
    """
    real = out.dtype.type
    n_angles = len(f.cosines)
    near_sum = aligned(f.n_shifts * n_angles, out)
    shells = aligned(len(f.angular_shifts), out)
    power, value = aligned(n_angles, out), aligned(n_angles, out)
    width = len(f.radial_shifts)
    for atom in range(len(start) - 1):
        base = place[atom] * stride
        out[base : base + stride] = real(0.0)
        for p in range(start[atom], start[atom + 1]):
            to, c = base + types[j[p]] * width, splat(real(f.radial_factor * radial[p, 0]))
            for at in range(0, width, LANES):
                g, _ = _gaussians(f, real, f.eta_radial, f.radial_shifts, at, r[p])
                store(out, to + at, multiply_add(c, g, load(out, to + at)))
        first = close[atom]
        while first < close[atom + 1]:
            kind = types[j[order[first]]]
            end = first
            while end < close[atom + 1] and types[j[order[end]]] == kind:
                end += 1
            second = first
            while second < close[atom + 1]:
                other = types[j[order[second]]]
                stop = second
                while stop < close[atom + 1] and types[j[order[stop]]] == other:
                    stop += 1
                near_sum[:] = real(0.0)
                for a in range(first, end):
                    p = order[a]
                    for b in range(max(a + 1, second), stop):
                        q = order[b]
                        x = unit[p, 0] * unit[q, 0] + unit[p, 1] * unit[q, 1] + unit[p, 2] * unit[q, 2]
                        x *= f.cosine_factor
                        _turns(f, x, _sine(f.cosine_factor, x, unit, p, q), out, power, value)
                        weight, mean = real(2.0 * near[p, 0] * near[q, 0]), 0.5 * (r[p] + r[q])
                        for at in range(0, len(f.angular_shifts), LANES):
                            g, _ = _gaussians(f, real, f.eta_angular, f.angular_shifts, at, mean)
                            store(shells, at, multiply(splat(weight), g))
                        for s in range(f.n_shifts):
                            shell = spread(shells, s)
                            for at in range(0, n_angles, LANES):
                                to = s * n_angles + at
                                store(near_sum, to, multiply_add(shell, load(value, at), load(near_sum, to)))
                to = base + f.column[kind, other]
                for s in range(f.n_shifts):
                    for k in range(f.n_angles):
                        out[to + s * f.n_angles + k] = near_sum[s * n_angles + k]
                second = stop
            first = end


@compiled
def environments_reverse(  # type: ignore[no-untyped-def]
    j, types, place, start, close, order, unit, r, radial, near, f, stride, slope, gradient
):
    """gradient[pair] = ∂E/∂r_ij from slope[place · stride + column] = ∂E/∂(environment vector)."""
    real = slope.dtype.type
    n_angles = len(f.cosines)
    block = aligned(f.n_shifts * n_angles, slope)
    shells, moved = aligned(len(f.angular_shifts), slope), aligned(len(f.angular_shifts), slope)
    power, value = aligned(n_angles, slope), aligned(n_angles, slope)
    width = len(f.radial_shifts)
    along, across = np.zeros(len(r)), np.zeros((len(r), 3))
    for atom in range(len(start) - 1):
        base = place[atom] * stride
        for p in range(start[atom], start[atom + 1]):
            at_column, both = base + types[j[p]] * width, splat(real(0.0))
            own = splat(real(f.radial_factor * radial[p, 1]))
            stretch = splat(real(-2.0 * f.radial_factor * f.eta_radial * radial[p, 0]))
            for at in range(0, width, LANES):
                g, d = _gaussians(f, real, f.eta_radial, f.radial_shifts, at, r[p])
                g = multiply(g, load(slope, at_column + at))
                both = multiply_add(multiply_add(stretch, d, own), g, both)
            along[p] = total(both)
        for a in range(close[atom], close[atom + 1]):
            p = order[a]
            kind, before = types[j[p]], -1
            for b in range(a + 1, close[atom + 1]):
                q = order[b]
                if types[j[q]] != before:
                    before = types[j[q]]
                    at_column = base + f.column[kind, before]
                    block[:] = real(0.0)
                    for s in range(f.n_shifts):
                        for k in range(f.n_angles):
                            block[s * n_angles + k] = slope[at_column + s * f.n_angles + k]
                cosine = unit[p, 0] * unit[q, 0] + unit[p, 1] * unit[q, 1] + unit[p, 2] * unit[q, 2]
                x = f.cosine_factor * cosine
                sine = _sine(f.cosine_factor, x, unit, p, q)
                _turns(f, x, sine, slope, power, value)
                mean = 0.5 * (r[p] + r[q])
                for at in range(0, len(f.angular_shifts), LANES):
                    g, d = _gaussians(f, real, f.eta_angular, f.angular_shifts, at, mean)
                    store(shells, at, g)
                    store(moved, at, multiply(g, d))
                ratio = real(-x / sine) if sine > 0.0 else real(0.0)
                zero = splat(real(0.0))
                energy, pulled, bend = zero, zero, zero
                for at in range(0, n_angles, LANES):
                    here, there = zero, zero
                    for s in range(f.n_shifts):
                        g = load(block, s * n_angles + at)
                        here = multiply_add(spread(shells, s), g, here)
                        there = multiply_add(spread(moved, s), g, there)
                    energy = multiply_add(load(value, at), here, energy)
                    pulled = multiply_add(load(value, at), there, pulled)
                    turn = multiply_add(splat(ratio), load(f.sines, at), load(f.cosines, at))
                    bend = multiply_add(multiply(load(power, at), turn), here, bend)
                total_energy, total_stretch, total_bend = total(energy), total(pulled), total(bend)
                weight = 2.0 * near[p, 0] * near[q, 0]
                pull = -f.eta_angular * weight * total_stretch
                along[p] += 2.0 * near[p, 1] * near[q, 0] * total_energy + pull
                along[q] += 2.0 * near[p, 0] * near[q, 1] * total_energy + pull
                angle = 0.5 * f.zeta * weight * total_bend * f.cosine_factor
                for k in range(3):
                    across[p, k] += angle * (unit[q, k] - cosine * unit[p, k])
                    across[q, k] += angle * (unit[p, k] - cosine * unit[q, k])
    for p in range(len(r)):
        for k in range(3):
            gradient[p, k] = along[p] * unit[p, k] + across[p, k] / r[p]
