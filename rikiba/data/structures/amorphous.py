"""Atoms packed at random at a density: the start of a glass."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

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

        from rikiba.data.packing import pack

        known_elements(self.formula)
        bodies = [Atoms(s, positions=[(0.0, 0.0, 0.0)]) for s in list(Formula(self.formula)) * self.units]
        mass = sum(float(b.get_masses()[0]) for b in bodies)
        edge = cubic_box(mass, self.density_g_cm3)
        least = pair_distances(self.min_distance, self.min_distances, set(Formula(self.formula)))
        atoms = pack(bodies, edge * np.eye(3), min_distance=least, seed=self.seed)
        atoms.wrap()
        return made(self, atoms)


class pair_distances:
    """Least distance of two arrays of atomic numbers, from a default and a table by 'A-B'.

    Raises ValueError for a name that is no pair of the elements present and for a distance that is not
    positive.
    """

    def __init__(self, default: float, table: Mapping[str, float], elements: set[str]) -> None:
        from ase.data import atomic_numbers

        self.largest = 119
        self.table = np.full((self.largest, self.largest), float(default))
        if not default > 0:
            raise ValueError(f"min_distance must be positive; given {default} Å.")
        for pair, value in table.items():
            names = pair.split("-")
            if len(names) != 2 or not set(names) <= elements or not value > 0:
                raise ValueError(
                    f"min_distances is by pair of the elements {', '.join(sorted(elements))}, such as "
                    f"'{'-'.join((sorted(elements) * 2)[:2])}', and positive; given {pair} = {value}."
                )
            a, b = (atomic_numbers[s] for s in names)
            self.table[a, b] = self.table[b, a] = float(value)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.asarray(self.table[first, second])
