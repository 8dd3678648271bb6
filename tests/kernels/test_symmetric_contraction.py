"""The symmetric contraction against dense einsum, and its derivatives."""

import pytest
import torch
from torch import Tensor

from rikiba.kernels.grouping import group_by_type
from rikiba.kernels.symmetric_contraction import ContractionPlan, plan_contraction, symmetric_contraction
from rikiba.nn.coupling import symmetric_couplings


def plan(l_max: int, order: int, degrees: tuple[int, ...]) -> ContractionPlan:
    outputs = []
    for degree in degrees:
        found = [symmetric_couplings(l_max, n, degree) for n in range(1, order + 1)]
        outputs.append([(c.monomials, c.coefficients) for c in found if c.count])
    return plan_contraction(outputs, (l_max + 1) ** 2)


def inputs(
    p: ContractionPlan, n_atoms: int, channels: int, n_types: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    g = torch.Generator().manual_seed(5)
    types = torch.randint(0, n_types, (n_atoms,), generator=g)
    shape = (n_atoms, p.n_features, channels)
    features = torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_()
    weights = [
        torch.randn(n_types, c.shape[0], channels, generator=g, dtype=torch.float64).requires_grad_()
        for c in p.coefficients
    ]
    return types, features, weights


@pytest.mark.parametrize(("l_max", "order"), [(1, 4), (2, 3), (3, 2), (3, 1), (0, 3)])
def test_equals_dense_einsum(l_max: int, order: int) -> None:
    degrees = tuple(range(min(l_max, 2) + 1))
    p = plan(l_max, order, degrees)
    types, features, weights = inputs(p, 7, 3, 3)
    found = symmetric_contraction(p, features, weights, group_by_type(types, 3))
    row = 0
    for degree, weight in zip(degrees, weights, strict=True):
        expected, at = torch.zeros(7, 2 * degree + 1, 3, dtype=torch.float64), 0
        for n in range(1, order + 1):
            coupling = symmetric_couplings(l_max, n, degree)
            letters = "abcd"[:n]
            w = weight[types, at : at + coupling.count]
            equation = f"M{letters}k,Nkx," + ",".join(f"N{a}x" for a in letters) + "->NMx"
            expected = expected + torch.einsum(
                equation, coupling.tensor((l_max + 1) ** 2), w, *[features] * n
            )
            at += coupling.count
        assert at == weight.shape[1]
        torch.testing.assert_close(found[:, row : row + 2 * degree + 1], expected, rtol=1e-11, atol=1e-11)
        row += 2 * degree + 1


def test_derivatives_to_third_order() -> None:
    p = plan(1, 4, (0, 1))
    types, features, weights = inputs(p, 3, 2, 2)
    groups = group_by_type(types, 2)

    def run(a: Tensor, *w: Tensor) -> Tensor:
        return symmetric_contraction(p, a, w, groups)

    def first(a: Tensor, *w: Tensor) -> Tensor:
        return torch.autograd.grad(run(a, *w).sin().sum(), a, create_graph=True)[0]

    assert torch.autograd.gradcheck(run, (features, *weights))
    assert torch.autograd.gradgradcheck(run, (features, *weights), fast_mode=True)
    assert torch.autograd.gradgradcheck(first, (features, *weights), fast_mode=True)


def test_each_atom_uses_its_own_type() -> None:
    p = plan(2, 3, (0, 1))
    types, features, weights = inputs(p, 9, 2, 3)
    found = symmetric_contraction(p, features, weights, group_by_type(types, 3))
    for a in range(9):
        only = [w[types[a] : types[a] + 1] for w in weights]
        alone = symmetric_contraction(p, features[a : a + 1], only, group_by_type(types[:1] * 0, 1))
        torch.testing.assert_close(found[a : a + 1], alone, rtol=1e-12, atol=1e-12)
    other = [w.flip(0) for w in weights]
    assert not torch.allclose(found, symmetric_contraction(p, features, other, group_by_type(types, 3)))


def test_no_atoms_and_forward_mode() -> None:
    p = plan(1, 2, (0,))
    types, features, weights = inputs(p, 4, 2, 1)
    empty = symmetric_contraction(p, features[:0], weights, group_by_type(types[:0], 1))
    assert empty.shape == (0, 1, 2)
    fixed = [w.detach() for w in weights]
    with pytest.raises(NotImplementedError, match="forward-mode"):
        groups = group_by_type(types, 1)
        a = features.detach()
        torch.func.jvp(lambda x: symmetric_contraction(p, x, fixed, groups), (a,), (a,))


def test_wrong_input_is_named() -> None:
    p = plan(1, 2, (0,))
    types, features, weights = inputs(p, 4, 2, 1)
    groups = group_by_type(types, 1)
    with pytest.raises(ValueError, match="Features have shape"):
        symmetric_contraction(p, features[:, :3], weights, groups)
    with pytest.raises(ValueError, match="Weights have shape"):
        symmetric_contraction(p, features, [weights[0][:, :1]], groups)
    with pytest.raises(ValueError, match="outside"):
        plan_contraction([[(torch.tensor([[4]]), torch.ones(1, 1, 1))]], 4)
    with pytest.raises(ValueError, match="no couplings"):
        plan_contraction([[]], 4)
