"""Batches: concatenation, missing labels, order, ranks, the pair cache."""

from collections import Counter

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.batching import Loader, collate
from rikiba.data.dataset import Dataset, Labelled


def frame(
    seed: int, n: int = 5, periodic: bool = False, stress: bool = False, forces: bool = True
) -> Labelled:
    rng = np.random.default_rng(seed)
    cell = np.diag([6.0, 7.0, 8.0]) + rng.normal(0, 0.3, (3, 3)) if periodic else np.zeros((3, 3))
    atoms = Atoms(rng.choice([1, 6, 8], n), rng.uniform(0, 6, (n, 3)), cell=cell, pbc=periodic)
    results = Results(
        energy=torch.tensor([rng.normal()], dtype=torch.float64),
        forces=torch.from_numpy(rng.normal(size=(n, 3))) if forces else None,
        stress=torch.from_numpy(rng.normal(size=(1, 3, 3))) if stress else None,
    )
    return Labelled(
        system=System.from_ase(atoms), results=results, level_of_theory="toy", source=f"frame {seed}"
    )


def dataset(n: int = 11) -> Dataset:
    return Dataset(
        [frame(k, 3 + k % 4, periodic=k % 2 == 0, stress=k % 2 == 0, forces=k != 5) for k in range(n)]
    )


def test_collate_marks_missing_labels_with_nan() -> None:
    frames = [frame(0, 4, stress=True), frame(1, 3, forces=False)]
    batch = collate(frames, cutoff=3.0)
    assert batch.system.counts.tolist() == [4, 3]
    assert torch.equal(batch.labels.energy, torch.cat([f.results.energy for f in frames]))
    assert torch.equal(batch.labels.forces[:4], frames[0].results.forces)
    assert batch.labels.forces[4:].isnan().all()
    assert batch.labels.stress[1].isnan().all() and not batch.labels.stress[0].isnan().any()
    assert batch.weights["energy"].tolist() == [1.0, 1.0]
    assert batch.sources == ("frame 0", "frame 1")


def test_collate_refuses_a_label_that_is_not_finite() -> None:
    good = frame(0)
    bad = Labelled(
        system=good.system,
        results=good.results.replace(energy=torch.tensor([float("nan")], dtype=torch.float64)),
        level_of_theory="toy",
        source="file.xyz, frame 7",
    )
    collate([good], cutoff=3.0)
    with pytest.raises(ValueError, match=r"file\.xyz, frame 7.*energy"):
        collate([good, bad], cutoff=3.0)


def test_collate_refuses_a_label_of_wrong_shape() -> None:
    good = frame(0, 4)
    bad = Labelled(system=good.system, results=frame(1, 3).results, level_of_theory="toy", source="here")
    with pytest.raises(ValueError, match="here: 'forces' has shape"):
        collate([bad], cutoff=3.0)


def test_collate_fills_tags_but_not_charges() -> None:
    tagged = frame(0)
    tagged = Labelled(
        system=tagged.system.replace(tags=torch.ones(5, dtype=torch.int64)),
        results=tagged.results,
        level_of_theory="toy",
    )
    assert collate([tagged, frame(1)], cutoff=3.0).system.tags.tolist() == [1] * 5 + [0] * 5
    charged = Labelled(
        system=tagged.system.replace(charge=torch.ones(1, dtype=torch.float64)),
        results=tagged.results,
        level_of_theory="toy",
    )
    with pytest.raises(ValueError, match="charge"):
        collate([charged, frame(1)], cutoff=3.0)


@pytest.mark.parametrize("cache", [True, False])
def test_pairs_of_a_batch_equal_a_fresh_search(cache: bool) -> None:
    loader = Loader(dataset(), batch_size=4, cutoff=4.0, cache_pairs=cache)
    for epoch in range(2):  # the second epoch reads the cache
        for batch in loader.batches(epoch):
            fresh = find_pairs(batch.system, 4.0)
            assert len(fresh) > 0
            for name in ("i", "j", "shift"):
                assert torch.equal(getattr(batch.pairs, name), getattr(fresh, name))
    assert len(loader._kept) == (11 if cache else 0)


def test_cache_stays_within_its_bound() -> None:
    loader = Loader(dataset(), batch_size=4, cutoff=6.0, cache_MiB=0.002)
    list(loader.batches(0))
    kept = sum(sum(t.numel() * t.element_size() for t in parts) for parts in loader._kept.values())
    assert 0 < kept <= 0.002 * 2**20
    assert len(loader._kept) < 11


def test_order_follows_from_seed_and_epoch_alone() -> None:
    first = [b.frames for b in Loader(dataset(), batch_size=4, cutoff=3.0, seed=1).batches(3)]
    loader = Loader(dataset(), batch_size=4, cutoff=3.0, seed=1)
    list(loader.batches(0))
    assert [b.frames for b in loader.batches(3)] == first
    assert [b.frames for b in loader.batches(3, start=1)] == first[1:]
    assert [b.frames for b in loader.batches(4)] != first
    assert [b.frames for b in Loader(dataset(), batch_size=4, cutoff=3.0, seed=2).batches(3)] != first
    assert sorted(k for b in first for k in b) == list(range(11))


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_each_step(world_size: int) -> None:
    whole = [b.frames for b in Loader(dataset(), batch_size=5, cutoff=3.0).batches(1)]
    ranks = [
        list(Loader(dataset(), batch_size=5, cutoff=3.0, rank=r, world_size=world_size).batches(1))
        for r in range(world_size)
    ]
    assert {len(r) for r in ranks} == {len(whole)}
    padded = 0
    for step, frames in enumerate(whole):
        dealt = [b[step] for b in ranks]
        labelled = [b for b in dealt if not b.labels.energy.isnan().all()]
        assert Counter(k for b in labelled for k in b.frames) == Counter(frames)
        padded += len(dealt) - len(labelled)
        for b in dealt:
            if b not in labelled:
                assert b.labels.forces.isnan().all() and all((w == 0).all() for w in b.weights.values())
    assert padded == max(0, world_size - 1)  # 11 = 5 + 5 + 1: the last step has one frame


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Loader(Dataset([]), batch_size=2, cutoff=3.0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        Loader(dataset(), batch_size=0, cutoff=3.0)
    with pytest.raises(ValueError, match="rank 2"):
        Loader(dataset(), batch_size=1, cutoff=3.0, rank=2, world_size=2)


def test_a_mask_of_booleans_selects_frames() -> None:
    data = Dataset([frame(k) for k in range(4)])
    mask = np.array([True, False, False, True])
    for chosen in (data[mask], data[mask.tolist()]):
        assert [f is data[k] for f, k in zip(chosen, (0, 3), strict=True)] == [True, True]
    assert len(data[[]]) == 0
    with pytest.raises(IndexError, match="mask"):
        data[mask[:2]]
