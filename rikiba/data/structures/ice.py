"""Hexagonal ice with disordered protons."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from ase import Atoms

from .base import made
from .water import Model, oriented_water

OXYGEN_DISTANCE = 2.76
"""Å between neighbouring oxygens of ice Ih near its melting point."""


@final
@dataclass(frozen=True, kw_only=True)
class Ice:
    """Ice Ih in an orthorhombic cell of 8 molecules: Bernal–Fowler rules kept, protons random, no dipole.

    Every molecule donates two hydrogen bonds and accepts two (Bernal & Fowler, doi:10.1063/1.1749327). The
    orientation of the bonds is randomised by reversing closed directed loops, which keeps the rules (Rahman
    & Stillinger, J. Chem. Phys. 57, 4009 (1972)); then only loops that shorten the dipole are.

    Args:
        repeat: repetitions of the cell of about 4.5 × 7.8 × 7.4 Å.
        oxygen_distance: between hydrogen-bonded oxygens, Å.
        model: geometry of the molecule.
        seed: of the protons.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.1749327",)

    repeat: tuple[int, int, int] = (3, 2, 2)
    oxygen_distance: float = OXYGEN_DISTANCE
    model: Model = "gas"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.repeat) < 1:
            raise ValueError(f"repeat is at least 1 along each axis; given {self.repeat}.")
        if not self.oxygen_distance > 0:
            raise ValueError(f"oxygen_distance must be positive; given {self.oxygen_distance} Å.")

    def build(self) -> Atoms:
        """O, H, H of each molecule; `info['dipole_per_molecule']` in units of one molecule's dipole."""
        oxygen = oxygens(self.oxygen_distance) * self.repeat
        edges, vectors = bonds(oxygen, self.oxygen_distance)
        rng = np.random.default_rng(self.seed)
        forward = disordered(edges, vectors, rng)
        donated: list[list[np.ndarray]] = [[] for _ in range(len(oxygen))]
        for (a, b), v, along in zip(edges.tolist(), vectors, forward, strict=True):
            donated[a if along else b].append(v if along else -v)
        parts = [
            oriented_water(self.model, p, d[0], d[1]) for p, d in zip(oxygen.positions, donated, strict=True)
        ]
        atoms = Atoms("OHH" * len(oxygen), positions=np.concatenate(parts), cell=oxygen.cell, pbc=True)
        arms = np.array([p[1] + p[2] - 2.0 * p[0] for p in parts])
        dipole = float(np.linalg.norm(arms.sum(0)) / np.linalg.norm(arms[0]) / len(parts))
        return made(self, atoms, n_molecules=len(parts), dipole_per_molecule=dipole)


def oxygens(distance: float) -> Atoms:
    """The oxygens of ice Ih, 8 in an orthorhombic cell (a, √3 a, c) with ideal tetrahedral angles."""
    a, c = distance * np.sqrt(8.0 / 3.0), distance * 8.0 / 3.0
    x, y = a, np.sqrt(3.0) * a
    heights = (1 / 16, 7 / 16, 9 / 16, 15 / 16)
    hexagonal = [
        (0, 1 / 3, heights[0]), (0, 1 / 3, heights[1]), (0, 2 / 3, heights[2]), (0, 2 / 3, heights[3]),
    ]  # fmt: skip
    # layer pairs joined along z share x, y; the pairs of the two halves are linked by the buckled sheets
    sites = [s for s in hexagonal] + [(0.5, (s[1] + 0.5) % 1.0, s[2]) for s in hexagonal]
    return Atoms("O8", scaled_positions=sites, cell=np.diag([x, y, c]), pbc=True)


def bonds(oxygen: Atoms, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of neighbours once, as (a, b) and the vector from a to b. Each oxygen has four."""
    from rikiba.core.pairs import find_pairs
    from rikiba.core.system import System

    system = System.from_ase(oxygen)
    pairs = find_pairs(system, 1.2 * distance)
    i, j, shift = pairs.i.numpy(), pairs.j.numpy(), pairs.shift.numpy()
    key = np.concatenate([(j - i)[:, None], shift], 1)
    positive = np.array([tuple(k) > (0, 0, 0, 0) for k in key])
    assert (np.bincount(i, minlength=len(oxygen)) == 4).all(), "each oxygen has four neighbours"
    return np.stack([i, j], 1)[positive], pairs.vectors(system).numpy()[positive]


def disordered(edges: np.ndarray, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each bond whether its proton is donated forwards, two donated and two accepted everywhere.

    Raises ValueError where no orientation without a dipole is found.
    """
    n = int(edges.max()) + 1
    touching: list[list[int]] = [[] for _ in range(n)]
    for e, (a, b) in enumerate(edges.tolist()):
        touching[a].append(e)
        touching[b].append(e)
    forward = eulerian(edges, touching)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for _ in range(10 * n):
        loop = directed_loop(edges, touching, forward, rng)
        forward[loop] = ~forward[loop]
    total = (np.where(forward, 1.0, -1.0)[:, None] * unit).sum(0)
    for _ in range(2000 * n):
        if np.linalg.norm(total) < 1e-6:
            return forward
        loop = directed_loop(edges, touching, forward, rng)
        change = -2.0 * (np.where(forward[loop], 1.0, -1.0)[:, None] * unit[loop]).sum(0)
        if np.linalg.norm(total + change) <= np.linalg.norm(total) + 1e-9:
            forward[loop] = ~forward[loop]
            total = total + change
    raise ValueError(
        f"No arrangement of protons without a dipole was found for {n} molecules; try another seed or repeat."
    )


def eulerian(edges: np.ndarray, touching: list[list[int]]) -> np.ndarray:
    """An orientation with as many bonds out as in everywhere: closed walks that use every bond once."""
    forward = np.zeros(len(edges), dtype=bool)
    unused = [list(t) for t in touching]
    done = np.zeros(len(edges), dtype=bool)
    for start in range(len(touching)):
        here = start
        while True:
            while unused[here] and done[unused[here][-1]]:
                unused[here].pop()
            if not unused[here]:
                break
            e = unused[here].pop()
            done[e] = True
            forward[e] = edges[e, 0] == here
            here = int(edges[e, 1] if forward[e] else edges[e, 0])
    return forward


def directed_loop(
    edges: np.ndarray, touching: list[list[int]], forward: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Bonds of a random closed walk along the donated direction that meets itself only at its end."""
    here = int(rng.integers(len(touching)))
    seen, walk = {here: 0}, []
    while True:
        out = [e for e in touching[here] if (edges[e, 0] == here) == forward[e]]
        e = out[int(rng.integers(len(out)))]
        walk.append(e)
        here = int(edges[e, 1] if forward[e] else edges[e, 0])
        if here in seen:
            return np.array(walk[seen[here] :])
        seen[here] = len(walk)
