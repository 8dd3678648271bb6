"""Rigid molecules in every ensemble: equipartition, degrees of freedom, volumes, pressure."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from constraint_cases import box, light_water
from ensemble_checks import FS, KELVIN, IdealGas, Springs, deviation, watched
from md_toys import LennardJones

from rikiba.core import units
from rikiba.core.system import System
from rikiba.md import cell as cells
from rikiba.md.barostats import martyna_tobias_klein, stochastic_cell_rescaling
from rikiba.md.barostats.stochastic_cell_rescaling import StochasticCellRescaling
from rikiba.md.constraints.rigid_water import RigidWater
from rikiba.md.ensembles.andersen import Andersen
from rikiba.md.ensembles.csvr import Csvr
from rikiba.md.ensembles.gjf import Gjf
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nose_hoover import NoseHoover
from rikiba.md.operators import Drift, Kick
from rikiba.md.splitting import Splitting
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.md.thermostats.langevin import Langevin as Noise

PER_PS = units.picosecond
BATHS: dict[str, Any] = {
    "langevin": Langevin(temperature_K=KELVIN, friction_per_ps=1.0 * PER_PS),
    "gjf": Gjf(temperature_K=KELVIN, friction_per_ps=1.0 * PER_PS),
    "andersen": Andersen(temperature_K=KELVIN, rate_per_ps=1.0 * PER_PS),
    "csvr": Csvr(temperature_K=KELVIN, time_constant_fs=1.0 * FS),
    "nose_hoover": NoseHoover(temperature_K=KELVIN, time_constant_fs=1.0 * FS),
}


def tied(copies: int) -> tuple[State, Springs]:
    """One rigid molecule each, its atoms tied to the origin by springs that couple turning and moving."""
    state = light_water(copies, remove_momentum=False)
    return state, Springs(torch.tensor([0.5, 0.8, 0.3]).double().repeat(copies))


def shares(bath: Any, steps: int = 400, copies: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Kinetic energy of the centre and of turning, [times, systems], from a start under friction."""
    state, springs = tied(copies)
    _, before = watched(springs, BATHS["langevin"], state, 0.15, 150, 150)
    state = state.replace(system=before.state.system, velocities=before.state.velocities)
    kept, _ = watched(springs, bath, state, 0.1, steps, 10, velocities=True)
    v = kept.velocities[6:].reshape(-1, copies, 3, 3)
    m = torch.tensor([4.0, 1.0, 1.0]).double()[:, None]
    centre = (m * v).sum(2) / 6.0
    whole = 0.5 * (m * v * v).sum((2, 3))
    moving = 3.0 * (centre * centre).sum(-1)
    return moving.numpy(), (whole - moving).numpy()


@pytest.mark.parametrize("name", BATHS)
def test_turning_and_moving_share_the_energy(name: str) -> None:
    """3 × k_B T/2 each, with the variance of three degrees of freedom each."""
    for samples in shares(BATHS[name]):
        mean, variance = deviation(samples, 1.5, 1.5)
        assert abs(mean) < 4.5 and abs(variance) < 4.5, (mean, variance, samples.mean())


def test_collisions_of_single_atoms_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Andersen's collisions must not do: atoms of one molecule drawn at different times run cold."""
    monkeypatch.setattr(State, "of_group", lambda state, rows: rows)
    for samples in shares(BATHS["andersen"]):
        assert deviation(samples, 1.5, 1.5)[0] < -5


def test_wrong_degrees_of_freedom_are_off_by_their_ratio() -> None:
    """A thermostat that takes 9 for 6 heats to 9/6 of the temperature, exactly."""
    state, springs = tied(128)
    wrong = state.replace(constraints=replace(state.constraints, taken=torch.zeros(128, dtype=torch.int64)))
    assert state.dof.unique().tolist() == [6] and wrong.dof.unique().tolist() == [9]
    kept, _ = watched(springs, BATHS["csvr"], wrong, 0.1, 300, 10)
    energy = kept.kinetic_energy[6:].numpy()
    mean, _ = deviation(energy, 4.5, 4.5)
    off, _ = deviation(energy, 3.0, 3.0)
    assert abs(mean) < 4.5 and off > 20


def test_initial_velocities_are_those_of_the_temperature() -> None:
    """K of 6n degrees of freedom less the removed 3 is χ²-distributed, in translation and rotation alike."""
    state = light_water(300, n=2)
    assert state.dof.unique().tolist() == [18 - 6 - 3]
    energy = state.kinetic_energy.numpy()[None]
    assert abs(energy.mean() - 4.5) < 4.5 * (4.5 / 300) ** 0.5
    assert abs(energy.var() / 4.5 - 1) < 0.4
    assert float(state.momentum.abs().max()) < 1e-12
    plain = light_water(3, n=2, exact=True)
    assert plain.temperature_K.tolist() == pytest.approx([KELVIN] * 3, rel=1e-12)
    # without the projection it would be 15/2
    assert abs(energy.mean() - 7.5) > 15 * (4.5 / 300) ** 0.5


