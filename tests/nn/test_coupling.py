"""Symmetric couplings: equivariant, independent, complete."""

from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rikiba.nn.coupling import symmetric_couplings
from rikiba.nn.so3 import rotation_matrix

CASES = [(1, 4, 0), (2, 3, 1), (2, 2, 2), (1, 3, 2), (3, 2, 1), (2, 4, 0), (3, 3, 0)]


def count_from_characters(l_max: int, order: int, degree: int) -> int:
    """Multiplicity of `degree` in the part of natural parity of Sym^order(⊕ l ≤ l_max), by counting weights.

    The number of ways to reach total m minus that for m + 1, over multisets of (l, m) of the right parity.
    """
    from itertools import combinations_with_replacement

    states = [(l, m) for l in range(l_max + 1) for m in range(-l, l + 1)]
    found = {degree: 0, degree + 1: 0}
    for chosen in combinations_with_replacement(states, order):
        total = sum(m for _, m in chosen)
        if total in found and (sum(l for l, _ in chosen) - degree) % 2 == 0:
            found[total] += 1
    return found[degree] - found[degree + 1]


@pytest.mark.parametrize(("l_max", "order", "degree"), CASES)
def test_number_is_the_dimension_of_the_space(l_max: int, order: int, degree: int) -> None:
    assert symmetric_couplings(l_max, order, degree).count == count_from_characters(l_max, order, degree)


@pytest.mark.parametrize(("l_max", "order", "degree"), [c for c in CASES if c != (3, 3, 0)])
def test_tensors_are_symmetric_orthonormal_and_equivariant(l_max: int, order: int, degree: int) -> None:
    n = (l_max + 1) ** 2
    u = symmetric_couplings(l_max, order, degree).tensor(n)
    for a in range(1, order):
        torch.testing.assert_close(u, u.transpose(a, a + 1))
    flat = u.flatten(1, -2)
    gram = torch.einsum("Mxk,Mxl->Mkl", flat, flat)
    torch.testing.assert_close(gram, torch.eye(u.shape[-1], dtype=u.dtype).expand_as(gram))
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=u.dtype, generator=torch.Generator().manual_seed(1)))
    turn = torch.block_diag(*rotation_matrix(l_max, q))
    turned = u
    for a in range(1, order + 1):
        turned = torch.tensordot(turned, turn, dims=([a], [0])).movedim(-1, a)
    expected = torch.einsum("MN,N...->M...", rotation_matrix(max(degree, 1), q)[degree], u)
    torch.testing.assert_close(turned, expected, atol=1e-9, rtol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_polynomial_equals_tensor(seed: int) -> None:
    c = symmetric_couplings(2, 3, 1)
    a = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    by_monomials = torch.einsum("Mkn,k->Mn", c.coefficients, a[c.monomials].prod(1))
    by_tensor = torch.einsum("Mabcn,a,b,c->Mn", c.tensor(9), a, a, a)
    torch.testing.assert_close(by_monomials, by_tensor)


def test_known_counts() -> None:
    """A_l·A_l gives one invariant per degree; of l ≤ 1 the cubic ones are A_0³ and A_0 A_1·A_1."""
    assert [symmetric_couplings(l, 2, 0).count for l in range(5)] == [1, 2, 3, 4, 5]
    assert symmetric_couplings(1, 3, 0).count == 2
    assert symmetric_couplings(0, 4, 0).count == comb(4, 4)


def test_basis_is_reproducible_and_bad_orders_are_refused() -> None:
    first = symmetric_couplings(2, 3, 2).coefficients.clone()
    symmetric_couplings.cache_clear()
    assert np.array_equal(first.numpy(), symmetric_couplings(2, 3, 2).coefficients.numpy())
    with pytest.raises(ValueError, match="order"):
        symmetric_couplings(1, 0, 0)
