"""Effective magnetic fields: how the energy changes with the moments that a potential is given."""

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials.base import Potential


def effective_fields(potential: Potential, system: System) -> Float[Tensor, "atoms"]:
    """B_i = −∂E/∂m_i in eV/μB, at fixed positions: the field on atom i along the axis of collinear moments.

    The moments are those of the structure (`initial_magmoms` in ASE). A moment follows its field; in a
    relaxed magnetic state all are 0.

    Raises:
        ValueError: for a structure without moments, and for a potential whose energy does not depend on them
            continuously (that of `magnetic_hdnnp` does with coordinate = "moment").
    """
    given = system.magmoms
    if given is None:
        raise ValueError("The structure has no moments: set initial_magmoms on it.")
    device = potential.device
    if device is not None:
        system, given = system.to(device), given.to(device)
    pairs = find_pairs(system, potential.cutoff)
    with torch.enable_grad():
        moments = given.detach().clone().requires_grad_()
        energy = potential(system.replace(magmoms=moments), pairs).need("energies").sum()
        slope = None
        if energy.requires_grad:
            (slope,) = torch.autograd.grad(energy, moments, allow_unused=True)
    if slope is None:
        raise ValueError(
            f"The energy of {type(potential).__name__} has no derivative by the moments: it does not depend "
            f"on them, or only on their signs."
        )
    if not bool(slope.isfinite().all()):
        raise ValueError(f"{type(potential).__name__} gives fields that are not finite.")
    return -slope.to(torch.float64)
