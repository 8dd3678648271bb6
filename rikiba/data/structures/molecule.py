"""A molecule by name."""

import difflib
from dataclasses import dataclass
from typing import final

from ase import Atoms

from .base import Builder, made


@final
@dataclass(frozen=True, kw_only=True)
class Molecule:
    """A molecule of ASE's G2 collection (MP2/6-31G* geometries, doi:10.1063/1.473182).

    Args:
        name: its name there, e.g. CH3CH2OH, H2O, C6H6.
        charge: total charge, e.
    """

    name: str
    charge: float = 0.0

    def build(self) -> Atoms:
        """The isolated molecule. Raises ValueError for an unknown name."""
        from ase.build import molecule
        from ase.collections import g2

        if self.name not in g2.names:
            close = difflib.get_close_matches(self.name, g2.names, n=8, cutoff=0.4)
            like = f" Names like it: {', '.join(close)}." if close else ""
            raise ValueError(
                f"There is no molecule '{self.name}' among the {len(g2.names)} of ASE's G2 collection.{like} "
                f"For any other molecule use kind = 'file' and a path."
            )
        return made(self, molecule(self.name), charge=self.charge)


def element_or_molecule(what: str | Builder) -> Atoms:
    """One atom of an element, a molecule of the G2 collection, or what a builder makes; no cell."""
    from ase.data import atomic_numbers

    if not isinstance(what, str):
        atoms = what.build()
    elif atomic_numbers.get(what):
        atoms = Atoms(what, positions=[(0.0, 0.0, 0.0)])
    else:
        atoms = Molecule(name=what).build()
    atoms.set_cell(None)
    atoms.pbc = False
    atoms.info.clear()
    return atoms
