"""Compiled embedded-atom sum with its derivative from cubic pieces. All float64."""

import math

import numpy as np

from .compiled import compiled


@compiled
def embedded_atom(  # type: ignore[no-untyped-def]
    vectors,
    i,
    j,
    types,
    pair_table,
    embedding_table,
    step,
    density_step,
    switch_from,
    cutoff,
    energies,
    gradient,
):
    """Add to `energies` what each centre has more than F(0), and ∂E/∂r_ij to `gradient`.

    Pairs are ordered by centre; atoms that are no centre here are left alone. `pair_table`
    [types, types, rows, 8] holds the cubics of the neighbour's density and of r·φ (side by side: one line of
    cache), `embedding_table` [types, rows, 4] those of F. A quintic switches both off from switch_from to
    cutoff. Atoms at one place give NaN.
    """
    n_pairs, n_rows, n_embedding = len(i), pair_table.shape[2], embedding_table.shape[1]
    start, widest = 0, 0
    while start < n_pairs:
        stop = start + 1
        while stop < n_pairs and i[stop] == i[start]:
            stop += 1
        widest = max(widest, stop - start)
        start = stop
    slopes = np.empty((widest, 2))  # ½φ'/r and f'/r of each neighbour
    start, inverse_step = 0, 1.0 / step
    while start < n_pairs:
        centre = i[start]
        ti = types[centre]
        stop, rho, energy = start, 0.0, 0.0
        while stop < n_pairs and i[stop] == centre:
            x, y, z = vectors[stop, 0], vectors[stop, 1], vectors[stop, 2]
            r2 = x * x + y * y + z * z
            a, b = 0.0, 0.0
            if not r2 > 0.0:
                a, energy = math.nan, math.nan
            elif r2 < cutoff * cutoff:
                r = math.sqrt(r2)
                inverse, scaled = 1.0 / r, r * inverse_step
                row = min(int(scaled), n_rows - 1)
                p, inside = scaled - row, inverse_step
                if p > 1.0:
                    p, inside = 1.0, 0.0
                tj = types[j[stop]]
                c0, c1, c2, c3, c4, c5, c6, c7 = (
                    pair_table[ti, tj, row, 0], pair_table[ti, tj, row, 1], pair_table[ti, tj, row, 2],
                    pair_table[ti, tj, row, 3], pair_table[ti, tj, row, 4], pair_table[ti, tj, row, 5],
                    pair_table[ti, tj, row, 6], pair_table[ti, tj, row, 7],
                )  # fmt: skip
                f = c0 + p * (c1 + p * (c2 + p * c3))
                f_slope = inside * (c1 + p * (2.0 * c2 + p * 3.0 * c3))
                half = 0.5 * inverse * (c4 + p * (c5 + p * (c6 + p * c7)))
                half_slope = inverse * (0.5 * inside * (c5 + p * (2.0 * c6 + p * 3.0 * c7)) - half)
                if r > switch_from:
                    u = (r - switch_from) / (cutoff - switch_from)
                    switch = 1.0 - u * u * u * (10.0 - 15.0 * u + 6.0 * u * u)
                    falling = -30.0 * u * u * (1.0 - u) * (1.0 - u) / (cutoff - switch_from)
                    f_slope = f_slope * switch + f * falling
                    half_slope = half_slope * switch + half * falling
                    f, half = f * switch, half * switch
                rho += f
                energy += half
                a, b = half_slope * inverse, f_slope * inverse
            slopes[stop - start, 0], slopes[stop - start, 1] = a, b
            stop += 1
        scaled = rho / density_step
        row = max(0, min(int(scaled), n_embedding - 1))
        p = min(scaled - row, 1.0)
        c = embedding_table[ti, row]
        slope = c[1] + p * (2.0 * c[2] + p * 3.0 * c[3])
        energies[centre] += energy + c[0] + p * (c[1] + p * (c[2] + p * c[3])) - embedding_table[ti, 0, 0]
        if scaled > n_embedding:
            energies[centre] += (scaled - n_embedding) * slope
        slope /= density_step
        for q in range(start, stop):
            along = slopes[q - start, 0] + slope * slopes[q - start, 1]
            for k in range(3):
                gradient[q, k] += along * vectors[q, k]
        start = stop
