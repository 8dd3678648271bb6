"""Random sensible crystals: a random cell of a given volume, atoms at random, with or without symmetry."""

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from rikiba.data.packing import PairDistances

_POINTS = 40
"""Random points tried for an orbit before a new cell is drawn."""
_EMPTY_CELLS = 12
"""Cells whose orbits never added up, one after another from the start, before a group is given up."""


def random_crystal(
    composition: Mapping[str, int],
    volume: float,
    least: PairDistances,
    rng: np.random.Generator,
    *,
    space_group: int = 1,
    tries: int = 300,
) -> Atoms:
    """A primitive cell with the given atoms and the symmetry of a space group.

    Points are drawn at random; images under the group's operations that come closer than the least distance
    are merged into one on a symmetry element, so that special positions are met without a table of them.

    Args:
        composition: atoms of each element in the primitive cell.
        volume: of the primitive cell, Å³.
        least: least distances of pairs.
        rng: random numbers.
        space_group: number 1 … 230.
        tries: cells drawn before giving up.

    Raises ValueError where no cell keeps the distances, or the group has no orbits of the right sizes.
    """
    rotations, translations, system, centring = _operations(space_group)
    filled = False
    for attempt in range(tries):
        if attempt == _EMPTY_CELLS and not filled:
            break
        cell = random_cell(system, volume * len(centring), rng)
        found = _filled(cell, composition, least, rotations, translations, len(centring), rng)
        if found is None:
            continue
        filled = True
        atoms = found if len(centring) == 1 else _primitive(found, centring)
        if least.kept(atoms):
            return atoms
    raise ValueError(
        f"No cell of {volume:.1f} Å³ with {dict(composition)} and space group {space_group} "
        + (f"keeps the least distances after {tries} tries" if filled else "has orbits of these sizes")
        + "; use a larger volume, shorter distances or another group."
    )


def random_cell(system: str, volume: float, rng: np.random.Generator) -> np.ndarray:
    """Lattice vectors (rows, Å) of a crystal system: lengths within a factor of about 2.5, no flat angles."""
    while True:
        a, b, c = rng.uniform(0.6, 1.5, 3)
        angles = np.radians(rng.uniform(50.0, 130.0, 3))
        alpha, beta, gamma = angles
        if system == "monoclinic":
            alpha = gamma = np.pi / 2
        elif system != "triclinic":
            alpha = beta = gamma = np.pi / 2
        if system in ("tetragonal", "trigonal", "hexagonal", "cubic"):
            b = a
        if system in ("trigonal", "hexagonal"):
            gamma = 2.0 * np.pi / 3.0
        if system == "cubic":
            c = a
        x = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
        height2 = np.sin(beta) ** 2 - x**2
        if height2 < 0.2:
            continue
        cell = np.array(
            [
                [a, 0, 0],
                [b * np.cos(gamma), b * np.sin(gamma), 0],
                [c * np.cos(beta), c * x, c * np.sqrt(height2)],
            ]
        )
        return np.asarray(cell * (volume / np.linalg.det(cell)) ** (1.0 / 3.0))


def _operations(number: int) -> tuple[np.ndarray, np.ndarray, str, np.ndarray]:
    """Rotations and translations (all, centring included), crystal system and centring vectors."""
    from ase.spacegroup import Spacegroup

    if not 1 <= number <= 230:
        raise ValueError(f"Space groups are numbered 1 to 230; given {number}.")
    group = Spacegroup(number)
    rotations, translations = group.get_op()
    ends = (2, 15, 74, 142, 167, 194, 230)
    names = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")
    system = next(name for name, end in zip(names, ends, strict=True) if number <= end)
    return np.asarray(rotations), np.asarray(translations), system, np.asarray(group.subtrans)


def _filled(
    cell: np.ndarray,
    composition: Mapping[str, int],
    least: PairDistances,
    rotations: np.ndarray,
    translations: np.ndarray,
    centring: int,
    rng: np.random.Generator,
) -> Atoms | None:
    """The conventional cell with all atoms, or None where the orbits drawn do not add up."""
    symbols: list[str] = []
    places: list[np.ndarray] = []
    for element, number in composition.items():
        z = np.array([Atoms(element).numbers[0]])
        merge = float(least(z, z)[0])
        wanted = number * centring
        for _ in range(_POINTS):
            if wanted == 0:
                break
            orbit = _orbit(rng.random(3), cell, rotations, translations, merge)
            if orbit is None or len(orbit) > wanted or not _apart(orbit, places, cell, merge):
                continue
            wanted -= len(orbit)
            symbols += [element] * len(orbit)
            places.append(orbit)
        if wanted:
            return None
    return Atoms(symbols, scaled_positions=np.concatenate(places), cell=cell, pbc=True)


def _apart(orbit: np.ndarray, places: Sequence[np.ndarray], cell: np.ndarray, merge: float) -> bool:
    """Quick test before all distances are: no point of the orbit on top of an earlier one."""
    if not places:
        return True
    earlier = np.concatenate(places)
    difference = orbit[:1, None] - earlier[None]
    difference = (difference - np.round(difference)) @ cell
    return bool(np.linalg.norm(difference, axis=-1).min() > 0.5 * merge)


def _orbit(
    point: np.ndarray, cell: np.ndarray, rotations: np.ndarray, translations: np.ndarray, merge: float
) -> np.ndarray | None:
    """The different images of a point once images closer than `merge` are one; None if they never are."""
    for _ in range(20):
        images = rotations @ point + translations
        away = images - point
        away -= np.round(away)
        distance = np.linalg.norm(away @ cell, axis=1)
        near = distance < merge
        shift = away[near].mean(0)
        point = point + shift
        if np.linalg.norm(shift @ cell) < 1e-10:
            if distance[near].max() > 1e-6:
                return None
            order = images % 1.0
            kept: list[np.ndarray] = []
            for image in order:
                gap = np.array(kept).reshape(-1, 3) - image
                gap -= np.round(gap)
                if not len(kept) or np.linalg.norm(gap @ cell, axis=1).min() > 1e-4:
                    kept.append(image)
            return np.array(kept)
    return None


def _primitive(atoms: Atoms, centring: np.ndarray) -> Atoms:
    """The primitive cell of a centred one: its lattice's three shortest vectors, and the atoms within."""
    from rikiba.data.lattices import recast

    steps = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3), -1).reshape(-1, 3)
    lattice = (steps[None] + centring[:, None]).reshape(-1, 3) @ atoms.cell.array
    lattice = lattice[np.argsort(np.linalg.norm(lattice, axis=1), kind="stable")]
    volume = atoms.get_volume() / len(centring)
    chosen: list[np.ndarray] = []
    for v in lattice[1:]:
        trial = np.array([*chosen, v])
        if np.linalg.matrix_rank(trial, tol=1e-6) == len(trial):
            chosen.append(v)
        if len(chosen) == 3:
            break
    vectors = np.array(chosen)
    if abs(abs(np.linalg.det(vectors)) - volume) > 1e-6 * volume:
        vectors = _basis(lattice[1:60], volume)
    if np.linalg.det(vectors) < 0:
        vectors = -vectors
    return recast(atoms, vectors)


def _basis(lattice: np.ndarray, volume: float) -> np.ndarray:
    """Three of the vectors that span exactly one primitive cell."""
    from itertools import combinations

    for three in combinations(lattice, 3):
        if abs(abs(np.linalg.det(np.array(three))) - volume) < 1e-6 * volume:
            return np.array(three)
    raise ValueError("The centred cell has no primitive cell of short vectors.")
