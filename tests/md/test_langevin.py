"""Langevin splittings on the harmonic oscillator and the free particle, where everything is known."""

import math

import numpy as np
import pytest
import torch
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
from rikiba.md.splitting import Splitting, langevin_baoab
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.md.thermostats.langevin import Langevin as Thermostat

KELVIN = 1 / units.boltzmann  # kT = 1 eV
GAMMA = units.picosecond  # friction 1 in internal units


def advance(word: str, q: float, p: float, h: float, gamma: float) -> np.ndarray:
    """One step of a word at T = 0 on the oscillator k = m = 1."""
    system, sites = oscillators(offset=q)
    state = State.of(system, torch.full((1, 3), p).double(), masses=torch.ones(1), dof_removed=0)
    letters = {"A": Drift(), "B": Kick(), "O": Thermostat(temperature_K=0.0, friction_per_ps=gamma * GAMMA)}
    splitting = Splitting(word, {c: letters[c] for c in set(word)})
    end = Simulation(Harmonic(sites), splitting, state, timestep_fs=h / units.femtosecond).run(1).state
    return np.array([float(end.system.positions[0, 0]), float(end.velocities[0, 0])])


def stationary(h: float, gamma: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Exact covariances of (q, p) under BAOAB at kT = 1: on-step, and right after O."""
    m = np.stack([advance("BAOAB", 1, 0, h, gamma), advance("BAOAB", 0, 1, h, gamma)], 1)
    tail = np.stack([advance("AB", 1, 0, h / 2, gamma), advance("AB", 0, 1, h / 2, gamma)], 1)
    c = math.exp(-gamma * h)
    kick = tail @ np.array([[0.0], [math.sqrt(1 - c * c)]])
    on_step = solve_discrete_lyapunov(m, kick @ kick.T)
    head = np.stack([advance("BAO", 1, 0, h / 2, 2 * gamma), advance("BAO", 0, 1, h / 2, 2 * gamma)], 1)
    return on_step, head @ on_step @ head.T + np.diag([0.0, 1 - c * c])


@pytest.mark.parametrize("h", [0.1, 0.5, 1.0, 1.5])
def test_exact_covariance(h: float) -> None:
    """⟨q²⟩ = 1 at any timestep, on-step ⟨p²⟩ = 1 − h²/4, after O ⟨p²⟩ = 1 (doi:10.1093/amrx/abs010)."""
    on_step, after = stationary(h)
    assert on_step[0, 0] == pytest.approx(1.0, abs=1e-12)
    assert on_step[1, 1] == pytest.approx(1 - h * h / 4, abs=1e-12)
    assert after[1, 1] == pytest.approx(1.0, abs=1e-12)


def sampled(order: str, h: float, n_steps: int = 200) -> dict[str, tuple[float, float]]:
    """Time means over 1500 atoms (4500 oscillators) with their standard errors, kT = m = k = 1."""
    system, sites = oscillators(1500)
    state = maxwell_boltzmann(system, KELVIN, seed=11, masses=torch.ones(1500), remove_momentum=False)
    g = torch.Generator().manual_seed(2)
    state = state.moved(torch.randn(1500, 3, generator=g, dtype=torch.float64))
    integrator = Langevin(temperature_K=KELVIN, friction_per_ps=GAMMA, order=order)
    keep = InMemory(interval=1, velocities=True)
    sim = Simulation(Harmonic(sites), integrator, state, timestep_fs=h / units.femtosecond, reporters=[keep])
    sim.run(20 + n_steps)
    q2, p2 = (x[20:].square().mean(0).flatten() for x in (keep.positions, keep.velocities))
    result = {n: (float(x.mean()), float(x.std() / len(x) ** 0.5)) for n, x in (("q2", q2), ("p2", p2))}
    result["T"] = (float(keep.temperature_K[20:].mean()) / KELVIN, result["p2"][1])
    return result


@pytest.mark.parametrize("h", [0.5, 1.0, 1.5])
def test_sampled_moments(h: float) -> None:
    got = sampled("BAOAB", h)
    for name, exact in (("q2", 1.0), ("p2", 1 - h * h / 4), ("T", 1.0)):
        mean, error = got[name]
        assert abs(mean - exact) < 4 * error, (name, mean, exact, error)
        assert error < 0.01


def test_wrong_order_is_caught() -> None:
    """OBABO has ⟨q²⟩ = 1/(1 − h²/4): the numbers above belong to the order and not to any Langevin scheme."""
    got = sampled("OBABO", 1.0)
    assert abs(got["q2"][0] - 4 / 3) < 4 * got["q2"][1]
    assert abs(got["q2"][0] - 1.0) > 10 * got["q2"][1]
    assert abs(got["p2"][0] - 1.0) < 4 * got["p2"][1]


class Free:
    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        return Results(
            energy=torch.zeros(system.n_systems).double(), forces=torch.zeros_like(system.positions)
        )


def test_free_particle_diffusion() -> None:
    """D of BAOAB is (kT h/2m) coth(γh/2): the sum of velocity correlations c^|n| after O, in closed form."""
    h, n = 0.8, 400
    system, _ = oscillators(2000)
    state = maxwell_boltzmann(system, KELVIN, seed=3, masses=torch.ones(2000), remove_momentum=False)
    integrator = Langevin(temperature_K=KELVIN, friction_per_ps=GAMMA)
    end = Simulation(Free(), integrator, state, timestep_fs=h / units.femtosecond).run(n).state
    square = (end.system.positions - system.positions).square().flatten()
    d = 0.5 * h / math.tanh(h / 2)
    # MSD of n steps: with half steps at both ends, 2 D n h minus the transient
    c = math.exp(-h)
    v = np.concatenate([[1.0], c ** np.arange(1, n + 1)])
    weight = np.full(n + 1, h)
    weight[[0, -1]] = h / 2
    exact = sum(weight[i] * weight[j] * v[abs(i - j)] for i in range(n + 1) for j in range(n + 1))
    assert exact == pytest.approx(2 * d * n * h, rel=0.02)
    error = float(square.std() / len(square) ** 0.5)
    assert abs(float(square.mean()) - exact) < 4 * error
    assert abs(float(square.mean()) - 2 * n * h) > 3 * error  # D = kT/mγ, of the continuous process, differs


def clusters(n: int = 3) -> System:
    from ase.cluster import Octahedron

    frames = [Octahedron("Ar", 2 + k % 2, latticeconstant=5.3) for k in range(n)]
    return System.from_ase(frames)


class Ties:
    """Harmonic ties computed atom by atom, so that a batch gives the bits of a single system."""

    def __init__(self, sites: torch.Tensor) -> None:
        self.sites = sites

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        d = system.positions - self.sites
        return Results(energy=system.total(0.05 * (d * d).sum(-1)), forces=-0.1 * d)


def test_trajectory_does_not_depend_on_companions() -> None:
    system = clusters()
    kelvin, seeds = (50.0, 100.0, 150.0), [7, 1007, 12]
    state = maxwell_boltzmann(system, kelvin, seed=seeds)
    batch = Simulation(
        Ties(system.positions), Langevin(temperature_K=kelvin), state, timestep_fs=(1.0, 2.0, 3.0)
    ).run(30)
    for k, dt in enumerate((1.0, 2.0, 3.0)):
        one = maxwell_boltzmann(system[k], kelvin[k], seed=[seeds[k]])
        assert torch.equal(one.velocities, state[k].velocities)
        alone = Simulation(
            Ties(system[k].positions), Langevin(temperature_K=kelvin[k]), one, timestep_fs=dt
        ).run(30)
        assert torch.equal(alone.state.velocities, batch.state[k].velocities)
        assert torch.equal(alone.state.system.positions, batch.state[k].system.positions)
    other = maxwell_boltzmann(system[0], 50.0, seed=8)
    assert not torch.equal(other.velocities, state[0].velocities)


def test_conserved_quantity_and_heat() -> None:
    """E − heat of BAOAB fluctuates like the energy of NVE; E alone moves by the heat."""
    system = clusters(1)
    state = maxwell_boltzmann(system, 10.0, seed=5)
    keep = InMemory(interval=1, positions=False)
    sim = Simulation(
        LennardJones(), langevin_baoab(temperature_K=30.0, friction_per_ps=5.0), state, timestep_fs=2.0,
        reporters=[keep],
    )  # fmt: skip
    sim.run(500)
    total = keep.potential_energy + keep.kinetic_energy
    assert float(keep.conserved.std()) < 0.02 * float(total.std())


def test_no_degree_of_freedom_is_subtracted() -> None:
    state = maxwell_boltzmann(clusters(1), 10.0, seed=5)
    assert int(state.dof_removed[0]) == 6
    ties = Ties(state.system.positions)
    assert (
        int(Simulation(ties, Langevin(temperature_K=10.0), state, timestep_fs=1.0).state.dof_removed[0]) == 0
    )
    assert int(Simulation(ties, NVE(), state, timestep_fs=1.0).state.dof_removed[0]) == 6


def test_fixed_atoms_stay() -> None:
    system = clusters(1)
    fixed = torch.arange(system.n_atoms) < 2
    state = maxwell_boltzmann(system, 50.0, seed=5, fixed=fixed)
    assert int(state.dof[0]) == 3 * (system.n_atoms - 2)
    sim = Simulation(LennardJones(), Langevin(temperature_K=50.0), state, timestep_fs=2.0).run(20)
    assert torch.equal(sim.state.system.positions[fixed], system.positions[fixed])
    assert bool((sim.state.system.positions[~fixed] != system.positions[~fixed]).all())
    assert sim.state.velocities[fixed].abs().max() == 0


def test_bad_parameters() -> None:
    with pytest.raises(ValueError, match="temperature_K"):
        Langevin(temperature_K=-1.0)
    with pytest.raises(ValueError, match="friction_per_ps"):
        Langevin(temperature_K=1.0, friction_per_ps=math.nan)
    state = maxwell_boltzmann(clusters(3), 10.0)
    with pytest.raises(ValueError, match="one for each system"):
        Simulation(
            Ties(state.system.positions), Langevin(temperature_K=(1.0, 2.0)), state, timestep_fs=1.0
        ).run(1)
