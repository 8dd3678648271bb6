"""Crystals as point sets: translations, oriented blocks and cells with other lattice vectors."""

import numpy as np
from ase import Atoms


def unit(vector: np.ndarray) -> np.ndarray:
    """v/|v|."""
    return np.asarray(vector / np.linalg.norm(vector))


def is_translation(crystal: Atoms, vector: np.ndarray, tolerance: float = 1e-3) -> bool:
    """True where moving the whole crystal by `vector` (Å) gives the same crystal."""
    inverse = np.linalg.inv(crystal.cell.array)
    moved = (crystal.positions + vector) @ inverse
    there = crystal.positions @ inverse
    for z, s in zip(crystal.numbers, moved, strict=True):
        difference = s - there[crystal.numbers == z]
        difference -= np.round(difference)
        if np.linalg.norm(difference @ crystal.cell.array, axis=1).min() > tolerance:
            return False
    return True


def block(crystal: Atoms, bounds: np.ndarray) -> Atoms:
    """All atoms of an infinite crystal with bounds[0] ≤ r < bounds[1] (Å), to 1e-6 Å; no cell."""
    corners = np.array(np.meshgrid(*zip(bounds[0], bounds[1], strict=True))).reshape(3, -1).T
    inverse = np.linalg.inv(crystal.cell.array)
    reached = corners @ inverse
    at = crystal.positions @ inverse
    low = np.floor(reached.min(0) - at.max(0)).astype(int)
    high = np.ceil(reached.max(0) - at.min(0)).astype(int)
    shifts = np.stack(
        np.meshgrid(*[np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]), -1
    ).reshape(-1, 3)
    where = (crystal.positions[None] + (shifts @ crystal.cell.array)[:, None]).reshape(-1, 3)
    numbers = np.tile(crystal.numbers, len(shifts))
    inside = ((where >= bounds[0] - 1e-6) & (where < bounds[1] - 1e-6)).all(1)
    return Atoms(numbers[inside], positions=where[inside])


def recast(crystal: Atoms, vectors: np.ndarray) -> Atoms:
    """The same crystal with other lattice vectors (rows, Å), which must be translations of it.

    Raises ValueError where they are not.
    """
    for v in vectors:
        if not is_translation(crystal, v):
            raise ValueError(f"{np.round(v, 4).tolist()} Å is no translation of the crystal.")
    corners = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T @ vectors
    around = block(crystal, np.array([corners.min(0) - 1e-3, corners.max(0) + 1e-3]))
    fractional = around.positions @ np.linalg.inv(vectors)
    inside = ((fractional > -1e-5) & (fractional < 1.0 - 1e-5)).all(1)
    out = Atoms(around.numbers[inside], positions=around.positions[inside], cell=vectors, pbc=True)
    expected = len(crystal) * abs(np.linalg.det(vectors)) / crystal.get_volume()
    if abs(len(out) - expected) > 1e-3:
        raise ValueError(f"A cell of {expected:.3f} atoms came out with {len(out)}.")
    return out


def standing(atoms: Atoms) -> Atoms:
    """The structure turned so that its first vector lies along x and its second in the plane xy."""
    a, b, _ = atoms.cell.array
    x = unit(a)
    z = unit(np.cross(a, b))
    axes = np.array([x, np.cross(z, x), z])
    out = atoms.copy()
    out.set_cell(atoms.cell.array @ axes.T)
    out.positions = atoms.positions @ axes.T
    return out


def reduced(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shortest basis of a planar lattice, |a| ≤ |b| with the angle between 60° and 90° (Gauss)."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    while True:
        if np.linalg.norm(a) > np.linalg.norm(b) + 1e-9:
            a, b = b, a
        b = b - np.round((a @ b) / (a @ a)) * a
        if np.linalg.norm(b) >= np.linalg.norm(a) - 1e-9:
            return (a, b) if a @ b >= -1e-9 else (a, -b)
