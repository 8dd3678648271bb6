"""Molecules or atoms on the sites of a slab."""

from dataclasses import dataclass
from typing import final

import numpy as np
from ase import Atoms

from .base import Builder, made
from .slab import Slab


@final
@dataclass(frozen=True, kw_only=True)
class Adsorbate:
    """A molecule or an atom on named sites of a slab.

    Args:
        slab: the slab; its facet decides which sites there are.
        adsorbate: an element, a molecule's name (CO, H2O) or a table of any kind.
        site: a site of the facet: ontop, bridge, hollow, fcc, hcp, longbridge …
        height: of the lowest atom (`anchor` where given) above the top layer, Å.
        cells: surface cells (i, j) that carry one; the first where nothing is given.
        anchor: atom of the adsorbate above the site; the lowest one if not given.
        rotate_degrees: rotation of the adsorbate about z, degrees.
        tilt_degrees: rotation of the adsorbate about x, before that about z, degrees.
    """

    slab: Slab
    adsorbate: str | Builder
    site: str = "ontop"
    height: float = 2.0
    cells: tuple[tuple[int, int], ...] = ((0, 0),)
    anchor: int | None = None
    rotate_degrees: float = 0.0
    tilt_degrees: float = 0.0

    def __post_init__(self) -> None:
        n, m, _ = self.slab.size
        wrong = [c for c in self.cells if not (0 <= c[0] < n and 0 <= c[1] < m)]
        if wrong or len(set(self.cells)) < len(self.cells) or not self.cells:
            raise ValueError(
                f"cells are different pairs (i, j) with i < {n} and j < {m}; given {self.cells}."
            )
        if not self.height > 0:
            raise ValueError(f"height must be positive; given {self.height} Å.")

    def build(self) -> Atoms:
        """The covered slab; adsorbed atoms have tag 0. Raises ValueError for an unknown site."""
        from ase.build import add_adsorbate

        from rikiba.data.generators import closest_distance

        from .molecule import element_or_molecule

        atoms = self.slab.with_sites()
        sites = sorted(atoms.info["adsorbate_info"]["sites"])
        if self.site not in sites:
            raise ValueError(f"{self.slab.facet} has no site '{self.site}'; it has {', '.join(sites)}.")
        one = element_or_molecule(self.adsorbate)
        if self.anchor is not None and not 0 <= self.anchor < len(one):
            raise ValueError(f"anchor is an atom 0 … {len(one) - 1} of the adsorbate; given {self.anchor}.")
        one.rotate(self.tilt_degrees, "x")
        one.rotate(self.rotate_degrees, "z")
        anchor = int(np.argmin(one.positions[:, 2])) if self.anchor is None else self.anchor
        for cell in self.cells:
            add_adsorbate(atoms, one, self.height, self.site, offset=cell, mol_index=anchor)
        closest = closest_distance(atoms, 0.6)
        if closest < 0.6:
            raise ValueError(
                f"Atoms come as close as {closest:.2f} Å; raise height or change cells or anchor."
            )
        coverage = len(self.cells) / (self.slab.size[0] * self.slab.size[1])
        return made(self, atoms, site=self.site, coverage=coverage)
