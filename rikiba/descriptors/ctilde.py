"""Products of complex sums A_znlm with given coefficients, written as products of real ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .ace_products import OneParticle


def real_products(
    one: OneParticle,
    elements: Sequence[str],
    functions: Mapping[str, Sequence[Mapping[str, Any]]],
    n_densities: int,
    n_radial: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Σ_m c̃_m Re Π_t A_{z_t n_t l_t m_t} of all functions, collected by real product.

    Returns (monomials, weights). monomials [monomials, order] are indices of A, and behind the last factor
    stands the number of functions A; weights are [elements, densities, monomials].

    Complex harmonics are Y_lm = (−1)^m/√2 (S_lm + i S_l−m) and Y_l−m = (S_lm − i S_l−m)/√2 for m > 0 in the
    real ones S. A lone factor is of the functions g_k, which stand behind the `n_radial` of R_n0.
    """
    centre = [k for k, s in enumerate(elements) for _ in functions[s]]
    found = [_terms(one, elements, f, n_densities, n_radial) for s in elements for f in functions[s]]
    if not found:
        raise ValueError("functions is empty; every potential has at least one function.")
    order = max(rows.shape[1] for rows, _ in found)
    padded = [
        np.pad(rows, ((0, 0), (0, order - rows.shape[1])), constant_values=one.size) for rows, _ in found
    ]
    monomials, place = np.unique(np.concatenate(padded), axis=0, return_inverse=True)
    owner = np.repeat(centre, [len(rows) for rows, _ in found])
    weights = np.zeros((len(elements), len(monomials), n_densities))
    np.add.at(weights, (owner, place.reshape(-1)), np.concatenate([values for _, values in found]))
    return monomials, np.ascontiguousarray(weights.swapaxes(1, 2))


def _terms(
    one: OneParticle, elements: Sequence[str], f: Mapping[str, Any], n_densities: int, n_radial: int
) -> tuple[np.ndarray, np.ndarray]:
    """(factors of each real product, coefficients in each density)."""
    z = [_index(elements, s) for s in f["neighbours"]]
    n, l = [int(x) for x in f["n"]], [int(x) for x in f["l"]]
    m, c = np.array(f["m"], dtype=np.int64), np.array(f["coefficients"], dtype=np.float64)
    rank = len(z)
    if not rank == len(n) == len(l) or m.ndim != 2 or m.shape[1] != rank or c.ndim != 2 or len(c) != len(m):
        raise ValueError(
            f"A function of {rank} neighbours needs as many n and l, rows of as many m, and a row of "
            f"coefficients for each; given {dict(f)}."
        )
    if (np.abs(m) > np.array(l)).any() or c.shape[1] > n_densities:
        raise ValueError(f"|m| ≤ l and at most {n_densities} densities; given {dict(f)}.")
    if rank == 1:
        if l[0]:
            raise ValueError(f"A function of one neighbour has l = 0; given l = {l[0]}.")
        n = [n[0] + n_radial]
    for t in range(rank):
        # only what R_nl and g_k have
        most = one.count[l[t]] if l[t] < len(one.count) else 0
        if not 1 <= n[t] <= (most if l[t] or rank == 1 else n_radial):
            raise ValueError(f"There is no radial function n = {f['n'][t]}, l = {l[t]} for {dict(f)}.")
    place = np.array([one.place(a, b, k) for a, b, k in zip(z, l, n, strict=True)])
    stride = np.array([one.count[b] for b in l])
    zero = np.array(l)
    # two real harmonics of order ±|m| in each complex one; of m = 0 the second is nothing
    first = place + (zero + np.abs(m)) * stride
    second = place + (zero - np.abs(m)) * stride
    sign = np.where((m > 0) & (m % 2 == 1), -1.0, 1.0)
    a = np.where(m == 0, 1.0, sign * 2**-0.5).astype(complex)
    b = np.where(m == 0, 0.0, 1j * np.sign(m) * sign * 2**-0.5)
    rows, values = [], []
    for pick in np.ndindex(*(2,) * rank):
        chosen = np.array(pick, bool)
        factor = np.where(chosen, b, a).prod(1).real
        kept = np.abs(factor) > 0.0
        rows.append(np.sort(np.where(chosen, second, first)[kept], axis=1))
        values.append(factor[kept, None] * c[kept])
    row, value = np.concatenate(rows), np.concatenate(values)
    unique, inverse = np.unique(row, axis=0, return_inverse=True)
    total = np.zeros((len(unique), n_densities))
    np.add.at(total[:, : c.shape[1]], inverse.reshape(-1), value)
    size = np.abs(total).max(1)
    used = size > 1e-14 * size.max() if len(size) else np.zeros(0, bool)
    return unique[used], total[used]


def _index(elements: Sequence[str], symbol: str) -> int:
    if symbol not in elements:
        raise ValueError(f"functions name {symbol}; the elements are {', '.join(elements)}.")
    return list(elements).index(symbol)
