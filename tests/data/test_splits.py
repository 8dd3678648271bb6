"""Divisions by group and the leak detector."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.dataset import Dataset, Labelled
from rikiba.data.fingerprints import fingerprint, near_pairs
from rikiba.data.formats import read
from rikiba.data.splits import find_leaks, split_at_random, split_by_group


def labelled(atoms: Atoms, group: str = "", **info: object) -> Labelled:
    atoms.info.update(info)
    n = len(atoms)
    results = Results(
        energy=torch.zeros(1, dtype=torch.float64), forces=torch.zeros((n, 3), dtype=torch.float64)
    )
    return Labelled(system=System.from_ase(atoms), results=results, level_of_theory="toy", group=group)


def cloud(seed: int, n: int = 7, periodic: bool = False) -> Atoms:
    rng = np.random.default_rng(seed)
    cell = np.diag([6.0, 7.0, 8.0]) + rng.normal(0, 0.3, (3, 3)) if periodic else None
    return Atoms(np.array([1, 1, 6, 8] * n)[:n], rng.uniform(0, 5, (n, 3)), cell=cell, pbc=periodic)


@given(
    sizes=st.lists(st.integers(1, 30), min_size=3, max_size=15),
    validation=st.sampled_from([0.0, 0.1, 0.3]),
    test=st.sampled_from([0.0, 0.1, 0.4]),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_no_group_on_two_sides(sizes: list[int], validation: float, test: float, seed: int) -> None:
    frame = labelled(cloud(0))
    frames = [
        Labelled(
            system=frame.system, results=frame.results, level_of_theory="t", group=f"g{k}", source=f"{k}.{i}"
        )
        for k, n in enumerate(sizes)
        for i in range(n)
    ]
    data = Dataset(frames)
    parts = split_by_group(data, validation_fraction=validation, test_fraction=test, seed=seed).parts
    groups = [set(p.groups) for p in parts.values()]
    assert sum(len(g) for g in groups) == len(sizes) and len(set.union(*groups)) == len(sizes)
    assert sorted(s for p in parts.values() for s in p.column("source")) == sorted(data.column("source"))
    assert len(parts["training"]) > 0
    assert (len(parts["validation"]) > 0) == (validation > 0) and (len(parts["test"]) > 0) == (test > 0)
    again = split_by_group(data, validation_fraction=validation, test_fraction=test, seed=seed).parts
    assert all(parts[k].groups == again[k].groups for k in parts)


def test_sizes_follow_the_fractions() -> None:
    frames = [labelled(cloud(0), group=f"g{k // 10}") for k in range(400)]
    division = split_by_group(Dataset(frames), validation_fraction=0.2, test_fraction=0.1, seed=3)
    assert (len(division.training), len(division.validation), len(division.test)) == (280, 80, 40)
    other = split_by_group(Dataset(frames), validation_fraction=0.2, test_fraction=0.1, seed=4)
    assert other.test.groups != division.test.groups


def test_too_few_groups_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match=r"frames carry no group name.*group_key"):
        split_by_group(Dataset([labelled(cloud(k)) for k in range(9)]))
    with pytest.raises(ValueError, match=r"2 group.*'a', 'b'.*each part needs a group"):
        split_by_group(Dataset([labelled(cloud(k), "ab"[k % 2]) for k in range(9)]))
    two = Dataset([labelled(cloud(k), "ab"[k % 2]) for k in range(9)])
    assert len(split_by_group(two, test_fraction=0.0).validation) > 0
    with pytest.raises(ValueError, match="training gets nothing"):
        split_by_group(two, validation_fraction=0.5, test_fraction=0.5)
    with pytest.raises(ValueError, match="validation_fraction is -1"):
        split_by_group(two, validation_fraction=-1)


def test_random_division() -> None:
    data = Dataset([labelled(cloud(k)) for k in range(50)])
    parts = split_at_random(data, validation_fraction=0.1, test_fraction=0.2, seed=1).parts
    assert [len(p) for p in parts.values()] == [35, 5, 10]
    assert len({id(f) for p in parts.values() for f in p}) == 50
    with pytest.raises(ValueError, match="too few"):
        split_at_random(data[:2])


@given(seed=st.integers(0, 100), periodic=st.booleans())
@settings(max_examples=25, deadline=None)
def test_fingerprint_is_invariant_and_lipschitz(seed: int, periodic: bool) -> None:
    rng = np.random.default_rng(seed)
    atoms = cloud(seed, periodic=periodic)
    print_ = fingerprint(System.from_ase(atoms))
    rotation = Rotation.random(rng=rng).as_matrix()
    moved = atoms[rng.permutation(len(atoms))]
    moved.positions = (moved.positions + rng.normal(size=3)) @ rotation.T
    moved.set_cell(atoms.cell.array @ rotation.T)
    np.testing.assert_allclose(fingerprint(System.from_ase(moved)), print_, atol=1e-5)
    step = rng.normal(0, 0.01, (len(atoms), 3))
    moved = atoms.copy()
    moved.positions += step
    change = np.abs(fingerprint(System.from_ase(moved)) - print_).max()
    assert 0 < change <= 2 * np.linalg.norm(step, axis=1).max() + 1e-5
    assert (
        np.sqrt(((fingerprint(System.from_ase(cloud(seed + 1, periodic=periodic))) - print_) ** 2).mean())
        > 0.05
    )


@given(seed=st.integers(0, 50), threshold=st.floats(0.05, 1.0))
@settings(max_examples=20, deadline=None)
def test_near_pairs_equal_brute_force(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 0.5, (30, 20)), rng.normal(0, 0.5, (25, 20))
    b[:5] = a[:5] + rng.normal(0, 0.1, (5, 20))
    rms = np.sqrt(((a[:, None] - b[None]) ** 2).mean(-1))
    expected = {(int(x), int(y)) for x, y in np.argwhere(rms < threshold)}
    assert {(x, y) for x, y, _ in near_pairs(list(a), list(b), threshold)} == expected
    own = np.sqrt(((a[:, None] - a[None]) ** 2).mean(-1))
    expected = {(int(x), int(y)) for x, y in np.argwhere(own < threshold) if x < y}
    assert {(x, y) for x, y, _ in near_pairs(list(a), None, threshold)} == expected


def test_planted_leaks_are_found_and_a_clean_division_is_not_accused() -> None:
    rng = np.random.default_rng(0)
    training = [labelled(cloud(k), f"a{k}") for k in range(30)]
    test = [labelled(cloud(k + 100), f"b{k}") for k in range(10)]
    clean = find_leaks({"training": Dataset(training), "test": Dataset(test)})
    assert clean.verdict == "pass" and clean["n_near_duplicates"] == 0

    near = cloud(7)
    near.positions += rng.normal(0, 0.003, near.positions.shape)
    near.rotate(40, "z")
    leak = find_leaks({"training": Dataset(training), "test": Dataset([*test, labelled(near[::-1])])})
    assert leak.verdict == "fail" and leak["n_near_duplicates"] == 1
    assert leak["n_test_frames_with_a_near_duplicate"] == 1

    shared = find_leaks({"training": Dataset(training), "test": Dataset([*test, labelled(cloud(999), "a3")])})
    assert shared.verdict == "fail" and shared["n_shared_groups"] == 1
    assert ("group", "training", "test", "a3", "") in shared.tables[0].rows

    numbered = [labelled(cloud(300 + k), description=f"Snapshot {k} of 9 of MD at 300 K") for k in range(2)]
    other = labelled(cloud(400), description="Snapshot 5 of 9 of MD at 900 K")
    assert find_leaks({"training": Dataset(numbered[:1]), "test": Dataset([other])}).verdict == "pass"
    found = find_leaks({"training": Dataset(numbered[:1]), "test": Dataset(numbered[1:])})
    assert found["n_shared_trajectories"] == 1


def test_thinning_is_said() -> None:
    data = Dataset([labelled(cloud(k)) for k in range(9)])
    record = find_leaks({"training": data, "test": data[:2]}, max_frames=5)
    assert any("every 2th frame" in note for note in record.notes)


def test_the_published_silicon_split_leaks_and_is_said_so(data_dir: Path) -> None:
    # its source says that some test frames come from the trajectories of training frames
    parts = {
        k: read(data_dir / f"mlearn/Si/{f}.xyz", level_of_theory="PBE", stress_key="stress")
        for k, f in (("training", "train"), ("test", "test"))
    }
    record = find_leaks(parts)
    assert record.verdict == "fail" and record["n_shared_trajectories"] >= 5 and len(parts["test"]) == 25
