"""Static generators: requested variance, guarded distances, recovered strains."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from rikiba.data.generators import closest_distance, elastic_strains, random_displacements, volume_scan


def triclinic():
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + np.random.default_rng(1).normal(0, 0.03, (3, 3))), scale_atoms=True
    )
    return atoms


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_variance_is_the_requested_one(sigma: float) -> None:
    atoms = triclinic()
    frames = random_displacements(atoms, number=100, amplitudes=sigma, seed=3)
    moved = np.array([f.positions - atoms.positions for f in frames]).ravel()
    low, high = chi2.ppf([1e-4, 1 - 1e-4], len(moved)) * sigma**2
    assert low < (moved**2).sum() < high
    assert abs(moved.mean()) < 4 * sigma / np.sqrt(len(moved))
    wrong = chi2.ppf([1e-4, 1 - 1e-4], len(moved)) * (1.1 * sigma) ** 2
    assert not wrong[0] < (moved**2).sum() < wrong[1]  # the test can tell 10 %


def test_minimum_distance_is_kept_and_impossible_ones_are_said() -> None:
    atoms = molecule("CH3CH2OH")
    loose = random_displacements(atoms, number=60, amplitudes=0.2, min_distance=0.1)
    assert min(closest_distance(f, 3.0) for f in loose) < 0.6
    kept = random_displacements(atoms, number=60, amplitudes=0.2, min_distance=0.6)
    assert min(closest_distance(f, 3.0) for f in kept) >= 0.6
    assert max(f.info["tries"] for f in kept) > 1
    with pytest.raises(ValueError, match="all bring a pair below"):
        random_displacements(atoms, number=100, amplitudes=0.3, min_distance=0.95, max_tries=2)
    with pytest.raises(ValueError, match="itself has a pair closer"):
        random_displacements(atoms, number=3, min_distance=1.2)
    with pytest.raises(ValueError, match="none may be negative"):
        random_displacements(atoms, number=3, amplitudes=[0.1, -0.1])


def test_closest_distance_sees_images() -> None:
    atoms = bulk("Cu", a=3.6)  # one atom
    assert closest_distance(atoms, 5.0) == pytest.approx(3.6 / np.sqrt(2))
    assert closest_distance(atoms, 2.0) == np.inf


def test_frames_follow_from_the_seed_alone_and_amplitudes_take_turns() -> None:
    atoms = triclinic()
    six = random_displacements(atoms, number=6, amplitudes=[0.01, 0.02, 0.05], seed=1)
    three = random_displacements(atoms, number=3, amplitudes=[0.01, 0.02, 0.05], seed=1)
    for a, b in zip(six, three, strict=False):
        assert np.array_equal(a.positions, b.positions)
    assert [f.info["amplitude"] for f in six] == [0.01, 0.02, 0.05] * 2
    assert not np.array_equal(six[0].positions, six[3].positions)
    other = random_displacements(atoms, number=1, amplitudes=0.01, seed=2)[0]
    assert not np.array_equal(other.positions, six[0].positions)


@given(st.lists(st.floats(0.001, 0.05), min_size=1, max_size=3, unique=True))
@settings(max_examples=10, deadline=None)
def test_strains_are_recovered_from_the_cells(amplitudes: list[float]) -> None:
    atoms = triclinic()
    frames = elastic_strains(atoms, amplitudes=amplitudes)
    assert len(frames) == 12 * len(amplitudes)
    seen = set()
    for frame in frames:
        epsilon = np.linalg.solve(atoms.cell.array, frame.cell.array) - np.eye(3)
        np.testing.assert_allclose(epsilon, epsilon.T, atol=1e-12)
        voigt = [
            epsilon[0, 0],
            epsilon[1, 1],
            epsilon[2, 2],
            2 * epsilon[1, 2],
            2 * epsilon[0, 2],
            2 * epsilon[0, 1],
        ]
        np.testing.assert_allclose(voigt, frame.info["strain"], atol=1e-12)
        np.testing.assert_allclose(
            frame.get_scaled_positions(False), atoms.get_scaled_positions(False), atol=1e-9
        )
        seen.add((int(np.argmax(np.abs(voigt))), bool(sum(voigt) > 0)))
    assert len(seen) == 12


def test_volume_scan_covers_its_range() -> None:
    atoms = triclinic()
    atoms.info["group"] = "parent 3"
    frames = volume_scan(atoms, lowest=0.9, highest=1.2, number=7)
    ratios = [f.get_volume() / atoms.get_volume() for f in frames]
    np.testing.assert_allclose(ratios, np.linspace(0.9, 1.2, 7), rtol=1e-12)
    np.testing.assert_allclose(frames[0].cell.angles(), atoms.cell.angles())
    assert {f.info["group"] for f in frames} == {"parent 3"}
    assert elastic_strains(bulk("Cu"))[0].info["group"] == "Cu"
    for bad in (dict(lowest=-1), dict(lowest=1.3), dict(number=1)):
        with pytest.raises(ValueError, match="0 < lowest < highest"):
            volume_scan(atoms, **bad)
    with pytest.raises(ValueError, match="periodic in all three"):
        volume_scan(molecule("H2O"))
