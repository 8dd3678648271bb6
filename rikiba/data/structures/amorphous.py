"""Atoms packed at random at a density: the start of a glass."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
from ase import Atoms

from .base import cubic_box, known_elements, made


@final
@dataclass(frozen=True, kw_only=True)
class Amorphous:
    """Atoms at random places of a cubic periodic cell of a given density, no two too close.

    It is dense and disordered but not relaxed: anneal it (melt and quench) before using it as a glass.

    Args:
        formula: of one unit, e.g. SiO2.
        units: number of formula units.
        density_g_cm3: mass density.
        min_distance: least distance of any pair, Å; pairs named in `min_distances` have their own.
        min_distances: by pair of elements, e.g. {"Si-O" = 1.5, "Si-Si" = 2.6, "O-O" = 2.2}, Å.
        seed: of the places.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1002/jcc.21224",)

    formula: str
    units: int
    density_g_cm3: float
    min_distance: float = 1.5
    min_distances: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.units < 1:
            raise ValueError(f"units is at least 1; given {self.units}.")

    def build(self) -> Atoms:
        """The packed cell. Raises PackingError where the atoms do not fit."""
        from ase.formula import Formula

        from rikiba.data.packing import PairDistances, pack

        known_elements(self.formula)
        bodies = [Atoms(s, positions=[(0.0, 0.0, 0.0)]) for s in list(Formula(self.formula)) * self.units]
        mass = sum(float(b.get_masses()[0]) for b in bodies)
        edge = cubic_box(mass, self.density_g_cm3)
        least = PairDistances(self.min_distance, self.min_distances, set(Formula(self.formula)))
        atoms = pack(bodies, edge * np.eye(3), min_distance=least, seed=self.seed)
        atoms.wrap()
        return made(self, atoms)
