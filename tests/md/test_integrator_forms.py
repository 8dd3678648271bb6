"""Every form of Verlet's method and every Langevin word against exact orbits and exact covariances."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from md_toys import Harmonic, LennardJones, oscillators
from scipy.linalg import solve_discrete_lyapunov

from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nve import NVE
from rikiba.md.operators import Drift, Kick
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import Splitting
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.md.thermostats.langevin import Langevin as Thermostat

FS = 1 / units.femtosecond
FORMS = ("velocity_verlet", "position_verlet", "leapfrog", "stormer")
SAME_PATH = ("velocity_verlet", "leapfrog", "stormer")


class Sun:
    """E = −1/r about the origin, each atom (of mass 1) for itself."""

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        r = system.positions.norm(dim=1)
        return Results(energy=system.total(-1.0 / r), forces=-system.positions / r[:, None] ** 3)


def orbit(integrator: Any, h: float, n: int, interval: int = 1) -> InMemory:
    """n steps of an orbit with a = 1 and e = 0.5 from its perihelion; its period is 2π."""
    system = System.from_ase(Atoms("H", [[0.5, 0.0, 0.0]]))
    velocity = torch.tensor([[0.0, math.sqrt(3.0), 0.0]], dtype=torch.float64)
    state = State.of(system, velocity, masses=torch.ones(1), dof_removed=0)
    kept = InMemory(interval=interval, velocities=True)
    Simulation(Sun(), integrator, state, timestep_fs=h * FS, reporters=[kept]).run(n)
    return kept


@pytest.mark.parametrize("form", FORMS)
def test_kepler_orbit(form: str) -> None:
    """Angular momentum to rounding, energy bounded and without trend over 8 periods, error of order 2."""
    n = 250
    kept = orbit(NVE(integrator=form), 2 * math.pi / n, 8 * n)  # type: ignore[arg-type]
    turning = torch.linalg.cross(kept.positions, kept.velocities)[:, 0, 2]
    limit = 1e-9 if form == "stormer" else 1e-12
    assert (turning - turning[0]).abs().max() < limit
    energy = kept.conserved[:, 0]
    periods = energy[1:].reshape(8, n)
    assert (energy + 0.5).abs().max() < 0.01
    assert (periods.mean(1) - periods[0].mean()).abs().max() < 1e-4
    errors = []
    for steps in (250, 500, 1000):
        end = orbit(NVE(integrator=form), 2 * math.pi / steps, steps, steps)  # type: ignore[arg-type]
        errors.append(float((end.positions[-1, 0] - end.positions[0, 0]).norm()))
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(4.0, rel=0.1)


def test_euler_leaves_the_orbit() -> None:
    """Negative control: the kick of the old positions with the drift of the old velocities gains energy."""

    class Euler(Kick):
        def apply(self, state: State, memory: Any, dt: Any, step: Any) -> Any:
            pull = step.forces(state) * dt
            moved = state.moved(state.system.positions + state.velocities * dt)
            return moved.with_velocities(state.velocities + pull), memory

    kept = orbit(Splitting("E", {"E": Euler()}), 2 * math.pi / 250, 2000)
    assert float(kept.conserved[-1, 0]) > -0.45


def test_three_forms_are_one_trajectory() -> None:
    state = maxwell_boltzmann(System.from_ase(bulk("Ar", "fcc", 5.3, cubic=True).repeat(2)), 60.0, seed=1)
    ends = {}
    for form in FORMS:
        run = Simulation(LennardJones(), NVE(integrator=form), state, timestep_fs=4.0)  # type: ignore[arg-type]
        ends[form] = run.run(150).state
    for form in ("leapfrog", "stormer"):
        same = ends["velocity_verlet"]
        assert (ends[form].system.positions - same.system.positions).abs().max() < 1e-9, form
        assert (ends[form].velocities - same.velocities).abs().max() < 1e-9, form
    apart = ends["position_verlet"].system.positions - ends["velocity_verlet"].system.positions
    assert apart.abs().max() > 1e-5


@pytest.mark.parametrize("form", ["leapfrog", "stormer"])
def test_old_forms_reverse_and_know_each_timestep(form: Any) -> None:
    frames = [bulk("Ar", "fcc", 5.3, cubic=True).repeat((2, 2, 2))] * 2
    start = maxwell_boltzmann(System.from_ase(frames), 60.0, seed=1)
    there = Simulation(LennardJones(), NVE(integrator=form), start, timestep_fs=(2.0, 4.0)).run(100)
    turned = there.state.replace(velocities=-there.state.velocities)
    back = Simulation(LennardJones(), NVE(integrator=form), turned, timestep_fs=(2.0, 4.0)).run(100).state
    assert (there.state.system.positions - start.system.positions).abs().max() > 0.1
    assert (back.system.positions - start.system.positions).abs().max() < 1e-9
    assert there.evaluator.n_calls == 101


@pytest.mark.parametrize("form", ["leapfrog", "stormer"])
def test_old_forms_restart_bit_for_bit(form: Any, tmp_path: Any) -> None:
    start = maxwell_boltzmann(System.from_ase(bulk("Ar", "fcc", 5.3, cubic=True).repeat(2)), 60.0, seed=1)

    def build() -> Simulation:
        return Simulation(LennardJones(), NVE(integrator=form), start, timestep_fs=4.0)

    whole, first = build().run(40), build().run(17)
    file = first.save(tmp_path / "run.checkpoint")
    again = build().restore(file).run(23)
    assert torch.equal(again.state.system.positions, whole.state.system.positions)
    assert torch.equal(again.state.velocities, whole.state.velocities)
    # negative control: without its memory the run starts afresh, with other rounding
    fresh = Simulation(LennardJones(), NVE(integrator=form), first.state, timestep_fs=4.0).run(23)
    assert not torch.equal(fresh.state.system.positions, whole.state.system.positions)


def letter(name: str, h: float, gamma: float) -> np.ndarray:
    """The matrix by which a letter alone moves (q, p) of the oscillator k = m = 1 at T = 0."""
    operator = {"A": Drift(), "B": Kick(), "O": Thermostat(temperature_K=0.0, friction_per_ps=gamma)}[name]
    columns = []
    for q, p in ((1.0, 0.0), (0.0, 1.0)):
        system, sites = oscillators(offset=q)
        state = State.of(system, torch.full((1, 3), p).double(), masses=torch.ones(1), dof_removed=0)
        end = Simulation(Harmonic(sites), Splitting(name, {name: operator}), state, timestep_fs=h * FS).run(1)
        columns.append([float(end.state.system.positions[0, 0]), float(end.state.velocities[0, 0])])
    return np.array(columns).T


def stationary(word: str, h: float, gamma: float = units.picosecond) -> np.ndarray:
    """Exact covariance of (q, p) on-step under a word at k_B T = k = m = 1."""
    steps = {c: letter(c, h / word.count(c), gamma) for c in set(word)}
    whole, noise = np.eye(2), np.zeros((2, 2))
    for c in word:
        whole, noise = steps[c] @ whole, steps[c] @ noise @ steps[c].T
        if c == "O":
            noise[1, 1] += 1.0 - steps["O"][1, 1] ** 2
    return np.asarray(solve_discrete_lyapunov(whole, noise))


@pytest.mark.parametrize("h", [0.5, 1.0, 1.5])
def test_words_have_their_exact_covariances(h: float) -> None:
    """On-step ⟨q²⟩ and ⟨p²⟩ with s = 1 − h²/4 (Leimkuhler & Matthews, doi:10.1093/amrx/abs010)."""
    s = 1.0 - h * h / 4.0
    exact = {"BAOAB": (1.0, s), "OBABO": (1.0 / s, 1.0), "ABOBA": (1.0, 1.0 / s), "OABAO": (s, 1.0)}
    for word, (q2, p2) in exact.items():
        found = stationary(word, h)
        np.testing.assert_allclose(found, [[q2, 0.0], [0.0, p2]], atol=1e-11, err_msg=word)
    assert (
        abs(stationary("BAO", h)[0, 1]) > 0.05
    )  # a word that reads differently backwards correlates q and p


@pytest.mark.parametrize("order", ["OBABO", "ABOBA"])
def test_words_sample_what_they_should(order: str) -> None:
    h, n = 1.0, 1500
    system, sites = oscillators(n)
    kelvin = 1 / units.boltzmann
    state = maxwell_boltzmann(system, kelvin, seed=5, masses=torch.ones(n), remove_momentum=False)
    g = torch.Generator().manual_seed(2)
    state = state.moved(torch.randn(n, 3, generator=g, dtype=torch.float64))
    bath = Langevin(temperature_K=kelvin, friction_per_ps=units.picosecond, order=order)
    kept = InMemory(interval=1, velocities=True)
    Simulation(Harmonic(sites), bath, state, timestep_fs=h * FS, reporters=[kept]).run(120)
    exact = stationary(order, h)
    for k, samples in enumerate((kept.positions, kept.velocities)):
        own = samples[20:].square().mean(0).flatten()
        error = float(own.std() / len(own) ** 0.5)
        assert error < 0.02
        assert abs(float(own.mean()) - exact[k, k]) < 4 * error
    assert abs(exact[0, 0] - exact[1, 1]) > 0.3
