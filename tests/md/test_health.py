"""The health monitor: silent about sound runs in every ensemble, loud about planted illnesses."""

import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from killed_runs import argon, ensemble, ensembles
from md_toys import LennardJones

from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md import health
from rikiba.md.ensembles.csvr import Csvr
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nve import NVE
from rikiba.md.operators import Drift, Kick, Memory, Operator, Step
from rikiba.md.reporters.health import Health, HealthWarning
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import Splitting
from rikiba.md.state import State, maxwell_boltzmann

pytestmark = pytest.mark.filterwarnings("ignore::rikiba.md.reporters.health.HealthWarning")


def crystal(temperature_K: float = 40.0, n: int = 2) -> State:
    system = System.from_ase(bulk("Ar", "fcc", 5.4, cubic=True).repeat((n, n, n)))
    return maxwell_boltzmann(system, temperature_K, seed=3)


def alarms(calculator: Any, integrator: Any, state: State, steps: int, dt: float, **more: Any) -> set[str]:
    watch = Health(**{"interval": 2, "window": 100, "solid": True, **more})
    Simulation(calculator, integrator, state, timestep_fs=dt, reporters=[watch], limits=None).run(steps)
    return {name.rsplit(" ", 1)[0] for name in watch.alarms}


def white(rng: np.random.Generator, phi: float, n: int, columns: int) -> np.ndarray:
    from scipy.signal import lfilter

    e = rng.normal(size=(n, columns)) * np.sqrt(1 - phi**2)
    e[0] = rng.normal(size=columns)
    return lfilter([1.0], [1.0, -phi], e, axis=0)


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.9])
def test_windows_of_noise_raise_no_alarm(phi: float) -> None:
    """1,500 windows of 200 looks: none may err, where 10⁻⁶ of them are expected to."""
    y = 5.0 + white(np.random.default_rng(8), phi, 200, 1500)
    windows = [health.Window.of(y[:, k]) for k in range(1500)]
    assert not any(health.variance_alarm(w, 1.0, lower=True) for w in windows)
    assert not any(health.mean_alarm(w, 5.0, 1.0) for w in windows)
    groups = [(windows[k], windows[k + 1 : k + 3]) for k in range(0, 1500, 3)]
    assert not any(health.growth_alarm(w, earlier) for w, earlier in groups)


def test_windows_that_are_wrong_raise_one() -> None:
    y = white(np.random.default_rng(9), 0.5, 200, 40)
    for k in range(40):
        w = health.Window.of(y[:, k])
        assert health.variance_alarm(w, 0.1) and health.variance_alarm(w, 12.0, lower=True)
        assert health.mean_alarm(w, 2.0, 1.0)
        assert health.growth_alarm(health.Window.of(4 * y[:, k]), [health.Window.of(y[:, k - 1])])
    t, noise = np.arange(60.0), 0.02 * np.random.default_rng(2).normal(size=60)
    means = 1e-2 * t + noise
    assert health.drift_alarm(t, means, 1e-3) == pytest.approx(1e-2, rel=0.2)
    assert health.drift_alarm(t, means, 2e-2) is None and health.drift_alarm(t, noise, 1e-3) is None


