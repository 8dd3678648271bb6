"""Compiled sums over pairs of neighbours of angular symmetry functions, and their derivatives. All float64.

    G_f(i) = Σ_{j<k} 2^{1−ζ} (1 + λ cos θ_jik)^ζ w_u(r_ij) w_u(r_ik) [w_u(r_jk) if narrow],
    w_u(r) = e^{−η(r−r_s)²} c(r)

in a row for each pair of the neighbours' elements. Functions share few kinds of Gaussians u and of angular
factors: `gaussians` [kinds, 3] holds (η, r_s, cutoff), the longest cutoff first, `angular` [kinds, 2] (ζ, λ),
`functions` [functions, 2] the kind of each. An envelope c(x), x = r/cutoff, is (form, order, start, factor):
order of a smoothstep, where it begins, and what it is multiplied by.
"""

import math

import numpy as np

from .compiled import compiled

POLYNOMIAL, COSINE, TANH, MOLLIFIER, SMOOTHSTEP, NONE = range(6)


@compiled
def envelope(form, order, start, factor, x):  # type: ignore[no-untyped-def]
    """(c, dc/dx) at x < 1; those of `rikiba.nn.cutoff`, the polynomial with p = 6."""
    if form == POLYNOMIAL:
        x2 = x * x
        x5 = x2 * x2 * x
        return 1.0 - x5 * x * (28.0 - 48.0 * x + 21.0 * x2), -168.0 * x5 * (1.0 - x) * (1.0 - x)
    if form == TANH:
        t = math.tanh(1.0 - x)
        return factor * t * t * t, -3.0 * factor * t * t * (1.0 - t * t)
    if form == NONE:
        return 1.0, 0.0
    u, scale = (x - start) / (1.0 - start), 1.0 / (1.0 - start)
    if u <= 0.0:
        return 1.0, 0.0
    if form == COSINE:
        return 0.5 * (1.0 + math.cos(math.pi * u)), -0.5 * math.pi * scale * math.sin(math.pi * u)
    if form == MOLLIFIER:
        inside = 1.0 - u * u
        value = math.exp(1.0 - 1.0 / inside)
        return value, -2.0 * scale * u * value / (inside * inside)
    # 1 − K ∫₀ᵘ tⁿ(1 − t)ⁿ dt, K = (2n + 1)!/(n!)²
    both, total, size, sign = u * (1.0 - u), 0.0, 1.0, 1.0
    for k in range(order + 1):
        total += sign * size / (order + 1 + k) * u**k
        size *= (order - k) / (k + 1.0)
        sign = -sign
    size = 1.0
    for k in range(order + 1, 2 * order + 2):
        size *= k
    for k in range(1, order + 1):
        size /= k
    return 1.0 - size * total * u ** (order + 1), -size * scale * both**order


@compiled
def _weights(form, order, start, factor, gaussians, r, value, slope):  # type: ignore[no-untyped-def]
    """w and dw/dr of every kind at one distance."""
    c, s, last = 0.0, 0.0, -1.0
    for u in range(len(gaussians)):
        cutoff = gaussians[u, 2]
        if r >= cutoff:
            value[u] = slope[u] = 0.0
            continue
        if cutoff != last:
            c, s = envelope(form, order, start, factor, r / cutoff)
            s /= cutoff
            last = cutoff
        off = r - gaussians[u, 1]
        e = math.exp(-gaussians[u, 0] * off * off)
        value[u] = e * c
        slope[u] = e * (s - 2.0 * gaussians[u, 0] * off * c)


@compiled
def pair_weights(form, order, start, factor, gaussians, r, values, slopes):  # type: ignore[no-untyped-def]
    """The same of every pair."""
    for p in range(len(r)):
        _weights(form, order, start, factor, gaussians, r[p], values[p], slopes[p])


@compiled
def _angular(angular, cosine, value, slope):  # type: ignore[no-untyped-def]
    """2^{1−ζ} (1 + λ cos θ)^ζ and its derivative by cos θ; 0 where rounding takes the base below 0."""
    for w in range(len(angular)):
        zeta, sign = angular[w, 0], angular[w, 1]
        base = 1.0 + sign * cosine
        if base < 0.0:
            value[w] = slope[w] = 0.0
            continue
        size = 2.0 ** (1.0 - zeta)
        n = int(zeta)
        if n == zeta and n <= 16:
            less = 1.0
            for _ in range(n - 1):
                less *= base
        else:
            less = base ** (zeta - 1.0)
        value[w] = size * less * base
        slope[w] = size * sign * zeta * less


