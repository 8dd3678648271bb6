"""Rigid three-site molecules put back onto their shape in closed form (SETTLE)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import operation

Corrected = tuple[Float[Tensor, "atoms 3"], int]
"""What was corrected, and the number of a molecule that has no solution (−1: all of them have one)."""


@operation
def settle_positions(
    positions: Float[Tensor, "atoms 3"],
    reference: Float[Tensor, "atoms 3"],
    masses: Float[Tensor, "atoms"],
    molecules: Int[Tensor, "molecules 3"],
    shapes: Float[Tensor, "molecules 2"],
) -> Corrected:
    """Positions of apex and feet (O, H, H) in their shape: what SHAKE converges to, in closed form.

    `shapes` are the lengths of legs (O–H) and base (H–H), Å; `reference` are the positions a step before. The
    two feet have equal masses. Miyamoto & Kollman, doi:10.1002/jcc.540130805.
    """
    leg, base = shapes.unbind(1)
    apex, foot = masses[molecules[:, 0]], masses[molecules[:, 1]]
    total = apex + 2.0 * foot
    height = torch.sqrt(leg * leg - 0.25 * base * base)
    up, half = 2.0 * foot * height / total, 0.5 * base
    down = height - up
    new, old = positions[molecules], reference[molecules]
    centre = (apex[:, None] * new[:, 0] + foot[:, None] * (new[:, 1] + new[:, 2])) / total[:, None]
    first, second = old[:, 1] - old[:, 0], old[:, 2] - old[:, 0]
    a1, b1, c1 = (new - centre[:, None]).unbind(1)
    z = torch.linalg.cross(first, second)
    x = torch.linalg.cross(a1, z)
    frame = torch.stack([x, torch.linalg.cross(z, x), z], 1)
    frame = frame / frame.norm(dim=-1, keepdim=True)

    def seen(v: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.einsum("kab,kb->ka", frame, v).unbind(1))

    xb0, yb0, _ = seen(first)
    xc0, yc0, _ = seen(second)
    (_, _, za), (xb1, yb1, zb), (xc1, yc1, zc) = seen(a1), seen(b1), seen(c1)
    sin_phi = za / up
    cos_phi = torch.sqrt(1.0 - sin_phi * sin_phi)
    sin_psi = (zb - zc) / (2.0 * half * cos_phi)
    xb2 = -half * torch.sqrt(1.0 - sin_psi * sin_psi)
    ya2, middle, tilt = up * cos_phi, -down * cos_phi, half * sin_psi * sin_phi
    yb2, yc2 = middle - tilt, middle + tilt
    alpha = xb2 * (xb0 - xc0) + yb0 * yb2 + yc0 * yc2
    beta = xb2 * (yc0 - yb0) + xb0 * yb2 + xc0 * yc2
    gamma = xb0 * yb1 - xb1 * yb0 + xc0 * yc1 - xc1 * yc0
    square = alpha * alpha + beta * beta
    sin = (alpha * gamma - beta * torch.sqrt(square - gamma * gamma)) / square
    cos = torch.sqrt(1.0 - sin * sin)
    settled = torch.stack(
        [
            torch.stack([-ya2 * sin, ya2 * cos, za], 1),
            torch.stack([xb2 * cos - yb2 * sin, xb2 * sin + yb2 * cos, zb], 1),
            torch.stack([-xb2 * cos - yc2 * sin, -xb2 * sin + yc2 * cos, zc], 1),
        ],
        1,
    )
    settled = torch.einsum("kba,ksb->ksa", frame, settled) + centre[:, None]
    out = positions.clone()
    out[molecules.flatten()] = settled.reshape(-1, 3)
    return out, _first_bad(settled)


@operation
def settle_velocities(
    velocities: Float[Tensor, "atoms 3"],
    positions: Float[Tensor, "atoms 3"],
    masses: Float[Tensor, "atoms"],
    molecules: Int[Tensor, "molecules 3"],
) -> Corrected:
    """Velocities without what would change the molecules' three distances; one system of 3 equations each."""
    r, v, w = positions[molecules], velocities[molecules], 1.0 / masses[molecules]
    sides = ((0, 1), (1, 2), (2, 0))
    e = torch.stack([r[:, j] - r[:, i] for i, j in sides], 1)
    rate = torch.stack([((v[:, j] - v[:, i]) * e[:, k]).sum(-1) for k, (i, j) in enumerate(sides)], 1)
    matrix = torch.einsum("kia,kja->kij", e, e)
    share = torch.zeros_like(matrix)
    for k, (i, j) in enumerate(sides):
        for m, (p, q) in enumerate(sides):
            for a, sign in ((i, -1.0), (j, 1.0)):
                for b, turn in ((p, -1.0), (q, 1.0)):
                    if a == b:
                        share[:, k, m] += sign * turn * w[:, a]
    pull = torch.linalg.solve_ex(matrix * share, -rate)[0]
    changed = v.clone()
    for k, (i, j) in enumerate(sides):
        changed[:, i] -= w[:, i, None] * pull[:, k, None] * e[:, k]
        changed[:, j] += w[:, j, None] * pull[:, k, None] * e[:, k]
    out = velocities.clone()
    out[molecules.flatten()] = changed.reshape(-1, 3)
    return out, _first_bad(changed)


def _first_bad(rows: Float[Tensor, "molecules 3 3"]) -> int:
    bad = ~rows.isfinite().all(-1).all(-1)
    return int(bad.nonzero()[0]) if bool(bad.any()) else -1
