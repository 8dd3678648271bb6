"""Independent symmetric couplings of ν features A_lm to total degree L: the basis of ACE and MACE.

A coupling is a polynomial B_M = Σ_k c_Mk Π_{a ∈ k} A_a over monomials k (sorted index tuples of length ν).
Only linearly independent couplings are kept, orthonormal in a fixed order, so that the basis is the same on
every machine. The features are those of one channel (MACE) or of several (ACE): a factor is (channel, l).
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement, permutations
from math import factorial, prod
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .so3 import clebsch_gordan


@dataclass(frozen=True, slots=True, eq=False)
class SymmetricCouplings:
    """All couplings of one order ν to one degree L."""

    monomials: Int[Tensor, "monomials order"]
    """Rising indices into the lm axis of the features."""
    coefficients: Float[Tensor, "components monomials couplings"]
    """B_M,η = Σ_k c_M,k,η Π A. As symmetric tensors the couplings are orthonormal for each component M."""

    @property
    def count(self) -> int:
        """Number of independent couplings."""
        return self.coefficients.shape[2]

    def tensor(self, n_features: int) -> Float[Tensor, "components *features couplings"]:
        """The symmetric tensors U, [2L+1, lm, …, lm, η]: B_M = Σ U_M,ab… A_a A_b …"""
        order = self.monomials.shape[1]
        out = self.coefficients.new_zeros((self.coefficients.shape[0], *(n_features,) * order, self.count))
        for k, monomial in enumerate(self.monomials.tolist()):
            value = self.coefficients[:, k] / _multiplicity(tuple(monomial))
            for index in set(permutations(monomial)):
                out.movedim(0, -2)[index] = value
        return out


@lru_cache(maxsize=64)
def symmetric_couplings(l_max: int, order: int, degree: int) -> SymmetricCouplings:
    """Couplings of `order` copies of A_lm, l ≤ l_max, to `degree`, parity (−1)^l everywhere.

    Normalised so that Σ over all tensor entries of U_M² is 1 for each component M. Every coupling belongs to
    one multiset of degrees; multisets are in lexical order. The number found is the dimension of the space
    (Dusson et al., J. Comput. Phys. 454, 110946 (2022), doi:10.1016/j.jcp.2022.110946, sec. 2).
    Raises ValueError where order < 1 or a degree is negative.
    """
    if order < 1 or min(l_max, degree) < 0:
        raise ValueError(
            f"Need order ≥ 1 and degrees ≥ 0; given order {order}, l_max {l_max}, degree {degree}."
        )
    tuples: list[tuple[int, ...]] = []
    blocks: list[np.ndarray] = []
    for ls in combinations_with_replacement(range(l_max + 1), order):
        if (sum(ls) - degree) % 2:
            continue
        factors = tuple((0, l) for l in ls)
        found = _multiset_basis(factors, degree)
        if found.shape[2] == 0:
            continue
        used = np.flatnonzero(np.abs(found).max((0, 2)) > 1e-12)
        monomials = _monomials(factors)
        tuples += [monomials[k] for k in used]
        blocks.append(found[:, used])
    total = sum(b.shape[2] for b in blocks)
    coefficients = np.zeros((2 * degree + 1, len(tuples), total))
    row = column = 0
    for b in blocks:
        coefficients[:, row : row + b.shape[1], column : column + b.shape[2]] = b
        row, column = row + b.shape[1], column + b.shape[2]
    coefficients[np.abs(coefficients) < 1e-13] = 0.0
    monomials_tensor = torch.tensor(tuples, dtype=torch.int64).reshape(len(tuples), order)
    return SymmetricCouplings(monomials_tensor, torch.from_numpy(coefficients))


@lru_cache(maxsize=4096)
def channel_couplings(factors: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    """Invariants of O(3) that are products of features of several channels, one of each factor (channel, l).

    Equal factors are one feature, so its powers are symmetric. Returns (components [monomials, factors],
    coefficients [monomials, couplings]): the place 0 … 2l of each factor's component in each monomial, and
    B_η = Σ_k c_kη Π_t A_{factor t, component kt}, factors in rising order of (channel, l) whatever order
    they are given in. Σl must be even for an invariant of inversion: otherwise there are none.
    As many as the dimension of their space: Dusson et al., doi:10.1016/j.jcp.2022.110946.
    """
    factors = tuple(sorted(factors))
    if not factors or sum(l for _, l in factors) % 2:
        return np.zeros((0, len(factors)), np.int64), np.zeros((0, 0))
    found = _multiset_basis(factors, 0)[0]
    used = np.flatnonzero(np.abs(found).max(1, initial=0.0) > 1e-12)
    first = np.array([channel * _CHANNEL + l * l for channel, l in factors])
    monomials = np.array(_monomials(factors)).reshape(-1, len(factors))[used]
    found = found[used]
    found[np.abs(found) < 1e-13] = 0.0
    return monomials - first, found


_CHANNEL = 1 << 20
"""Index of the component lm of channel c is c·_CHANNEL + lm."""


def _components(factor: tuple[int, int]) -> range:
    channel, l = factor
    return range(channel * _CHANNEL + l * l, channel * _CHANNEL + (l + 1) ** 2)


@lru_cache(maxsize=4096)
def _monomials(factors: tuple[tuple[int, int], ...]) -> tuple[tuple[int, ...], ...]:
    """Sorted index tuples whose entries belong to these (rising) factors (channel, l)."""
    out: list[tuple[int, ...]] = [()]
    for factor in sorted(set(factors)):
        repeated = list(combinations_with_replacement(_components(factor), factors.count(factor)))
        out = [left + right for left in out for right in repeated]
    return tuple(out)


@lru_cache(maxsize=4096)
def _multiset_basis(factors: tuple[tuple[int, int], ...], degree: int) -> np.ndarray:
    """Orthonormal couplings [2L+1, monomials, η] of one multiset of rising factors, any parity of Σl − L.

    Each comes from a coupling of all but the last factor: symmetrising (symmetric tensor) ⊗ A_l spans the
    symmetric couplings.
    """
    *rest, (channel, last) = factors
    if not rest:
        n = 2 * degree + 1
        return np.eye(n)[:, :, None] if last == degree else np.zeros((n, 2 * last + 1, 0))
    shorter = tuple(rest)
    monomials = _monomials(factors)
    position = {m: k for k, m in enumerate(monomials)}
    extended = np.array(
        [
            [position[tuple(sorted((*m, a)))] for a in _components((channel, last))]
            for m in _monomials(shorter)
        ]
    )
    weight = 1.0 / np.sqrt([_multiplicity(m) for m in monomials])
    kept: list[np.ndarray] = []
    for l in range(abs(degree - last), degree + last + 1):
        for parent in np.moveaxis(_multiset_basis(shorter, l), 2, 0):
            c = clebsch_gordan(l, last, degree).numpy()
            product = np.einsum("mk,maM->Mka", parent, c)
            vector = np.zeros((2 * degree + 1, len(monomials)))
            np.add.at(vector.T, extended.ravel(), product.reshape(2 * degree + 1, -1).T)
            _orthonormalise(vector * weight, kept)
    if not kept:
        return np.zeros((2 * degree + 1, len(monomials), 0))
    return cast(np.ndarray, np.stack(kept, -1) / weight[None, :, None])


def _orthonormalise(vector: np.ndarray, kept: list[np.ndarray]) -> None:
    """Append the part of `vector` orthogonal to `kept`, if there is one, with unit norm per component."""
    before = np.linalg.norm(vector)
    if before < 1e-9:
        return
    rest = vector / before
    for _ in range(2):
        for k in kept:
            rest = rest - np.vdot(k, rest) / np.vdot(k, k) * k
    size = np.linalg.norm(rest)
    if size > 1e-7:
        kept.append(rest / size * np.sqrt(len(vector)))


def _multiplicity(monomial: tuple[int, ...]) -> int:
    """Number of distinct orderings of the factors."""
    return factorial(len(monomial)) // prod(factorial(monomial.count(a)) for a in set(monomial))
