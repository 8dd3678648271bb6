"""Index tables of the compiled bispectrum."""

from functools import lru_cache
from itertools import product
from math import factorial, sqrt

import numpy as np

from rikiba.kernels.bispectrum_coupling_cpu import Couplings
from rikiba.kernels.bispectrum_cpu import Layout

from .bispectrum import clebsch_gordan, triples


@lru_cache(maxsize=16)
def layout(twojmax: int) -> Layout:
    """Where the kernels keep the elements of U, and how the normalised ones follow from them."""
    first = np.cumsum([0] + [(j + 1) * (j // 2 + 1) for j in range(twojmax + 1)])
    full = np.cumsum([0] + [(j + 1) ** 2 for j in range(twojmax + 1)])
    scale, count = [], []
    for j in range(twojmax + 1):
        for mb, ma in product(range(j // 2 + 1), range(j + 1)):
            f = factorial
            scale.append(sqrt(f(j - ma) * f(ma) / (f(j - mb) * f(mb))))
            count.append(1.0 if 2 * mb == j else 2.0)
    return Layout(twojmax, first.astype(np.int64), full.astype(np.int64), np.array(scale), np.array(count))


@lru_cache(maxsize=16)
def couplings(twojmax: int, channels: int, normalised: bool) -> Couplings:
    """For each unordered pair of (j, element): the results j of their product with its coefficients."""
    sides = list(product(range(twojmax + 1), range(channels)))
    pairs = [(p, q) for p in sides for q in sides if p >= q]
    place: dict[tuple[tuple[int, int], tuple[int, int], int], int] = {}
    left, right, start, coefficient = [], [], [0], [0]
    result: list[int] = []
    table: list[np.ndarray] = []
    for p, q in pairs:
        for j in range(abs(p[0] - q[0]), min(twojmax, p[0] + q[0]) + 1, 2):
            place[p, q, j] = len(result)
            result.append(j)
            # [a1, a2]: the third index follows
            table.append(clebsch_gordan(p[0], q[0], j).sum(-1).ravel())
            coefficient.append(coefficient[-1] + len(table[-1]))
        left.append(p)
        right.append(q)
        start.append(len(result))
    terms = []
    every = product(range(channels), range(channels), range(channels), triples(twojmax))
    for k, (e1, e2, e3, (j1, j2, j)) in enumerate(every):
        for x, y, out in (
            ((j1, e1), (j2, e2), (j, e3)),
            ((j, e3), (j2, e2), (j1, e1)),
            ((j, e3), (j1, e1), (j2, e2)),
        ):
            factor = 1.0 / (out[0] + 1) if normalised else (j + 1.0) / (out[0] + 1.0)
            terms.append((place[max(x, y), min(x, y), out[0]], out[1], k, factor))
    slot, channel, component, factor_of = (np.array(c) for c in zip(*terms, strict=True))
    return Couplings(
        np.array(left), np.array(right), np.array(start), np.array(result), np.array(coefficient[:-1]),
        np.concatenate(table), slot, channel, component, factor_of,
    )  # fmt: skip