N, PRESSURE = 3, 0.01


def volumes(integrator: Any, steps: int, h: float, copies: int = 96) -> np.ndarray:
    state = light_water(copies, n=N, edge=(N / PRESSURE) ** (1 / 3))
    kept, _ = watched(IdealGas(), integrator, state, h, steps, 10, cells=True)
    return np.abs(np.linalg.det(kept.cells.numpy()))[steps // 40 :] * PRESSURE


def noisy_rescaling() -> Splitting:
    """g-BAOAB with stochastic cell rescaling: total momentum is free."""
    rescaling = StochasticCellRescaling(
        temperature_K=KELVIN,
        pressure_GPa=PRESSURE / units.gigapascal,
        time_constant_fs=20.0 * FS,
        compressibility_per_GPa=units.gigapascal / PRESSURE,
    )
    noise = Noise(temperature_K=KELVIN, friction_per_ps=1.0 * PER_PS)
    return Splitting("BAOABC", {"B": Kick(), "A": Drift(), "O": noise, "C": rescaling})


def extended(cell: Any = "isotropic") -> Splitting:
    """The extended system, with friction that mixes what a gas without collisions never would."""
    whole = martyna_tobias_klein.MartynaTobiasKlein(
        temperature_K=KELVIN,
        pressure_GPa=PRESSURE / units.gigapascal,
        cell=cell,
        time_constant_fs=1.0 * FS,
        pressure_time_constant_fs=4.0 * FS,
    )
    noise = Noise(temperature_K=KELVIN, friction_per_ps=0.2 * PER_PS)
    return Splitting("MO", {"M": whole, "O": noise})


CASES = {
    "rescaling": (noisy_rescaling, stochastic_cell_rescaling),
    "isotropic": (extended, martyna_tobias_klein),
    "full": (lambda: extended("full"), martyna_tobias_klein),
}


@pytest.mark.parametrize("case", CASES)
def test_an_ideal_gas_of_rigid_molecules_has_its_volumes(case: str) -> None:
    """⟨V⟩ = (N_molecules + 1) k_B T/P, Var V = (N_molecules + 1) (k_B T/P)²; noise frees the momentum."""
    found = volumes(CASES[case][0](), 900, 0.15)
    mean, variance = deviation(found, N + 1, N + 1)
    assert abs(mean) < 4.5 and abs(variance) < 4.5, (mean, variance, found.mean(), found.var())


@pytest.mark.parametrize("case", ["rescaling", "isotropic"])
def test_a_missing_constraint_virial_is_caught(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All atoms' kinetic energy without the virial of what holds them: the gas blows up."""
    make, module = CASES[case]
    true = cells.internal_pressure
    monkeypatch.setattr(module, "internal_pressure", lambda s, r: true(s.replace(constraints=None), r))
    mean, _ = deviation(volumes(make(), 400, 0.15, copies=48), N + 1, N + 1)
    assert mean > 10


def test_pressure_holds_the_virial_of_the_constraints() -> None:
    """(2K + Σ r·f + Σ r·g)/3V with the forces g that hold the molecules, seen in a small step."""
    calculator = LennardJones(epsilon=0.02, sigma=1.8, cutoff=3.0)
    state = maxwell_boltzmann(System.from_ase(box()), 400.0, seed=2, constraints=[RigidWater()])
    results = calculator(state.system, forces=True, stress=True)
    h = torch.tensor([1e-3]).double()
    pull, held = results.need("forces") * state.inverse_masses[:, None], torch.zeros_like(state.velocities)
    for step in (h, -h):
        free = state.moved(state.system.positions + step * state.velocities + 0.5 * h * h * pull)
        back = free.pulled_back(state, step).system.positions - free.system.positions
        held = held + state.masses[:, None] * back / (h * h)
    virial = float((state.system.positions * held).sum())
    inside = torch.diagonal(cells.internal_pressure(state, results)[0]).sum()
    strain = torch.diagonal(results.need("stress")[0]).sum() * state.system.volume[0]
    by_atoms = 2.0 * float(state.kinetic_energy) - float(strain) + virial
    assert float(inside * state.system.volume[0]) == pytest.approx(by_atoms, rel=1e-4)
    assert abs(virial) > 0.05 * abs(by_atoms)