@compiled
def triplet_sums(  # type: ignore[no-untyped-def]
    row_start, vectors, r, kind, pair_index, envelopes, gaussians, angular, functions, narrow, weights, out
):
    """G of every atom added to `out` [atoms, element pairs, functions]; `weights` are w of the pairs."""
    form, order, start, factor = int(envelopes[0]), int(envelopes[1]), envelopes[2], envelopes[3]
    value, slope = np.ones(len(gaussians)), np.empty(len(gaussians))
    ring, ring_slope = np.empty(len(angular)), np.empty(len(angular))
    reach2 = gaussians[0, 2] ** 2
    for a in range(len(row_start) - 1):
        for p in range(row_start[a], row_start[a + 1]):
            for q in range(p + 1, row_start[a + 1]):
                dot = 0.0
                for c in range(3):
                    dot += vectors[p, c] * vectors[q, c]
                if narrow:
                    far2 = r[p] * r[p] + r[q] * r[q] - 2.0 * dot
                    if far2 >= 1.000001 * reach2:
                        continue
                    far2 = 0.0
                    for c in range(3):
                        far2 += (vectors[q, c] - vectors[p, c]) ** 2
                    if far2 >= reach2:
                        continue
                    _weights(form, order, start, factor, gaussians, math.sqrt(far2), value, slope)
                _angular(angular, dot / (r[p] * r[q]), ring, ring_slope)
                row = out[a, pair_index[kind[p], kind[q]]]
                for f in range(len(functions)):
                    u, w = functions[f, 0], functions[f, 1]
                    row[f] += ring[w] * value[u] * weights[p, u] * weights[q, u]


@compiled
def triplet_sums_reverse(  # type: ignore[no-untyped-def]
    row_start, vectors, r, kind, pair_index, envelopes, gaussians, angular, functions, narrow, weights,
    slopes, given, out,
):  # fmt: skip
    """From `given` = ∂E/∂G add ∂E/∂r_ij to `out` [pairs, 3]; `slopes` are dw/dr of the pairs."""
    form, order, start, factor = int(envelopes[0]), int(envelopes[1]), envelopes[2], envelopes[3]
    value, slope = np.ones(len(gaussians)), np.zeros(len(gaussians))
    ring, ring_slope = np.empty(len(angular)), np.empty(len(angular))
    reach2 = gaussians[0, 2] ** 2
    for a in range(len(row_start) - 1):
        for p in range(row_start[a], row_start[a + 1]):
            for q in range(p + 1, row_start[a + 1]):
                dot, far2, far = 0.0, 0.0, 0.0
                for c in range(3):
                    dot += vectors[p, c] * vectors[q, c]
                if narrow:
                    for c in range(3):
                        far2 += (vectors[q, c] - vectors[p, c]) ** 2
                    if far2 >= reach2:
                        continue
                    far = math.sqrt(far2)
                    _weights(form, order, start, factor, gaussians, far, value, slope)
                cosine = dot / (r[p] * r[q])
                _angular(angular, cosine, ring, ring_slope)
                row = given[a, pair_index[kind[p], kind[q]]]
                by_p, by_q, by_far, by_cosine = 0.0, 0.0, 0.0, 0.0
                for f in range(len(functions)):
                    u, w = functions[f, 0], functions[f, 1]
                    g, first, second = row[f], weights[p, u], weights[q, u]
                    h = g * ring[w]
                    by_p += h * value[u] * slopes[p, u] * second
                    by_q += h * value[u] * first * slopes[q, u]
                    by_far += h * slope[u] * first * second
                    by_cosine += g * ring_slope[w] * value[u] * first * second
                by_far = by_far / far if far > 0.0 else 0.0
                both = by_cosine / (r[p] * r[q])
                own_p = by_p / r[p] - by_cosine * cosine / (r[p] * r[p])
                own_q = by_q / r[q] - by_cosine * cosine / (r[q] * r[q])
                for c in range(3):
                    x, y = vectors[p, c], vectors[q, c]
                    apart = by_far * (y - x)
                    out[p, c] += own_p * x + both * y - apart
                    out[q, c] += own_q * y + both * x + apart
