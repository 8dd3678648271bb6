"""Two slabs on top of each other in a common cell."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from ase import Atoms

from .base import Builder, made


@final
@dataclass(frozen=True, kw_only=True)
class Interface:
    """A film strained onto a substrate, in the smallest common cell that a strain allows.

    Cells of both surfaces are enumerated up to an area (Zur & McGill, doi:10.1063/1.333084); the pair of
    least area whose principal strains stay below the limit is taken, of equal ones the less strained.

    Args:
        substrate: a slab (slab, surface), whose cell is kept.
        film: a slab, which is strained and turned about the normal.
        max_strain: largest principal strain of the film.
        max_area: of the common cell, Å².
        gap: between the outermost atoms of the two, Å.
        vacuum: empty space above the film and below the substrate together, Å; without it the cell is
            periodic along the normal with a second interface of the same gap.
        shift: displacement of the film along the two axes, fractions of the common cell.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.333084",)

    substrate: Builder
    film: Builder
    max_strain: float = 0.03
    max_area: float = 200.0
    gap: float = 2.0
    vacuum: float | None = None
    shift: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not self.max_strain > 0 or not self.max_area > 0 or not self.gap > 0:
            raise ValueError("max_strain, max_area and gap must be positive.")
        if self.vacuum is not None and not self.vacuum > 0:
            raise ValueError(f"vacuum must be positive; given {self.vacuum} Å.")

    def build(self) -> Atoms:
        """The stack, tags 0 (substrate) and 1 (film). Raises ValueError where nothing matches."""
        from rikiba.data.lattices import standing

        lower, upper = (standing(upright(b.build(), n)) for b, n in self._parts())
        match = matched(lower.cell.array[:2, :2], upper.cell.array[:2, :2], self.max_strain, self.max_area)
        if match is None:
            raise ValueError(
                f"No common cell up to {self.max_area:g} Å² strains the film by less than "
                f"{100 * self.max_strain:g} %. Raise max_area or max_strain."
            )
        below, above, strain = match
        lower, upper = in_cell(lower, below), in_cell(upper, above)
        common = lower.cell.array[:2].copy()
        upper.set_cell([*common, upper.cell.array[2]], scale_atoms=True)
        lower.positions[:, 2] -= lower.positions[:, 2].min()
        upper.positions[:, 2] += lower.positions[:, 2].max() + self.gap - upper.positions[:, 2].min()
        upper.positions += np.asarray(self.shift) @ common
        lower.set_tags(0)
        upper.set_tags(1)
        atoms = lower + upper
        height = atoms.positions[:, 2].max() + (self.gap if self.vacuum is None else self.vacuum)
        atoms.set_cell([*common, (0.0, 0.0, height)])
        atoms.pbc = (True, True, self.vacuum is None)
        if self.vacuum is not None:
            atoms.positions[:, 2] += 0.5 * self.vacuum
        area = float(abs(np.linalg.det(common[:, :2])))
        return made(self, atoms, strain=[float(s) for s in strain], area_A2=area, n_film_atoms=len(upper))

    def _parts(self) -> tuple[tuple[Builder, str], tuple[Builder, str]]:
        return (self.substrate, "substrate"), (self.film, "film")


def upright(atoms: Atoms, name: str) -> Atoms:
    """The slab with its third vector along the normal. Raises ValueError where it is no slab."""
    if not atoms.pbc[:2].all():
        raise ValueError(f"The {name} must be periodic along its first two axes; pbc is {atoms.pbc}.")
    a, b, c = atoms.cell.array
    normal = np.cross(a, b)
    if np.linalg.norm(normal) < 1e-9 or np.linalg.norm(np.cross(normal, c)) > 1e-6 * np.linalg.norm(normal):
        raise ValueError(f"The {name} must be a slab with its third cell vector normal to the other two.")
    out = atoms.copy()
    if normal @ c < 0:
        raise ValueError(f"The {name} has a left-handed cell.")
    return out


def supercells(largest: int) -> list[np.ndarray]:
    """Every 2 × 2 integer matrix [[p, q], [0, s]] with 0 ≤ q < s and p·s ≤ largest."""
    return [
        np.array([[p, q], [0, s]])
        for p in range(1, largest + 1)
        for s in range(1, largest // p + 1)
        for q in range(s)
    ]


def matched(
    lower: np.ndarray, upper: np.ndarray, max_strain: float, max_area: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(multiples of lower, multiples of upper, principal strains) of the best common cell; None if none."""
    low, up = (_reduced_cells(cell, max_area) for cell in (lower, upper))
    best: tuple[float, float] = (np.inf, np.inf)
    found = None
    for n, below in low:
        area = abs(np.linalg.det(below))
        if area > best[0] + 1e-9:
            break
        for m, above in up:
            if abs(abs(np.linalg.det(above)) / area - 1.0) > 3.0 * max_strain:
                continue
            for turned in ((1, 0, 0, 1), (0, 1, -1, 0), (1, 0, -1, 1), (1, 0, 1, 1)):
                change = np.array(turned).reshape(2, 2)
                strain = np.linalg.svd(np.linalg.solve(change @ above, below), compute_uv=False) - 1.0
                size = float(np.abs(strain).max())
                if size <= max_strain and (area, size) < (best[0] - 1e-9, np.inf):
                    best, found = (area, size), (n, change @ m, strain)
                elif size <= max_strain and area < best[0] + 1e-9 and size < best[1] - 1e-12:
                    best, found = (area, size), (n, change @ m, strain)
    return found


def _reduced_cells(cell: np.ndarray, max_area: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """(integer matrix, its reduced right-handed cell) of every supercell up to an area, by area."""
    from rikiba.data.lattices import reduced

    area = abs(np.linalg.det(cell))
    found = []
    for h in supercells(int(max_area / area + 1e-9)):
        a, b = reduced(*(h @ cell))
        vectors = np.array([a, b]) if np.linalg.det(np.array([a, b])) > 0 else np.array([b, a])
        found.append((np.round(vectors @ np.linalg.inv(cell)).astype(int), vectors))
    return sorted(found, key=lambda f: abs(np.linalg.det(f[1])))


def in_cell(slab: Atoms, multiples: np.ndarray) -> Atoms:
    """The slab in another cell of its surface lattice, its first vector along x."""
    from ase.build import make_supercell

    from rikiba.data.lattices import standing

    matrix = np.eye(3, dtype=int)
    matrix[:2, :2] = multiples
    return standing(make_supercell(slab, matrix))
