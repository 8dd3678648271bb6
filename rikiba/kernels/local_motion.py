"""Parts of a timestep that treat each atom by itself, in one pass: kicks, drifts, friction with noise."""

from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import operation
from .random import last_word, normals_reference

KICK, DRIFT, FRICTION = range(3)
"""Kinds of moves: of each the two numbers that a system gives it are (Δt, –), (Δt, –), (c, k_B T)."""

Moved = tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"], Float[Tensor, "moves 2 systems"]]


@operation
def local_motion(
    kinds: tuple[int, ...],
    streams: tuple[int, ...],
    numbers: Float[Tensor, "moves 2 systems"],
    step: int,
    positions: Float[Tensor, "atoms 3"],
    velocities: Float[Tensor, "atoms 3"],
    forces: Float[Tensor, "atoms 3"],
    masses: Float[Tensor, "atoms"],
    inverse_masses: Float[Tensor, "atoms"],
    system_index: Int[Tensor, "atoms"],
    seeds: Int[Tensor, "systems"],
) -> Moved:
    """Positions and velocities after moves done one after another, with the kinetic energies of friction.

    With (a, b) a system's `numbers` of a move:

    - KICK: v ← v + a F/m;
    - DRIFT: r ← r + a v;
    - FRICTION: v ← a v + √(b (1 − a²)/m) ξ, an exact Ornstein–Uhlenbeck step with a = exp(−γΔt), b = k_B T.

    ξ is `random.normals` of the system's seed, the atom's place within it, the step and the move's stream. An
    atom of inverse mass 0 is not kicked and must stand still. The third result holds Σ ½ m v² of each system
    before and after each FRICTION; zeros for other kinds. Sums run in the atoms' order within a system, so
    that a system's numbers do not depend on its companions. Forces are those of the configuration given: no
    KICK may follow a DRIFT (ValueError).
    """
    check_moves(kinds, streams)
    kinetic = torch.zeros_like(numbers)

    def energy(v: Tensor) -> Tensor:
        each = 0.5 * masses * (v * v).sum(-1)
        return kinetic.new_zeros(len(seeds)).index_add(0, system_index, each)

    for k, (kind, stream) in enumerate(zip(kinds, streams, strict=True)):
        first, second = numbers[k, 0], numbers[k, 1]
        if kind == KICK:
            velocities = velocities + forces * (inverse_masses * first[system_index])[:, None]
        elif kind == DRIFT:
            positions = positions + velocities * first[system_index][:, None]
        else:
            kinetic[k, 0] = energy(velocities)
            noise = _noise(system_index, seeds, step, stream)
            width = torch.sqrt(second * (1.0 - first * first))[system_index] * torch.sqrt(inverse_masses)
            velocities = first[system_index][:, None] * velocities + width[:, None] * noise
            kinetic[k, 1] = energy(velocities)
    return positions, velocities, kinetic


def _noise(system_index: Tensor, seeds: Tensor, step: int, stream: int) -> Float[Tensor, "atoms 3"]:
    count = torch.bincount(system_index, minlength=len(seeds))
    start = count.cumsum(0) - count
    index = torch.arange(len(system_index), device=system_index.device) - start[system_index]
    return normals_reference(seeds[system_index], index, step, stream, 3)


@cache
def check_moves(kinds: tuple[int, ...], streams: tuple[int, ...]) -> None:
    """Raise ValueError for a kick after a drift and for a stream out of range."""
    if any(kind == KICK and DRIFT in kinds[:k] for k, kind in enumerate(kinds)):
        raise ValueError("A kick after a drift needs the forces of the new positions: another call.")
    for stream in streams:
        last_word(stream, 0)


@operation
def kinetic_energy(
    masses: Float[Tensor, "atoms"],
    velocities: Float[Tensor, "atoms 3"],
    system_index: Int[Tensor, "atoms"],
    n_systems: int,
) -> Float[Tensor, "systems"]:
    """Σ ½ m v² of each system, summed in the atoms' order."""
    each = 0.5 * masses * (velocities * velocities).sum(-1)
    return each.new_zeros(n_systems).index_add(0, system_index, each)
