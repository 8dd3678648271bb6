"""Stores on disk: exact round trip, lazy access, bounded memory, several processes."""

import multiprocessing
import pickle
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from rikiba.core.system import System
from rikiba.data import formats
from rikiba.data.batching import Loader
from rikiba.data.dataset import Dataset, Labelled
from rikiba.data.splits import split_by_group
from rikiba.data.streaming import convert, open_store, write_store


def varied(make_frame, n: int = 12) -> list[Labelled]:
    """Frames of which some lack stress, charge, tags, forces."""
    frames = []
    for k in range(n):
        f = make_frame(
            k, 2 + k % 4, periodic=k % 3 > 0, group=f"g{k // 3}", level="PBE", info={"k": k, "t": "x y"}
        )
        changes = {}
        if k % 2:
            changes["charge"] = torch.tensor([float(k)], dtype=torch.float64)
            changes["spin"] = torch.tensor([k])
        if k > 6:
            changes["tags"] = torch.arange(f.system.n_atoms)
            changes["magmoms"] = torch.rand(f.system.n_atoms, dtype=torch.float64)
        results = f.results.replace(forces=None) if k == 4 else f.results
        if k > 8:
            results = results.replace(charges=torch.rand(f.system.n_atoms, dtype=torch.float64))
        frames.append(
            Labelled(
                system=f.system.replace(**changes), results=results, level_of_theory="PBE", group=f.group,
                source=f.source, weights={"forces": 0.5 * k} if k % 2 else {},
                noise={"energy": 0.1} if k == 3 else {},
            )
        )  # fmt: skip
    return frames


def same(a: Labelled, b: Labelled) -> None:
    for name in System.__dataclass_fields__:
        x, y = getattr(a.system, name), getattr(b.system, name)
        if isinstance(x, torch.Tensor):
            assert y is not None and x.dtype == y.dtype and torch.equal(x, y), name
        else:
            assert x == y, name
    assert {q.name for q in a.results.present()} == {q.name for q in b.results.present()}
    for q in a.results.present():
        assert torch.equal(getattr(a.results, q.name), getattr(b.results, q.name)), q.name
    for name in ("level_of_theory", "group", "source", "weights", "noise"):
        assert getattr(a, name) == getattr(b, name)


def test_round_trip_is_exact(make_frame, tmp_path: Path) -> None:
    frames = varied(make_frame)
    data = open_store(write_store(frames, tmp_path / "s"))
    assert len(data) == 12
    for k in (11, 0, 4, 7, 3, *range(12)):
        same(frames[k], data[k])
    same(frames[-1], data[-1])
    with pytest.raises(IndexError):
        data[12]
    assert [f.source for f in data[3:6]] == [f.source for f in frames[3:6]]


def test_columns_selections_and_splits_stay_lazy(make_frame, tmp_path: Path) -> None:
    frames = varied(make_frame)
    data = open_store(write_store(frames, tmp_path / "s"))
    assert data.groups == Dataset(frames).groups and data.elements == Dataset(frames).elements
    assert list(data.column("source")) == [f.source for f in frames]
    division = split_by_group(data, validation_fraction=0.25, test_fraction=0.25, seed=0)
    for part in division.parts.values():
        assert not isinstance(part.frames, list)
        for f in part:
            same(next(g for g in frames if g.source == f.source), f)
    assert [f.source for f in data[[5, 1]][::-1]] == [frames[1].source, frames[5].source]


def test_convert_equals_read(make_frame, tmp_path: Path) -> None:
    frames = [make_frame(k, 4, group=f"g{k}") for k in range(6)]
    path = formats.write(tmp_path / "a.xyz", frames)
    keys = formats.Keys(stress="stress")
    store = convert([path, path], tmp_path / "s", keys=keys)
    for a, b in zip([*formats.read(path, stress_key="stress")] * 2, store, strict=True):
        same(a, b)


def test_a_broken_file_leaves_no_store(make_frame, tmp_path: Path) -> None:
    path = formats.write(tmp_path / "a.xyz", [make_frame(k, 4) for k in range(3)])
    path.write_text(path.read_text()[:-20])
    with pytest.raises(formats.FormatError):
        convert(path, tmp_path / "s")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.xyz"]
    with pytest.raises(ValueError, match="not a complete store"):
        open_store(tmp_path / "s")
    with pytest.raises(ValueError, match="no frames"):
        write_store([], tmp_path / "s")


