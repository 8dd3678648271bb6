"""Rigid water."""

import math
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from rikiba.core.system import System

from .base import Parts
from .bonds import bonded


class RigidWater:
    """Every water molecule keeps one shape, in closed form (SETTLE): three degrees of freedom fewer each.

    Molecules are found at the start: an oxygen atom bonded to two hydrogen atoms and nothing else. SPC and
    SPC/E have bond 1.0 and angle 109.47122; TIP3P and the defaults are the free molecule's.
    Miyamoto & Kollman, doi:10.1002/jcc.540130805.

    Args:
        bond: length of O–H, Å.
        angle_deg: H–O–H, degrees.
        reach: how far bonds reach when molecules are found, in sums of covalent radii.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1002/jcc.540130805",)

    def __init__(self, *, bond: float = 0.9572, angle_deg: float = 104.52, reach: float = 1.25) -> None:
        if not 0.5 < bond < 2.0 or not 30.0 < angle_deg < 170.0:
            raise ValueError(
                f"bond is from 0.5 to 2 Å and angle_deg from 30 to 170; given {bond} and {angle_deg}."
            )
        if not 0.5 <= reach <= 2.0:
            raise ValueError(f"reach is from 0.5 to 2 sums of covalent radii; given {reach}.")
        self.bond, self.angle_deg, self.reach = bond, angle_deg, reach

    def bind(self, system: System) -> Parts:
        found = water_molecules(system, self.reach)
        if len(found) == 0:
            raise ValueError(
                f"There is no water molecule: no oxygen atom with two hydrogen atoms within {self.reach} "
                f"sums of covalent radii and no other atom."
            )
        base = 2.0 * self.bond * math.sin(0.5 * math.radians(self.angle_deg))
        shape = torch.tensor([[self.bond, base]], dtype=torch.float64, device=found.device)
        return Parts(molecules=found, shapes=shape.repeat(len(found), 1))


def water_molecules(system: System, reach: float) -> Int[Tensor, "molecules 3"]:
    """O, H, H of every molecule."""
    pairs = bonded(system, reach)
    both = torch.cat([pairs, pairs.flip(1)])
    z, degree = system.numbers, torch.bincount(pairs.flatten(), minlength=system.n_atoms)
    leg = (z[both[:, 0]] == 8) & (z[both[:, 1]] == 1) & (degree[both[:, 0]] == 2) & (degree[both[:, 1]] == 1)
    legs = both[leg]
    legs = legs[torch.argsort(legs[:, 0] * system.n_atoms + legs[:, 1])]
    feet = torch.bincount(legs[:, 0], minlength=system.n_atoms)
    legs = legs[feet[legs[:, 0]] == 2].reshape(-1, 2, 2)
    return torch.cat([legs[:, 0, :1], legs[:, :, 1]], 1)
