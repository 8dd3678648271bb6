"""Atoms that never move."""

import torch

from rikiba.core.system import System

from .base import Parts, chosen_atoms, restricting


class FixedAtoms:
    """Chosen atoms stand still, to the bit; each takes three degrees of freedom.

    Everything that is given must hold for an atom to be chosen: elements = ["Cu"], below = 4.0 is the copper
    below 4 Å.

    Args:
        atoms: places within each structure, from 0.
        elements: their symbols.
        tags: as ASE's builders of slabs give them to layers.
        below: height along z at the start, Å; atoms at most as high.
        above: height along z at the start, Å; atoms at least as high.
    """

    def __init__(
        self,
        *,
        atoms: tuple[int, ...] = (),
        elements: tuple[str, ...] = (),
        tags: tuple[int, ...] = (),
        below: float | None = None,
        above: float | None = None,
    ) -> None:
        self.choice = {"atoms": atoms, "elements": elements, "tags": tags, "below": below, "above": above}

    def bind(self, system: System) -> Parts:
        return restricting(chosen_atoms(system, **self.choice), torch.zeros(3, 3))  # type: ignore[arg-type]