def test_loader_over_a_store_equals_one_in_memory(make_frame, tmp_path: Path) -> None:
    frames = [make_frame(k, 3 + k % 3, group=f"g{k}") for k in range(9)]
    store = open_store(write_store(frames, tmp_path / "s"))
    both = [Loader(d, batch_size=4, cutoff=4.0, seed=2) for d in (Dataset(frames), store)]
    for epoch in range(2):
        for a, b in zip(both[0].batches(epoch), both[1].batches(epoch), strict=True):
            assert a.frames == b.frames and torch.equal(a.system.positions, b.system.positions)
            assert torch.equal(a.labels.forces, b.labels.forces) and torch.equal(a.pairs.shift, b.pairs.shift)


def _sum_of_energies(data: Dataset, rows: range) -> float:
    return sum(float(data[k].results.energy) for k in rows)


def test_it_can_be_sent_to_other_processes(make_frame, tmp_path: Path) -> None:
    frames = [make_frame(k, 3) for k in range(8)]
    data = open_store(write_store(frames, tmp_path / "s"))
    same(frames[5], pickle.loads(pickle.dumps(data))[5])
    assert len(pickle.dumps(data)) < 1000
    with multiprocessing.get_context("fork").Pool(2) as pool:
        sums = pool.starmap(_sum_of_energies, [(data, range(0, 4)), (data, range(4, 8))])
    assert sum(sums) == pytest.approx(sum(float(f.results.energy) for f in frames))


@pytest.mark.parametrize("n", [2000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_memory_stays_bounded(tmp_path: Path, n: int) -> None:
    """Frames of 9 atoms, 1 kB each as text: 2 MB in the quick case, 50 MB in the slow one."""
    atoms = 9
    rng = np.random.default_rng(0)
    path = tmp_path / "big.xyz"
    with path.open("w") as file:
        for k in range(n):
            rows = "".join(f"C {' '.join(f'{v:.6f}' for v in row)}\n" for row in rng.normal(0, 3, (atoms, 6)))
            file.write(
                f"{atoms}\nProperties=species:S:1:pos:R:3:forces:R:3 energy={-0.5 * k} group=g{k // 100} "
                f'pbc="F F F"\n{rows}'
            )
    tracemalloc.start()
    data = convert(path, tmp_path / "s", level_of_theory="toy")
    peak_convert = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    for k in rng.permutation(n)[:1000]:
        assert float(data[int(k)].results.energy) == -0.5 * k
    peak_read = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    started = formats.read(path, level_of_theory="toy")
    peak_whole = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) == len(started) == n and len(data.groups) == n // 100
    # 15 files with buffers and one frame, whatever n; the whole set in memory is 3 kB a frame
    assert peak_convert < 1.5e6 and peak_read < 1.5e6, (peak_convert, peak_read)
    assert peak_whole > 2e3 * n  # the negative control: reading everything would have been seen


def test_a_store_replaced_under_a_reader_is_noticed(make_frame, tmp_path: Path) -> None:
    store = open_store(write_store(varied(make_frame, 4), tmp_path / "a"))
    assert store[0].system.n_atoms == 2
    write_store(varied(make_frame, 9)[4:], tmp_path / "a")
    with pytest.raises(ValueError, match="was replaced while it was being read"):
        [frame.results for frame in store]
    assert len(open_store(tmp_path / "a")) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def _write_again_and_again(frames: list[Labelled], folder: Path) -> None:
    for _ in range(15):
        write_store(frames, folder)


def test_several_may_write_one_store(make_frame, tmp_path: Path) -> None:
    small, large = varied(make_frame, 3), varied(make_frame, 6)
    threads = [
        threading.Thread(target=_write_again_and_again, args=(f, tmp_path / "a")) for f in (small, large)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = open_store(tmp_path / "a")
    expected = small if len(found) == 3 else large
    assert len(found) == len(expected)
    assert all(
        torch.equal(a.system.positions, b.system.positions) for a, b in zip(found, expected, strict=True)
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
