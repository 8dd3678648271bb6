"""The tabulated convolution and its derivatives on the CPU, from and to tensors."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .dispatch import forbid_forward_mode, needed_inputs
from .pair_convolution import ConvolutionPlan, _Shape
from .pair_convolution_cpu import Operation, Radial, plain
from .spline_table import TAPS
from .tabulated_convolution import evaluate as evaluate_in_torch


class _Fixed(NamedTuple):
    """What no derivative is taken by."""

    plan: ConvolutionPlan
    shape: _Shape
    i: Tensor
    j: Tensor
    row: Tensor

    def operation(self, like: Tensor) -> Operation:
        return Operation(self.plan, self.shape, self.i, self.j, like)

    def in_torch(self, weights: Tensor, table: Tensor, harmonics: Tensor, features: Tensor) -> Tensor:
        n = self.shape.n_centres
        return evaluate_in_torch(self.plan, self.i, self.j, self.row, weights, table, harmonics, features, n)

    def radial(self, weights: Tensor, table: Tensor) -> Radial:
        return Radial(self.row, weights, table, weights.shape[1])


def evaluate(
    plan: ConvolutionPlan,
    i: Tensor,
    j: Tensor,
    row: Tensor,
    weights: Tensor,
    table: Tensor,
    harmonics: Tensor,
    features: Tensor,
    n_centres: int,
) -> Tensor:
    """See `tabulated_convolution.evaluate`."""
    args = (weights, table, harmonics, features)
    forbid_forward_mode("tabulated_convolution", *args)
    fixed = _Fixed(plan, _Shape(n_centres, features.shape[0]), i, j, row)
    if weights.shape[1] != TAPS or not plain(*args) or not bool((i[1:] >= i[:-1]).all()):
        return fixed.in_torch(*args)
    if len(row) and (int(row.min()) < 0 or int(row.max()) + weights.shape[1] > len(table)):
        raise ValueError(f"Rows {int(row.min())} … {int(row.max())} reach beyond a table of {len(table)}.")
    return _Tabulated.apply(fixed, *args)  # type: ignore[no-any-return, no-untyped-call]


class _Tabulated(torch.autograd.Function):
    @staticmethod
    def forward(fixed: _Fixed, weights: Tensor, table: Tensor, harmonics: Tensor, features: Tensor) -> Tensor:
        return fixed.operation(features).forward(fixed.radial(weights, table), harmonics, features)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.fixed, *args = inputs
        ctx.save_for_backward(*args)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        args = ctx.saved_tensors
        needed = needed_inputs(ctx, (None, *args))[1:]
        found = iter(_Reverse.apply(ctx.fixed, needed, gradient, *args))  # type: ignore[no-untyped-call]
        return None, *(next(found) if want else None for want in needed)


class _Reverse(torch.autograd.Function):
    """Derivatives by weights, table, harmonics and features, as many as wanted, from ∂E/∂A."""

    @staticmethod
    def forward(
        fixed: _Fixed,
        wanted: tuple[bool, ...],
        cotangent: Tensor,
        weights: Tensor,
        table: Tensor,
        harmonics: Tensor,
        features: Tensor,
    ) -> tuple[Tensor, ...]:
        radial = fixed.radial(weights, table)
        found = fixed.operation(features).reverse(
            wanted, cotangent, radial, harmonics, features, table.shape[0]
        )
        return tuple(x for x in found if x is not None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.fixed, ctx.wanted, *args = inputs
        ctx.save_for_backward(*args)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        args = ctx.saved_tensors
        needed = needed_inputs(ctx, (None, None, *args))[2:]
        given = iter(gradients)
        changes = [next(given) if want else None for want in ctx.wanted]
        by_cotangent, by_weights, by_table, by_harmonics, by_features = needed
        if torch.is_grad_enabled() or by_weights or by_harmonics:
            return None, None, *_second_in_torch(ctx.fixed, args, needed, changes)
        cotangent, weights, table, harmonics, features = args
        out, t, h = ctx.fixed.operation(features).second(
            (by_cotangent, by_table, by_features),
            cotangent,
            ctx.fixed.radial(weights, table),
            harmonics,
            features,
            changes,
        )
        return None, None, out, None, t, None, h


def _second_in_torch(
    fixed: _Fixed, args: tuple[Tensor, ...], needed: tuple[bool, ...], changes: list[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """The same by differentiating the definition, itself differentiable."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # aliases, so that a cotangent's own dependence on the others is not counted here
        given = tuple(
            a.view_as(a) if again and a.requires_grad else a.detach().requires_grad_() for a in args
        )
        slots = [k for k, c in enumerate(changes) if c is not None]
        wanted = [a for a, want in zip(given, needed, strict=True) if want]
        if not slots or not wanted:
            return (None,) * 5
        out = fixed.in_torch(*given[1:])
        slopes = torch.autograd.grad(out, [given[1 + k] for k in slots], given[0], create_graph=True)
        directions = [changes[k] for k in slots]
        found = torch.autograd.grad(slopes, wanted, directions, create_graph=again, allow_unused=True)
    filled = iter(found)
    return tuple(next(filled) if want else None for want in needed)
