"""Turn a molecule about its centre of mass."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.system import System

from .base import Molecules, Proposal, Scene, check_size, check_weight, unchanged


class MoleculeRotation:
    """One molecule of each system is turned about a random axis through its centre of mass.

    The axis is uniform on the sphere and the angle uniform in (−d, d), so that a turn and its inverse are
    equally likely (Frenkel & Smit, Understanding Molecular Simulation, 2nd ed., section 3.3.2).

    Args:
        step_degrees: largest angle at first, degrees.
        largest: step sizes are tuned up to this, degrees.
        weight: how often it is tried, relative to the other moves.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.1699114",)
    n_uniforms = 4
    changes_volume = False

    def __init__(self, *, step_degrees: float = 20.0, largest: float = 180.0, weight: float = 1.0) -> None:
        self.size, self.largest = check_size("step_degrees", step_degrees, largest)
        self.weight = check_weight(weight)

    def prepare(self, scene: Scene) -> Molecules:
        return Molecules.of(scene, "MoleculeRotation", at_least=2)

    def propose(
        self,
        plan: Molecules,
        system: System,
        size: Float[Tensor, "systems"],
        u: Float[Tensor, "systems n_uniforms"],
    ) -> Proposal:
        height, around = 2.0 * u[:, 1] - 1.0, 2.0 * math.pi * u[:, 2]
        flat = torch.sqrt((1.0 - height**2).clamp(min=0.0))
        axis = torch.stack([flat * torch.cos(around), flat * torch.sin(around), height], -1)
        angle = torch.deg2rad(size) * (2.0 * u[:, 3] - 1.0)
        which = system.system_index
        centres = plan.centres(system.positions)[plan.of_atom]
        turned = rodrigues(system.positions - centres, axis[which], angle[which])
        chosen = plan.chosen(u[:, 0])[:, None]
        return Proposal(
            system=system.replace(positions=torch.where(chosen, centres + turned, system.positions)),
            log_weight=unchanged(system),
            possible=plan.movable.exist,
        )


def rodrigues(
    r: Float[Tensor, "atoms 3"], axis: Float[Tensor, "atoms 3"], angle: Float[Tensor, "atoms"]
) -> Float[Tensor, "atoms 3"]:
    """r turned about a unit axis: r cos φ + (n × r) sin φ + n (n·r)(1 − cos φ)."""
    c, s = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    along = (axis * r).sum(-1, keepdim=True) * axis
    return r * c + torch.linalg.cross(axis, r) * s + along * (1.0 - c)
