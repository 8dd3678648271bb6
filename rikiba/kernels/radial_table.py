"""Functions of one distance from a table: piecewise quintic polynomials with continuous second derivative.

A table has uniform knots r_k = start + k·spacing and, per kind (a type pair), six coefficients per
interval and column: f(r) = Σ_n c_n t^n with t = (r − r_k)/spacing. Built from value, first and second
derivative at the knots (quintic Hermite), it is C² and its error falls with the sixth power of the spacing.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import choose


def hermite_coefficients(
    values: Float[Tensor, "kinds knots columns"],
    first: Float[Tensor, "kinds knots columns"],
    second: Float[Tensor, "kinds knots columns"],
    spacing: float,
) -> Float[Tensor, "kinds intervals 6 columns"]:
    """Coefficients of the quintic polynomials that match f, f′, f″ at both ends of every interval."""
    f0, f1 = values[:, :-1], values[:, 1:]
    d0, d1 = first[:, :-1] * spacing, first[:, 1:] * spacing
    s0, s1 = second[:, :-1] * spacing**2, second[:, 1:] * spacing**2
    jump = f1 - f0
    return torch.stack(
        [
            f0,
            d0,
            0.5 * s0,
            10.0 * jump - 6.0 * d0 - 4.0 * d1 - 1.5 * s0 + 0.5 * s1,
            -15.0 * jump + 8.0 * d0 + 7.0 * d1 + 1.5 * s0 - s1,
            6.0 * jump - 3.0 * (d0 + d1) - 0.5 * (s0 - s1),
        ],
        2,
    )


def radial_table(
    coefficients: Float[Tensor, "kinds intervals 6 columns"],
    start: float,
    spacing: float,
    r: Float[Tensor, "pairs"],
    kind: Int[Tensor, "pairs"],
) -> Float[Tensor, "pairs columns"]:
    """Rows of the table at distances r; exactly differentiable in r, in reverse mode (f‴ jumps at knots).

    Raises ValueError where a distance lies outside the table or the coefficients require gradients;
    forward mode raises NotImplementedError.
    """
    if coefficients.requires_grad:
        raise ValueError("A radial table is for inference: its coefficients cannot be trained.")
    stop = start + spacing * coefficients.shape[1]
    if r.numel() and (float(r.detach().min()) < start or float(r.detach().max()) > stop):
        raise ValueError(
            f"The table covers {start} to {stop} Å; asked were {float(r.min())} to {float(r.max())} Å."
        )
    return _Lookup.apply(0, coefficients, start, spacing, r, kind)  # type: ignore[no-any-return, no-untyped-call]


class _Lookup(torch.autograd.Function):
    """The derivative of order `order` with respect to r."""

    @staticmethod
    def forward(
        order: int, coefficients: Tensor, start: float, spacing: float, r: Tensor, kind: Tensor
    ) -> Tensor:
        implementation = choose("radial_table", evaluate, r)
        return implementation(order, coefficients, start, spacing, r, kind)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.order, coefficients, ctx.start, ctx.spacing, r, kind = inputs
        ctx.save_for_backward(coefficients, r, kind)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        coefficients, r, kind = ctx.saved_tensors
        slope = _Lookup.apply(ctx.order + 1, coefficients, ctx.start, ctx.spacing, r, kind)  # type: ignore[no-untyped-call]
        return None, None, None, None, (gradient * slope).sum(1), None


def evaluate(
    order: int, coefficients: Tensor, start: float, spacing: float, r: Tensor, kind: Tensor
) -> Tensor:
    """The plain-torch definition of the derivative of that order."""
    x = (r - start) / spacing
    interval = x.floor().clamp(0, coefficients.shape[1] - 1)
    t = (x - interval)[:, None]
    c = coefficients[kind, interval.long()]
    total = torch.zeros_like(c[:, 0])
    for n in range(5, order - 1, -1):
        falling = 1.0
        for k in range(order):
            falling *= n - k
        total = total * t + falling * c[:, n]
    return total / spacing**order
