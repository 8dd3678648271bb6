"""The structures on which rikiba and its peers are timed, each as a few frames that differ slightly."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

ASPIRIN = (
    ("C", 2.19, -0.56, 0.37),
    ("C", 1.02, 1.71, -0.71),
    ("C", 2.97, 0.55, 0.10),
    ("C", 2.38, 1.68, -0.45),
    ("C", -3.38, 0.25, -0.39),
    ("C", 0.83, -0.56, 0.10),
    ("C", 0.24, 0.60, -0.43),
    ("O", -0.96, -2.10, -0.28),
    ("O", -1.74, 0.15, 1.37),
    ("O", 0.51, -2.52, 1.34),
    ("C", 0.01, -1.77, 0.35),
    ("C", -2.01, 0.33, 0.22),
    ("O", -1.10, 0.66, -0.73),
    ("H", -0.06, -3.30, 1.48),
    ("H", 2.64, -1.45, 0.79),
    ("H", 0.55, 2.59, -1.12),
    ("H", 4.03, 0.53, 0.30),
    ("H", 2.99, 2.55, -0.67),
    ("H", -3.44, -0.69, -0.94),
    ("H", -4.14, 0.27, 0.39),
    ("H", -3.53, 1.07, -1.09),
)
"""Relaxed with GFN2-xTB, Å."""

FRAMES = 8
RATTLE, BETWEEN_FRAMES = 0.05, 0.02
"""Standard deviations of the displacements from the ideal structure and between frames, Å."""


@dataclass(frozen=True, slots=True)
class Structure:
    """Atoms at several moments; distances in Å."""

    numbers: np.ndarray
    frames: np.ndarray
    """[frames, atoms, 3]"""
    cell: np.ndarray
    periodic: bool
    velocities: np.ndarray
    """At 300 K, sqrt(eV/u) as in ASE."""

    @property
    def elements(self) -> tuple[int, ...]:
        return tuple(sorted({int(z) for z in self.numbers}))

    def atoms(self, frame: int = 0) -> Atoms:
        return Atoms(self.numbers, self.frames[frame], cell=self.cell, pbc=self.periodic)

    def write(self, path: Path) -> None:
        np.savez(path, **{name: getattr(self, name) for name in self.__slots__})


def water(repeat: int) -> Atoms:
    """repeat³ molecules at 1.00 g/cm³ on a lattice, each turned so that it keeps off those placed before."""
    spacing, single = 3.1043, molecule("H2O")
    shape = single.positions - single.positions.mean(0)
    turns = Rotation.random(200, random_state=np.random.RandomState(0)).as_matrix()
    side, placed = repeat * spacing, np.zeros((0, 3))
    for corner in np.ndindex(repeat, repeat, repeat):
        trials = np.array(corner) * spacing + shape @ turns
        if len(placed):
            gaps = trials[:, :, None] - placed
            gaps -= side * np.round(gaps / side)
            best = np.argmax((gaps**2).sum(-1).min((1, 2)))
        else:
            best = np.intp(0)
        placed = np.concatenate([placed, trials[best]])
    return Atoms(list(single.symbols) * repeat**3, placed, cell=[side] * 3, pbc=True)


def ideal(name: str) -> Atoms:
    """One structure of `NAMES` before rattling; raises ValueError for other names."""
    kind, _, size = name.partition("-")
    if kind == "Si" and size in ("64", "216", "1000"):
        return bulk("Si", "diamond", a=5.431, cubic=True).repeat(round((int(size) / 8) ** (1 / 3)))
    if kind == "Cu" and size in ("256", "864"):
        return bulk("Cu", "fcc", a=3.615, cubic=True).repeat(round((int(size) / 4) ** (1 / 3)))
    if kind == "water" and size in ("192", "648"):
        return water(round((int(size) / 3) ** (1 / 3)))
    if name == "ethanol":
        return molecule("CH3CH2OH")
    if name == "aspirin":
        return Atoms([row[0] for row in ASPIRIN], [row[1:] for row in ASPIRIN])
    raise ValueError(f"There is no structure '{name}'; there are {', '.join(NAMES)}.")


NAMES = ("ethanol", "aspirin", "Si-64", "Si-216", "Si-1000", "Cu-256", "Cu-864", "water-192", "water-648")
GROUPS: tuple[tuple[str, ...], ...] = (
    ("ethanol", "aspirin"),
    ("Si-64", "Si-216", "Si-1000"),
    ("Cu-256", "Cu-864"),
    ("water-192", "water-648"),
)
"""Structures of the same elements, the smallest first: they share one model."""


def structure(name: str) -> Structure:
    """Frames of one structure; the same numbers at every call."""
    atoms, generator = ideal(name), np.random.default_rng(len(name))
    shape = (len(atoms), 3)
    base = atoms.positions + RATTLE * generator.standard_normal(shape)
    frames = base + BETWEEN_FRAMES * generator.standard_normal((FRAMES, *shape))
    speed = np.sqrt(units.kB * 300.0 / atoms.get_masses())[:, None]
    velocities = speed * generator.standard_normal(shape)
    return Structure(
        atoms.numbers.astype(np.int64), frames, atoms.cell.array, bool(atoms.pbc.all()), velocities
    )
