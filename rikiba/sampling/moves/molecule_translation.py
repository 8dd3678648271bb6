"""Displace a molecule as a whole."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from rikiba.core.system import System

from .base import Molecules, Proposal, Scene, check_size, check_weight, unchanged


class MoleculeTranslation:
    """One molecule of each system is displaced by a uniform random vector from a cube.

    Args:
        step: half the edge of the cube at first, Å.
        largest: step sizes are tuned up to this, Å.
        weight: how often it is tried, relative to the other moves.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.1699114",)
    n_uniforms = 4
    changes_volume = False

    def __init__(self, *, step: float = 0.2, largest: float = 5.0, weight: float = 1.0) -> None:
        self.size, self.largest = check_size("step", step, largest)
        self.weight = check_weight(weight)

    def prepare(self, scene: Scene) -> Molecules:
        return Molecules.of(scene, "MoleculeTranslation")

    def propose(
        self,
        plan: Molecules,
        system: System,
        size: Float[Tensor, "systems"],
        u: Float[Tensor, "systems n_uniforms"],
    ) -> Proposal:
        move = (size[:, None] * (2.0 * u[:, 1:4] - 1.0))[system.system_index]
        positions = system.positions + move * plan.chosen(u[:, 0])[:, None]
        return Proposal(
            system=system.replace(positions=positions),
            log_weight=unchanged(system),
            possible=plan.movable.exist,
        )
