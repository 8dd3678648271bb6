"""Many small boxes of Lennard-Jones fluid in one state, in reduced units: ε = 1 eV, σ = 1 Å, m = 1 u."""

from collections.abc import Sequence

import numpy as np
import torch
from ase.build import bulk
from ensemble_checks import FS, KELVIN

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.pair import Truncation

TIMESTEP = 0.006


def lennard_jones(
    cutoff: float = 2.0, truncation: Truncation = "smooth", skin: float = 0.6
) -> PotentialCalculator:
    potential = LennardJones(epsilon_eV={"Ar": 1.0}, sigma={"Ar": 1.0}, cutoff=cutoff, truncation=truncation)
    return PotentialCalculator(potential, skin=skin)


def boxes(densities: Sequence[float], temperatures: Sequence[float], repeat: int = 2, seed: int = 1) -> State:
    """fcc crystals of 4·repeat³ atoms each, in motion."""
    frames = [bulk("Ar", "fcc", a=(4.0 / d) ** (1 / 3), cubic=True).repeat(repeat) for d in densities]
    masses = torch.ones(sum(map(len, frames)), dtype=torch.float64)
    kelvin = [t * KELVIN for t in temperatures]
    return maxwell_boltzmann(System.from_ase(frames), kelvin, seed=seed, masses=masses)


def molten(state: State, temperatures: Sequence[float], steps: int, calculator: PotentialCalculator) -> State:
    """The state after friction and noise, at rest as a whole again."""
    bath = Langevin(temperature_K=tuple(t * KELVIN for t in temperatures), friction_per_ps=2.0 / (FS * 1e-3))
    end = Simulation(calculator, bath, state, timestep_fs=TIMESTEP * FS).run(steps).state
    momentum = end.momentum / end.system.counts[:, None]
    still = end.velocities - momentum[end.system.system_index]
    return State.of(end.system, still, masses=end.masses, seed=end.seeds.tolist())


def log_ratio_slope(low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Slope of ln P_high(x)/P_low(x) by maximum likelihood, with its jackknife error over replicas.

    Samples [times, replicas]; both ensembles must have the same numbers of each. Newton's method for the
    logistic likelihood of Shirts (doi:10.1021/ct300688p, eq 20 f.).
    """

    def fit(a: np.ndarray, b: np.ndarray) -> float:
        x = np.concatenate([a.ravel(), b.ravel()])
        label = np.repeat([0.0, 1.0], [a.size, b.size])
        centre, width = x.mean(), x.std()
        design = np.stack([np.ones_like(x), (x - centre) / width], 1)
        w = np.zeros(2)
        for _ in range(25):
            p = 1.0 / (1.0 + np.exp(-design @ w))
            w += np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design, design.T @ (label - p))
        return w[1] / width

    n = low.shape[1]
    left_out = [fit(np.delete(low, k, 1), np.delete(high, k, 1)) for k in range(n)]
    error = np.sqrt((n - 1) / n * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    return fit(low, high), float(error)
