"""Compiled CPU versions of `local_motion` and `kinetic_energy`."""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .compiled import compiled
from .local_motion import DRIFT, KICK, Moved, check_moves
from .random import last_word
from .random_cpu import _two_normals


@compiled
def _move(  # type: ignore[no-untyped-def]
    kinds, words, numbers, step, positions, velocities, forces, masses, inverse_masses, system_index, seeds,
    new_positions, new_velocities, kinetic,
):  # fmt: skip
    start, current = 0, -1
    for a in range(len(velocities)):
        s = system_index[a]
        if s != current:
            start, current = a, s
        x, y, z = positions[a, 0], positions[a, 1], positions[a, 2]
        u, v, w = velocities[a, 0], velocities[a, 1], velocities[a, 2]
        for k in range(len(kinds)):
            first, second = numbers[k, 0, s], numbers[k, 1, s]
            if kinds[k] == KICK:
                push = inverse_masses[a] * first
                u, v, w = u + forces[a, 0] * push, v + forces[a, 1] * push, w + forces[a, 2] * push
            elif kinds[k] == DRIFT:
                x, y, z = x + u * first, y + v * first, z + w * first
            else:
                kinetic[k, 0, s] += 0.5 * masses[a] * (u * u + v * v + w * w)
                width = math.sqrt(second * (1.0 - first * first)) * math.sqrt(inverse_masses[a])
                n0, n1 = _two_normals(seeds[s], a - start, step, words[k])
                n2, _ = _two_normals(seeds[s], a - start, step, words[k] + 1)
                u, v, w = first * u + width * n0, first * v + width * n1, first * w + width * n2
                kinetic[k, 1, s] += 0.5 * masses[a] * (u * u + v * v + w * w)
        new_positions[a, 0], new_positions[a, 1], new_positions[a, 2] = x, y, z
        new_velocities[a, 0], new_velocities[a, 1], new_velocities[a, 2] = u, v, w


@cache
def _constants(kinds: tuple[int, ...], streams: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    check_moves(kinds, streams)
    return np.array(kinds, np.int64), np.array([last_word(s, 0) for s in streams], np.int64)


def local_motion(
    kinds: tuple[int, ...],
    streams: tuple[int, ...],
    numbers: Tensor,
    step: int,
    positions: Tensor,
    velocities: Tensor,
    forces: Tensor,
    masses: Tensor,
    inverse_masses: Tensor,
    system_index: Tensor,
    seeds: Tensor,
) -> Moved:
    """See `local_motion.local_motion`."""
    n = len(velocities)
    moved, sped, kinetic = np.empty((n, 3)), np.empty((n, 3)), np.zeros(numbers.shape)
    _move(
        *_constants(kinds, streams), numbers.numpy(), step, positions.contiguous().numpy(),
        velocities.contiguous().numpy(), forces.contiguous().numpy(), masses.numpy(), inverse_masses.numpy(),
        system_index.numpy(), seeds.numpy(), moved, sped, kinetic,
    )  # fmt: skip
    return torch.from_numpy(moved), torch.from_numpy(sped), torch.from_numpy(kinetic)


@compiled
def _kinetic_energy(masses, velocities, system_index, out):  # type: ignore[no-untyped-def]
    for a in range(len(masses)):
        u, v, w = velocities[a, 0], velocities[a, 1], velocities[a, 2]
        out[system_index[a]] += 0.5 * masses[a] * (u * u + v * v + w * w)


@compiled
def _scaled(velocities, factors, system_index, out):  # type: ignore[no-untyped-def]
    """out = the velocities of the atoms times their system's factor."""
    for a in range(len(velocities)):
        factor = factors[system_index[a]]
        for k in range(3):
            out[a, k] = velocities[a, k] * factor


def kinetic_energy(masses: Tensor, velocities: Tensor, system_index: Tensor, n_systems: int) -> Tensor:
    """See `local_motion.kinetic_energy`."""
    out = np.zeros(n_systems)
    _kinetic_energy(masses.numpy(), velocities.contiguous().numpy(), system_index.numpy(), out)
    return torch.from_numpy(out)
