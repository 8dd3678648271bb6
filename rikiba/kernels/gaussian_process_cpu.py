"""Compiled sums of a sparse Gaussian process: design rows, and two- and three-body terms."""

import math

import numpy as np

from .compiled import compiled
from .soap_cpu import fade


@compiled
def add_values(rows, values, out):  # type: ignore[no-untyped-def]
    """out[rows[e]] += values[e]."""
    for e in range(len(rows)):
        to, value = out[rows[e]], values[e]
        for m in range(len(value)):
            to[m] += value[m]


@compiled
def add_slopes(pair, i, j, system, vectors, slopes, forces, virial):  # type: ignore[no-untyped-def]
    """From slopes[t, 3, columns] = ∂/∂r_ij of pair[t]: forces and Σ ∂/∂r_a r_b, each unless it is empty."""
    columns = slopes.shape[2]
    for t in range(len(pair)):
        p = pair[t]
        for k in range(3):
            g = slopes[t, k]
            if len(forces):
                to, back = forces[i[p], k], forces[j[p], k]
                for m in range(columns):
                    to[m] += g[m]
                    back[m] -= g[m]
            if len(virial):
                for a in range(3):
                    at = virial[system[i[p]], k, a]
                    x = vectors[p, a]
                    for m in range(columns):
                        at[m] += x * g[m]


@compiled
def pair_term(pairs, i, r, vectors, cutoff, width, envelope, sparse, alpha, theta, energies, out):  # type: ignore[no-untyped-def]
    """Energies [atoms] and ∂E/∂r_ij added: ε_i += Σ_j f(r) Σ_m α_m exp(−(r − s_m)²/2θ²)."""
    scale = 1.0 / (theta * theta)
    for p in pairs:
        if r[p] >= cutoff:
            continue
        f, df = fade(r[p], cutoff, width, envelope)
        value, slope = 0.0, 0.0
        for m in range(len(sparse)):
            d = r[p] - sparse[m]
            k = alpha[m] * math.exp(-0.5 * scale * d * d)
            value += k
            slope -= scale * d * k
        energies[i[p]] += f * value
        total = (f * slope + df * value) / r[p]
        for k in range(3):
            out[p, k] += total * vectors[p, k]


@compiled
def triplet_term(  # type: ignore[no-untyped-def]
    start,
    pairs,
    kind,
    one,
    other,
    i,
    vectors,
    r,
    cutoff,
    width,
    envelope,
    sparse,
    alpha,
    theta,
    energies,
    out,
):
    """The same for triplets: start[n] … start[n+1] bounds the pairs of a centre in `pairs`.

    Neighbours of elements (one, other) in either order; each unordered triplet counts twice.
    """
    w0, w1, w2 = 1.0 / theta[0] ** 2, 1.0 / theta[1] ** 2, 1.0 / theta[2] ** 2
    d = np.empty(3)
    for n in range(len(start) - 1):
        for s in range(start[n], start[n + 1]):
            p = pairs[s]
            fp, dfp = fade(r[p], cutoff, width, envelope)
            for t in range(start[n], s):
                q = pairs[t]
                forward = kind[p] == one and kind[q] == other
                if not (forward or (kind[p] == other and kind[q] == one)):
                    continue
                fq, dfq = fade(r[q], cutoff, width, envelope)
                square = 0.0
                for k in range(3):
                    d[k] = vectors[q, k] - vectors[p, k]
                    square += d[k] * d[k]
                far, gap = math.sqrt(square), r[p] - r[q]
                total, x1 = r[p] + r[q], gap * gap
                value, s0, s1, s2 = 0.0, 0.0, 0.0, 0.0
                for m in range(len(sparse)):
                    y0, y1, y2 = total - sparse[m, 0], x1 - sparse[m, 1], far - sparse[m, 2]
                    k_m = alpha[m] * math.exp(-0.5 * (w0 * y0 * y0 + w1 * y1 * y1 + w2 * y2 * y2))
                    value += k_m
                    s0 -= w0 * y0 * k_m
                    s1 -= w1 * y1 * k_m
                    s2 -= w2 * y2 * k_m
                both = 2.0 * fp * fq
                energies[i[p]] += both * value
                at_p = (both * (s0 + 2.0 * gap * s1) + 2.0 * dfp * fq * value) / r[p]
                at_q = (both * (s0 - 2.0 * gap * s1) + 2.0 * fp * dfq * value) / r[q]
                across = both * s2 / far
                for k in range(3):
                    out[p, k] += at_p * vectors[p, k] - across * d[k]
                    out[q, k] += at_q * vectors[q, k] + across * d[k]
