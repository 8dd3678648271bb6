"""Random labelled frames for the tests of this room."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.dataset import Labelled


def random_atoms(seed: int, n: int = 5, periodic: bool = True) -> Atoms:
    """Atoms in a triclinic box (periodic) or in space."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(5, 8, 3)) + rng.normal(0, 0.5, (3, 3)) if periodic else np.zeros((3, 3))
    return Atoms(rng.choice([1, 6, 8], n), rng.uniform(0, 6, (n, 3)), cell=cell, pbc=periodic)


def random_frame(
    seed: int,
    n: int = 5,
    periodic: bool = True,
    level: str = "toy",
    group: str = "",
    info: dict | None = None,
) -> Labelled:
    """A frame whose labels are random numbers; stress where periodic."""
    rng = np.random.default_rng(seed + 1000)
    atoms = random_atoms(seed, n, periodic)
    atoms.info.update(info or {})
    stress = rng.normal(0, 0.01, (3, 3))
    results = Results(
        energy=torch.tensor([rng.normal() * n], dtype=torch.float64),
        forces=torch.from_numpy(rng.normal(size=(n, 3))),
        stress=torch.from_numpy(stress + stress.T)[None] if periodic else None,
    )
    return Labelled(
        system=System.from_ase(atoms),
        results=results,
        level_of_theory=level,
        group=group,
        source=f"frame {seed}",
    )


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., Labelled]:
    return random_frame
