"""Compiled convolutions and contraction against their definitions: values, gradients, second gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from rikiba.kernels.dispatch import needed_inputs, only_reference
from rikiba.kernels.grouping import group_by_type
from rikiba.kernels.pair_convolution import ConvolutionPlan, Coupling, pair_convolution, plan_convolution
from rikiba.kernels.symmetric_contraction import plan_contraction, symmetric_contraction
from rikiba.kernels.tabulated_convolution import tabulated_convolution
from rikiba.nn.coupling import symmetric_couplings
from rikiba.nn.equivariant import natural_paths
from rikiba.nn.so3 import clebsch_gordan

Operation = Callable[..., Tensor]


def plan(l_harmonics: int, l_features: int, l_out: int) -> ConvolutionPlan:
    couplings = [
        Coupling(l1 * l1, l2 * l2, l3, clebsch_gordan(l1, l2, l3))
        for l1, l2, l3 in natural_paths(l_harmonics, l_features, l_out)
    ]
    return plan_convolution(couplings, n_harmonics=(l_harmonics + 1) ** 2, n_features=(l_features + 1) ** 2)


def convolution(
    degrees: tuple[int, int, int], channels: int, tabulated: bool, n_pairs: int = 23
) -> tuple[Operation, list[Tensor]]:
    """The operation as a function of its differentiable arguments; atom 2 has no neighbours."""
    p, g = plan(*degrees), torch.Generator().manual_seed(channels)
    n_atoms, n_rows = 6, 11
    i = torch.sort(torch.tensor([0, 1, 3, 4, 5])[torch.randint(0, 5, (n_pairs,), generator=g)])[0]
    j = torch.randint(0, n_atoms, (n_pairs,), generator=g)
    row = torch.randint(0, n_rows - 5, (n_pairs,), generator=g)
    rows = (
        [(n_pairs, 6), (n_rows, p.n_couplings, channels)]
        if tabulated
        else [(n_pairs, p.n_couplings, channels)]
    )
    shapes = [*rows, (n_pairs, p.n_harmonics), (n_atoms, p.n_features, channels)]
    args = [torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes]
    if tabulated:
        return lambda *a: tabulated_convolution(p.to(a[1]), i, j, row, *a, n_atoms), args
    return lambda *a: pair_convolution(p.to(a[0]), i, j, *a, n_atoms), args


def contraction(degrees: Sequence[int], channels: int) -> tuple[Operation, list[Tensor]]:
    outputs = []
    for degree in degrees:
        found = [symmetric_couplings(2, n, degree) for n in (1, 2, 3)]
        outputs.append([(c.monomials, c.coefficients) for c in found if c.count])
    p, g = plan_contraction(outputs, 9), torch.Generator().manual_seed(channels)
    groups = group_by_type(torch.tensor([2, 0, 2, 1, 0]), 4)
    shapes = [(5, 9, channels), *((4, c.shape[0], channels) for c in p.coefficients)]
    args = [torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes]
    return lambda a, *w: symmetric_contraction(p.to(a), a, w, groups), args


CASES = {
    "values, one channel": lambda: convolution((2, 1, 2), 1, False),
    "values, scalars": lambda: convolution((0, 0, 0), 32, False),
    "values, 40 channels": lambda: convolution((3, 1, 3), 40, False),
    "values, 130 channels": lambda: convolution((1, 1, 1), 130, False),
    "values, no pairs": lambda: convolution((1, 1, 1), 3, False, 0),
    "table, scalars": lambda: convolution((0, 0, 0), 5, True),
    "table, 40 channels": lambda: convolution((3, 1, 3), 40, True),
    "table, 130 channels": lambda: convolution((2, 2, 2), 130, True),
    "table, no pairs": lambda: convolution((1, 0, 1), 3, True, 0),
    "contraction, 3 channels": lambda: contraction((0, 1), 3),
    "contraction, 70 channels": lambda: contraction((0, 1, 2), 70),
}


def derivatives(operation: Operation, args: Sequence[Tensor]) -> list[Tensor]:
    """The value; its gradient; and the gradients of a function of half of that gradient, as in training."""
    out = operation(*args)
    first = torch.autograd.grad(out.sin().sum(), args, create_graph=True)
    found = [out, *first]
    for chosen in ([0], [len(args) - 1], range(len(args))):
        loss = sum((first[k] * first[k].cos()).sum() for k in chosen)
        assert isinstance(loss, Tensor)
        found += torch.autograd.grad(loss, args, retain_graph=True)
        found += [torch.autograd.grad(loss, a, retain_graph=True)[0] for a in args]
    return [x.detach() for x in found]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_definition(name: str, dtype: torch.dtype) -> None:
    operation, args = CASES[name]()
    # smaller arguments keep the sines of the loss from magnifying rounding
    args = [(0.5 * a.detach()).to(dtype).requires_grad_() for a in args]
    found = derivatives(operation, args)
    with only_reference():
        expected = derivatives(operation, args)
    tolerance = 1e-11 if dtype == torch.float64 else 3e-4
    for a, b in zip(found, expected, strict=True):
        scale = 1.0 + float(b.abs().max()) if b.numel() else 1.0
        assert a.dtype == dtype and a.shape == b.shape
        torch.testing.assert_close(a / scale, b / scale, rtol=0.0, atol=tolerance)


def test_comparison_sees_a_wrong_second_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with a part of the fused second derivative left out, the check above fails."""
    from rikiba.kernels.pair_convolution_cpu import Operation as Compiled

    right = Compiled.second

    def wrong(self: Any, wanted: Any, *rest: Any) -> list[Tensor | None]:
        *same, changes = rest
        return right(self, wanted, *same, [*changes[:-1], None])

    monkeypatch.setattr(Compiled, "second", wrong)
    for name in ("values, 40 channels", "table, 40 channels"):
        with pytest.raises(AssertionError):
            test_equals_the_definition(name, torch.float64)


