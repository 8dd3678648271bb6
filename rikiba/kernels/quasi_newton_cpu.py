"""The limited-memory inverse Hessian times a gradient, compiled: one pass over the rows per sum."""

import numpy as np
import torch
from torch import Tensor

from .compiled import compiled


@compiled
def _sum_products(a, b, row_system, sums):  # type: ignore[no-untyped-def]
    """sums = a·b of each system."""
    sums[:] = 0.0
    for r in range(len(a)):
        sums[row_system[r]] += a[r, 0] * b[r, 0] + a[r, 1] * b[r, 1] + a[r, 2] * b[r, 2]


@compiled
def _two_loops(q, steps, changes, weights, newest, count, inverse, row_system):  # type: ignore[no-untyped-def]
    memory, rows, systems = len(steps), len(q), len(inverse)
    alphas, sums = np.empty((count, systems)), np.empty(systems)
    for k in range(count):
        slot = (newest - k) % memory
        s, y = steps[slot], changes[slot]
        _sum_products(s, q, row_system, sums)
        for n in range(systems):
            alphas[k, n] = weights[slot, n] * sums[n]
        for r in range(rows):
            alpha = alphas[k, row_system[r]]
            for c in range(3):
                q[r, c] -= alpha * y[r, c]
    for r in range(rows):
        for c in range(3):
            q[r, c] *= inverse[row_system[r]]
    for k in range(count - 1, -1, -1):
        slot = (newest - k) % memory
        s, y = steps[slot], changes[slot]
        _sum_products(y, q, row_system, sums)
        for n in range(systems):
            sums[n] = alphas[k, n] - weights[slot, n] * sums[n]
        for r in range(rows):
            factor = sums[row_system[r]]
            for c in range(3):
                q[r, c] += factor * s[r, c]


def inverse_hessian_product(
    gradient: Tensor,
    steps: Tensor,
    changes: Tensor,
    weights: Tensor,
    newest: int,
    count: int,
    inverse: Tensor,
    row_system: Tensor,
) -> Tensor:
    """As `rikiba.kernels.quasi_newton.inverse_hessian_product`; float64."""
    product = gradient.detach().clone(memory_format=torch.contiguous_format)
    _two_loops(
        product.numpy(), steps.numpy(), changes.numpy(), weights.numpy(), newest, count,
        inverse.contiguous().numpy(), row_system.numpy(),
    )  # fmt: skip
    return product
