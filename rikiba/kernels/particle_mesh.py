"""From particles to a periodic mesh and back by cardinal B-splines: the two ends of particle-mesh methods.

    mesh[k] = Σ_a v_a W(u_a − k),    value_a = Σ_k W(u_a − k) mesh[k],    W(x) = M_p(x₀) M_p(x₁) M_p(x₂)

M_p is the cardinal B-spline of order p (a polynomial of degree p − 1 in each interval, p − 2 continuous
derivatives, non-zero in 0 < x < p) and u a position in mesh steps. The two are each other's adjoint. Their
derivatives by u are the same operations with derivatives of W: "level" n has the 3ⁿ derivatives of order n.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import choose, forbid_forward_mode

ORDERS = range(3, 9)
"""Orders of splines: from the first with a continuous derivative to the width of the compiled kernels."""


def spread(
    u: Float[Tensor, "atoms 3"], values: Float[Tensor, "atoms"], shape: tuple[int, int, int], order: int
) -> Float[Tensor, "n0 n1 n2"]:
    """Values of particles at u (in mesh steps, any period) on a mesh of this shape.

    Differentiable in reverse mode in u and values, as often as the spline is; forward mode raises
    NotImplementedError. Raises ValueError for an order outside `ORDERS` or an axis shorter than the order.
    """
    _check(u, shape, order)
    forbid_forward_mode("spread", u, values)
    mesh: Tensor = _Spread.apply(0, order, shape, u, values[:, None])  # type: ignore[no-untyped-call]
    return mesh


def gather(
    u: Float[Tensor, "atoms 3"], mesh: Float[Tensor, "n0 n1 n2"], order: int
) -> Float[Tensor, "atoms"]:
    """Values of a mesh at particles at u; the adjoint of `spread`, with its conditions."""
    _check(u, (mesh.shape[0], mesh.shape[1], mesh.shape[2]), order)
    forbid_forward_mode("gather", u, mesh)
    values: Tensor = _Gather.apply(0, order, u, mesh)  # type: ignore[no-untyped-call]
    return values[:, 0]


def _check(u: Tensor, shape: tuple[int, int, int], order: int) -> None:
    if order not in ORDERS:
        raise ValueError(
            f"The order of a B-spline is {ORDERS.start} to {ORDERS.stop - 1} here; given {order}."
        )
    if min(shape) < order:
        raise ValueError(f"A mesh needs at least {order} points along each axis; given {shape}.")
    if u.dim() != 2 or u.shape[1] != 3:
        raise ValueError(f"Mesh positions have the shape [atoms, 3]; given {tuple(u.shape)}.")


class _Gather(torch.autograd.Function):
    """[atoms, 3^level]: derivatives of that order, the last axis running fastest."""

    @staticmethod
    def forward(level: int, order: int, u: Tensor, mesh: Tensor) -> Tensor:
        chosen = choose("mesh_gather", evaluate_gather, u)
        return chosen(level, order, u, mesh)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.level, ctx.order, u, mesh = inputs
        ctx.save_for_backward(u, mesh)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        u, mesh = ctx.saved_tensors
        by_u = by_mesh = None
        if ctx.needs_input_grad[2]:
            slope = _Gather.apply(ctx.level + 1, ctx.order, u, mesh)  # type: ignore[no-untyped-call]
            by_u = torch.einsum("nc,nca->na", gradient, slope.unflatten(1, (-1, 3)))
        if ctx.needs_input_grad[3]:
            by_mesh = _Spread.apply(ctx.level, ctx.order, tuple(mesh.shape), u, gradient)  # type: ignore[no-untyped-call]
        return None, None, by_u, by_mesh


class _Spread(torch.autograd.Function):
    """The adjoint of `_Gather` of the same level."""

    @staticmethod
    def forward(level: int, order: int, shape: tuple[int, int, int], u: Tensor, values: Tensor) -> Tensor:
        chosen = choose("mesh_spread", evaluate_spread, u)
        return chosen(level, order, shape, u, values)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.level, ctx.order, _, u, values = inputs
        ctx.save_for_backward(u, values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        u, values = ctx.saved_tensors
        by_u = by_values = None
        if ctx.needs_input_grad[3]:
            slope = _Gather.apply(ctx.level + 1, ctx.order, u, gradient)  # type: ignore[no-untyped-call]
            by_u = torch.einsum("nc,nca->na", values, slope.unflatten(1, (-1, 3)))
        if ctx.needs_input_grad[4]:
            by_values = _Gather.apply(ctx.level, ctx.order, u, gradient)  # type: ignore[no-untyped-call]
        return None, None, None, by_u, by_values


def spline_weights(
    fraction: Float[Tensor, "atoms 3"], order: int, derivative: int
) -> Float[Tensor, "atoms 3 order"]:
    """M_p^(d)(f + p − 1 − m) for m = 0 … p − 1, f in [0, 1): of the mesh points ⌊u⌋ − p + 1 + m.

    M_n(x) = [x M_{n−1}(x) + (n − x) M_{n−1}(x − 1)]/(n − 1), M_p^(d)(x) = Σ_s (−1)^s C(d, s) M_{p−d}(x − s)
    (Essmann et al., doi:10.1063/1.470117, eqs. 4.1 and 4.2).
    """
    if derivative >= order:
        return fraction.new_zeros((*fraction.shape, order))
    w = [torch.ones_like(fraction)]  # M_n(f + j), j = 0 … n − 1
    zero = torch.zeros_like(fraction)
    for n in range(2, order - derivative + 1):
        left, right = [*w, zero], [zero, *w]
        w = [((fraction + j) * left[j] + (n - j - fraction) * right[j]) / (n - 1) for j in range(n)]
    n = order - derivative
    columns = []
    for j in range(order):
        parts = [
            (-1) ** s * math.comb(derivative, s) * w[j - s] for s in range(derivative + 1) if 0 <= j - s < n
        ]
        columns.append(torch.stack(parts).sum(0))
    return torch.stack(columns[::-1], -1)


def _points(u: Tensor, shape: tuple[int, ...], order: int) -> tuple[Tensor, list[Int[Tensor, "atoms order"]]]:
    """The fraction of u within its mesh cell, and the mesh points of each axis."""
    base = u.detach().floor()
    along = torch.arange(order, device=u.device) - (order - 1)
    points = [(base[:, d, None].long() + along) % shape[d] for d in range(3)]
    return u - base, points


def _level_weights(u: Tensor, shape: tuple[int, ...], order: int, level: int) -> tuple[Tensor, list[Tensor]]:
    """∂^level W at every point of each atom, [atoms, 3^level, p, p, p], and these points."""
    fraction, points = _points(u, shape, order)
    by_order = [spline_weights(fraction, order, d) for d in range(level + 1)]
    components = []
    for c in range(3**level):
        axes = [(c // 3**k) % 3 for k in range(level)]
        x, y, z = (by_order[axes.count(d)][:, d] for d in range(3))
        components.append(x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :])
    return torch.stack(components, 1), points


def evaluate_gather(level: int, order: int, u: Tensor, mesh: Tensor) -> Tensor:
    """The plain-torch definition."""
    weights, (x, y, z) = _level_weights(u, tuple(mesh.shape), order, level)
    near = mesh[x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]]
    return torch.einsum("ncxyz,nxyz->nc", weights, near)


def evaluate_spread(level: int, order: int, shape: tuple[int, int, int], u: Tensor, values: Tensor) -> Tensor:
    """The plain-torch definition."""
    weights, (x, y, z) = _level_weights(u, shape, order, level)
    places = (x[:, :, None, None] * shape[1] + y[:, None, :, None]) * shape[2] + z[:, None, None, :]
    shares = torch.einsum("nc,ncxyz->nxyz", values, weights)
    flat = values.new_zeros(shape[0] * shape[1] * shape[2])
    return flat.index_add(0, places.flatten(), shares.flatten()).reshape(shape)
