"""A packed liquid: molecules of one or several species at a density."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
from ase import Atoms

from .base import Builder, cubic_box, density_g_cm3, made


@final
@dataclass(frozen=True, kw_only=True)
class Liquid:
    """Molecules at random places and orientations in a periodic box of a given density, without overlaps.

    Args:
        molecules: how many of each, by name (H2O, CH3OH, an element) or by a name in `species`.
        density_g_cm3: mass density; not with `box`.
        box: edges of a rectangular box, Å, instead of a density.
        species: molecules that the G2 collection does not have, by name, each a table with a kind.
        min_distance: least distance between atoms of different molecules, Å.
        seed: of places and orientations.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1002/jcc.21224",)

    molecules: Mapping[str, int]
    density_g_cm3: float | None = None
    box: tuple[float, float, float] | None = None
    species: Mapping[str, Builder] = field(default_factory=dict)
    min_distance: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.density_g_cm3 is None) == (self.box is None):
            raise ValueError("A liquid has a density_g_cm3 or a box; give one of them.")
        if not self.molecules or min(self.molecules.values()) < 1:
            raise ValueError(f"molecules says how many of each, at least 1; given {dict(self.molecules)}.")
        if not self.min_distance > 0:
            raise ValueError(f"min_distance must be positive; given {self.min_distance} Å.")
        idle = sorted(set(self.species) - set(self.molecules))
        if idle:
            raise ValueError(f"species {', '.join(idle)} have no number in molecules.")

    def build(self) -> Atoms:
        """The box, molecules whole and species after species; `info['molecules']` numbers them."""
        from rikiba.data.packing import pack

        bodies = molecules_of(self.molecules, self.species)
        mass = sum(float(b.get_masses().sum()) for b in bodies)
        edges = self.box if self.box is not None else (cubic_box(mass, self.density_g_cm3 or 0.0),) * 3
        atoms = pack(bodies, np.diag(edges), min_distance=self.min_distance, seed=self.seed)
        return made(self, atoms, n_molecules=len(bodies), density_g_cm3=density_g_cm3(atoms))


def molecules_of(counts: Mapping[str, int], species: Mapping[str, Builder]) -> list[Atoms]:
    """The given number of each molecule, in the order of `counts`."""
    from .molecule import element_or_molecule

    return [body for name, n in counts.items() for body in [element_or_molecule(species.get(name, name))] * n]
