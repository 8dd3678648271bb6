"""Atoms that move along a line."""

import torch

from rikiba.core.system import System

from .base import Parts, chosen_atoms, direction, restricting


class FixedLine:
    """Chosen atoms stay on the lines through where they start; each loses two degrees of freedom.

    Args:
        along: direction of the lines; any length.
        atoms: places within each structure, from 0.
        elements: their symbols.
        tags: as ASE's builders of slabs give them to layers.
        below: height along z at the start, Å; atoms at most as high.
        above: height along z at the start, Å; atoms at least as high.
    """

    def __init__(
        self,
        *,
        along: tuple[float, float, float],
        atoms: tuple[int, ...] = (),
        elements: tuple[str, ...] = (),
        tags: tuple[int, ...] = (),
        below: float | None = None,
        above: float | None = None,
    ) -> None:
        self.along = direction(along, "along")
        self.choice = {"atoms": atoms, "elements": elements, "tags": tags, "below": below, "above": above}

    @classmethod
    def examples(cls) -> "list[FixedLine]":
        return [cls(along=(1.0, 2.0, 0.0), atoms=(1,))]

    def bind(self, system: System) -> Parts:
        chosen = chosen_atoms(system, **self.choice)  # type: ignore[arg-type]
        return restricting(chosen, torch.outer(self.along, self.along))
