"""Drift analysis on series whose drift, noise and oscillation are known, and on real runs."""

from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from md_toys import LennardJones

from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md.drift import correlation_frames, diverges, drift, fit_trend
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann


def ar1(n: int, phi: float, rng: np.random.Generator, columns: int = 1) -> np.ndarray:
    """Unit-variance first-order autoregressive noise, stationary from the start."""
    from scipy.signal import lfilter

    e = rng.normal(size=(n, columns)) * np.sqrt(1 - phi**2)
    e[0] = rng.normal(size=columns)
    return lfilter([1.0], [1.0, -phi], e, axis=0)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.95])
def test_interval_covers(phi: float) -> None:
    """The 95 % interval holds the planted slope in 95 % of 400 series (±3.5σ, 2 % allowed for blocks)."""
    rng = np.random.default_rng(1)
    n, runs, slope = 3000, 400, 0.7
    t = np.arange(n) / n
    noise = ar1(n, phi, rng, runs)
    inside = []
    for k in range(runs):
        low, high = fit_trend(t, slope * t + noise[:, k]).interval(0.95)
        inside.append(low <= slope <= high)
    assert 0.95 - 0.038 - 0.02 < np.mean(inside) < 0.995


def test_naive_interval_does_not_cover() -> None:
    """Negative control: least squares without correlation claims far too much at phi = 0.9."""
    from scipy.stats import linregress

    rng = np.random.default_rng(1)
    n = 3000
    t, noise = np.arange(n) / n, ar1(n, 0.9, rng, 200)
    fits = [linregress(t, noise[:, k]) for k in range(200)]
    assert np.mean([abs(f.slope) < 1.96 * f.stderr for f in fits]) < 0.6


def test_correlation_time() -> None:
    """For an AR(1) series τ = ½ + φ/(1−φ)."""
    rng = np.random.default_rng(3)
    tau = np.mean([correlation_frames(ar1(20000, 0.8, rng)[:, 0])[0] for _ in range(10)])
    assert tau == pytest.approx(0.5 + 0.8 / 0.2, rel=0.1)


def series(
    slope: float, oscillation: float, noise: float, n: int = 4000, length_ps: float = 40.0, seed: int = 7
) -> tuple:
    rng = np.random.default_rng(seed)
    t = np.linspace(0, length_ps, n)
    y = (
        slope / 1e6 * t
        + oscillation / 1000 * np.sin(2 * np.pi * t / 0.37)
        + noise / 1000 * ar1(n, 0.9, rng)[:, 0]
    )
    return t, 100 * y  # 100 atoms; slope in meV/atom/ns, the others in meV/atom


def test_planted_drift_is_found() -> None:
    t, y = series(slope=50.0, oscillation=0.2, noise=0.05)
    record = drift(t, y, 100)
    assert record.verdict == "fail" and record["finding"] == "drifts"
    assert record["drift_low_meV_per_atom_per_ns"] < 50.0 < record["drift_high_meV_per_atom_per_ns"]
    assert record["drift_meV_per_atom_per_ps"] == pytest.approx(0.05, rel=0.1)
    assert record["oscillation_amplitude_meV_per_atom"] == pytest.approx(0.2, rel=0.4)


def test_oscillation_alone_is_no_drift() -> None:
    t, y = series(slope=0.0, oscillation=0.5, noise=0.005)
    record = drift(t, y, 100)
    assert record.verdict == "pass" and "no drift within 10" in record["finding"]


def test_slow_oscillation_is_not_mistaken() -> None:
    """Half a dozen periods in the window: a line through it has a slope, but no claim is made from it."""
    t = np.linspace(0, 10, 2000)
    record = drift(t, 0.1 * np.sin(2 * np.pi * t / 1.7 + 0.4), 100)
    assert record.verdict == "undecided" and record["finding"] == "too short to tell"


def test_noise_that_hides_a_drift_is_said() -> None:
    """Of 40 noisy series a chance of 5 % is called drifting and none is called sound."""
    verdicts = [
        drift(*series(slope=1.0, oscillation=0.0, noise=20.0, seed=k), 100).verdict for k in range(40)
    ]
    assert verdicts.count("pass") == 0 and verdicts.count("undecided") >= 35
    t, y = series(slope=50.0, oscillation=0.2, noise=0.05)
    assert drift(t[:6], y[:6], 100).verdict == "undecided"


def test_drift_at_a_changing_rate_is_found() -> None:
    """A curve has no constant slope, but a series that only rises drifts; one period of a sine does not."""
    t = np.linspace(0, 10, 1000)
    noise = 1e-4 * ar1(1000, 0.5, np.random.default_rng(1))[:, 0]
    record = drift(t, 0.01 * (t + 0.03 * t**2) + noise, 100)
    assert record.verdict == "fail" and record["drift_low_meV_per_atom_per_ns"] > 0
    assert drift(t, 0.01 * np.sin(2 * np.pi * t / 10) + noise, 100).verdict == "undecided"


def test_replicas_are_pooled() -> None:
    rng = np.random.default_rng(5)
    t = np.linspace(0, 5, 500)
    noise = ar1(500, 0.95, rng, 16)
    y = 0.1 * (30e-6 * 1000 * t[:, None] * 0.01 + 0.02 * noise)
    alone, pooled = drift(t, y[:, 0], 100), drift(t, y, 100)
    assert len(pooled["replica_drift_meV_per_atom_per_ns"]) == 16 and len(pooled.tables[0].rows) == 16
    width = lambda r: r["drift_high_meV_per_atom_per_ns"] - r["drift_low_meV_per_atom_per_ns"]  # noqa: E731
    assert width(pooled) < 0.6 * width(alone)
    assert pooled["drift_meV_per_atom_per_ns"] == pytest.approx(
        np.mean(pooled["replica_drift_meV_per_atom_per_ns"])
    )


