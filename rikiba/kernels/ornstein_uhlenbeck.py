"""The exact Ornstein–Uhlenbeck step of velocities, with the heat it exchanges."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import choose
from .random import last_word, normals_reference


def ornstein_uhlenbeck_reference(
    velocities: Float[Tensor, "atoms 3"],
    masses: Float[Tensor, "atoms"],
    inverse_masses: Float[Tensor, "atoms"],
    system_index: Int[Tensor, "atoms"],
    seeds: Int[Tensor, "systems"],
    decay: Float[Tensor, "systems"],
    thermal_energy: Float[Tensor, "systems"],
    step: int,
    stream: int,
) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "systems"], Float[Tensor, "systems"]]:
    """The definition of `ornstein_uhlenbeck` in plain torch."""
    count = torch.bincount(system_index, minlength=len(seeds))
    start = count.cumsum(0) - count
    index = torch.arange(len(system_index), device=system_index.device) - start[system_index]
    noise = normals_reference(seeds[system_index], index, step, stream, 3)
    width = torch.sqrt(thermal_energy * (1.0 - decay * decay))[system_index] * torch.sqrt(inverse_masses)
    new = decay[system_index][:, None] * velocities + width[:, None] * noise

    def kinetic(v: Tensor) -> Tensor:
        return torch.zeros_like(decay).index_add(0, system_index, 0.5 * masses * (v * v).sum(-1))

    return new, kinetic(velocities), kinetic(new)


def ornstein_uhlenbeck(
    velocities: Float[Tensor, "atoms 3"],
    masses: Float[Tensor, "atoms"],
    inverse_masses: Float[Tensor, "atoms"],
    system_index: Int[Tensor, "atoms"],
    seeds: Int[Tensor, "systems"],
    decay: Float[Tensor, "systems"],
    thermal_energy: Float[Tensor, "systems"],
    step: int,
    stream: int,
) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "systems"], Float[Tensor, "systems"]]:
    """v′ = c v + √(k_B T (1 − c²)/m) ξ with c = exp(−γΔt), and each system's kinetic energy before and after.

    `decay` is c and `thermal_energy` k_B T (eV), per system; an atom with inverse mass 0 stands still. The
    noise ξ is `random.normals` of the system's seed and the atom's place within it.
    """
    last_word(stream, 0)
    run = choose("ornstein_uhlenbeck", ornstein_uhlenbeck_reference, velocities)
    return run(velocities, masses, inverse_masses, system_index, seeds, decay, thermal_energy, step, stream)