@pytest.mark.parametrize("name", ensembles())
def test_a_sound_run_is_silent(name: str) -> None:
    """Two gases or solids at 60 to 300 K in every ensemble, with all checks that fit it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", HealthWarning)
        watch = Health(interval=1, window=100, pressure=True)
        run = Simulation(
            LennardJones(), ensemble(name), argon(), timestep_fs=2.0, reporters=[watch], limits=None
        )
        run.run(350)
    assert watch.alarms == ()


def test_a_sound_solid_is_silent() -> None:
    assert alarms(LennardJones(), NVE(), crystal(), 600, 4.0) == set()
    bath = Langevin(temperature_K=40.0, friction_per_ps=2.0)
    assert alarms(LennardJones(), bath, crystal(20.0), 800, 4.0, temperature_K=40.0) <= {"temperature"}


class Sticky(LennardJones):
    """Attracts at all distances: no repulsion below 3 Å."""

    def _energy(self, r2: torch.Tensor) -> torch.Tensor:
        return super()._energy(r2.clamp(min=9.0)) + 0.5 * (r2.clamp(max=16.0) / 16.0 - 1.0)


class Pushing(LennardJones):
    """A force on the whole that is the derivative of nothing."""

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        found = super().__call__(system, forces=forces, stress=stress)
        return found.replace(forces=found.need("forces") + 2e-3)


class Rescaling(Operator):
    """Sets the temperature at every step, whatever moves; what is relative is slowed a little before."""

    def __init__(self, temperature_K: float, slowing: float) -> None:
        self.temperature_K, self.slowing = temperature_K, slowing

    def apply(self, state: State, memory: Memory, dt: Any, step: Step) -> tuple[State, Memory]:
        whole = (state.masses[:, None] * state.velocities).sum(0) / state.masses.sum()
        v = whole + (state.velocities - whole) * (1.0 - self.slowing)
        state = state.with_velocities(v)
        target = 0.5 * float(state.dof[0]) * units.boltzmann * self.temperature_K
        return state.with_velocities(v * (target / float(state.kinetic_energy[0])) ** 0.5), memory


def rescaled(slowing: float) -> Splitting:
    return Splitting("BABT", {"B": Kick(), "A": Drift(), "T": Rescaling(40.0, slowing)})


def test_a_potential_that_collapses_is_caught() -> None:
    found = alarms(Sticky(), Csvr(temperature_K=40.0), crystal(), 200, 4.0)
    assert "collapse" in found


def test_forces_of_no_energy_are_caught() -> None:
    found = alarms(Pushing(), NVE(), crystal(), 400, 4.0)
    assert {"motion of the whole", "conserved quantity"} <= found


def test_a_timestep_too_long_is_caught() -> None:
    assert "conserved quantity" in alarms(LennardJones(), NVE(), crystal(), 300, 130.0)


def test_a_flying_ice_cube_is_caught() -> None:
    """A thermostat that moves heat into the motion of the whole, though the temperature is perfect."""
    start = crystal()
    start = State.of(start.system, start.velocities + 2e-4, dof_removed=0)
    found = alarms(LennardJones(), rescaled(0.02), start, 600, 4.0)
    assert "motion of the whole" in found


def test_a_temperature_that_does_not_fluctuate_is_caught() -> None:
    found = alarms(LennardJones(), rescaled(0.0), crystal(), 500, 4.0, temperature_K=40.0)
    assert "temperature fluctuation" in found


def test_a_bath_at_the_wrong_temperature_is_caught() -> None:
    wrong = Langevin(temperature_K=60.0, friction_per_ps=5.0)
    assert "temperature" in alarms(LennardJones(), wrong, crystal(60.0), 600, 4.0, temperature_K=40.0)


class Ringing(LennardJones):
    """A stress that oscillates more and more, while temperature and energy are right."""

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        found = super().__call__(system, forces=forces, stress=stress)
        if not stress:
            return found
        wave = 1e-6 * np.exp(self.n_calls / 100.0) * np.sin(0.9 * self.n_calls)
        return found.replace(stress=found.need("stress") + wave * torch.eye(3, dtype=torch.float64))


def test_a_stress_that_oscillates_more_and_more_is_caught() -> None:
    bath = Csvr(temperature_K=40.0)
    assert alarms(Ringing(), bath, crystal(20.0), 800, 4.0, pressure=True) == {"pressure growth"}
    assert alarms(LennardJones(), bath, crystal(20.0), 600, 4.0, pressure=True) == set()


def test_a_bond_that_breaks_is_caught_and_the_frame_kept(tmp_path: Path) -> None:
    from ase import Atoms
    from md_toys import Harmonic

    pair = System.from_ase([Atoms("N2", [[0, 0, 0], [0, 0, 1.1]])] * 2)
    velocities = torch.zeros_like(pair.positions)
    velocities[3, 2] = 0.05
    watch = Health(path=tmp_path / "alarms", interval=5, bonds=True, on_alarm="stop", max_departure=1e9)
    run = Simulation(
        Harmonic(pair.positions, k=0.0), NVE(), State.of(pair, velocities, dof_removed=0), timestep_fs=1.0,
        reporters=[watch],
    )  # fmt: skip
    with pytest.warns(HealthWarning, match=r"system 1: bonds: the bond of atoms 2 and 3 .* broken"):
        run.run(1000)
    assert run.stopped is not None and "bonds" in run.stopped and run.state.step < 200
    run.close()
    frame = ase.io.read(tmp_path / "alarms.frames.xyz")
    assert frame.info["alarm"] == "bonds" and frame.get_distance(0, 1) > 1.5 * 1.1
    assert "step" in (tmp_path / "alarms").read_text()


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 50"):
        Health(window=3)
