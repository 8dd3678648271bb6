"""A cell as LAMMPS takes it: right-handed, lower triangular, walls where it is not periodic."""

from dataclasses import dataclass
from math import ceil, floor
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LammpsBox:
    """The box of a structure and the atoms in it, in LAMMPS's own axes.

    Args:
        lengths: of the box from 0 on, Å.
        tilts: xy, xz and yz, Å.
        pbc: periodic axes.
        rotation: x_LAMMPS = x · rotation, less a shift.
        positions: of the atoms, Å.
    """

    lengths: tuple[float, float, float]
    tilts: tuple[float, float, float]
    pbc: tuple[bool, bool, bool]
    rotation: Array
    positions: Array

    def vectors_back(self, values: Array) -> Array:
        """Vectors in the structure's axes, [atoms 3]."""
        return np.asarray(values @ self.rotation.T)

    def tensor_back(self, values: Array) -> Array:
        """A tensor in the structure's axes, [3 3]."""
        return np.asarray(self.rotation @ values @ self.rotation.T)


def lammps_box(positions: Array, cell: Array, pbc: NDArray[np.bool_]) -> LammpsBox:
    """The same lattice and atoms in LAMMPS's axes.

    A lattice vector along which nothing repeats is replaced by a direction normal to those that do repeat;
    its length is the cell's thickness there if the atoms fit in it, else a multiple of 10 Å. A left-handed
    lattice is described by −a, −b, −c, which are vectors of the same lattice. Tilts are reduced to half a
    box length.
    """
    vectors, thickness = _directions(cell, pbc)
    lower, rotation = _lower_triangular(vectors)
    for row, column in ((2, 1), (2, 0), (1, 0)):
        if pbc[row] and pbc[column]:
            lower[row] -= np.round(lower[row, column] / lower[column, column]) * lower[column]
    inside = positions @ rotation
    for k in np.flatnonzero(~pbc):
        low, high = float(inside[:, k].min()), float(inside[:, k].max())
        lower[k, k] = _wall_distance(high - low, thickness[k])
        inside[:, k] -= floor(0.5 * (low + high - lower[k, k]))
    fractions = inside @ np.linalg.inv(lower)
    inside = inside - np.where(pbc, np.floor(fractions), 0.0) @ lower
    return LammpsBox(
        lengths=_three(np.diag(lower)),
        tilts=_three((lower[1, 0], lower[2, 0], lower[2, 1])),
        pbc=tuple(bool(p) for p in pbc),  # type: ignore[arg-type]
        rotation=rotation,
        positions=np.ascontiguousarray(inside),
    )


def _wall_distance(extent: float, thickness: float) -> float:
    return thickness if extent + 2.0 <= thickness else 10.0 * ceil((extent + 4.0) / 10.0)


def _directions(cell: Array, pbc: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Right-handed lattice vectors, unit normals where none repeats; the cell's thickness along those."""
    vectors, thickness = np.array(cell, dtype=np.float64), np.zeros(3)
    known = list(vectors[pbc])
    for k in np.flatnonzero(~pbc):
        normal = _normal(known, (cell[k], *np.roll(np.eye(3), -k, axis=0)))
        thickness[k], vectors[k] = abs(cell[k] @ normal), normal
        known.append(normal)
    if np.linalg.det(vectors) < 0.0:
        vectors[np.flatnonzero(~pbc)[:1] if not pbc.all() else slice(None)] *= -1.0
    return vectors, thickness


def _normal(known: list[Array], candidates: tuple[Array, ...]) -> Array:
    """The first candidate that is not nearly in the span of the known vectors, made normal to them."""
    for candidate in candidates:
        rest = np.array(candidate, dtype=np.float64)
        if known:
            basis = np.linalg.qr(np.array(known).T)[0]
            rest -= basis @ (basis.T @ rest)
            rest -= basis @ (basis.T @ rest)
        size = np.linalg.norm(rest)
        if size > 0.1 * np.linalg.norm(candidate):
            return np.asarray(rest / size)
    raise ValueError(f"The lattice vectors {[v.tolist() for v in known]} leave no third direction.")


def _lower_triangular(vectors: Array) -> tuple[Array, Array]:
    """L = vectors · rotation with a positive diagonal."""
    if not np.triu(vectors, 1).any() and (np.diag(vectors) > 0.0).all():
        return vectors.copy(), np.eye(3)
    q, r = np.linalg.qr(vectors.T)
    signs = np.sign(np.diag(r))
    return np.tril((r * signs[:, None]).T), q * signs


def _three(values: Any) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
