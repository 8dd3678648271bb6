"""Replace a radial network by a table of it, to a checked error."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.kernels.radial_table import evaluate, hermite_coefficients, radial_table
from rikiba.kernels.spline_table import spline_coefficients
from rikiba.kernels.spline_table import spline_table as evaluate_spline

RadialFunction = Callable[[Float[Tensor, "n"], int], Float[Tensor, "n columns"]]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A function of distance per kind, with the largest errors found between its knots."""

    coefficients: Float[Tensor, "kinds intervals 6 columns"]
    start: float
    spacing: float
    value_error: float
    slope_error: float
    """Per Å."""

    def __call__(
        self, r: Float[Tensor, "pairs"], kind: Int[Tensor, "pairs"]
    ) -> Float[Tensor, "pairs columns"]:
        return radial_table(self.coefficients.to(r), self.start, self.spacing, r, kind)


def tabulate(
    function: RadialFunction,
    *,
    n_kinds: int,
    start: float,
    stop: float,
    tolerance: float = 1e-6,
    slope_tolerance: float = 1e-5,
    max_knots: int = 20_000,
) -> Table:
    """Tabulate function(r, kind) on [start, stop] Å, doubling the knots until the error is within tolerance.

    Errors in value and slope are measured in float64 at five points inside every interval. Row n of the
    function's result must depend on r[n] alone and be differentiable. Raises ValueError where the tolerance
    is not met with `max_knots` knots, as for a function with a kink.
    """
    if not 0.0 <= start < stop or n_kinds < 1:
        raise ValueError(f"Need 0 ≤ start < stop and a kind; given {start}, {stop}, {n_kinds} kinds.")
    knots = 65
    while knots <= max_knots:
        table = _table(function, n_kinds, start, stop, knots)
        if table.value_error <= tolerance and table.slope_error <= slope_tolerance:
            return table
        knots = 2 * knots - 1
    raise ValueError(
        f"With {max_knots} knots the table is off by {table.value_error:.1e} in value and "
        f"{table.slope_error:.1e} in slope; allowed are {tolerance:.1e} and {slope_tolerance:.1e}."
    )


def _derivatives(function: RadialFunction, r: Tensor, kind: int) -> tuple[Tensor, Tensor, Tensor]:
    """f, f′ and f″ of every column."""
    with torch.enable_grad():
        r = r.detach().requires_grad_()
        value = function(r, kind)
        first = _slope(value, r)
        second = _slope(first, r)
    return value.detach(), first.detach(), second.detach()


def _slope(value: Tensor, r: Tensor) -> Tensor:
    """d value[n, c]/d r[n] for all columns at once: the reverse derivative is linear in its cotangent."""
    if not value.requires_grad:  # a constant
        return torch.zeros_like(value)
    cotangent = torch.zeros_like(value, requires_grad=True)
    (row_sums,) = torch.autograd.grad(value, r, cotangent, create_graph=True, allow_unused=True)
    if row_sums is None or not row_sums.requires_grad:
        return torch.zeros_like(value)
    (slope,) = torch.autograd.grad(row_sums.sum(), cotangent, create_graph=True)
    return slope


def _table(function: RadialFunction, n_kinds: int, start: float, stop: float, knots: int) -> Table:
    r = torch.linspace(start, stop, knots, dtype=torch.float64)
    spacing = (stop - start) / (knots - 1)
    found = [_derivatives(function, r, k) for k in range(n_kinds)]
    value, first, second = (torch.stack(x) for x in zip(*found, strict=True))
    coefficients = hermite_coefficients(value, first, second, spacing)
    offsets = spacing * torch.arange(1, 6, dtype=torch.float64) / 6.0
    between = (r[:-1, None] + offsets).flatten()
    value_error = slope_error = 0.0
    for k in range(n_kinds):
        exact, exact_slope, _ = _derivatives(function, between, k)
        kind = torch.full((len(between),), k)
        error, slope = (evaluate(n, coefficients, start, spacing, between, kind) for n in (0, 1))
        value_error = max(value_error, float((error - exact).abs().max()))
        slope_error = max(slope_error, float((slope - exact_slope).abs().max()))
    return Table(coefficients, start, spacing, value_error, slope_error)


@dataclass(frozen=True, slots=True, eq=False)
class SplineTable:
    """A function of distance per kind as a cardinal quintic spline, with the largest errors found."""

    coefficients: Float[Tensor, "kinds rows columns"]
    start: float
    spacing: float
    value_error: float
    """Relative to the largest value."""
    slope_error: float
    """Relative to the largest value, per unit of the argument."""


def spline_table(
    function: RadialFunction, *, n_kinds: int, start: float, stop: float, intervals: int
) -> SplineTable:
    """The quintic spline of function(x, kind) on `intervals` equal intervals of [start, stop], float64.

    Errors in value and slope are measured at five points inside every interval.
    """
    knots = torch.linspace(start, stop, intervals + 1, dtype=torch.float64)
    spacing = (stop - start) / intervals
    inside = torch.arange(1, 6, dtype=torch.float64) * (spacing / 6.0)
    between = (knots[:-1, None] + inside).flatten()
    tables, largest, errors = [], 0.0, [0.0, 0.0]
    for kind in range(n_kinds):
        with torch.no_grad():
            values = function(knots, kind)
        _, first, second = _derivatives(function, knots[[0, -1]], kind)
        table = spline_coefficients(values, first, second, spacing)
        for order, exact in enumerate(value_and_slope(function, between, kind)):
            found = evaluate_spline(
                table[None], start, spacing, between, torch.zeros_like(between).long(), order
            )
            error = float((found - exact).abs().max())
            errors[order] = error if not error <= errors[order] else errors[order]  # NaN stays
        largest = max(largest, float(values.abs().max()))
        tables.append(table)
    scale = largest or 1.0
    return SplineTable(torch.stack(tables), start, spacing, errors[0] / scale, errors[1] / scale)


def value_and_slope(
    function: RadialFunction, r: Float[Tensor, "n"], kind: int
) -> tuple[Float[Tensor, "n columns"], Float[Tensor, "n columns"]]:
    """function(r) and its derivative; row n of the function's result must depend on r[n] alone."""
    with torch.enable_grad():
        r = r.detach().requires_grad_()
        value = function(r, kind)
        return value.detach(), _slope(value, r).detach()
