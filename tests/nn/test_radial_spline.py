"""Radial networks interpolated between knots."""

import pytest
import torch

from rikiba.nn.cutoff import polynomial
from rikiba.nn.mlp import NormalisedMLP
from rikiba.nn.radial import Bessel
from rikiba.nn.radial_spline import RadialSpline

CUTOFF = 5.0


def network(r: torch.Tensor, mlp: NormalisedMLP) -> torch.Tensor:
    return mlp(Bessel(n=8, cutoff=CUTOFF)(r) * polynomial(r / CUTOFF)[:, None])


def interpolated(r: torch.Tensor, mlp: NormalisedMLP, intervals: int) -> torch.Tensor:
    spline = RadialSpline(cutoff=CUTOFF, intervals=intervals)
    table = spline.table(network(spline.samples(r.device), mlp), r.dtype)
    points = spline.points(r)
    return torch.einsum("qm,qmc->qc", points.weights, table[points.row[:, None] + torch.arange(6)])


@pytest.fixture
def mlp() -> NormalisedMLP:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return NormalisedMLP(widths=(8, 32, 32, 5)).double()


def errors(mlp: NormalisedMLP, intervals: int) -> list[float]:
    """Largest relative errors of value, slope and curvature, and of the gradient by a weight."""
    r = torch.linspace(0.4, CUTOFF, 1301, dtype=torch.float64).requires_grad_()
    found = []
    for value in (interpolated(r, mlp, intervals), network(r, mlp)):
        slope = torch.autograd.grad(value.sum(), r, create_graph=True)[0]
        curvature = torch.autograd.grad(slope.sum(), r, create_graph=True)[0]
        by_weight = torch.autograd.grad(value.sin().sum(), mlp.weights[1])[0]
        found.append([value, slope, curvature, by_weight])
    return [float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True)]


def test_close_to_the_network(mlp: NormalisedMLP) -> None:
    value, slope, curvature, by_weight = errors(mlp, 128)
    assert value < 1e-5 and slope < 1e-4 and curvature < 1e-3 and by_weight < 1e-6
    finer = errors(mlp, 256)
    assert finer[0] < value / 16 and finer[1] < slope / 16


def test_too_few_knots_show(mlp: NormalisedMLP) -> None:
    """Negative control."""
    assert errors(mlp, 8)[0] > 1e-2


def test_single_precision_costs_no_more_than_rounding(mlp: NormalisedMLP) -> None:
    r = torch.linspace(0.4, 4.99, 500, dtype=torch.float64)
    slopes = []
    for x in (r, r.float()):
        x = x.requires_grad_()
        slopes.append(torch.autograd.grad(interpolated(x, mlp, 128).sum(), x)[0].double())
    assert float((slopes[0] - slopes[1]).abs().max() / slopes[0].abs().max()) < 1e-5


def test_weights_are_differentiable_to_third_order() -> None:
    spline = RadialSpline(cutoff=CUTOFF, intervals=16)
    r = torch.tensor([0.4, 1.3, 2.2, 4.9], dtype=torch.float64, requires_grad=True)

    def first(x: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(spline.points(x).weights.sin().sum(), x, create_graph=True)[0]

    assert torch.autograd.gradcheck(lambda x: spline.points(x).weights, r)
    assert torch.autograd.gradgradcheck(first, r)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        RadialSpline(cutoff=5.0, intervals=4)
    spline = RadialSpline(cutoff=5.0, intervals=16)
    with pytest.raises(ValueError, match="The spline ends"):
        spline.points(torch.tensor([1.0, 5.1]))
    assert spline.points(torch.tensor([5.0])).row.tolist() == [15]
    assert len(spline.points(torch.zeros(0)).row) == 0
