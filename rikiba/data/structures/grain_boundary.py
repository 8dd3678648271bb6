"""Two grains of a cubic crystal that share a coincidence-site lattice."""

from dataclasses import dataclass
from itertools import permutations, product
from typing import ClassVar, Literal, final

import numpy as np
from ase import Atoms

from .base import Builder, made, require_periodic


@final
@dataclass(frozen=True, kw_only=True)
class GrainBoundary:
    """A symmetric tilt or a twist boundary of a cubic crystal, twice in a periodic cell, normal to z.

    tilt: the second grain is the first one mirrored in the plane (hkl), which contains the axis.
    twist: the second grain is the first one turned about the normal of (hkl) by θ = 2 atan(n |hkl|/m).
    Σ, the ratio of the coincidence cell to the crystal's, is the least integer that makes the rotation
    matrix times it integer (Grimmer, Bollmann & Warrington, doi:10.1107/S056773947400043X).

    Args:
        crystal: the crystal in its conventional cubic cell.
        character: tilt or twist.
        plane: Miller indices of the boundary.
        axis: of a tilt, in the plane.
        turn: (m, n) of a twist.
        grain_length: least length of each grain along the normal, Å.
        repeat: repetitions of the boundary's cell along its two axes.
        shift: displacement of the second grain along the two axes, fractions of the cell before repetition.
        gap: extra space at each boundary, Å.
        min_distance: of two atoms closer than this one is taken away, Å.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1107/S056773947400043X",)

    crystal: Builder
    character: Literal["tilt", "twist"]
    plane: tuple[int, int, int]
    axis: tuple[int, int, int] | None = None
    turn: tuple[int, int] | None = None
    grain_length: float = 15.0
    repeat: tuple[int, int] = (1, 1)
    shift: tuple[float, float] = (0.0, 0.0)
    gap: float = 0.0
    min_distance: float = 1.0

    def __post_init__(self) -> None:
        if not any(self.plane):
            raise ValueError("plane must not be (0, 0, 0).")
        if (self.character == "tilt") != (self.axis is not None):
            raise ValueError("A tilt boundary has an axis, a twist boundary has none.")
        if (self.character == "twist") != (self.turn is not None):
            raise ValueError("A twist boundary has a turn (m, n), a tilt boundary has none.")
        if self.axis is not None and (np.dot(self.axis, self.plane) != 0 or not any(self.axis)):
            raise ValueError(f"The axis {self.axis} must lie in the plane {self.plane}.")
        if self.turn is not None and min(self.turn) < 1:
            raise ValueError(f"turn is two integers of at least 1; given {self.turn}.")
        if not self.grain_length > 0 or self.gap < 0 or self.min_distance < 0 or min(self.repeat) < 1:
            raise ValueError("grain_length > 0, gap ≥ 0, min_distance ≥ 0 and repeat ≥ 1 are needed.")

    def build(self) -> Atoms:
        """The bicrystal, tags 0 and 1 for its grains; `info` has Σ, the angle and the atoms taken away."""
        crystal = self.crystal.build()
        require_periodic(crystal, "A grain boundary")
        a = crystal.cell.lengths()[0]
        if np.abs(crystal.cell.array - a * np.eye(3)).max() > 1e-6 * a:
            raise ValueError("A grain boundary is made of a conventional cubic cell; set cubic = true.")
        parts = self._tilt(crystal) if self.character == "tilt" else self._twist(crystal)
        lower, upper, height, rotation = parts
        upper.positions += np.array([*self.shift, 0.0]) @ lower.cell.array
        upper.positions[:, 2] += self.gap
        height += 2.0 * self.gap
        lower.set_tags(0)
        upper.set_tags(1)
        atoms = lower + upper
        atoms.set_cell([*lower.cell.array[:2], (0.0, 0.0, height)])
        atoms.pbc = True
        atoms.wrap(eps=1e-6)
        before = len(atoms)
        atoms = without_overlaps(atoms, self.min_distance)
        taken = before - len(atoms)
        atoms *= (*self.repeat, 1)
        angle, axis = smallest_turn(rotation, self.axis or self.plane)
        return made(
            self,
            atoms,
            sigma=sigma(rotation),
            misorientation_degrees=angle,
            misorientation_axis=list(axis),
            atoms_removed=taken * self.repeat[0] * self.repeat[1],
            boundary_area_A2=float(np.linalg.norm(np.cross(*atoms.cell.array[:2]))),
        )

    def _tilt(self, crystal: Atoms) -> tuple[Atoms, Atoms, float, np.ndarray]:
        from rikiba.data.lattices import recast, standing

        normal, axis = np.array(self.plane), np.array(self.axis)
        vectors = np.array([shortest(crystal, d) for d in (axis, np.cross(normal, axis), normal)])
        grain = standing(recast(crystal, self._long(vectors)))
        mirror = np.eye(3) - 2.0 * np.outer(normal, normal) / (normal @ normal)
        top = float(grain.positions[:, 2].max())
        other = grain.copy()
        other.positions[:, 2] = 2.0 * top - other.positions[:, 2]  # the grains share their outermost layers
        return grain, other, 2.0 * top, mirror

    def _twist(self, crystal: Atoms) -> tuple[Atoms, Atoms, float, np.ndarray]:
        from rikiba.data.lattices import recast, standing

        normal = np.array(self.plane)
        assert self.turn is not None
        turn = rational_rotation(normal, *self.turn)
        a, b = coincidence_cell(crystal, normal, turn)
        vectors = self._long(np.array([a, b, shortest(crystal, normal)]))
        grain = standing(recast(crystal, vectors))
        # the second grain is R times the crystal: what lies along v in the bicrystal is Rᵀ v of the crystal
        other = standing(recast(crystal, vectors @ turn))
        height = float(grain.cell.array[2, 2])
        other.positions[:, 2] += height
        return grain, other, 2.0 * height, turn

    def _long(self, vectors: np.ndarray) -> np.ndarray:
        times = int(np.ceil(self.grain_length / np.linalg.norm(vectors[2])))
        return np.array([vectors[0], vectors[1], vectors[2] * times])


def rational_rotation(axis: np.ndarray, m: int, n: int) -> np.ndarray:
    """R of the quaternion (m, n·axis): angle 2 atan(n |axis|/m)."""
    h = np.asarray(axis, float) * n
    cross = np.array([[0, -h[2], h[1]], [h[2], 0, -h[0]], [-h[1], h[0], 0]])
    r = ((m * m - h @ h) * np.eye(3) + 2.0 * np.outer(h, h) + 2.0 * m * cross) / (m * m + h @ h)
    return np.asarray(r)


def sigma(rotation: np.ndarray, largest: int = 10000) -> int:
    """The least positive integer Σ with Σ·R integer. Raises ValueError beyond `largest`."""
    for n in range(1, largest + 1):
        if np.abs(n * rotation - np.round(n * rotation)).max() < 1e-6:
            return n
    raise ValueError(f"No coincidence lattice with Σ ≤ {largest}.")


def smallest_turn(rotation: np.ndarray, about: tuple[int, int, int]) -> tuple[float, tuple[int, int, int]]:
    """(angle in degrees, axis): the smallest equivalent rotation of a cubic crystal about the given axis."""
    axis = np.asarray(about) / np.linalg.norm(about)
    angles = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            symmetry = np.zeros((3, 3))
            symmetry[range(3), order] = signs
            r = rotation @ symmetry
            if np.linalg.det(r) > 0 and np.linalg.norm(r @ axis - axis) < 1e-9:
                angles.append(float(np.degrees(np.arccos(np.clip((np.trace(r) - 1.0) / 2.0, -1.0, 1.0)))))
    return min(angles), about


def shortest(crystal: Atoms, direction: np.ndarray) -> np.ndarray:
    """The shortest translation of a cubic crystal along integer indices, Å."""
    from rikiba.data.lattices import is_translation

    primitive = np.asarray(direction) // np.gcd.reduce(direction)
    for part in (0.5, 1.0):
        vector = part * primitive @ crystal.cell.array
        if is_translation(crystal, vector):
            return np.asarray(vector)
    raise ValueError(f"The crystal has no translation along {direction.tolist()}.")


def coincidence_cell(
    crystal: Atoms, normal: np.ndarray, turn: np.ndarray, reach: int = 60
) -> tuple[np.ndarray, np.ndarray]:
    """The two shortest translations in a plane that the turned crystal has too, Å, right-handed about it."""
    from rikiba.data.lattices import is_translation

    a = float(crystal.cell.lengths()[0])
    halves = np.array(list(product((0, 1), repeat=3)))
    allowed = {tuple(h) for h in halves if is_translation(crystal, 0.5 * a * h)}
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3), -1).reshape(-1, 3)
    grid = grid[(grid @ normal == 0) & grid.any(1)]
    back = grid @ turn  # Rᵀ t
    whole = np.abs(back - np.round(back)).max(1) < 1e-6
    grid, back = grid[whole], np.round(back[whole]).astype(int)
    kept = [k for k in range(len(grid)) if {tuple(grid[k] % 2), tuple(back[k] % 2)} <= allowed]
    found = grid[kept][np.argsort((grid[kept] ** 2).sum(1), kind="stable")]
    for second in found[1:]:
        turned = float(np.cross(found[0], second) @ normal)
        if turned != 0:
            b = second if turned > 0 else -second
            return 0.5 * a * found[0], 0.5 * a * b
    raise ValueError(
        f"The coincidence cell is larger than {reach / 2:g} lattice constants; use smaller m, n."
    )


def without_overlaps(atoms: Atoms, distance: float) -> Atoms:
    """The structure less the second of each pair of atoms closer than `distance`, Å."""
    from rikiba.core.pairs import find_pairs
    from rikiba.core.system import System

    if distance == 0:
        return atoms
    pairs = find_pairs(System.from_ase(atoms), distance)
    gone: set[int] = set()
    for i, j in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True):
        if i < j and i not in gone:
            gone.add(j)
    return atoms[[k for k in range(len(atoms)) if k not in gone]]
