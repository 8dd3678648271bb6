"""Compiled ends of an inference: read-outs, density normalisation, short repulsion. Sums in float64."""

import math

import numpy as np

from .compiled import compiled

LINEAR, SILU, TANH = 0, 1, 2


@compiled
def linear_readout(features, weights, energies, first):  # type: ignore[no-untyped-def]
    """energies[first + n] += Σ_c features[n, c]·weights[c]."""
    for n in range(features.shape[0]):
        total = 0.0
        for c in range(features.shape[1]):
            total += np.float64(features[n, c]) * np.float64(weights[c])
        energies[first + n] += total


@compiled
def scaled_readout(features, weights, scale, energies, first, slope):  # type: ignore[no-untyped-def]
    """energies[first + n] += scale[n]·Σ_c features[n, c]·weights[c]; slope[n, c] is its derivative."""
    for n in range(features.shape[0]):
        total = 0.0
        for c in range(features.shape[1]):
            total += np.float64(features[n, c]) * np.float64(weights[c])
            slope[n, c] = scale[n] * weights[c]
        energies[first + n] += scale[n] * total


@compiled
def hidden_readout(z, weights, activation, energies, first):  # type: ignore[no-untyped-def]
    """energies[first + n] += Σ_k weights[k]·f(z[n, k]); z becomes the derivative with respect to z."""
    for n in range(z.shape[0]):
        total = 0.0
        for k in range(z.shape[1]):
            x, w = float(z[n, k]), float(weights[k])
            value, slope = x, 1.0
            if activation == SILU:
                s = 1.0 / (1.0 + math.exp(-x)) if x > -700.0 else 0.0
                value, slope = x * s, s * (1.0 + x * (1.0 - s))
            elif activation == TANH:
                value = math.tanh(x)
                slope = 1.0 - value * value
            total += w * value
            z[n, k] = w * slope
        energies[first + n] += total


@compiled
def spline_column(row, weights, table, value, slope):  # type: ignore[no-untyped-def]
    """A function of one column and its slope at every pair."""
    for q in range(len(row)):
        a, b = 0.0, 0.0
        for m in range(6):
            a += weights[q, m] * table[row[q] + m]
            b += weights[q, m + 6] * table[row[q] + m]
        value[q], slope[q] = a, b


@compiled
def density_forward(start, share, norm):  # type: ignore[no-untyped-def]
    """norm_i = 1/(1 + Σ_j share_ij)."""
    for a in range(len(start) - 1):
        total = 1.0
        for q in range(start[a], start[a + 1]):
            total += share[q]
        norm[a] = 1.0 / total


@compiled
def density_reverse(first, last, start, norm, value, gradient, share_slope, slope):  # type: ignore[no-untyped-def]
    """Add the derivative through norm: ∂E/∂(Σ share) = −norm·⟨∂E/∂M, M⟩, M linear in norm·A.

    `value` and `gradient` are M and ∂E/∂M of atoms first … last − 1, [atoms, width]; M may be given in parts.
    """
    for a in range(first, last):
        total = 0.0
        for k in range(value.shape[1]):
            total += np.float64(value[a - first, k]) * np.float64(gradient[a - first, k])
        for q in range(start[a], start[a + 1]):
            slope[q] -= norm[a] * total * share_slope[q]


@compiled
def repulsion(  # type: ignore[no-untyped-def]
    start, sender, types, r, numbers, radii, prefactor, exponent, exponents, power, scale, energies, slope
):
    """Add half of each pair's screened repulsion to its centre; see `rikiba.nn.repulsion` for the form.

    V·f with V = 14.3996 Z_i Z_j/r Σ_k c_k exp(−e_k r/a), a = prefactor·0.529/(Z_i^exponent + Z_j^exponent),
    f the polynomial envelope that ends at R_i + R_j; all times `scale`. `exponents` holds c_k and e_k.
    """
    p = float(power)
    for a in range(len(start) - 1):
        for q in range(start[a], start[a + 1]):
            ti, tj = types[a], types[sender[q]]
            reach = radii[ti] + radii[tj]
            if r[q] >= reach:
                continue
            zi, zj = float(numbers[ti]), float(numbers[tj])
            length = prefactor * 0.529 / (zi**exponent + zj**exponent)
            screening, screening_slope = 0.0, 0.0
            for k in range(exponents.shape[1]):
                part = exponents[0, k] * math.exp(-exponents[1, k] * r[q] / length)
                screening += part
                screening_slope -= exponents[1, k] / length * part
            charge = 14.3996 * zi * zj / r[q]
            value, value_slope = charge * screening, charge * (screening_slope - screening / r[q])
            x = r[q] / reach
            inner = 0.5 * (p + 1.0) * (p + 2.0) - p * (p + 2.0) * x + 0.5 * p * (p + 1.0) * x * x
            envelope = 1.0 - inner * x**power
            envelope_slope = -0.5 * p * (p + 1.0) * (p + 2.0) * x ** (power - 1) * (1.0 - x) ** 2 / reach
            energies[a] += 0.5 * scale * value * envelope
            slope[q] += 0.5 * scale * (value_slope * envelope + value * envelope_slope)
