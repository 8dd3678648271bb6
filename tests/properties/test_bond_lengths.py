"""Bond lengths of molecules at rest and in thermal motion."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from rikiba.calculators.ase import FromASE
from rikiba.core.system import System
from rikiba.properties.bond_lengths import BondLengths, find_bonds, independent_samples
from rikiba.properties.trajectories import Trajectory


def noisy(sigma: float, shift: float, seed: int, frames: int = 400) -> Trajectory:
    rng = np.random.default_rng(seed)
    atoms = molecule("CH4")
    x = atoms.positions * (1.0 + shift) + rng.normal(0.0, sigma, (frames, 5, 3))
    return Trajectory(positions=x, numbers=atoms.numbers, timestep_fs=1.0)


def test_bonds_of_ethanol_and_of_a_crystal() -> None:
    ethanol = find_bonds(System.from_ase(molecule("CH3CH2OH")))
    assert sorted(ethanol.kinds) == ["C-C", "C-O"] + ["H-C"] * 5 + ["H-O"]
    silicon = find_bonds(System.from_ase(bulk("Si")))
    assert len(silicon) == 4  # two atoms, four neighbours each, every bond once
    lengths = silicon.lengths(Trajectory.from_ase([bulk("Si")], timestep_fs=1.0))
    assert lengths == pytest.approx(np.full((1, 4), 5.43 * np.sqrt(3) / 4))


def test_relaxed_length_is_the_minimum_of_the_energy() -> None:
    calculator = FromASE(EMT())
    atoms = molecule("O2")
    record = BondLengths().compute(calculator, atoms)
    r = record["lengths_A"][0]
    grid = np.linspace(r - 0.02, r + 0.02, 41)
    energies = []
    for d in grid:
        atoms.positions = [[0, 0, 0], [0, 0, d]]
        energies.append(float(calculator(System.from_ase(atoms)).need("energy")))
    assert grid[np.argmin(energies)] == pytest.approx(r, abs=2e-3)


def test_thermal_mean_and_width() -> None:
    record = BondLengths().analyse(noisy(0.02, 0.0, 0))
    exact = np.linalg.norm(molecule("CH4").positions[1] - molecule("CH4").positions[0])
    assert record["mean_H_C_A"] == pytest.approx(exact, abs=4.0 * record.spread["mean_H_C_A"] + 5e-4)
    # two ends move independently: √2 σ
    assert record["width_H_C_A"] == pytest.approx(0.02 * np.sqrt(2.0), rel=0.05)
    curve = record.figures[0].curves[0]
    assert np.sum(curve.y) * 0.005 == pytest.approx(1.0)


def test_comparison_passes_itself_and_fails_a_shift() -> None:
    same = BondLengths().compare(noisy(0.02, 0.0, 1), noisy(0.02, 0.0, 2))
    other = BondLengths().compare(noisy(0.02, 0.0, 1), noisy(0.02, 0.01, 2))
    assert same.verdict == "pass"
    assert other.verdict == "fail"
    assert other["wasserstein_H_C_A"] == pytest.approx(0.0109, abs=0.002)


def test_p_values_are_uniform_under_the_null() -> None:
    p = [
        BondLengths().compare(noisy(0.02, 0.0, 2 * k), noisy(0.02, 0.0, 2 * k + 1, 200))["p_H_C"]
        for k in range(25)
    ]
    assert 0.3 < np.mean(p) < 0.75
    assert np.mean(np.array(p) < 0.05) < 0.25


def test_a_slowly_changing_amplitude_counts_as_few_samples() -> None:
    rng = np.random.default_rng(3)
    t = np.arange(4000)
    amplitude = np.repeat(rng.rayleigh(size=8), 500)
    slow = (amplitude * np.cos(0.7 * t))[:, None]
    assert independent_samples([slow]) < 100
    assert independent_samples([rng.normal(size=(4000, 1))]) > 3000


def test_an_amplitude_kept_for_a_whole_trajectory_counts_by_the_scatter_between_them() -> None:
    """Modes whose energy no trajectory changes: each brings about two values, however many frames it has."""
    rng = np.random.default_rng(4)
    t = np.arange(1000)
    energies = rng.exponential(size=(16, 3))
    kept = [np.sqrt(e) * np.cos(0.7 * t[:, None] + rng.uniform(0, 6, 3)) for e in energies]
    assert 3 * 16 < independent_samples(kept) < 3 * 16 * 6
    mixed = [rng.normal(size=(1000, 3)) for _ in range(16)]
    assert independent_samples(mixed) > 20000
