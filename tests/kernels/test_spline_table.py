"""Cardinal quintic splines: exact for quintics, C4, convergence of sixth order, compiled weights."""

from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor

from rikiba.kernels.pair_geometry_cpu import spline_rows
from rikiba.kernels.spline_table import spline_coefficients, spline_table, spline_weights
from rikiba.nn.tabulation import spline_table as tabulate
from rikiba.nn.tabulation import value_and_slope

ZERO = torch.zeros(1, dtype=torch.int64)


def wave(x: Tensor, kind: int) -> Tensor:
    return torch.stack([torch.sin((2.0 + kind) * x), torch.exp(-x) * x], 1)


def test_weights_add_up_and_derivatives_are_derivatives() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64).requires_grad_()
    w = spline_weights(t)
    torch.testing.assert_close(w.sum(1), torch.ones_like(t), rtol=0, atol=1e-14)
    for k in range(6):
        (slope,) = torch.autograd.grad(w[:, k].sum(), t, retain_graph=True)
        torch.testing.assert_close(slope, spline_weights(t.detach(), 1)[:, k], rtol=0, atol=1e-13)
    # neighbouring pieces join with four derivatives, and only four
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for order in range(6):
        at_start, at_end = spline_weights(ends, order)
        joined = bool((at_start[:5] - at_end[1:]).abs().max() < 1e-12)
        assert joined == (order <= 4)


def test_a_quintic_is_reproduced() -> None:
    c = torch.tensor([0.3, -1.0, 0.7, 0.2, -0.4, 0.1], dtype=torch.float64)

    def polynomial(x: Tensor, kind: int) -> Tensor:
        return sum(c[n] * x**n for n in range(6))[:, None]  # type: ignore[index, return-value]

    table = tabulate(polynomial, n_kinds=1, start=0.5, stop=3.0, intervals=8)
    assert table.value_error < 1e-12 and table.slope_error < 1e-11


def test_error_falls_with_the_sixth_power_and_is_reported() -> None:
    errors = [tabulate(wave, n_kinds=2, start=0.3, stop=4.0, intervals=n).value_error for n in (16, 32, 64)]
    assert errors[0] / errors[1] > 40 and errors[1] / errors[2] > 40
    kinked = tabulate(lambda x, k: (x - 2.01).abs()[:, None], n_kinds=1, start=1.0, stop=3.0, intervals=64)
    assert kinked.slope_error > 0.1


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_compiled_rows_and_weights(offset: float) -> None:
    start, stop, n = 0.4, 5.0, 40
    ends = (log(start + offset), log(stop + offset)) if offset else (start, stop)

    def function(x: Tensor, kind: int) -> Tensor:
        return wave(torch.exp(x) - offset if offset else x, kind)

    table = tabulate(function, n_kinds=2, start=ends[0], stop=ends[1], intervals=n)
    r = torch.linspace(start, stop, 57, dtype=torch.float64)
    kind = (torch.arange(57) % 2).numpy()
    row, weights = np.empty(57, np.int64), np.empty((57, 12))
    spline_rows(r.numpy(), kind, table.start, table.spacing, offset, n + 5, row, weights)
    flat = table.coefficients.flatten(0, 1).numpy()
    taps = flat[row[:, None] + np.arange(6)]
    for k in (0, 1):
        value, slope = value_and_slope(wave, r, k)
        which = kind == k
        found = np.einsum("pm,pmc->pc", weights[which, :6], taps[which])
        found_slope = np.einsum("pm,pmc->pc", weights[which, 6:], taps[which])
        np.testing.assert_allclose(found, value.numpy()[which], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found_slope, slope.numpy()[which], rtol=0, atol=2e-4)
    x = torch.tensor([ends[0] + 0.37 * (ends[1] - ends[0])], dtype=torch.float64)
    plain = spline_table(table.coefficients, table.start, table.spacing, x, ZERO)
    here = exp(float(x)) - offset if offset else float(x)
    spline_rows(
        np.array([here]),
        np.zeros(1, np.int64),
        table.start,
        table.spacing,
        offset,
        n + 5,
        row[:1],
        weights[:1],
    )
    np.testing.assert_allclose(weights[0, :6] @ flat[row[0] : row[0] + 6], plain[0], rtol=0, atol=1e-12)


def test_bad_input_is_refused() -> None:
    values = torch.zeros(5, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="at least 6"):
        spline_coefficients(values, values[:2], values[:2], 0.1)
    table = tabulate(wave, n_kinds=1, start=1.0, stop=2.0, intervals=8)
    with pytest.raises(ValueError, match="covers"):
        spline_table(table.coefficients, 1.0, table.spacing, torch.tensor([2.5], dtype=torch.float64), ZERO)
