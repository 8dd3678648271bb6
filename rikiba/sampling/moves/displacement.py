"""Displace atoms."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from rikiba.core.system import System

from .base import Choices, Proposal, Scene, check_size, check_weight, unchanged


class Displacement:
    """One atom of each system is displaced by a uniform random vector from a cube.

    Symmetric, after Metropolis, Rosenbluth, Rosenbluth, Teller & Teller, doi:10.1063/1.1699114.

    Args:
        step: half the edge of the cube at first, Å.
        largest: step sizes are tuned up to this, Å.
        weight: how often it is tried, relative to the other moves.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.1699114",)
    n_uniforms = 4
    changes_volume = False

    def __init__(self, *, step: float = 0.1, largest: float = 5.0, weight: float = 1.0) -> None:
        self.size, self.largest = check_size("step", step, largest)
        self.weight = check_weight(weight)

    def prepare(self, scene: Scene) -> Choices:
        found = Choices.of(~scene.fixed, scene.system.system_index, scene.system.n_systems)
        if len(found.items) == 0:
            raise ValueError("Displacement finds no atom that is free to move.")
        return found

    def propose(
        self,
        plan: Choices,
        system: System,
        size: Float[Tensor, "systems"],
        u: Float[Tensor, "systems n_uniforms"],
    ) -> Proposal:
        move = size[:, None] * (2.0 * u[:, 1:4] - 1.0)
        some = plan.exist
        positions = system.positions.clone()
        positions[plan.draw(u[:, 0])[some]] += move[some]
        return Proposal(
            system=system.replace(positions=positions), log_weight=unchanged(system), possible=some
        )
