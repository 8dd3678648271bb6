"""The limited-memory inverse Hessian times a gradient, compiled: one pass over the rows per sum."""

import numpy as np
import torch
from torch import Tensor

from .compiled import compiled


@compiled
def _two_loops(q, steps, changes, weights, newest, count, inverse, row_system):  # type: ignore[no-untyped-def]
    memory, rows, systems = len(steps), len(q), len(inverse)
    alphas, sums = np.empty((count, systems)), np.empty(systems)
    for k in range(count):
        slot = (newest - k) % memory
        s, y = steps[slot], changes[slot]
        sums[:] = 0.0
        for r in range(rows):
            sums[row_system[r]] += s[r, 0] * q[r, 0] + s[r, 1] * q[r, 1] + s[r, 2] * q[r, 2]
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
        sums[:] = 0.0
        for r in range(rows):
            sums[row_system[r]] += y[r, 0] * q[r, 0] + y[r, 1] * q[r, 1] + y[r, 2] * q[r, 2]
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
