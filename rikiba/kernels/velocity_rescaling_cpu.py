"""Stochastic velocity rescaling on the CPU."""

import math

import numpy as np
import torch
from torch import Tensor

from .compiled import compiled
from .local_motion_cpu import _kinetic_energy, _scaled
from .random import PER_SYSTEM, last_word
from .random_cpu import _two_normals


@compiled
def _draw(velocities, masses, system_index, seeds, step, word, index, found):  # type: ignore[no-untyped-def]
    _kinetic_energy(masses, velocities, system_index, found[0])
    for s in range(len(seeds)):
        found[1, s], found[2, s] = _two_normals(seeds[s], index, step, word)


@compiled
def _rescale(  # type: ignore[no-untyped-def]
    velocities, system_index, found, gammas, dof, thermal, kept, scale, heat, moved
):  # fmt: skip
    for s in range(len(heat)):
        kinetic, share, c = found[0, s], 0.5 * thermal[s], kept[s]
        squares = 2.0 * gammas[s] if dof[s] > 1.0 else 0.0
        ahead = math.sqrt(c * kinetic) + math.sqrt((1.0 - c) * share) * found[1, s]
        new = ahead * ahead + (1.0 - c) * share * squares
        moving = kinetic > 0
        scale[s] = math.sqrt(new / kinetic) if moving else 1.0
        if ahead < 0:
            scale[s] = -scale[s]
        heat[s] = new - kinetic if moving else 0.0
    _scaled(velocities, scale, system_index, moved)


def velocity_rescaling(
    velocities: Tensor,
    masses: Tensor,
    system_index: Tensor,
    dof: Tensor,
    thermal_energy: Tensor,
    kept: Tensor,
    seeds: Tensor,
    step: int,
    stream: int,
) -> tuple[Tensor, Tensor]:
    """See `velocity_rescaling.velocity_rescaling`."""
    from scipy.special import gammaincinv, ndtr

    speeds, index, freedom = velocities.contiguous().numpy(), system_index.numpy(), dof.numpy()
    found, moved = np.zeros((3, len(freedom))), np.empty(speeds.shape)
    scale, heat = np.empty((2, len(freedom)))
    _draw(speeds, masses.numpy(), index, seeds.numpy(), step, last_word(stream, 0), PER_SYSTEM, found)
    gammas = gammaincinv(0.5 * np.maximum(freedom - 1.0, 0.0), ndtr(found[2]))
    _rescale(
        speeds, index, found, gammas, freedom, thermal_energy.numpy(), kept.numpy(), scale, heat, moved
    )  # fmt: skip
    return torch.from_numpy(moved), torch.from_numpy(heat)
