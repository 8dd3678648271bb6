"""Compiled SOAP: radial functions, expansion of the density, power spectrum, and their reverse sweeps.

Arrays of pairs stand in one order throughout. `row` is a pair's line of the expansion: centre × elements +
element of the neighbour. Columns of an expansion are n × (l_max+1)² + lm, of radial functions n × (l_max+1) +
l, of a spectrum (a(a+1)/2 + b) × (l_max+1) + l for channels b ≤ a.
"""

import math
from typing import NamedTuple

import numpy as np

from .compiled import compiled

COSINE, POLYNOMIAL = 0, 1


class Radial(NamedTuple):
    """Settings of the radial functions and of the fading; see `rikiba.descriptors.soap`."""

    alpha: float
    centres: np.ndarray
    transform: np.ndarray
    l_max: int
    switch: float
    start: int
    cutoff: float
    width: float
    envelope: int


@compiled
def bessel(x, l_max, switch, start, out):  # type: ignore[no-untyped-def]
    """Fill out[0 … l_max] with e^{−x} i_l(x)."""
    if x > switch:
        decay = math.exp(-2.0 * x)
        out[0] = 0.5 * (1.0 - decay) / x
        if l_max > 0:
            out[1] = (0.5 * (1.0 + decay) - out[0]) / x
        inverse = 1.0 / x
        for l in range(1, l_max):
            out[l + 1] = out[l - 1] - (2 * l + 1) * inverse * out[l]
        return
    out[0] = -0.5 * math.expm1(-2.0 * x) / x if x > 1e-8 else 1.0 - x
    ratio = 0.0
    for l in range(start, 0, -1):
        ratio = x / (2 * l + 1 + x * ratio)
        if l <= l_max:
            out[l] = ratio
    for l in range(1, l_max + 1):
        out[l] *= out[l - 1]


@compiled
def fade(r, cutoff, width, envelope):  # type: ignore[no-untyped-def]
    """(f, df/dr): 1 up to `width` before the cutoff, 0 from it on."""
    x = (r - (cutoff - width)) / width
    if x <= 0.0:
        return 1.0, 0.0
    if x >= 1.0:
        return 0.0, 0.0
    if envelope == COSINE:
        return 0.5 * (1.0 + math.cos(math.pi * x)), -0.5 * math.pi * math.sin(math.pi * x) / width
    return 1.0 - x * x * x * (10.0 - 15.0 * x + 6.0 * x * x), -30.0 * (x * (1.0 - x)) ** 2 / width


@compiled
def radial_functions(r, radial, values, slopes):  # type: ignore[no-untyped-def]
    """Fill both [pairs, n × l]: the radial functions times f, and their derivatives, per Å."""
    n_max, n_l = len(radial.centres), radial.l_max + 1
    alpha, centres, transform = radial.alpha, radial.centres, radial.transform
    each = np.empty(n_l + 1)
    for q in range(len(r)):
        f, df = fade(r[q], radial.cutoff, radial.width, radial.envelope)
        value, slope = values[q], slopes[q]
        value[:] = 0.0
        slope[:] = 0.0
        for b in range(n_max):
            k = 2.0 * alpha * centres[b]
            height = math.exp(-alpha * (r[q] - centres[b]) ** 2)
            if height < 1e-40:
                continue
            bessel(k * r[q], n_l, radial.switch, radial.start, each)
            for l in range(n_l):
                g = height * each[l]
                raised = (l + 1) * each[l + 1]
                if l > 0:
                    raised += l * each[l - 1]
                # d/dr of e^{−α(r² + b²)} i_l(2αbr)
                dg = height * k * raised / (2 * l + 1) - 2.0 * alpha * r[q] * g
                dg = dg * f + g * df
                g *= f
                for n in range(n_max):
                    value[n * n_l + l] += g * transform[b, n]
                    slope[n * n_l + l] += dg * transform[b, n]


@compiled
def expand(row, values, y, n_max, l_max, out):  # type: ignore[no-untyped-def]
    """Add Σ_pairs values[n, l] Y_lm to out[row, n × lm]."""
    n_lm, n_l = (l_max + 1) ** 2, l_max + 1
    for q in range(len(row)):
        c = out[row[q]]
        for n in range(n_max):
            for l in range(n_l):
                g = values[q, n * n_l + l]
                for lm in range(l * l, (l + 1) * (l + 1)):
                    c[n * n_lm + lm] += g * y[q, lm]


