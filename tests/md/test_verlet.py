"""Verlet's two forms on systems with known answers: invariants, order, reversal, momentum."""

import itertools
import math

import pytest
import torch
from ase.build import bulk
from md_toys import Harmonic, LennardJones, oscillators

from rikiba.core import units
from rikiba.core.system import System
from rikiba.md.ensembles.nve import NVE
from rikiba.md.operators import Drift, Kick
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import Splitting
from rikiba.md.state import State, maxwell_boltzmann


def trajectory(word: str, h: float, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """q and p of one oscillator with k = m = 1 from q = 1, p = 0, on-step."""
    system, sites = oscillators(offset=1.0)
    state = State.of(system, masses=torch.ones(1), dof_removed=0)
    keep = InMemory(interval=1, velocities=True)
    splitting = Splitting(word, {c: {"A": Drift(), "B": Kick()}[c] for c in set(word)})
    timestep = h / units.femtosecond
    Simulation(Harmonic(sites), splitting, state, timestep_fs=timestep, reporters=[keep], limits=None).run(n)
    return keep.positions[:, 0, 0], keep.velocities[:, 0, 0]


# not h = 1: its period of exactly six steps lets the same rounding error recur and add up
@pytest.mark.parametrize("h", [0.1, 0.5, 1.1, 1.9])
def test_shadow_invariants(h: float) -> None:
    """Velocity Verlet conserves p²/2 + ½q²(1 − h²/4); position Verlet p²/2(1 − h²/4) + ½q²: closed forms."""
    s = 1 - h * h / 4
    q, p = trajectory("BAB", h, 300)
    kdk = 0.5 * p * p + 0.5 * q * q * s
    assert (kdk - kdk[0]).abs().max() < 5e-15
    plain = 0.5 * p * p + 0.5 * q * q
    assert (plain - plain[0]).abs().max() > 1e-4  # the ordinary energy is not conserved: the check can fail
    q, p = trajectory("ABA", h, 300)
    dkd = 0.5 * p * p * s + 0.5 * q * q
    assert (dkd - dkd[0]).abs().max() < 5e-15


@pytest.mark.parametrize("word", ["BAB", "ABA"])
def test_frequency(word: str) -> None:
    """q_n = cos(n ω̃ h) with sin(ω̃h/2) = ωh/2."""
    h = 0.7
    q, _ = trajectory(word, h, 200)
    exact = torch.cos(torch.arange(201).double() * 2 * math.asin(h / 2))
    assert (q - exact).abs().max() < 1e-12


def test_ripple_and_stability_limit() -> None:
    h = 0.2
    q, p = trajectory("BAB", h, 500)
    energy = 0.5 * (p * p + q * q)
    assert float(energy.max() - energy.min()) == pytest.approx(h * h / 8, rel=1e-2)  # m ω² A² (ωh)²/8
    assert trajectory("BAB", 1.999, 400)[0].abs().max() < 40
    assert trajectory("BAB", 2.001, 400)[0].abs().max() > 1e6


def crystal(seed: int = 1) -> State:
    system = System.from_ase(bulk("Ar", "fcc", 5.3, cubic=True).repeat((2, 2, 2)))
    return maxwell_boltzmann(system, 60.0, seed=seed)


@pytest.mark.parametrize("kind", ["velocity_verlet", "position_verlet"])
def test_reversal(kind: str) -> None:
    start = crystal()
    calculator = LennardJones()
    there = Simulation(calculator, NVE(integrator=kind), start, timestep_fs=4.0).run(150).state
    turned = there.replace(velocities=-there.velocities)
    back = Simulation(calculator, NVE(integrator=kind), turned, timestep_fs=4.0).run(150).state
    assert (there.system.positions - start.system.positions).abs().max() > 0.1
    assert (back.system.positions - start.system.positions).abs().max() < 1e-9
    assert (back.velocities + start.velocities).abs().max() < 1e-9


def energy_error(word: str, dt: float) -> float:
    letters = {"A": Drift(), "B": Kick()}
    keep = InMemory(interval=1, positions=False)
    Simulation(LennardJones(), Splitting(word, letters), crystal(), timestep_fs=dt, reporters=[keep]).run(
        round(480 / dt)
    )
    return float(keep.conserved.std(0, correction=0)[0])


def test_second_order_and_its_negative_control() -> None:
    """Energy error of Verlet falls fourfold when the timestep is halved (10 %); that of 'AB' does not."""
    errors = [energy_error("BAB", dt) for dt in (12.0, 6.0, 3.0)]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(4.0, rel=0.1)
    assert energy_error("AB", 6.0) / energy_error("AB", 3.0) < 3.0


def test_momentum_is_conserved() -> None:
    state = crystal()
    state = state.replace(velocities=state.velocities + 0.01)
    before = state.momentum
    after = Simulation(LennardJones(), NVE(), state, timestep_fs=4.0).run(200).state.momentum
    assert (after - before).abs().max() < 1e-11


def test_one_force_call_a_step() -> None:
    system, sites = oscillators(offset=1.0)
    for kind, calls in (("velocity_verlet", 51), ("position_verlet", 50)):
        calculator = Harmonic(sites)
        Simulation(calculator, NVE(integrator=kind), State.of(system, dof_removed=0), timestep_fs=0.1).run(50)
        assert calculator.n_calls == calls
    calculator = Harmonic(sites)
    keep = InMemory(interval=1)
    Simulation(calculator, NVE(), State.of(system, dof_removed=0), timestep_fs=0.1, reporters=[keep]).run(50)
    assert calculator.n_calls == 51 and len(keep) == 51


def test_each_system_has_its_own_timestep() -> None:
    steps = (0.5, 2.0)
    start = crystal()
    both = State.of(System.cat([start.system, start.system]), torch.cat([start.velocities] * 2), seed=[1, 1])
    batch = Simulation(LennardJones(), NVE(), both, timestep_fs=steps).run(20).state
    for k, dt in enumerate(steps):
        alone = Simulation(LennardJones(), NVE(), start, timestep_fs=dt).run(20).state
        assert (batch[k].system.positions - alone.system.positions).abs().max() < 1e-12
        assert float(batch.time[k] / units.femtosecond) == pytest.approx(20 * dt)


def test_bad_words_and_integrators() -> None:
    with pytest.raises(ValueError, match="without an operator: \\['O'\\]"):
        Splitting("BAOAB", {"A": Drift(), "B": Kick()})
    with pytest.raises(ValueError, match="without a place"):
        Splitting("A", {"A": Drift(), "B": Kick()})
    system, sites = oscillators()
    with pytest.raises(TypeError, match="not an integrator"):
        Simulation(Harmonic(sites), Kick(), State.of(system), timestep_fs=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timestep_fs"):
        Simulation(Harmonic(sites), NVE(), State.of(system), timestep_fs=0.0)