def test_pooled_interval_covers() -> None:
    rng = np.random.default_rng(6)
    t, inside = np.linspace(0, 1, 200), []
    for _ in range(200):
        y = 0.3 * t[:, None] + ar1(200, 0.97, rng, 8)
        r = drift(t, y, 1000)
        inside.append(r["drift_low_meV_per_atom_per_ns"] < 300 < r["drift_high_meV_per_atom_per_ns"])
    assert 0.90 < np.mean(inside) < 0.99


def test_bad_series() -> None:
    with pytest.raises(ValueError, match="finite"):
        drift([0, 1, 2], [0, np.nan, 1], 1)
    with pytest.raises(ValueError, match="increasing"):
        drift([0, 1, 1], [0, 1, 2], 1)


class Leaky(LennardJones):
    """Forces that are not the derivative of the energy: each atom is also pushed round its start."""

    sites: torch.Tensor | None = None

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        results = super().__call__(system, forces=forces, stress=stress)
        self.sites = system.positions if self.sites is None else self.sites
        d = system.positions - self.sites
        swirl = 0.03 * torch.stack([-d[:, 1], d[:, 0], torch.zeros_like(d[:, 0])], 1)
        return results.replace(forces=results.need("forces") + swirl)


def real_run(calculator: LennardJones, dt: float) -> tuple:
    system = System.from_ase(bulk("Ar", "fcc", 5.4, cubic=True).repeat((2, 2, 2)))
    keep = InMemory(interval=2, positions=False)
    state = maxwell_boltzmann(system, 60.0, seed=1)
    Simulation(calculator, NVE(), state, timestep_fs=dt, reporters=[keep]).run(1500)
    return keep.time_ps, keep.conserved, 32


def test_real_run_conserves_and_leaky_forces_do_not() -> None:
    good = drift(*real_run(LennardJones(), 4.0), tolerance_meV_per_atom_per_ns=2.0)
    assert good.verdict == "pass", good.values
    bad = drift(*real_run(Leaky(), 4.0), tolerance_meV_per_atom_per_ns=2.0)
    assert bad.verdict == "fail", bad.values


def test_behaviours_are_told_apart() -> None:
    """A line, a parabola, an exponential and a sine, each with noise."""
    t = np.linspace(0, 20, 4000)
    noise = 1e-3 * ar1(4000, 0.5, np.random.default_rng(3))[:, 0]
    ripple = 0.02 * np.sin(2 * np.pi * t / 0.4)
    found = {
        "line": drift(t, 0.01 * t + ripple + noise, 100),
        "parabola": drift(t, 1e-3 * t**2 + noise, 100),
        "exponential": drift(t, 1e-3 * np.exp(0.5 * t) + ripple + noise, 100),
        "sine": drift(t, ripple + noise, 100),
    }
    behaviours = {name: record["behaviour"] for name, record in found.items()}
    assert behaviours == {
        "line": "monotonic drift",
        "parabola": "monotonic drift",
        "exponential": "divergence",
        "sine": "bounded oscillation",
    }
    assert found["exponential"].verdict == "fail" and found["exponential"]["suspects"] == ["timestep"]
    assert found["line"]["suspects"] == ["forces"]


def test_noise_does_not_diverge() -> None:
    rng = np.random.default_rng(11)
    t = np.linspace(0, 1, 500)
    for phi in (0.0, 0.9, 0.99):
        y = ar1(500, phi, rng, 300)
        assert not any(diverges(t, y[:, k]) for k in range(300))


class SinglePrecision(LennardJones):
    """Forces rounded to float32 after the force is made coarse, as a low-precision kernel gives them."""

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        results = super().__call__(system.replace(positions=system.positions.float().double()), forces=forces)
        return results.replace(forces=results.need("forces").bfloat16().double())


def test_real_failures_are_named() -> None:
    """Too long a step, a force that is cut, and low precision point at different things."""
    long_step = _watched(LennardJones(), 60.0)
    cut = _watched(LennardJones(smooth=False, cutoff=6.0), 4.0, 40.0)
    low = _watched(SinglePrecision(), 4.0)
    assert "timestep" in long_step["suspects"], long_step.values
    assert "jumps" in cut["suspects"] and "timestep" not in cut["suspects"], cut.values
    assert low.verdict != "pass" and "jumps" not in low["suspects"], low.values
    good = _watched(LennardJones(), 4.0)
    assert good["suspects"] == [] or good.verdict != "fail"


def _watched(calculator: LennardJones, dt: float, temperature_K: float = 120.0) -> Any:
    system = System.from_ase(bulk("Ar", "fcc", 5.4, cubic=True).repeat((2, 2, 2)))
    keep = InMemory(positions=False)
    state = maxwell_boltzmann(system, temperature_K, seed=1)
    Simulation(calculator, NVE(), state, timestep_fs=dt, reporters=[keep]).run(600)
    return drift(
        keep.time_ps,
        keep.conserved,
        32,
        kinetic_energy_eV=keep.kinetic_energy,
        tolerance_meV_per_atom_per_ns=2.0,
    )
