"""Which products of one-particle functions the atomic cluster expansion is made of, as tables of integers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rikiba.nn.coupling import channel_couplings


@dataclass(frozen=True)
class OneParticle:
    """The functions φ_znlm = R_nl(r) Y_lm of each neighbour element z, in the order z, l, m, n.

    For each l the radial functions are n = 1 … count[l].
    """

    n_elements: int
    count: tuple[int, ...]

    @property
    def per_element(self) -> int:
        """Functions of one element."""
        return sum((2 * l + 1) * n for l, n in enumerate(self.count))

    @property
    def size(self) -> int:
        """Functions of all elements."""
        return self.n_elements * self.per_element

    def place(self, z: int, l: int, n: int) -> int:
        """Index of (z, n, l, m = −l), n from 1; the next m is count[l] further."""
        before = sum((2 * k + 1) * c for k, c in enumerate(self.count[:l]))
        return z * self.per_element + before + n - 1


@dataclass(frozen=True)
class Products:
    """Monomials of A and the invariants that they are coupled to."""

    monomials: np.ndarray
    """[monomials, order] indices of A; behind the last factor stands the number of functions A."""
    function: np.ndarray
    """[terms] B_function += coefficient · monomial."""
    monomial: np.ndarray
    coefficient: np.ndarray
    channels: tuple[tuple[tuple[int, int, int], ...], ...]
    """(z, n, l) of the factors of each function B."""

    @property
    def size(self) -> int:
        """Number of functions B."""
        return len(self.channels)


def functions(
    one: OneParticle,
    order: int,
    *,
    total_degree: Sequence[float],
    l_weight: float,
    n_max: Sequence[int],
    l_max: Sequence[int],
) -> Products:
    """All invariants of 1 … `order` factors with Σ(n + l_weight·l) ≤ total_degree, n ≤ n_max, l ≤ l_max.

    The limits are given for each number of factors ν.
    """
    monomials, function, monomial, coefficient = [], [], [], []
    names: list[tuple[tuple[int, int, int], ...]] = []
    n_monomials = 0
    for nu in range(1, order + 1):
        allowed = sorted(
            (n + l_weight * l, l, n, z)
            for l, count in enumerate(one.count[: l_max[nu - 1] + 1])
            for n in range(1, min(count, n_max[nu - 1]) + 1)
            for z in range(one.n_elements)
        )
        for chosen in _multisets(allowed, nu, total_degree[nu - 1] + 1e-9):
            if sum(l for _, l, _, _ in chosen) % 2:
                continue
            channels, order_of = _labelled(chosen)
            components, couplings = channel_couplings(order_of)
            if couplings.shape[1] == 0:
                continue
            table = np.full((len(components), order), one.size)
            for t, (_, l, n, z) in enumerate(channels):
                table[:, t] = one.place(z, l, n) + components[:, t] * one.count[l]
            row, column = np.nonzero(couplings)
            monomials.append(table)
            function.append(len(names) + column)
            monomial.append(n_monomials + row)
            coefficient.append(couplings[row, column])
            n_monomials += len(table)
            names += [tuple((z, n, l) for _, l, n, z in channels)] * couplings.shape[1]
    if not names:
        raise ValueError("The limits leave no function; raise total_degree, n_max or l_max.")
    return Products(
        np.concatenate(monomials),
        np.concatenate(function),
        np.concatenate(monomial),
        np.concatenate(coefficient),
        tuple(names),
    )


_Channel = tuple[float, int, int, int]
"""(degree, l, n, z)"""


def _multisets(
    allowed: list[_Channel], length: int, limit: float, first: int = 0
) -> Iterator[list[_Channel]]:
    """Rising selections with repetition whose degrees add up to no more than the limit."""
    if length == 0:
        yield []
        return
    for k in range(first, len(allowed)):
        if allowed[k][0] * length > limit:
            return
        for rest in _multisets(allowed, length - 1, limit - allowed[k][0], k):
            yield [allowed[k], *rest]


def _labelled(chosen: list[_Channel]) -> tuple[list[_Channel], tuple[tuple[int, int], ...]]:
    """The factors in the order of `channel_couplings`, and as (label, l): like selections are one pattern."""
    groups = sorted(set(chosen), key=lambda c: (c[1], -chosen.count(c), c[2], c[3]))
    channels = [c for c in groups for _ in range(chosen.count(c))]
    label = {c: k for k, c in enumerate(groups)}
    return channels, tuple((label[c], c[1]) for c in channels)
