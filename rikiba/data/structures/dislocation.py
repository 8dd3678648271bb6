"""A straight edge or screw dislocation in the middle of a cylinder."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from ase import Atoms

from .base import Builder, made, require_periodic


@final
@dataclass(frozen=True, kw_only=True)
class Dislocation:
    """A straight dislocation from the displacement field of isotropic elasticity, periodic along its line.

    Atoms of a cylinder about z are displaced by (Anderson, Hirth & Lothe, Theory of Dislocations, 3rd ed.,
    chapter 3; branch cut on the glide plane y = 0, x < 0, so that no atom is added or removed)
    screw: u_z = b θ/2π;
    edge: u_x = b/2π [θ + xy/(2(1−ν) r²)], u_y = −b/2π [(1−2ν)/(4(1−ν)) ln r² + (x²−y²)/(4(1−ν) r²)].

    Relax it with the atoms of tag 1, a shell below the surface, held fixed.

    Args:
        crystal: the bulk crystal; its lattice decides which Burgers vectors there are.
        character: edge or screw.
        burgers: Burgers vector in the crystal's cell vectors, e.g. [0.5, 0.5, 0]; a lattice vector.
        line: line direction in the crystal's cell vectors, integers: parallel to an edge's glide plane and
            normal to its Burgers vector; the Burgers vector's direction for a screw.
        plane_normal: normal of a screw's glide plane (for an edge it follows from the other two), in the
            crystal's cell vectors; it must be normal to the line.
        radius: of the cylinder, Å.
        fixed_shell: width of the shell of atoms with tag 1, Å.
        repeat: repetitions along the line.
        poisson_ratio: ν of the medium.
        centre: the line's place along x and y from the crystal's origin, in lengths of the Burgers vector.
    """

    crystal: Builder
    character: Literal["edge", "screw"]
    burgers: tuple[float, float, float]
    line: tuple[int, int, int]
    plane_normal: tuple[int, int, int] | None = None
    radius: float = 30.0
    fixed_shell: float = 8.0
    repeat: int = 1
    poisson_ratio: float = 0.33
    centre: tuple[float, float] = (0.25, 0.4)

    def __post_init__(self) -> None:
        if not 0 < self.fixed_shell < self.radius:
            raise ValueError(f"0 < fixed_shell < radius is needed; given {self.fixed_shell}, {self.radius}.")
        if not -1.0 < self.poisson_ratio < 0.5:
            raise ValueError(f"poisson_ratio is between −1 and 0.5; given {self.poisson_ratio}.")
        if self.repeat < 1 or not any(self.line) or not any(self.burgers):
            raise ValueError("repeat is at least 1, and line and burgers are not zero.")

    def build(self) -> Atoms:
        """The cylinder, its line along z. Raises ValueError for vectors that do not belong together."""
        from rikiba.data.lattices import block, is_translation

        crystal = self.crystal.build()
        require_periodic(crystal, "A dislocation")
        cell = crystal.cell.array
        b, line = np.asarray(self.burgers) @ cell, np.asarray(self.line) @ cell
        if not is_translation(crystal, b):
            raise ValueError(f"burgers = {self.burgers} is no lattice vector: a stacking fault would remain.")
        axes, magnitude = self._axes(b, line, cell)
        size = self.radius + 2.0 * np.abs(cell).sum()
        turned = cell @ axes.T
        atoms = block(
            Atoms(crystal.numbers, positions=crystal.positions @ axes.T, cell=turned, pbc=True),
            np.array([[-size, -size, 0.0], [size, size, self.repeat * float(np.linalg.norm(line))]]),
        )
        spot = np.asarray(self.centre) * abs(magnitude)
        xy = atoms.positions[:, :2] - spot
        atoms = atoms[np.hypot(*xy.T) < self.radius]
        atoms.positions[:, :2] -= spot
        x, y = atoms.positions[:, 0], atoms.positions[:, 1]
        if np.hypot(x, y).min() < 1e-3:
            raise ValueError("An atom lies on the dislocation line; move the centre.")
        atoms.set_tags((np.hypot(x, y) > self.radius - self.fixed_shell).astype(int))
        atoms.positions += displacement(self.character, x, y, magnitude, self.poisson_ratio)
        atoms.pbc = (False, False, True)
        height = self.repeat * float(np.linalg.norm(line))
        atoms.cell = np.diag([2.0 * self.radius + 20.0, 2.0 * self.radius + 20.0, height])
        atoms.positions[:, :2] += self.radius + 10.0
        return made(self, atoms, burgers_A=magnitude, line_length_A=height)

    def _axes(self, b: np.ndarray, line: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, float]:
        """Rows x, y, z of the dislocation's frame in the crystal's, and the signed length of b."""
        from rikiba.data.lattices import unit

        z = unit(line)
        if self.character == "edge":
            if abs(unit(b) @ z) > 1e-6:
                raise ValueError(f"An edge's line {self.line} must be normal to burgers {self.burgers}.")
            x = unit(b)
            return np.array([x, np.cross(z, x), z]), float(np.linalg.norm(b))
        if np.linalg.norm(np.cross(unit(b), z)) > 1e-6:
            raise ValueError(f"A screw's line {self.line} must be parallel to burgers {self.burgers}.")
        if self.plane_normal is None:
            raise ValueError("A screw does not say which plane it glides on; give plane_normal.")
        y = unit(np.asarray(self.plane_normal) @ cell)
        if abs(y @ z) > 1e-6:
            raise ValueError(f"plane_normal {self.plane_normal} must be normal to the line {self.line}.")
        return np.array([np.cross(y, z), y, z]), float(b @ z)


def displacement(
    character: Literal["edge", "screw"], x: np.ndarray, y: np.ndarray, burgers: float, poisson_ratio: float
) -> np.ndarray:
    """The elastic displacement of points (x, y), Å; see `Dislocation`."""
    theta, r2 = np.arctan2(y, x), x**2 + y**2
    zero, scale = np.zeros_like(x), burgers / (2.0 * np.pi)
    if character == "screw":
        return np.stack([zero, zero, scale * theta], 1)
    nu = poisson_ratio
    along = scale * (theta + x * y / (2.0 * (1.0 - nu) * r2))
    normal = (1.0 - 2.0 * nu) / (4.0 * (1.0 - nu)) * np.log(r2) + (x**2 - y**2) / (4.0 * (1.0 - nu) * r2)
    return np.stack([along, -scale * normal, zero], 1)
