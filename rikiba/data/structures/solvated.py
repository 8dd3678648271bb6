"""A molecule in a box of solvent."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from ase import Atoms

from .base import Builder, made


@final
@dataclass(frozen=True, kw_only=True)
class Solvated:
    """A solute in the middle of a cubic periodic box of solvent molecules.

    Args:
        solute: a molecule's name, an element (an ion), or a table of any kind.
        solvent: likewise; the molecule that fills the box.
        number: of solvent molecules; the box follows from the density.
        density_g_cm3: mass density of solute and solvent together.
        charge: total charge of the box, e.
        min_distance: least distance between atoms of different molecules, Å.
        seed: of places and orientations.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1002/jcc.21224",)

    solute: str | Builder
    solvent: str | Builder = "H2O"
    number: int = 64
    density_g_cm3: float = 0.997
    charge: float = 0.0
    min_distance: float = 1.8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"number is at least 1; given {self.number}.")

    def build(self) -> Atoms:
        """Solute first, then the solvent. Raises PackingError where they do not fit."""
        from rikiba.data.packing import pack

        from .base import cubic_box
        from .molecule import element_or_molecule

        solute, solvent = element_or_molecule(self.solute), element_or_molecule(self.solvent)
        mass = float(solute.get_masses().sum() + self.number * solvent.get_masses().sum())
        edge = cubic_box(mass, self.density_g_cm3)
        extent = float(np.ptp(solute.positions, axis=0).max())
        if extent + self.min_distance > edge:
            raise ValueError(
                f"The solute is {extent:.1f} Å long and would meet its own image in a box of {edge:.1f} Å; "
                f"use more solvent molecules."
            )
        solute.positions += edge / 2.0 - (solute.positions.max(0) + solute.positions.min(0)) / 2.0
        atoms = pack(
            [solvent] * self.number,
            edge * np.eye(3),
            min_distance=self.min_distance,
            fixed=solute,
            seed=self.seed,
        )
        return made(self, atoms, charge=self.charge, n_solute_atoms=len(solute), n_molecules=self.number + 1)
