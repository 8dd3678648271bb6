"""Scale the cell."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.system import System

from .base import Molecules, Proposal, Scene, check_size, check_weight


class Volume:
    """A step in ln V: cell and positions (centres of mass of molecules) are scaled alike in all directions.

    The weight beside exp(−β(ΔU + PΔV)) is (V′/V)^(N+1) with N the particles that are scaled, because the
    walk is uniform in ln V (Frenkel & Smit, Understanding Molecular Simulation, 2nd ed., section 5.4.2;
    Eppenga & Frenkel, doi:10.1080/00268978400101951).

    Args:
        step: largest change of ln V at first.
        largest: step sizes are tuned up to this.
        weight: how often it is tried, relative to the other moves; about 1/N beside moves of one particle.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1080/00268978400101951",)
    n_uniforms = 1
    changes_volume = True

    def __init__(self, *, step: float = 0.02, largest: float = 1.0, weight: float = 0.02) -> None:
        self.size, self.largest = check_size("step", step, largest)
        self.weight = check_weight(weight)

    def prepare(self, scene: Scene) -> Molecules:
        if not bool(scene.system.pbc.all()):
            k = int((~scene.system.pbc.all(1)).nonzero()[0])
            raise ValueError(f"Volume needs cells that are periodic along three axes; system {k} is not.")
        if bool(scene.fixed.any()):
            raise ValueError("Volume moves all atoms with the cell; fixed atoms cannot be kept in place.")
        alone = torch.arange(scene.system.n_atoms, device=scene.fixed.device)
        index = alone if scene.molecules is None else scene.molecules
        return Molecules.of(Scene(system=scene.system, fixed=scene.fixed, molecules=index), "Volume")

    def propose(
        self,
        plan: Molecules,
        system: System,
        size: Float[Tensor, "systems"],
        u: Float[Tensor, "systems n_uniforms"],
    ) -> Proposal:
        change = size * (2.0 * u[:, 0] - 1.0)
        factor = torch.exp(change / 3.0)
        shift = (factor[plan.owner] - 1.0)[:, None] * plan.centres(system.positions)
        moved = system.replace(
            positions=system.positions + shift[plan.of_atom], cell=system.cell * factor[:, None, None]
        )
        particles = torch.bincount(plan.owner, minlength=system.n_systems)
        return Proposal(
            system=moved,
            log_weight=(particles + 1) * change,
            possible=torch.ones_like(particles, dtype=torch.bool),
        )
