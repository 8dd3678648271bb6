"""Stochastic velocity rescaling of systems of atoms."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import operation
from .local_motion import kinetic_energy
from .random import PER_SYSTEM, last_word, normals_reference

Rescaled = tuple[Float[Tensor, "atoms 3"], Float[Tensor, "systems"]]


@operation
def velocity_rescaling(
    velocities: Float[Tensor, "atoms 3"],
    masses: Float[Tensor, "atoms"],
    system_index: Int[Tensor, "atoms"],
    dof: Float[Tensor, "systems"],
    thermal_energy: Float[Tensor, "systems"],
    kept: Float[Tensor, "systems"],
    seeds: Int[Tensor, "systems"],
    step: int,
    stream: int,
) -> Rescaled:
    """Velocities times one factor for each system, which gives it a kinetic energy K′ drawn canonically.

    K′ = (√(cK) + √((1−c)k_B T/2) R)² + (1−c) k_B T/2 S,  R ~ N(0, 1), S ~ χ²(N_f − 1), c = `kept`; the sign
    of the factor is that of the bracket (Bussi, Donadio & Parrinello, doi:10.1063/1.2408420, appendix). R and
    the normal number whose quantile S takes are `random.normals` of the system's seed at (step, stream). The
    second result is K′ − K. Systems at rest stay so.
    """
    from scipy.special import gammaincinv, ndtr

    kinetic = kinetic_energy.definition(masses, velocities, system_index, len(seeds))
    last_word(stream, 0)
    noise = normals_reference(seeds, torch.full_like(seeds, PER_SYSTEM), step, stream, 2)
    others = (dof - 1.0).clamp(min=0.0)
    uniform = ndtr(noise[:, 1].cpu().numpy())
    squares = 2.0 * torch.from_numpy(gammaincinv(0.5 * others.cpu().numpy(), uniform))
    squares = torch.where(others > 0, squares.to(dof.device), 0.0)
    share = 0.5 * thermal_energy
    ahead = torch.sqrt(kept * kinetic) + torch.sqrt((1.0 - kept) * share) * noise[:, 0]
    new = ahead**2 + (1.0 - kept) * share * squares
    moving = kinetic > 0
    scale = torch.where(moving, torch.sqrt(new / torch.where(moving, kinetic, 1.0)), 1.0)
    scale = torch.where(ahead < 0, -scale, scale)
    heat = torch.where(moving, new - kinetic, 0.0)
    return velocities * scale[system_index][:, None], heat
