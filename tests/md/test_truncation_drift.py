"""A fluid at constant energy tells how a potential ends: a cut one jumps, a switched one does not."""

import numpy as np
import pytest
import torch
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.potentials.lennard_jones import LennardJones

N_ATOMS = 108
TIMESTEP_FS = 2.0


def argon(truncation: str) -> PotentialCalculator:
    """Cut well inside the second shell, where the pair energy is still an eighth of the well."""
    return PotentialCalculator(
        LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=6.0, truncation=truncation)  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def fluid() -> State:
    """Argon above its critical temperature, molten for a picosecond and a half."""
    crystal = bulk("Ar", "fcc", a=5.9, cubic=True).repeat(3)
    assert len(crystal) == N_ATOMS
    state = maxwell_boltzmann(System.from_ase(crystal), 200.0, seed=4)
    bath = Langevin(temperature_K=200.0, friction_per_ps=5.0)
    return Simulation(argon("smooth"), bath, state, timestep_fs=5.0).run(300).state


def total_energy(fluid: State, truncation: str) -> np.ndarray:
    """Total energy of 1.2 ps at constant energy, meV/atom from its start."""
    keep = InMemory(positions=False)
    start = State.of(fluid.system, fluid.velocities)
    Simulation(argon(truncation), NVE(), start, timestep_fs=TIMESTEP_FS, reporters=[keep]).run(600)
    energy = keep.conserved[:, 0].numpy()
    return 1000.0 * (energy - energy[0]) / N_ATOMS


def test_a_cut_potential_does_not_conserve_energy_and_a_smooth_one_does(fluid: State) -> None:
    cut, smooth = total_energy(fluid, "cut"), total_energy(fluid, "smooth")
    jump = {"cut": np.abs(np.diff(cut)).max(), "smooth": np.abs(np.diff(smooth)).max()}
    away = {"cut": cut.std(), "smooth": smooth.std()}
    # one pair crossing the cutoff changes the energy of the cut fluid by v(6 Å) = 1.3 meV at a stroke
    v = 4.0 * 10.4 * abs((3.4 / 6.0) ** 12 - (3.4 / 6.0) ** 6)
    assert jump["cut"] > 0.9 * v / N_ATOMS
    assert jump["smooth"] < 0.02 * jump["cut"], jump
    assert away["smooth"] < 0.05 * away["cut"], away
    assert torch.isfinite(fluid.velocities).all()
