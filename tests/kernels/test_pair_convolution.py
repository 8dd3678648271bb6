"""The pair convolution against its definition, and all its derivatives."""

import pytest
import torch
from torch import Tensor

from rikiba.kernels.dispatch import only_reference
from rikiba.kernels.pair_convolution import ConvolutionPlan, Coupling, pair_convolution, plan_convolution
from rikiba.nn.equivariant import natural_paths
from rikiba.nn.so3 import clebsch_gordan


def couplings(l_harmonics: int, l_features: int, l_out: int) -> list[Coupling]:
    return [
        Coupling(l1 * l1, l2 * l2, l3, clebsch_gordan(l1, l2, l3))
        for l1, l2, l3 in natural_paths(l_harmonics, l_features, l_out)
    ]


def plan(l_harmonics: int, l_features: int, l_out: int) -> ConvolutionPlan:
    return plan_convolution(
        couplings(l_harmonics, l_features, l_out),
        n_harmonics=(l_harmonics + 1) ** 2,
        n_features=(l_features + 1) ** 2,
    )


def inputs(
    p: ConvolutionPlan, n_pairs: int, n_atoms: int, channels: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    i = torch.sort(torch.randint(0, n_atoms, (n_pairs,), generator=g))[0]
    j = torch.randint(0, n_atoms, (n_pairs,), generator=g)
    shapes = [(n_pairs, p.n_couplings, channels), (n_pairs, p.n_harmonics), (n_atoms, p.n_features, channels)]
    tensors = [torch.randn(s, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]
    return i, j, tensors[0], tensors[1], tensors[2]


@pytest.mark.parametrize("degrees", [(3, 0, 3), (2, 2, 2), (3, 1, 0), (0, 0, 0), (1, 1, 1)])
def test_equals_its_definition(degrees: tuple[int, int, int]) -> None:
    p = plan(*degrees)
    i, j, radial, harmonics, features = inputs(p, 37, 6, 3)
    found = p.split(pair_convolution(p, i, j, radial, harmonics, features, 6))
    at = [0] * len(found)
    for k, c in enumerate(couplings(*degrees)):
        d1, d2, _ = c.coefficients.shape
        y, h = harmonics[:, c.harmonics : c.harmonics + d1], features[j][:, c.features : c.features + d2]
        message = torch.einsum("pc,abm,pa,pbc->pmc", radial[:, k], c.coefficients, y, h)
        expected = torch.stack([message[i == a].sum(0) for a in range(6)])
        torch.testing.assert_close(found[c.output][:, :, at[c.output]], expected, rtol=1e-12, atol=1e-12)
        at[c.output] += 1
    assert sum(at) == p.n_couplings


def test_chunks_do_not_show() -> None:
    p = plan(3, 1, 3)
    i, j, radial, harmonics, features = inputs(p, 900, 7, 32)
    whole = pair_convolution(p, i, j, radial, harmonics, features, 7)
    parts = [slice(0, 10), slice(10, 450), slice(450, 900)]
    total = sum(pair_convolution(p, i[s], j[s], radial[s], harmonics[s], features, 7) for s in parts)
    torch.testing.assert_close(whole, total, rtol=1e-12, atol=1e-10)


def test_derivatives_to_third_order() -> None:
    p = plan(2, 1, 2)
    i, j, radial, harmonics, features = inputs(p, 5, 3, 2)

    def run(r: Tensor, y: Tensor, h: Tensor) -> Tensor:
        return pair_convolution(p, i, j, r, y, h, 3)

    def first(r: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        out = run(r, y, h)
        return torch.autograd.grad((out * out.sin()).sum(), (r, y, h), create_graph=True)

    leaves = (radial, harmonics, features)
    assert torch.autograd.gradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(first, leaves, fast_mode=True)


def test_gradcheck_sees_a_wrong_derivative() -> None:
    """Negative control: the same check fails once harmonics are detached."""
    p = plan(1, 0, 1)
    i, j, radial, harmonics, features = inputs(p, 4, 2, 1)

    def run(y: Tensor) -> Tensor:
        y = y.detach() + 0.5 * (y - y.detach())
        return pair_convolution(p, i, j, radial.detach(), y, features.detach(), 2)

    assert not torch.autograd.gradcheck(run, (harmonics,), raise_exception=False)


def test_float32_agrees_with_float64() -> None:
    p = plan(3, 2, 3)
    i, j, r, y, h = inputs(p, 200, 9, 8)
    exact = pair_convolution(p, i, j, r, y, h, 9)
    rounded = pair_convolution(p, i, j, r.float(), y.float(), h.float(), 9)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.to(torch.float64), exact, rtol=1e-4, atol=1e-4)


def test_vmap_and_per_sample_gradients() -> None:
    p = plan(2, 1, 2)
    i, j, radial, harmonics, features = (x.detach() for x in inputs(p, 11, 4, 2))

    def loss(r: Tensor) -> Tensor:
        return pair_convolution(p, i, j, r, harmonics, features, 4).square().sum()

    batch = torch.stack([radial, 2.0 * radial, -radial])
    found = torch.vmap(torch.func.grad(loss))(batch)
    expected = torch.stack([torch.func.grad(loss)(r) for r in batch])
    torch.testing.assert_close(found, expected)


def test_forward_mode_raises() -> None:
    p = plan(1, 0, 1)
    i, j, radial, harmonics, features = (x.detach() for x in inputs(p, 4, 2, 1))
    with pytest.raises(NotImplementedError):
        torch.func.jvp(lambda r: pair_convolution(p, i, j, r, harmonics, features, 2), (radial,), (radial,))


def test_no_pairs_and_unused_features() -> None:
    p = plan_convolution([Coupling(0, 1, 0, clebsch_gordan(0, 1, 1))], n_harmonics=1, n_features=9)
    i, j, radial, harmonics, features = inputs(p, 6, 3, 2)
    out = pair_convolution(p, i, j, radial, harmonics, features, 3)
    (gradient,) = torch.autograd.grad(out.sum(), features)
    assert gradient.shape == (3, 9, 2)
    assert gradient[:, 1:4].abs().sum() > 0 and gradient[:, 0].eq(0).all() and gradient[:, 4:].eq(0).all()
    empty = pair_convolution(p, i[:0], j[:0], radial[:0], harmonics[:0], features, 3)
    assert empty.shape == (3, 3, 2) and empty.eq(0).all()
    (gradient,) = torch.autograd.grad(empty.sum(), features)
    assert gradient.eq(0).all()


def test_reference_can_be_forced() -> None:
    p = plan(1, 1, 1)
    args = inputs(p, 9, 3, 2)
    with only_reference():
        forced = pair_convolution(p, *args, 3)
    torch.testing.assert_close(forced, pair_convolution(p, *args, 3))


def test_wrong_input_is_named() -> None:
    p = plan(1, 1, 1)
    i, j, radial, harmonics, features = inputs(p, 9, 3, 2)
    with pytest.raises(ValueError, match="radial has shape"):
        pair_convolution(p, i, j, radial[:, 1:], harmonics, features, 3)
    with pytest.raises(ValueError, match="sorted"):
        plan_convolution(couplings(1, 1, 1)[::-1], n_harmonics=4, n_features=4)
    with pytest.raises(ValueError, match="numbered"):
        plan_convolution([Coupling(0, 0, 1, clebsch_gordan(0, 0, 0))], n_harmonics=1, n_features=1)
    with pytest.raises(ValueError, match="mixes dimensions"):
        mixed = [Coupling(0, 0, 0, clebsch_gordan(0, 0, 0)), Coupling(1, 0, 0, clebsch_gordan(1, 0, 1))]
        plan_convolution(mixed, n_harmonics=4, n_features=1)
