"""Hundreds of GPa: the pressure of a hot crystal is the static one plus that of its phonons."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.system import System
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.npt import NPT
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.sum import Sum
from rikiba.potentials.zbl import Zbl

KELVIN = 600.0


def calculator() -> PotentialCalculator:
    """Argon with the screened repulsion of its nuclei at short range."""
    attraction = LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=6.0)
    return PotentialCalculator(Sum(terms=[attraction, Zbl(elements=["Ar"], cutoff=2.6, switch_from=1.5)]))


def crystal(a: float) -> Atoms:
    return bulk("Ar", "fcc", a, cubic=True).repeat(2)


def static_pressure(a: float) -> float:
    """GPa."""
    stress = calculator()(System.from_ase(crystal(a)), stress=True).need("stress")[0]
    return -float(torch.diagonal(stress).mean()) / units.gigapascal


def log_frequencies(a: float) -> float:
    """Σ ln ω of the cell's vibrations but for its translations."""
    atoms, h = crystal(a), 1e-4
    n = 3 * len(atoms)
    frames = []
    for k in range(n):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.reshape(-1)[k] += sign * h
            frames.append(moved)
    forces = calculator()(System.from_ase(frames)).need("forces").numpy().reshape(n, 2, n)
    hessian = (forces[:, 1] - forces[:, 0]) / (2 * h)
    values = np.linalg.eigvalsh(0.5 * (hessian + hessian.T))
    assert values[3] > 1e-2 and abs(values[:3]).max() < 1e-3
    return float(0.5 * np.log(values[3:]).sum())


def thermal_pressure(a: float) -> float:
    """−k_B T Σ d ln ω/dV of classical vibrations, and k_B T/V of the free centre of mass, GPa."""
    da = 0.005
    volumes = [(2 * (a + s * da)) ** 3 for s in (-1, 1)]
    slope = (log_frequencies(a + da) - log_frequencies(a - da)) / (volumes[1] - volumes[0])
    volume = (2 * a) ** 3
    return units.boltzmann * KELVIN * (1.0 / volume - slope) / units.gigapascal


@pytest.mark.parametrize("a", [3.45, pytest.param(3.75, marks=pytest.mark.slow)])
def test_pressure_is_static_plus_thermal(a: float) -> None:
    cold, warm = static_pressure(a), thermal_pressure(a)
    assert cold > 100.0
    start = maxwell_boltzmann(System.from_ase([crystal(a)] * 8), KELVIN, seed=1, remove_momentum=False)
    kept = InMemory(interval=5, positions=False, stress=True)
    bath = Langevin(temperature_K=KELVIN, friction_per_ps=10.0)
    Simulation(calculator(), bath, start, timestep_fs=1.0, reporters=[kept]).run(900)
    found = -torch.diagonal(kept.stress_GPa[40:], dim1=2, dim2=3).mean((0, 2)).numpy()
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert error < 0.03 * warm
    assert abs(found.mean() - cold - warm) < 4 * error + 0.02 * warm
    assert abs(found.mean() - cold) > 10 * error  # without the thermal pressure it is told apart


def test_constant_pressure_finds_the_volume() -> None:
    """The barostat at the pressure of the line above comes back to its lattice constant."""
    a = 3.6
    target = static_pressure(a) + thermal_pressure(a)
    start = maxwell_boltzmann(System.from_ase([crystal(3.7)] * 4), KELVIN, seed=1)
    kept = InMemory(interval=5, positions=False, cells=True)
    ensemble = NPT(
        temperature_K=KELVIN,
        pressure_GPa=target,
        compressibility_per_GPa=0.002,
        pressure_time_constant_fs=50.0,
    )
    Simulation(calculator(), ensemble, start, timestep_fs=1.0, reporters=[kept]).run(900)
    lengths = kept.cells[60:, :, 0, 0].mean(0).numpy() / 2
    assert lengths.mean() == pytest.approx(a, abs=0.004)
