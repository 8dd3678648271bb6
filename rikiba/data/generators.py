"""Structures made without dynamics: random displacements, elastic strains, volume scans.

Pure functions of a structure and a seed. Every frame says in `info` how it was made, and carries its
parent's group (its formula where it has none), so that a split by group keeps a family together.
"""

from collections.abc import Sequence

import numpy as np
from ase import Atoms

VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


def random_displacements(
    atoms: Atoms,
    *,
    number: int,
    amplitudes: float | Sequence[float] = 0.05,
    min_distance: float = 0.6,
    seed: int = 0,
    max_tries: int = 100,
) -> list[Atoms]:
    """`number` copies with independent normal displacements of every coordinate.

    Args:
        atoms: the parent
        number: frames to make; amplitudes are used in turn
        amplitudes: standard deviation per coordinate, Å
        min_distance: a frame with a closer pair (images included), Å, is drawn again
        seed: seed of the displacements; frame k does not depend on `number`
        max_tries: draws per frame before giving up

    Raises ValueError where the parent itself is below `min_distance` and where no draw keeps the distance.
    A guard that rejects many draws narrows the distribution; `info['tries']` says how many were needed.
    """
    sizes = [float(amplitudes)] if isinstance(amplitudes, (int, float)) else [float(a) for a in amplitudes]
    if not sizes or min(sizes) < 0:
        raise ValueError(f"amplitudes are {sizes}; at least one is needed and none may be negative.")
    if closest_distance(atoms, min_distance) < min_distance:
        raise ValueError(f"The structure itself has a pair closer than min_distance = {min_distance} Å.")
    out = []
    for k in range(number):
        rng = np.random.default_rng([seed, k])
        sigma = sizes[k % len(sizes)]
        for tries in range(1, max_tries + 1):
            frame = _child(atoms, "random_displacements", amplitude=sigma, tries=tries)
            frame.positions = atoms.positions + rng.normal(0.0, 1.0, (len(atoms), 3)) * sigma
            if closest_distance(frame, min_distance) >= min_distance:
                break
        else:
            raise ValueError(
                f"{max_tries} displacements of {sigma} Å all bring a pair below {min_distance} Å; "
                f"use a smaller amplitude or min_distance."
            )
        out.append(frame)
    return out


def elastic_strains(atoms: Atoms, *, amplitudes: Sequence[float] = (0.005, 0.01)) -> list[Atoms]:
    """The six independent strains with both signs: cell → cell·(1 + ε), atoms carried along.

    ε is symmetric; for a shear the amplitude is the tensor component ε_yz (engineering γ = 2ε). The Voigt
    strain is in `info['strain']`. Raises ValueError where the structure is not periodic in all directions.
    """
    _needs_cell(atoms)
    out = []
    for mode, name in enumerate(VOIGT):
        for size in amplitudes:
            for sign in (-1.0, 1.0):
                epsilon = np.zeros((3, 3))
                a, b = "xyz".index(name[0]), "xyz".index(name[1])
                epsilon[a, b] = epsilon[b, a] = sign * size
                strain = [0.0] * 6
                strain[mode] = sign * size * (1.0 if a == b else 2.0)
                out.append(_deformed(atoms, np.eye(3) + epsilon, "elastic_strains", strain=strain))
    return out


def volume_scan(
    atoms: Atoms, *, lowest: float = 0.85, highest: float = 1.15, number: int = 11
) -> list[Atoms]:
    """`number` isotropic copies with V/V0 evenly spaced from `lowest` to `highest`.

    Raises ValueError where the structure is not periodic in all directions or the range is not positive.
    """
    _needs_cell(atoms)
    if not 0.0 < lowest < highest or number < 2:
        raise ValueError(
            f"V/V0 from {lowest} to {highest} in {number} steps: give 0 < lowest < highest and number ≥ 2."
        )
    return [
        _deformed(atoms, np.eye(3) * ratio ** (1.0 / 3.0), "volume_scan", volume_ratio=float(ratio))
        for ratio in np.linspace(lowest, highest, number)
    ]


def closest_distance(atoms: Atoms, within: float) -> float:
    """Distance of the closest pair, periodic images included, Å; inf where none is nearer than `within`."""
    from rikiba.core.pairs import find_pairs
    from rikiba.core.system import System

    system = System.from_ase(atoms)
    pairs = find_pairs(system, within)
    return float(pairs.vectors(system).norm(dim=1).min()) if len(pairs) else np.inf


def _needs_cell(atoms: Atoms) -> None:
    if not atoms.pbc.all():
        raise ValueError("Strains need a structure that is periodic in all three directions.")


def _deformed(atoms: Atoms, deformation: np.ndarray, generator: str, **info: object) -> Atoms:
    frame = _child(atoms, generator, **info)
    frame.set_cell(atoms.cell.array @ deformation, scale_atoms=False)
    frame.positions = atoms.positions @ deformation
    return frame


def _child(atoms: Atoms, generator: str, **info: object) -> Atoms:
    """A copy without calculator that remembers its parent."""
    frame = atoms.copy()
    frame.calc = None
    frame.info.pop("level_of_theory", None)
    frame.info["group"] = str(atoms.info.get("group") or atoms.get_chemical_formula())
    frame.info["generator"] = generator
    frame.info.update(info)
    return frame
