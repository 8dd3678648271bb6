"""Small labelled sets for the tests of training: random structures, labels from a Morse potential."""

import numpy as np
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.data.dataset import Dataset, Labelled
from rikiba.potentials.morse import Morse

PAIRS = ("Si-Si", "O-Si", "O-O")
REFERENCE = Morse(
    depth_eV=dict(zip(PAIRS, (0.8, 1.2, 0.5), strict=True)),
    alpha_per_A=dict(zip(PAIRS, (1.4, 1.5, 1.6), strict=True)),
    distance=dict(zip(PAIRS, (2.3, 1.7, 1.9), strict=True)),
    cutoff=4.5,
)


def crystal(rng: np.random.Generator) -> Atoms:
    """Eight atoms on a rattled, strained simple cubic lattice of random composition."""
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3) / 2.0
    cell = 4.6 * np.eye(3) + 0.1 * rng.normal(size=(3, 3))
    atoms = Atoms(rng.choice(["Si", "O"], 8), scaled_positions=grid, cell=cell, pbc=True)
    atoms.positions += 0.12 * rng.normal(size=(8, 3))
    return atoms


def molecule(rng: np.random.Generator) -> Atoms:
    """Four to six atoms in a rattled chain, without a cell."""
    n = int(rng.integers(4, 7))
    positions = np.arange(n)[:, None] * np.array([1.9, 0.4, 0.1]) + 0.15 * rng.normal(size=(n, 3))
    return Atoms(rng.choice(["Si", "O"], n), positions=positions)


def dataset(n: int, seed: int = 0, *, molecules: bool = True, stress: bool = True) -> Dataset:
    """n frames, every second one a molecule (which has no stress)."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        is_molecule = molecules and k % 2 == 1
        system = System.from_ase(molecule(rng) if is_molecule else crystal(rng))
        results = evaluate(
            REFERENCE, system, find_pairs(system, REFERENCE.cutoff), stress=stress and not is_molecule
        )
        frames.append(
            Labelled(
                system=system,
                results=results.replace(energies=None),
                level_of_theory="Morse",
                source=f"made:{k}",
            )
        )
    return Dataset(frames)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Equal names, precision and bits."""
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)