@compiled
def power(c, channels, l_max, out):  # type: ignore[no-untyped-def]
    """Fill out [centres, components] from c [centres, channels × lm]."""
    n_lm, n_l = (l_max + 1) ** 2, l_max + 1
    scale = np.empty(n_l)
    for l in range(n_l):
        scale[l] = 1.0 / (4.0 * math.pi * math.sqrt(2 * l + 1))
    for i in range(len(c)):
        at = 0
        for a in range(channels):
            for b in range(a + 1):
                twice = 1.0 if a == b else math.sqrt(2.0)
                for l in range(n_l):
                    total = 0.0
                    for lm in range(l * l, (l + 1) * (l + 1)):
                        total += c[i, a * n_lm + lm] * c[i, b * n_lm + lm]
                    out[i, at] = twice * scale[l] * total
                    at += 1


@compiled
def power_reverse(c, slope, channels, l_max, out):  # type: ignore[no-untyped-def]
    """Fill ∂E/∂c from ∂E/∂p."""
    n_lm, n_l = (l_max + 1) ** 2, l_max + 1
    scale = np.empty(n_l)
    for l in range(n_l):
        scale[l] = 1.0 / (4.0 * math.pi * math.sqrt(2 * l + 1))
    for i in range(len(c)):
        out[i, :] = 0.0
        at = 0
        for a in range(channels):
            for b in range(a + 1):
                twice = 1.0 if a == b else math.sqrt(2.0)
                for l in range(n_l):
                    w = twice * scale[l] * slope[i, at]
                    at += 1
                    for lm in range(l * l, (l + 1) * (l + 1)):
                        out[i, a * n_lm + lm] += w * c[i, b * n_lm + lm]
                        out[i, b * n_lm + lm] += w * c[i, a * n_lm + lm]


@compiled
def pair_reverse(row, values, slopes, y, from_c, n_max, l_max, slope, y_slope):  # type: ignore[no-untyped-def]
    """Fill ∂E/∂r [pairs] and ∂E/∂Y [pairs, lm] from ∂E/∂c [rows, n × lm]."""
    n_lm, n_l = (l_max + 1) ** 2, l_max + 1
    for q in range(len(row)):
        c = from_c[row[q]]
        y_slope[q, :] = 0.0
        along = 0.0
        for n in range(n_max):
            for l in range(n_l):
                g, total = values[q, n * n_l + l], 0.0
                for lm in range(l * l, (l + 1) * (l + 1)):
                    total += c[n * n_lm + lm] * y[q, lm]
                    y_slope[q, lm] += g * c[n * n_lm + lm]
                along += slopes[q, n * n_l + l] * total
        slope[q] = along


@compiled
def power_jacobian(  # type: ignore[no-untyped-def]
    row, unit, r, values, slopes, y, first, second, axis, coefficients, c, elements, n_max, l_max, out
):
    """Fill out[pairs, 3, components] with ∂p of the centre/∂r_ij; c is [centres, channels × lm]."""
    n_lm, n_l, channels = (l_max + 1) ** 2, l_max + 1, elements * n_max
    dy, dc = np.empty((n_lm, 3)), np.empty((3, n_max * n_lm))
    scale = np.empty(n_l)
    for l in range(n_l):
        scale[l] = 1.0 / (4.0 * math.pi * math.sqrt(2 * l + 1))
    for q in range(len(row)):
        kind, centre = row[q] % elements, c[row[q] // elements]
        u = unit[q]
        dy[:] = 0.0
        for k in range(min(3, n_lm - 1)):
            dy[k + 1, k] = math.sqrt(3.0)
        for t in range(len(first)):
            for k in range(3):
                dy[first[t], k] += coefficients[t] * dy[second[t], k] * u[axis[t]]
            dy[first[t], axis[t]] += coefficients[t] * y[q, second[t]]
        for lm in range(n_lm):
            along = dy[lm, 0] * u[0] + dy[lm, 1] * u[1] + dy[lm, 2] * u[2]
            for k in range(3):
                dy[lm, k] = (dy[lm, k] - along * u[k]) / r[q]
        for n in range(n_max):
            for l in range(n_l):
                g, dg = values[q, n * n_l + l], slopes[q, n * n_l + l]
                for lm in range(l * l, (l + 1) * (l + 1)):
                    for k in range(3):
                        dc[k, n * n_lm + lm] = dg * u[k] * y[q, lm] + g * dy[lm, k]
        lowest = kind * n_max
        for k in range(3):
            at = 0
            for a in range(channels):
                mine = lowest <= a < lowest + n_max
                for b in range(a + 1):
                    other = lowest <= b < lowest + n_max
                    twice = 1.0 if a == b else math.sqrt(2.0)
                    for l in range(n_l):
                        total = 0.0
                        if mine:
                            for lm in range(l * l, (l + 1) * (l + 1)):
                                total += dc[k, (a - lowest) * n_lm + lm] * centre[b * n_lm + lm]
                        if other:
                            for lm in range(l * l, (l + 1) * (l + 1)):
                                total += dc[k, (b - lowest) * n_lm + lm] * centre[a * n_lm + lm]
                        out[q, k, at] = twice * scale[l] * total
                        at += 1
