"""Nosé–Hoover chains on the CPU."""

import math

import numpy as np
import torch
from torch import Tensor

from .compiled import compiled, inlined
from .local_motion_cpu import _kinetic_energy, _scaled


@inlined
def _force(k, kinetic, dof, thermal, v, q):  # type: ignore[no-untyped-def]
    if k == 0:
        return (kinetic - dof * thermal) / q[0]
    return (q[k - 1] * v[k - 1] * v[k - 1] - thermal) / q[k]


@inlined
def _dragged(k, h, kinetic, dof, thermal, v, q):  # type: ignore[no-untyped-def]
    """v of a link that the next one slows, pushed for h/2."""
    drag = math.exp(-0.25 * h * v[k + 1])
    return drag * (drag * v[k] + 0.5 * h * _force(k, kinetic, dof, thermal, v, q))


@compiled
def _advance(x, v, masses, twice_kinetic, dof, thermal, dt, factors, scale):  # type: ignore[no-untyped-def]
    last = x.shape[1] - 1
    for s in range(x.shape[0]):
        kinetic, total = twice_kinetic[s], 1.0
        for share in factors:
            h = share * dt[s]
            v[s, last] += 0.5 * h * _force(last, kinetic, dof[s], thermal[s], v[s], masses[s])
            for k in range(last - 1, -1, -1):
                v[s, k] = _dragged(k, h, kinetic, dof[s], thermal[s], v[s], masses[s])
            factor = math.exp(-h * v[s, 0])
            total *= factor
            kinetic *= factor * factor
            for k in range(last + 1):
                x[s, k] += h * v[s, k]
            for k in range(last):
                v[s, k] = _dragged(k, h, kinetic, dof[s], thermal[s], v[s], masses[s])
            v[s, last] += 0.5 * h * _force(last, kinetic, dof[s], thermal[s], v[s], masses[s])
        scale[s] = total


def nose_hoover_chain(
    positions: Tensor,
    velocities: Tensor,
    masses: Tensor,
    twice_kinetic: Tensor,
    dof: Tensor,
    thermal_energy: Tensor,
    dt: Tensor,
    factors: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `nose_hoover_chain.nose_hoover_chain`."""
    x, v, scale = positions.clone(), velocities.clone(), np.empty(len(dt))
    _advance(
        x.numpy(),
        v.numpy(),
        masses.numpy(),
        twice_kinetic.numpy(),
        dof.numpy(),
        thermal_energy.numpy(),
        dt.numpy(),
        factors.numpy(),
        scale,
    )
    return x, v, torch.from_numpy(scale)


@compiled
def _advance_atoms(  # type: ignore[no-untyped-def]
    x, v, masses, dof, thermal, dt, factors, atoms, atom_masses, system_index, moved
):  # fmt: skip
    twice, scale = np.zeros(len(dt)), np.empty(len(dt))
    _kinetic_energy(atom_masses, atoms, system_index, twice)
    twice *= 2.0
    _advance(x, v, masses, twice, dof, thermal, dt, factors, scale)
    _scaled(atoms, scale, system_index, moved)


def nose_hoover_velocities(
    positions: Tensor,
    velocities: Tensor,
    masses: Tensor,
    dof: Tensor,
    thermal_energy: Tensor,
    dt: Tensor,
    factors: Tensor,
    atoms: Tensor,
    atom_masses: Tensor,
    system_index: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `nose_hoover_chain.nose_hoover_velocities`."""
    x, v, moved = positions.numpy().copy(), velocities.numpy().copy(), np.empty(atoms.shape)
    _advance_atoms(
        x, v, masses.numpy(), dof.numpy(), thermal_energy.numpy(), dt.numpy(), factors.numpy(),
        atoms.contiguous().numpy(), atom_masses.numpy(), system_index.numpy(), moved,
    )  # fmt: skip
    return torch.from_numpy(x), torch.from_numpy(v), torch.from_numpy(moved)
