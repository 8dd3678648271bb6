"""Runs whose statistics are known exactly, and how far a sample is from them."""

from typing import Any

import numpy as np
import torch
from ase import Atoms

from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md.operators import Operator
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann

KELVIN = 1 / units.boltzmann
"""Temperature at which k_B T is 1 eV."""
FS = 1 / units.femtosecond
"""Internal units of time in fs."""


class IdealGas:
    """No energy, no force, no stress."""

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        zero = torch.zeros(system.n_systems, dtype=torch.float64)
        found = Results(energy=zero, forces=torch.zeros_like(system.positions))
        return found.replace(stress=torch.zeros_like(system.cell)) if stress else found


class Springs:
    """Each atom tied to the origin by a spring of its own: E = ½ Σ k r²."""

    def __init__(self, k: torch.Tensor) -> None:
        self.k = k[:, None]

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        force = -self.k * system.positions
        return Results(energy=system.total(-0.5 * (force * system.positions).sum(1)), forces=force)


def gas(n_atoms: int, n_systems: int, edge: float = 10.0, seed: int = 1) -> State:
    """Boxes of hydrogen with mass 1 at k_B T = 1 eV, at rest as a whole."""
    frames = [Atoms("H" * n_atoms, np.zeros((n_atoms, 3)), cell=[edge] * 3, pbc=True)] * n_systems
    masses = torch.ones(n_atoms * n_systems)
    return maxwell_boltzmann(System.from_ase(frames), KELVIN, seed=seed, masses=masses)


def watched(
    calculator: Any, integrator: Any, state: State, h: float, steps: int, interval: int, **more: Any
) -> tuple[InMemory, Simulation]:
    """What a run of timestep h (internal units) leaves."""
    kept = InMemory(interval=interval, **more)
    # no limits: the cell of a gas may take any shape
    run = Simulation(calculator, integrator, state, timestep_fs=h * FS, reporters=[kept], limits=None)
    return kept, run.run(steps)


def deviation(samples: np.ndarray, mean: float, variance: float) -> tuple[float, float]:
    """How many standard errors mean and variance of samples [times, independent systems] are off."""
    own = samples.mean(0)
    spread = ((samples - mean) ** 2).mean(0)
    n = samples.shape[1] ** 0.5
    return (
        float((own.mean() - mean) / (own.std(ddof=1) / n)),
        float((spread.mean() - variance) / (spread.std(ddof=1) / n)),
    )


def operators(splitting: Any) -> list[Operator]:
    return list(splitting.operators.values())
