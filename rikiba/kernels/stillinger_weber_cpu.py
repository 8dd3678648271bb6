"""Compiled two- and three-body sum of Stillinger and Weber with its derivative. All float64."""

import math

import numpy as np

from .compiled import compiled


@compiled
def stillinger_weber(  # type: ignore[no-untyped-def]
    vectors, i, j, types, pair, triplet, energies, gradient
):
    """Add each centre's energy to `energies` and ∂E/∂r_ij to `gradient`.

    Pairs are ordered by centre. `pair` [types, types, 7] holds (AεB, Aε, p, q, σ, γσ, aσ), `triplet`
    [types, types, types, 2] (λε, cos θ₀). Pairs from aσ on do nothing; atoms at one place give NaN.
    """
    n_pairs = len(i)
    start, widest = 0, 0
    while start < n_pairs:
        stop = start + 1
        while stop < n_pairs and i[stop] == i[start]:
            stop += 1
        widest = max(widest, stop - start)
        start = stop
    # per neighbour: unit vector, 1/r, decay, its slope, radial slope, tangential slope (3)
    near = np.empty((widest, 10))
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
            reach = pair[ti, tj, 6]
            if not r > 0.0:
                energy = math.nan
                gradient[stop, :] = math.nan
            elif r < reach:
                tail, sigma, inverse = 1.0 / (r - reach), pair[ti, tj, 4], 1.0 / r
                scaled = sigma * inverse
                p, q = pair[ti, tj, 2], pair[ti, tj, 3]
                if p == 4.0 and q == 0.0:
                    repulsion, attraction = pair[ti, tj, 0] * (scaled * scaled) ** 2, pair[ti, tj, 1]
                else:
                    repulsion, attraction = pair[ti, tj, 0] * scaled**p, pair[ti, tj, 1] * scaled**q
                e = 0.5 * math.exp(sigma * tail)
                energy += (repulsion - attraction) * e
                slope = (q * attraction - p * repulsion) * inverse
                slope -= (repulsion - attraction) * sigma * tail * tail
                gamma = pair[ti, tj, 5]
                decay = math.exp(gamma * tail)
                near[n, 0], near[n, 1], near[n, 2] = x * inverse, y * inverse, z * inverse
                near[n, 3], near[n, 4], near[n, 5] = inverse, decay, -gamma * tail * tail
                near[n, 6], near[n, 7], near[n, 8], near[n, 9] = slope * e, 0.0, 0.0, 0.0
                which[n], kinds[n] = stop, tj
                n += 1
            stop += 1
        for b in range(n):
            for c in range(b):
                strength = triplet[ti, kinds[b], kinds[c], 0]
                cosine = near[b, 0] * near[c, 0] + near[b, 1] * near[c, 1] + near[b, 2] * near[c, 2]
                away = cosine - triplet[ti, kinds[b], kinds[c], 1]
                product = strength * near[b, 4] * near[c, 4] * away
                three = product * away
                energy += three
                near[b, 6] += three * near[b, 5]
                near[c, 6] += three * near[c, 5]
                turn = 2.0 * product
                for k in range(3):
                    near[b, 7 + k] += turn * (near[c, k] - cosine * near[b, k])
                    near[c, 7 + k] += turn * (near[b, k] - cosine * near[c, k])
        for b in range(n):
            for k in range(3):
                gradient[which[b], k] += near[b, 6] * near[b, k] + near[b, 7 + k] * near[b, 3]
        energies[centre] += energy
        start = stop