@pytest.mark.parametrize("make", [lambda: convolution((1, 1, 1), 2, True, 5), lambda: contraction((0, 1), 1)])
def test_derivatives_to_third_order(make: Callable[[], tuple[Operation, list[Tensor]]]) -> None:
    operation, args = make()

    def first(*a: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(operation(*a).sin().sum(), a, create_graph=True)

    assert torch.autograd.gradcheck(operation, args, fast_mode=True)
    assert torch.autograd.gradgradcheck(operation, args, fast_mode=True)
    assert torch.autograd.gradgradcheck(first, args, fast_mode=True)


@pytest.mark.parametrize("name", ["values, 130 channels", "table, 130 channels", "contraction, 70 channels"])
def test_same_bits_at_any_number_of_threads(name: str) -> None:
    operation, args = CASES[name]()
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            out = operation(*args)
            found.append([out, *torch.autograd.grad(out.square().sum(), args)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_forward_mode_raises() -> None:
    for make in (lambda: convolution((1, 0, 1), 2, True), lambda: contraction((0,), 2)):
        operation, args = make()
        given = [a.detach() for a in args]
        with pytest.raises(NotImplementedError):
            torch.func.jvp(lambda x, f=operation, g=given: f(x, *g[1:]), (given[0],), (given[0],))


def test_unsorted_centres_are_summed_too() -> None:
    p, g = plan(1, 0, 1), torch.Generator().manual_seed(0)
    i, j = torch.tensor([2, 0, 1, 0]), torch.tensor([0, 1, 2, 2])
    r, y, h = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((4, 2, 3), (4, 4), (3, 1, 3)))
    order = torch.argsort(i, stable=True)
    sorted_ = pair_convolution(p, i[order], j[order], r[order], y[order], h, 3)
    torch.testing.assert_close(pair_convolution(p, i, j, r, y, h, 3), sorted_)


def test_wrong_tables_are_named() -> None:
    operation, args = convolution((1, 0, 1), 2, True)
    with pytest.raises(ValueError, match="table has shape"):
        operation(args[0], args[1][:, :1], *args[2:])
    with pytest.raises(ValueError, match="beyond a table"):
        operation(args[0], args[1][:7], *args[2:])


def test_only_what_is_asked_for_is_computed() -> None:
    asked = []

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            a, b = ctx.saved_tensors
            asked.append(needed_inputs(ctx, (a, b)))
            return g * b, g * a

    x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    out = Product.apply(2.0 * x, 3.0 * w).sum()  # type: ignore[no-untyped-call]
    torch.autograd.grad(out, x, retain_graph=True)
    torch.autograd.grad(out, (x, w))
    assert asked == [(True, False), (True, True)]
