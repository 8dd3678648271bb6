"""A slab with one of the common facets of a metal or of diamond."""

from dataclasses import dataclass
from typing import Literal, final

from ase import Atoms

from .base import known_elements, made

Facet = Literal[
    "fcc100",
    "fcc110",
    "fcc111",
    "fcc211",
    "bcc100",
    "bcc110",
    "bcc111",
    "hcp0001",
    "hcp10m10",
    "diamond100",
    "diamond111",
]


@final
@dataclass(frozen=True, kw_only=True)
class Slab:
    """A slab of one element with a named facet, periodic along the surface; its adsorption sites have names.

    For any other crystal or Miller indices see `surface`.

    Args:
        element: chemical symbol.
        facet: crystal structure and Miller indices of the surface.
        size: surface cells along the two axes, and number of atomic layers.
        a: lattice constant, Å; ASE's tabulated value if not given.
        c: second lattice constant of hcp, Å; the ideal one if not given.
        vacuum: empty space on either side, Å.
        orthogonal: a rectangular cell where the facet's own is not.
        periodic_normal: repeat the slab along its normal too, as plane-wave codes do.
    """

    element: str
    facet: Facet
    size: tuple[int, int, int] = (2, 2, 4)
    a: float | None = None
    c: float | None = None
    vacuum: float = 10.0
    orthogonal: bool = False
    periodic_normal: bool = False

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"size is at least 1 in each direction; given {self.size}.")
        if not self.vacuum > 0:
            raise ValueError(f"vacuum must be positive; given {self.vacuum} Å.")
        if self.c is not None and not self.facet.startswith("hcp"):
            raise ValueError(f"c belongs to hcp facets; given for {self.facet}.")

    def build(self) -> Atoms:
        """The slab. Raises ValueError where the size does not fit the facet's cell."""
        return made(self, self.with_sites(), n_layers=self.size[2])

    def with_sites(self) -> Atoms:
        """The slab as ASE makes it, its sites in `info['adsorbate_info']`."""
        from ase import build

        known_elements(self.element)
        rectangular = {"fcc100", "fcc110", "fcc211", "bcc100", "hcp10m10", "diamond100"}
        options: dict[str, object] = {"a": self.a, "vacuum": self.vacuum}
        if self.facet.startswith("hcp"):
            options["c"] = self.c
        if self.facet not in rectangular:
            options["orthogonal"] = self.orthogonal
        try:
            atoms: Atoms = getattr(build, self.facet)(self.element, self.size, **options)
        except (ValueError, KeyError, NotImplementedError, TypeError) as error:
            raise ValueError(
                f"No {self.facet} slab of {self.element} of size {self.size}: {error}"
            ) from error
        atoms.pbc = (True, True, self.periodic_normal)
        return atoms
