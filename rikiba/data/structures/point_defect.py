"""Point defects in a crystal."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from ase import Atoms

from .base import Builder, known_elements, made, require_periodic


@final
@dataclass(frozen=True, kw_only=True)
class PointDefect:
    """Vacancies, interstitials, antisites or substitutions in a host structure.

    Sites are drawn at random among the atoms of `element`, unless named. Interstitials go to the largest
    voids: vertices of the Voronoi tessellation, farthest from all atoms first.

    Args:
        host: the structure, usually a crystal repeated a few times.
        defect: vacancy, interstitial (of `new`), substitution (by `new`) or antisite (an atom of `element`
            on the place of an atom of `new` and the other way round: the nearest such pair).
        element: which atoms are removed, replaced or exchanged; any where not given.
        new: element that is put in.
        number: of defects.
        sites: atoms of the host by number, instead of random ones.
        position: fractional coordinates of one interstitial, instead of the largest void.
        charge: total charge of the cell, e.
        seed: of the random sites.
    """

    host: Builder
    defect: Literal["vacancy", "interstitial", "antisite", "substitution"]
    element: str | None = None
    new: str | None = None
    number: int = 1
    sites: tuple[int, ...] | None = None
    position: tuple[float, float, float] | None = None
    charge: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.number < 1 or (self.sites is not None and len(self.sites) != self.number):
            raise ValueError(
                f"number is at least 1 and that of the sites; given {self.number}, {self.sites}."
            )
        if (self.new is None) != (self.defect == "vacancy"):
            raise ValueError(
                f"{self.defect} {'needs' if self.new is None else 'has'} no element 'new'."
                if self.new is not None
                else f"'{self.defect}' needs 'new', the element that is put in."
            )
        if self.defect == "antisite" and (self.element is None or self.element == self.new):
            raise ValueError("An antisite exchanges two elements; give element and new.")
        if self.defect == "interstitial" and (self.element or self.sites):
            raise ValueError("An interstitial takes no atom away; leave element and sites out.")
        if self.position is not None and (self.defect != "interstitial" or self.number != 1):
            raise ValueError("position is that of one interstitial.")

    def build(self) -> Atoms:
        """The defective structure; `info` has the defect's places, Å, and the change of composition."""
        atoms = self.host.build()
        if self.new is not None:
            known_elements(self.new)
        before = atoms.symbols.formula.count()
        where = getattr(self, f"_{self.defect}")(atoms)
        after = atoms.symbols.formula.count()
        change = {s: after.get(s, 0) - before.get(s, 0) for s in sorted({*before, *after})}
        return made(
            self,
            atoms,
            charge=self.charge,
            defect=self.defect,
            defect_positions=np.asarray(where).tolist(),
            composition_change=" ".join(f"{s}{n:+d}" for s, n in change.items() if n) or "none",
        )

    def _vacancy(self, atoms: Atoms) -> np.ndarray:
        chosen = self._chosen(atoms)
        where = atoms.positions[chosen].copy()
        del atoms[chosen]
        return where

    def _substitution(self, atoms: Atoms) -> np.ndarray:
        chosen = self._chosen(atoms)
        if (atoms.symbols[chosen] == self.new).any():
            raise ValueError(f"A site already holds {self.new}; give element, the one that is replaced.")
        atoms.symbols[chosen] = self.new
        return np.asarray(atoms.positions[chosen])

    def _antisite(self, atoms: Atoms) -> np.ndarray:
        chosen = self._chosen(atoms)
        taken: list[int] = []
        for a in chosen:
            others = [k for k, s in enumerate(atoms.symbols) if s == self.new and k not in taken]
            if not others:
                raise ValueError(f"The host has not enough {self.new} for {self.number} antisites.")
            partner = others[int(np.argmin(atoms.get_distances(a, others, mic=bool(atoms.pbc.any()))))]
            taken += [a, partner]
        for a, b in zip(taken[::2], taken[1::2], strict=True):
            atoms.numbers[[a, b]] = atoms.numbers[[b, a]]
        return np.asarray(atoms.positions[taken])

    def _interstitial(self, atoms: Atoms) -> np.ndarray:
        places = []
        for _ in range(self.number):
            place = (
                np.asarray(self.position) @ atoms.cell.array
                if self.position is not None
                else largest_void(atoms)
            )
            places.append(place)
            atoms += Atoms(self.new, positions=[place])
        return np.array(places)

    def _chosen(self, atoms: Atoms) -> list[int]:
        allowed = [k for k, s in enumerate(atoms.symbols) if self.element in (None, s)]
        if self.sites is not None:
            wrong = sorted(set(self.sites) - set(allowed))
            if wrong or len(set(self.sites)) < len(self.sites):
                raise ValueError(
                    f"sites must be different atoms 0 … {len(atoms) - 1} of the host"
                    f"{f' that are {self.element}' if self.element else ''}; given {self.sites}."
                )
            return list(self.sites)
        if len(allowed) < self.number:
            raise ValueError(
                f"The host has {len(allowed)} atoms of {self.element or 'any element'}; "
                f"{self.number} are needed."
            )
        rng = np.random.default_rng(self.seed)
        return sorted(int(k) for k in rng.choice(allowed, self.number, replace=False))


def largest_void(atoms: Atoms) -> np.ndarray:
    """The point of a periodic structure that is farthest from every atom, Å.

    A vertex of the Voronoi tessellation of the atoms and their images; of equal ones (to 1e-6 Å), the one
    with the least fractional coordinates.
    """
    from scipy.spatial import Voronoi, cKDTree

    require_periodic(atoms, "An interstitial without a position")
    one = atoms.copy()
    one.wrap()
    reach = 1 + int(np.ceil(2.0 * one.cell.lengths().max() / _least_width(one.cell.array)))
    shifts = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3), -1).reshape(-1, 3)
    if len(one) > 8:
        shifts = shifts[np.abs(shifts).max(1) <= 1]
    images = (one.positions[None] + (shifts @ one.cell.array)[:, None]).reshape(-1, 3)
    vertices = Voronoi(images).vertices
    fractional = np.linalg.solve(one.cell.array.T, vertices.T).T
    inside = ((fractional > -1e-9) & (fractional < 1 - 1e-9)).all(1)
    vertices, fractional = vertices[inside], fractional[inside]
    distance = cKDTree(images).query(vertices)[0]
    best = distance > distance.max() - 1e-6
    order = np.lexsort(np.round(fractional[best], 6).T[::-1])
    return np.asarray(vertices[best][order[0]])


def _least_width(cell: np.ndarray) -> float:
    """Least distance between opposite faces of a cell, Å."""
    return float(1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0).max())
