"""Spectra of motions whose frequencies are known."""

import numpy as np
import pytest

from rikiba.core import units
from rikiba.properties.trajectories import Trajectory
from rikiba.properties.vdos import Vdos


def oscillators(frames: int, dt_fs: float, lines_cm1: list[float], seed: int) -> Trajectory:
    """Independent heavy-and-light pairs in random harmonic motion at 300 K along x."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) * dt_fs * 1e-15
    numbers, v = [], []
    for nu in lines_cm1:
        omega = 2.0 * np.pi * 2.99792458e10 * nu
        phase = rng.random(3) * 2.0 * np.pi
        amplitude = np.sqrt(2.0 * units.boltzmann * 300.0 / 12.011)
        v.append(amplitude * np.cos(omega * t[:, None] + phase))
        numbers.append(6)
    velocities = np.stack(v, 1)
    return Trajectory(
        positions=np.zeros_like(velocities),
        numbers=np.array(numbers),
        timestep_fs=dt_fs,
        velocities=velocities,
    )


def test_lines_integral_and_temperature() -> None:
    lines = [400.0, 1100.0, 2900.0]
    vdos = Vdos(window_fs=800.0, remove_drift=False)
    s = vdos.spectrum(oscillators(8000, 1.0, lines, 0))
    step = s.wavenumber_cm1[1]
    area = step * (s.total.sum() - 0.5 * (s.total[0] + s.total[-1]))
    assert area == pytest.approx(9.0, rel=1e-9)
    assert s.temperature_K == pytest.approx(300.0, rel=0.02)
    record = vdos.analyse(oscillators(8000, 1.0, lines, 0))
    assert record["peaks_cm1"] == pytest.approx(lines, abs=2.0)
    assert record["resolution_cm1"] == pytest.approx(1.0 / (2.99792458e10 * 800e-15), rel=1e-9)


def test_resolution_is_what_it_says() -> None:
    """Two lines one and a half resolutions apart are two peaks; half a resolution apart are one."""
    vdos = Vdos(window_fs=1000.0, remove_drift=False)
    width = 1.0 / (2.99792458e10 * 1000e-15)
    far = vdos.analyse(oscillators(20000, 1.0, [1000.0, 1000.0 + 1.5 * width], 1))
    near = vdos.analyse(oscillators(20000, 1.0, [1000.0, 1000.0 + 0.5 * width], 1))
    assert len(far["peaks_cm1"]) == 2
    assert len(near["peaks_cm1"]) == 1


def test_rigid_rotation_and_drift_are_removed() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 3))
    v = np.cross([0.0, 0.1, 0.2], x - x.mean(0)) + 0.3
    steady = Trajectory(
        positions=np.broadcast_to(x, (64, 6, 3)),
        numbers=np.full(6, 6),
        timestep_fs=1.0,
        velocities=np.broadcast_to(v, (64, 6, 3)),
    )
    assert np.abs(Vdos(remove_rotation=True)._weighted(steady)).max() < 1e-12
    assert np.abs(Vdos()._weighted(steady)).max() > 0.1
    assert Vdos(remove_rotation=True)._rotations(steady) == 3


def test_comparison_sees_a_shift_and_not_a_repeat() -> None:
    vdos = Vdos(window_fs=500.0, remove_drift=False)
    a = oscillators(6000, 1.0, [500.0, 1500.0, 3000.0], 3)
    b = oscillators(6000, 1.0, [500.0, 1500.0, 3000.0], 4)
    c = oscillators(6000, 1.0, [600.0, 1600.0, 2800.0], 5)
    assert vdos.compare(a, b)["overlap"] > 0.95
    assert vdos.compare(a, c)["overlap"] < 0.6


def test_velocities_are_needed() -> None:
    t = Trajectory(positions=np.zeros((50, 1, 3)), numbers=np.array([6]), timestep_fs=1.0)
    with pytest.raises(ValueError, match="velocities"):
        Vdos().analyse(t)
