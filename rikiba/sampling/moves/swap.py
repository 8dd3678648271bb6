"""Exchange two atoms of different elements."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.system import System

from .base import Choices, Proposal, Scene, check_weight, unchanged


class Swap:
    """Two atoms of different elements of each system exchange their places.

    Symmetric: the first is drawn from the atoms of one element, the second from those of the other.

    Args:
        elements: the two elements; where not given, the systems must have exactly two.
        weight: how often it is tried, relative to the other moves.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.1699114",)
    size = 0.0
    largest = 0.0
    n_uniforms = 2
    changes_volume = False

    def __init__(self, *, elements: tuple[str, str] | None = None, weight: float = 1.0) -> None:
        if elements is not None and elements[0] == elements[1]:
            raise ValueError(f"elements are two different ones; given {elements}.")
        self.elements, self.weight = elements, check_weight(weight)

    def prepare(self, scene: Scene) -> tuple[Choices, Choices]:
        from ase.data import atomic_numbers

        pair = self.elements or scene.system.symbols
        if len(pair) != 2 or any(not atomic_numbers.get(e) for e in pair):
            raise ValueError(
                f"Swap exchanges two elements; the systems have {', '.join(pair)}. Name two with elements."
            )
        owner, n = scene.system.system_index, scene.system.n_systems
        first, second = (
            Choices.of(~scene.fixed & (scene.system.numbers == atomic_numbers[e]), owner, n) for e in pair
        )
        if not bool((first.exist & second.exist).any()):
            raise ValueError(f"No system has both {pair[0]} and {pair[1]} atoms that are free to move.")
        return first, second

    def propose(
        self,
        plan: tuple[Choices, Choices],
        system: System,
        size: Float[Tensor, "systems"],
        u: Float[Tensor, "systems n_uniforms"],
    ) -> Proposal:
        first, second = plan
        both = first.exist & second.exist
        a, b = first.draw(u[:, 0])[both], second.draw(u[:, 1])[both]
        positions = system.positions.clone()
        positions[torch.cat([a, b])] = system.positions[torch.cat([b, a])]
        return Proposal(
            system=system.replace(positions=positions), log_weight=unchanged(system), possible=both
        )
