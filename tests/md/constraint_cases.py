"""Rigid molecules whose motion and statistics are known."""

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ensemble_checks import KELVIN

from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md.constraints.rigid_water import RigidWater
from rikiba.md.state import State, maxwell_boltzmann

WATER = RigidWater(bond=1.0, angle_deg=109.47122)
WIDE = RigidWater(bond=1.9, angle_deg=109.47122, reach=2.0)
ANGLE = np.radians(109.47122) / 2
SHAPE = np.array([[0, 0, 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [-np.sin(ANGLE), np.cos(ANGLE), 0]])


class Gravity:
    """A constant force on every atom: E = g Σ m z."""

    def __init__(self, masses: torch.Tensor, g: float = 1.0) -> None:
        self.pull = g * masses

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        down = torch.zeros_like(system.positions)
        down[:, 2] = -self.pull
        return Results(energy=system.total(self.pull * system.positions[:, 2]), forces=down)


def turned(seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


def box(n: int = 8, edge: float = 6.2, seed: int = 0, shear: float = 0.0) -> Atoms:
    """Water molecules on a lattice, turned at random; some are cut by the boundary."""
    side = round(n ** (1 / 3))
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3) * edge / side
    places = np.concatenate([SHAPE @ turned(seed + k).T + site for k, site in enumerate(sites)])
    atoms = Atoms("OHH" * n, places, cell=edge * (np.eye(3) + shear * np.eye(3, k=1)), pbc=True)
    atoms.wrap()
    return atoms


def light_water(copies: int, n: int = 1, edge: float = 90.0, seed: int = 1, **more: Any) -> State:
    """Wide molecules of masses 4, 1, 1 in units in which k_B T is 1, at a temperature of 1, far apart
    (to be found) before the cell takes its edge."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(copies):
        q = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(n)]
        places = np.concatenate([1.9 * SHAPE @ t.T + [9.0 * k, 0, 0] for k, t in enumerate(q)])
        frames.append(Atoms("OHH" * n, places, cell=[90.0] * 3, pbc=True))
    masses = torch.tensor([4.0, 1.0, 1.0]).repeat(n * copies)
    state = maxwell_boltzmann(
        System.from_ase(frames), KELVIN, seed=seed, masses=masses, constraints=[WIDE], **more
    )
    assert state.constraints is not None and len(state.constraints.molecules) == n * copies
    return state.replace(system=state.system.replace(cell=state.system.cell * (edge / 90.0)))
