"""Diffusion against Brownian motion, whose answer and covariance are known."""

import numpy as np
import pytest

from rikiba.properties.msd import (
    Msd,
    brownian_covariance,
    finite_size_correction,
    fit_diffusion,
    mean_squared_displacements,
)
from rikiba.properties.trajectories import Trajectory, unwrap


def walk(frames: int, atoms: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return np.cumsum(rng.normal(0.0, sigma, (frames, atoms, 3)), axis=0)


def test_fft_equals_the_double_sum() -> None:
    x = walk(40, 3, 1.0, np.random.default_rng(0)) + 100.0
    direct = np.array([((x[m:] - x[: 40 - m]) ** 2).sum(-1).mean(0) for m in range(40)])
    assert np.abs(mean_squared_displacements(x) - direct).max() < 1e-10


def test_brownian_covariance_matches_simulation() -> None:
    rng = np.random.default_rng(1)
    lags = np.array([1, 3, 8])
    x = np.cumsum(rng.normal(size=(30, 40_000, 1)), axis=0)
    sampled = np.cov(mean_squared_displacements(x)[lags])
    assert brownian_covariance(lags, 30) == pytest.approx(sampled, rel=0.06)


def test_diffusion_error_bar_covers_and_ordinary_least_squares_does_not() -> None:
    rng = np.random.default_rng(2)
    frames, dt, sigma, runs = 300, 0.1, 0.3, 200
    exact = sigma**2 / (2.0 * dt)
    lags = np.arange(5, 150, 5)
    inside = ordinary = 0
    for _ in range(runs):
        msd = mean_squared_displacements(walk(frames, 4, sigma, rng)).mean(1)[None]
        fit = fit_diffusion(msd, lags, frames, dt, n_atoms=4)
        inside += abs(fit.D - exact) < 1.96 * fit.error
        slope, cov = np.polyfit(lags * dt, msd[0, lags], 1, cov=True)
        ordinary += abs(slope[0] / 6.0 - exact) < 1.96 * np.sqrt(cov[0, 0]) / 6.0
    assert 0.90 < inside / runs <= 1.0
    assert ordinary / runs < 0.6


def test_record_of_brownian_particles_with_drift() -> None:
    rng = np.random.default_rng(3)
    sigma, dt_fs = 0.2, 50.0
    x = walk(400, 64, sigma, rng)
    drift = x + 0.5 * np.arange(400)[:, None, None]
    t = Trajectory(positions=drift, numbers=np.full(64, 3), timestep_fs=dt_fs)
    record = Msd(fit_from_ps=0.1).analyse(t)
    exact = sigma**2 / (2.0 * dt_fs * 1e-3) * 1e-4
    assert record["D_Li_cm2_per_s"] == pytest.approx(exact, abs=4.0 * record.spread["D_Li_cm2_per_s"])
    assert record.spread["D_Li_cm2_per_s"] < 0.1 * exact
    # negative control: the drift left in
    kept = Msd(fit_from_ps=0.1, remove_drift=False).analyse(t)
    assert kept["D_Li_cm2_per_s"] > 10.0 * exact
    assert any("not diffusive" in n for n in kept.notes)


def test_unwrapping_undoes_wrapping_in_a_fluctuating_triclinic_cell() -> None:
    rng = np.random.default_rng(4)
    cell0 = np.array([[6.0, 0, 0], [2.0, 6.0, 0], [1.0, -1.0, 7.0]])
    x = walk(500, 5, 0.2, rng)
    fixed = np.broadcast_to(cell0, (500, 3, 3))
    f = np.einsum("tax,xy->tay", x, np.linalg.inv(cell0))
    wrapped = (f - np.floor(f)) @ cell0
    back = unwrap(wrapped, fixed, (True, True, True))
    assert np.allclose(back - back[0], x - x[0], atol=1e-9)
    assert not np.allclose(wrapped - wrapped[0], x - x[0], atol=1.0)
    # a fluctuating cell: lattice jumps of the toroidal scheme do not inflate diffusion
    cells = cell0 * (1.0 + 0.02 * rng.normal(size=(500, 1, 1)))
    folded = np.einsum("tax,txy->tay", f - np.floor(f), cells)
    steps = np.diff(unwrap(folded, cells, (True, True, True)), axis=0)
    assert np.abs(steps).max() < 3.0


def test_finite_size_correction() -> None:
    # k_B·298.15 K·2.837297 / (6π·0.89 mPa s·18.6 Å) worked by hand: 3.743e-10 m²/s
    assert finite_size_correction(298.15, 0.89, 18.6) == pytest.approx(3.743e-6, rel=1e-3)


def test_too_short_a_trajectory_is_refused() -> None:
    t = Trajectory(positions=np.zeros((10, 1, 3)), numbers=np.array([3]), timestep_fs=1.0)
    with pytest.raises(ValueError, match="longer trajectory"):
        Msd().analyse(t)
