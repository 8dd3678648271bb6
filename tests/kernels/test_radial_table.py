"""Quintic tables: error, smoothness, derivatives."""

import pytest
import torch
from torch import Tensor

from rikiba.kernels.radial_table import hermite_coefficients, radial_table
from rikiba.nn.cutoff import polynomial
from rikiba.nn.mlp import NormalisedMLP
from rikiba.nn.radial import Bessel
from rikiba.nn.tabulation import tabulate


def sine_table(n: int) -> tuple[Tensor, float]:
    r = torch.linspace(0.0, 3.0, n + 1, dtype=torch.float64)
    values = torch.stack([r.sin(), (2 * r).sin()], -1)[None]
    first = torch.stack([r.cos(), 2 * (2 * r).cos()], -1)[None]
    second = torch.stack([-r.sin(), -4 * (2 * r).sin()], -1)[None]
    return hermite_coefficients(values, first, second, 3.0 / n), 3.0 / n


def test_error_falls_with_the_sixth_power() -> None:
    r = torch.linspace(0.0, 3.0, 1001, dtype=torch.float64)
    errors = []
    for n in (5, 10):
        coefficients, spacing = sine_table(n)
        found = radial_table(coefficients, 0.0, spacing, r, torch.zeros(1001, dtype=torch.int64))
        errors.append(float((found - torch.stack([r.sin(), (2 * r).sin()], -1)).abs().max()))
    assert 50 < errors[0] / errors[1] < 80


def test_second_derivative_is_continuous_and_third_is_not() -> None:
    coefficients, spacing = sine_table(6)
    at = (spacing * torch.tensor([2.0 - 1e-9, 2.0 + 1e-9], dtype=torch.float64)).requires_grad_()
    kind = torch.zeros(2, dtype=torch.int64)
    value = radial_table(coefficients, 0.0, spacing, at, kind)[:, 1]
    jumps = []
    for _ in range(3):
        (value,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        jumps.append(float((value[1] - value[0]).detach().abs()))
    assert jumps[0] < 1e-7 and jumps[1] < 1e-7 and jumps[2] > 1e-4


def test_derivatives() -> None:
    coefficients, spacing = sine_table(6)
    r = torch.tensor([0.3, 1.21, 2.9], dtype=torch.float64, requires_grad=True)
    kind = torch.zeros(3, dtype=torch.int64)

    def run(x: Tensor) -> Tensor:
        return radial_table(coefficients, 0.0, spacing, x, kind)

    assert torch.autograd.gradcheck(run, (r,))
    assert torch.autograd.gradgradcheck(run, (r,))
    with pytest.raises(NotImplementedError):
        torch.func.jvp(run, (r.detach(),), (r.detach(),))


def test_a_radial_network_within_its_stated_error() -> None:
    torch.manual_seed(0)
    network, basis = NormalisedMLP(widths=(8, 16, 16, 6)).double(), Bessel(n=8, cutoff=5.0)

    def function(r: Tensor, kind: int) -> Tensor:
        return (1.0 + kind) * network(basis(r) * polynomial(r / 5.0, 5)[:, None])

    table = tabulate(function, n_kinds=2, start=0.6, stop=5.0)
    assert table.value_error <= 1e-6 and table.slope_error <= 1e-5
    g = torch.Generator().manual_seed(1)
    r = 0.6 + 4.4 * torch.rand(3000, generator=g, dtype=torch.float64)
    kind = torch.randint(0, 2, (3000,), generator=g)
    exact = torch.where((kind == 1)[:, None], function(r, 1), function(r, 0))
    found = (table(r, kind) - exact).abs().max()
    assert found < 1.2 * table.value_error
    coarse = tabulate(function, n_kinds=2, start=0.6, stop=5.0, tolerance=1e-2, slope_tolerance=1e-1)
    assert coarse.coefficients.shape[1] < table.coefficients.shape[1]
    assert (coarse(r, kind) - exact).abs().max() > table.value_error


def test_what_cannot_be_tabulated_is_refused() -> None:
    with pytest.raises(ValueError, match="is off by"):
        tabulate(lambda r, _: (r - 1.234).abs()[:, None], n_kinds=1, start=0.5, stop=3.0, max_knots=500)
    coefficients, spacing = sine_table(4)
    zero = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="The table covers"):
        radial_table(coefficients, 0.0, spacing, torch.tensor([3.1], dtype=torch.float64), zero)
    with pytest.raises(ValueError, match="cannot be trained"):
        radial_table(
            coefficients.requires_grad_(), 0.0, spacing, torch.tensor([1.0], dtype=torch.float64), zero
        )
