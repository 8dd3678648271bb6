"""Thermostats: canonical where they say so, on systems whose answers are exact."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from ensemble_checks import FS, KELVIN, IdealGas, Springs, deviation, gas, watched
from md_toys import Harmonic, LennardJones, oscillators

from rikiba.core import units
from rikiba.core.system import System
from rikiba.md.ensembles.andersen import Andersen
from rikiba.md.ensembles.berendsen import Berendsen
from rikiba.md.ensembles.csvr import Csvr
from rikiba.md.ensembles.gjf import Gjf
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nose_hoover import NoseHoover
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.md.target import Ramp
from rikiba.md.thermostats.berendsen import EquilibrationOnlyWarning

PER_PS = units.picosecond
QUICK: dict[str, Any] = {
    "langevin": Langevin(temperature_K=KELVIN, friction_per_ps=1.0 * PER_PS),
    "gjf": Gjf(temperature_K=KELVIN, friction_per_ps=1.0 * PER_PS),
    "andersen": Andersen(temperature_K=KELVIN, rate_per_ps=1.0 * PER_PS),
    "csvr": Csvr(temperature_K=KELVIN, time_constant_fs=1.0 * FS),
    "nose_hoover": NoseHoover(temperature_K=KELVIN, time_constant_fs=1.0 * FS),
}


def kinetic_energies(integrator: Any, steps: int = 900) -> tuple[np.ndarray, float]:
    """K of 128 systems of 4 oscillators of different frequency, and the degrees of freedom."""
    n, copies = 4, 128
    state = maxwell_boltzmann(
        System.from_ase(gas(n, copies).system.to_ase()), KELVIN, seed=3, masses=torch.ones(n * copies)
    )
    draw = torch.Generator().manual_seed(4)
    k = torch.tensor([1.0, 1.7, 2.3, 3.1]).double().repeat(copies)
    places = torch.randn(n * copies, 3, generator=draw, dtype=torch.float64) / k.sqrt()[:, None]
    state = state.moved(places).replace(dof_removed=torch.zeros(copies, dtype=torch.int64))
    kept, run = watched(Springs(k), integrator, state, 0.1, steps, 5)
    return kept.kinetic_energy[60:].numpy(), float(run.state.dof[0])


@pytest.mark.parametrize("name", QUICK)
def test_kinetic_energy_is_canonical(name: str) -> None:
    """⟨K⟩ = N_f k_B T/2 and Var K = N_f (k_B T)²/2, up to the O(h²) of on-step velocities (h²ω²/4 < 1 %)."""
    samples, dof = kinetic_energies(QUICK[name])
    mean, variance = deviation(samples, 0.5 * dof, 0.5 * dof)
    assert abs(mean) < 4.5 and abs(variance) < 4.5, (mean, variance)


def test_weak_coupling_is_caught() -> None:
    with pytest.warns(EquilibrationOnlyWarning, match="samples no ensemble"):
        weak = Berendsen(temperature_K=KELVIN, time_constant_fs=1.0 * FS)
    samples, dof = kinetic_energies(weak)
    assert samples.mean() == pytest.approx(0.5 * dof, rel=0.02)
    assert deviation(samples, 0.5 * dof, 0.5 * dof)[1] < -20


def test_wrong_degrees_of_freedom_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "dof", property(lambda s: 3 * s.system.counts - 3))
    samples, _ = kinetic_energies(QUICK["csvr"])
    assert abs(deviation(samples, 6.0, 6.0)[0]) > 10


def one_oscillator(links: int) -> np.ndarray:
    """Time mean of q² of 32 oscillators in one dimension, started at different phases of one energy."""
    n = 32
    system, sites = oscillators(n_systems=n)
    places, speed = torch.zeros(n, 3).double(), torch.zeros(n, 3).double()
    angle = torch.linspace(0.1, 1.5, n).double()
    places[:, 0], speed[:, 0] = 1.5 * angle.cos(), 1.5 * angle.sin()
    state = State.of(system, speed, masses=torch.ones(n), dof_removed=2).moved(places)
    bath = NoseHoover(temperature_K=KELVIN, time_constant_fs=1.0 * FS, links=links)
    kept, _ = watched(Harmonic(sites), bath, state, 0.15, 4000, 10, positions=True)
    return (kept.positions[60:, :, 0] ** 2).mean(0).numpy()


def test_one_link_is_not_ergodic_and_three_are() -> None:
    """Martyna, Klein & Tuckerman 1992: one oscillator keeps its torus under a single thermostat."""
    alone, chain = one_oscillator(1), one_oscillator(3)
    assert abs(chain.mean() - 1.0) < 5 * chain.std(ddof=1) / 32**0.5
    assert abs(alone.mean() - 1.0) > 0.1 and alone.std() < 0.05 < chain.std()


def crystal() -> tuple[State, LennardJones]:
    from ase.build import bulk

    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
    return maxwell_boltzmann(System.from_ase(atoms), 40.0, seed=2), LennardJones()


@pytest.mark.parametrize(
    "integrator",
    [
        NoseHoover(temperature_K=40.0, time_constant_fs=200.0),
        NoseHoover(temperature_K=40.0, time_constant_fs=200.0, links=1),
        Csvr(temperature_K=40.0, time_constant_fs=300.0),
        Gjf(temperature_K=40.0, friction_per_ps=2.0),
    ],
    ids=lambda i: type(i).__name__,
)
def test_conserved_quantity_is_of_second_order(integrator: Any) -> None:
    state, calculator = crystal()

    def wandering(fs: float) -> float:
        kept, _ = watched(calculator, integrator, state, fs / FS, round(400 / fs), 1)
        assert float((kept.potential_energy + kept.kinetic_energy).std()) > 0.01  # energy itself is not kept
        return float(kept.conserved.std())

    coarse, fine = wandering(8.0), wandering(4.0)
    assert coarse < 3e-3 and coarse / fine == pytest.approx(4.0, rel=0.35)


def test_gjf_is_right_in_a_harmonic_well_at_any_timestep() -> None:
    """⟨q²⟩ = 1 and ⟨v²⟩ = 1 − h²/4 (doi:10.1080/00268976.2012.760055)."""
    h, n = 1.0, 1500
    system, sites = oscillators(n)
    state = maxwell_boltzmann(system, KELVIN, seed=11, masses=torch.ones(n), remove_momentum=False)
    kept, _ = watched(Harmonic(sites), QUICK["gjf"], state, h, 220, 1, positions=True, velocities=True)
    for what, exact in ((kept.positions, 1.0), (kept.velocities, 1 - h * h / 4)):
        each = what[20:].square().mean(0).flatten()
        error = float(each.std() / len(each) ** 0.5)
        assert error < 0.01 and abs(float(each.mean()) - exact) < 4 * error


def test_gjf_diffuses_as_einstein_says_at_any_timestep() -> None:
    """⟨Δr²⟩ = 2 D t in each direction with D = k_B T/(m γ)."""
    n, steps, h = 2000, 200, 1.0
    state = gas(n, 1).replace(dof_removed=torch.zeros(1, dtype=torch.int64))
    kept, _ = watched(IdealGas(), QUICK["gjf"], state, h, steps, 20, positions=True)
    moved = (kept.positions[-1] - kept.positions[1]).square().flatten() / (2 * (steps - 20) * h)
    assert abs(float(moved.mean()) - 1.0) < 4 * float(moved.std()) / (3 * n) ** 0.5


def test_csvr_turns_a_lone_degree_of_freedom_round() -> None:
    """With N_f = 1 velocities must change sign to be Gaussian; a factor without its sign never would."""
    n = 400
    system, sites = oscillators(n_systems=n)
    speed = torch.zeros(n, 3).double()
    speed[:, 0] = 1.0
    state = State.of(system, speed, masses=torch.ones(n), dof_removed=2)
    kept, _ = watched(Harmonic(sites, k=0.0), QUICK["csvr"], state, 0.5, 60, 1, velocities=True)
    v = kept.velocities[20:, :, 0]
    assert abs(float(v.mean())) < 0.1 and float(v[-1].min()) < -1
    assert float((v**4).mean() / (v**2).mean() ** 2) == pytest.approx(3.0, abs=0.4)


def test_csvr_needs_motion() -> None:
    system, sites = oscillators(2)
    with pytest.raises(ValueError, match="maxwell_boltzmann"):
        Simulation(Harmonic(sites), QUICK["csvr"], State.of(system), timestep_fs=1.0)


@pytest.mark.parametrize("kind", [Langevin, NoseHoover, Csvr, Andersen, Gjf])
def test_a_ramp_heats(kind: Any) -> None:
    ramp = Ramp(start=20.0, end=80.0, duration_ps=1.0)
    rate = {"friction_per_ps": 20.0} if kind in (Langevin, Gjf) else {}
    rate = {"rate_per_ps": 20.0} if kind is Andersen else rate
    state, calculator = crystal()
    state = maxwell_boltzmann(state.system, 20.0, seed=1)
    kept, run = watched(calculator, kind(temperature_K=ramp, **rate), state, 8 / FS, 190, 1)
    late = float(kept.temperature_K[150:].mean())
    assert late == pytest.approx(80.0, rel=0.25) and float(kept.temperature_K[:20].mean()) < 35.0
    assert ramp.at(torch.tensor([0.0, 0.5, 2.0]).double() * units.picosecond).tolist() == [20.0, 50.0, 80.0]
    assert run.splitting.settings()["operators"]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (NoseHoover, {"temperature_K": -1.0}),
        (NoseHoover, {"temperature_K": 1.0, "links": 0}),
        (NoseHoover, {"temperature_K": 1.0, "time_constant_fs": 0.0}),
        (Csvr, {"temperature_K": float("nan")}),
        (Csvr, {"temperature_K": 1.0, "time_constant_fs": float("inf")}),
        (Andersen, {"temperature_K": 1.0, "rate_per_ps": -1.0}),
        (Gjf, {"temperature_K": 1.0, "friction_per_ps": -1.0}),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(kind: Any, wrong: dict[str, Any]) -> None:
    with warnings.catch_warnings(), pytest.raises(ValueError, match="given"):
        kind(**wrong)
