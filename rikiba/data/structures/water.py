"""Water: rigid molecules of the usual models, as a liquid, a ring or a drop."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
from ase import Atoms

from .base import cubic_box, made

Model = Literal["gas", "tip3p", "spce"]

GEOMETRY: dict[str, tuple[float, float]] = {
    "gas": (0.9572, 104.52),
    "tip3p": (0.9572, 104.52),
    "spce": (1.0, 109.47122063449069),
}
"""O–H distance (Å) and H–O–H angle (degrees): experiment in the gas (Benedict, Gailar & Plyler,
doi:10.1063/1.1742731), TIP3P (doi:10.1063/1.445869), SPC/E (doi:10.1021/j100308a038)."""

RING_OXYGEN_DISTANCE = 2.8
"""Å between hydrogen-bonded oxygens of a ring."""

RING_TILT = {3: 0.45, 4: 0.2}
"""Small rings bend their hydrogen bonds outwards: what is added to a donor's direction, in bond lengths."""


@final
@dataclass(frozen=True, kw_only=True)
class Water:
    """Water molecules as a periodic liquid, a hydrogen-bonded ring (2 to 6) or a drop in vacuum.

    Atoms come as O, H, H of each molecule.

    Args:
        number: of molecules.
        shape: box (periodic), ring (each molecule donates to the next; two make the linear dimer) or drop.
        density_g_cm3: of the box, and within the drop.
        model: geometry of the molecule.
        min_distance: least distance between atoms of different molecules in a box or drop, Å.
        seed: of places and orientations.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1002/jcc.21224",)

    number: int
    shape: Literal["box", "ring", "drop"] = "box"
    density_g_cm3: float = 0.997
    model: Model = "gas"
    min_distance: float = 1.7
    seed: int = 0

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"number is at least 1; given {self.number}.")
        if self.shape == "ring" and not 2 <= self.number <= 6:
            raise ValueError(f"A ring has 2 to 6 molecules; given {self.number}. Use shape = 'drop'.")

    def build(self) -> Atoms:
        """The structure. Raises PackingError where the molecules do not fit."""
        from rikiba.data.packing import pack

        one = water_molecule(self.model)
        if self.shape == "ring":
            return made(self, ring(self.number, self.model), n_molecules=self.number)
        edge = cubic_box(float(one.get_masses().sum()) * self.number, self.density_g_cm3)
        bodies = [one] * self.number
        if self.shape == "box":
            atoms = pack(bodies, edge * np.eye(3), min_distance=self.min_distance, seed=self.seed)
            return made(self, atoms, n_molecules=self.number)
        radius = edge * (3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
        atoms = pack(
            bodies,
            2.0 * radius * np.eye(3),
            pbc=False,
            min_distance=self.min_distance,
            region=lambda rng: _in_sphere(rng, radius),
            confine=radius,
            seed=self.seed,
        )
        atoms.cell = None
        return made(self, atoms, n_molecules=self.number, radius_A=radius)


def water_molecule(model: Model) -> Atoms:
    """O, H, H with the oxygen at the origin and the bisector along z."""
    length, angle = GEOMETRY[model]
    half = np.radians(angle) / 2.0
    sites = [(0, 0, 0), (np.sin(half), 0, np.cos(half)), (-np.sin(half), 0, np.cos(half))]
    return Atoms("OHH", positions=length * np.array(sites))


def oriented_water(model: Model, oxygen: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """O, H, H with the hydrogens in the plane of two directions, symmetric about their bisector, Å."""
    length, angle = GEOMETRY[model]
    u, v = first / np.linalg.norm(first), second / np.linalg.norm(second)
    bisector = (u + v) / np.linalg.norm(u + v)
    across = (u - v) / np.linalg.norm(u - v)
    half = np.radians(angle) / 2.0
    arms = [np.cos(half) * bisector + sign * np.sin(half) * across for sign in (1.0, -1.0)]
    return np.array([oxygen, oxygen + length * arms[0], oxygen + length * arms[1]])


def ring(n: int, model: Model) -> Atoms:
    """n molecules on a circle, one hydrogen of each on the way to the next oxygen, the other up or down."""
    length, angle = GEOMETRY[model]
    if n == 2:
        donor = oriented_donor(model, np.zeros(3), np.array([1.0, 0, 0]), np.array([0, 0, 1.0]))
        half = np.radians(angle) / 2.0
        acceptor_arms = [
            np.array([np.cos(half) * 0.6, s * np.sin(half), -np.cos(half) * 0.8]) for s in (1, -1)
        ]
        oxygen = np.array([RING_OXYGEN_DISTANCE + 0.1, 0, 0])
        positions = np.concatenate([donor, [oxygen], [oxygen + length * a for a in acceptor_arms]])
        return Atoms("OHHOHH", positions=positions)
    radius = RING_OXYGEN_DISTANCE / (2.0 * np.sin(np.pi / n))
    phase = 2.0 * np.pi * np.arange(n) / n
    oxygen = radius * np.stack([np.cos(phase), np.sin(phase), 0 * phase], 1)
    parts = []
    for k in range(n):
        away = np.array([0, 0, 1.0 if k % 2 == 0 else -1.0]) + 0.5 * oxygen[k] / radius
        bond = oxygen[(k + 1) % n] - oxygen[k]
        outwards = RING_TILT.get(n, 0.0) * np.linalg.norm(bond) * oxygen[k] / radius
        parts.append(oriented_donor(model, oxygen[k], bond + outwards, away))
    return Atoms("OHH" * n, positions=np.concatenate(parts))


def oriented_donor(model: Model, oxygen: np.ndarray, bond: np.ndarray, other: np.ndarray) -> np.ndarray:
    """O, H, H with one hydrogen along `bond` and the second on the side of `other`, Å."""
    length, angle = GEOMETRY[model]
    u = bond / np.linalg.norm(bond)
    side = other - (other @ u) * u
    side /= np.linalg.norm(side)
    t = np.radians(angle)
    return np.array([oxygen, oxygen + length * u, oxygen + length * (np.cos(t) * u + np.sin(t) * side)])


def _in_sphere(rng: np.random.Generator, radius: float) -> np.ndarray:
    direction = rng.normal(size=3)
    return radius * rng.random() ** (1.0 / 3.0) * direction / np.linalg.norm(direction)
