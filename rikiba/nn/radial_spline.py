"""Radial networks at knots alone: a spline through them serves all pairs, in training too.

A radial network is a function of one distance, so what thousands of pairs ask of it lies on a curve. Values
at some hundred samples determine a quintic spline, T = M⁻¹ f(samples), linear in f: gradients of the weights
flow through the samples.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.kernels.pair_convolution import ConvolutionPlan, pair_convolution
from rikiba.kernels.spline_table import TAPS, spline_weights
from rikiba.kernels.tabulated_convolution import tabulated_convolution


class SplinePoints(NamedTuple):
    """Where distances fall among the knots."""

    row: Int[Tensor, "pairs"]
    weights: Float[Tensor, "pairs 6"]
    """Differentiable in the distance."""


class RadialSpline:
    """Quintic splines on `intervals` equal intervals of [0, cutoff], four continuous derivatives.

    They pass through the values at `samples`: all knots, and near each end two points more.

    Args:
        cutoff: Å.
        intervals: at least 8.
    """

    def __init__(self, *, cutoff: float, intervals: int) -> None:
        if intervals < 8 or not cutoff > 0:
            raise ValueError(
                f"Need at least 8 intervals and a positive cutoff; given {intervals}, {cutoff} Å."
            )
        self.cutoff, self.intervals, self.spacing = cutoff, intervals, cutoff / intervals

    def samples(self, device: torch.device) -> Float[Tensor, "samples"]:
        """Distances to evaluate at, Å, in float64: a spline's slope magnifies rounding of its values."""
        return (_positions(self.intervals) * self.spacing).to(device)

    def table(
        self, values: Float[Tensor, "*n samples columns"], dtype: torch.dtype
    ) -> Float[Tensor, "*n samples columns"]:
        """Coefficients of the spline through float64 values at `samples`; differentiable."""
        return (_inverse(self.intervals, values.device) @ values).to(dtype)

    def points(self, r: Float[Tensor, "pairs"]) -> SplinePoints:
        """Rows and weights of distances; Σ_m weights[:, m] table[row + m] is the spline.

        Raises ValueError for a distance beyond the cutoff.
        """
        fixed = r.detach()
        row = (fixed * (1.0 / self.spacing)).long()
        if len(r) and int(row.max()) >= self.intervals:
            if float(fixed.max()) > self.cutoff:
                raise ValueError(f"The spline ends at {self.cutoff} Å; asked was {float(fixed.max())} Å.")
            row = row.clamp(max=self.intervals - 1)
        return SplinePoints(row, _Weights.apply(0, r, row, self.spacing))  # type: ignore[no-untyped-call]


class _Weights(torch.autograd.Function):
    """The `order`-th derivative of the six weights with respect to r."""

    @staticmethod
    def forward(order: int, r: Tensor, row: Tensor, spacing: float) -> Tensor:
        t = r * (1.0 / spacing) - row
        return spline_weights(t, order) * (1.0 / spacing**order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.order, r, row, ctx.spacing = inputs
        ctx.save_for_backward(r, row)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        r, row = ctx.saved_tensors
        slope = _Weights.apply(ctx.order + 1, r, row, ctx.spacing)  # type: ignore[no-untyped-call]
        return None, (gradient * slope).sum(1), None, None


def _positions(intervals: int) -> Tensor:
    """Samples in units of the spacing: the knots, and two more points in the first and last two intervals."""
    inner = torch.tensor([0.5, 1.5], dtype=torch.float64)
    knots = torch.arange(intervals + 1, dtype=torch.float64)
    return torch.cat([knots, inner, intervals - inner]).sort()[0]


@lru_cache(maxsize=16)
def _inverse(intervals: int, device: torch.device) -> Tensor:
    """Values at the samples → coefficients."""
    x = _positions(intervals)
    row = x.long().clamp(max=intervals - 1)
    matrix = torch.zeros(len(x), intervals + 5, dtype=torch.float64)
    matrix.scatter_(1, row[:, None] + torch.arange(TAPS), spline_weights(x - row))
    return torch.linalg.inv(matrix).to(device)


def convolve(
    plan: ConvolutionPlan,
    i: Int[Tensor, "pairs"],
    j: Int[Tensor, "pairs"],
    radial: Float[Tensor, "rows couplings channels"],
    points: SplinePoints | None,
    harmonics: Float[Tensor, "pairs lm"],
    features: Float[Tensor, "senders d channels"],
    n_centres: int,
) -> Float[Tensor, "centres rows_out channels"]:
    """The pair convolution with a row of `radial` for each pair or, given `points`, from a spline's table."""
    if points is None:
        return pair_convolution(plan, i, j, radial, harmonics, features, n_centres)
    return tabulated_convolution(
        plan, i, j, points.row, points.weights, radial, harmonics, features, n_centres
    )
