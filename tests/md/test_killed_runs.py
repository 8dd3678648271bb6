"""kill −9 at any moment: what is resumed equals what was never stopped, in every ensemble, to the bit."""

import functools
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killed_runs import PLACES, STEPS, assert_same, build, ensembles, finish, run_to_be_killed

from rikiba.md import checkpoint
from rikiba.md.simulation import Simulation

NAMES = ensembles()
MOMENTS = 50
"""Runs killed at random moments; a tenth of them in the default suite."""


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here as in the processes that are killed."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Uninterrupted runs by the ensemble's name, made when asked for."""

    @functools.cache
    def whole(name: str) -> Simulation:
        folder = tmp_path_factory.mktemp("whole")
        return finish(folder, name)

    return whole


@pytest.fixture(scope="module")
def starter() -> Iterator[Any]:
    """Starts processes from one that has imported everything, so that each costs milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_runs_server"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # the server finds its module nowhere else
    try:
        context.Process(target=int).start()
        yield context
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def killed(starter: Any, folder: Path, name: str, place: str | None, nth: int, share: float) -> int | None:
    """Runs in a process of its own that is killed; returns its exit code."""
    ours, theirs = starter.Pipe()
    child = starter.Process(target=run_to_be_killed, args=(folder, name, place, nth, theirs))
    child.start()
    theirs.close()
    try:
        ours.recv()
        if place is None:
            time.sleep(share)
            child.kill()
    except EOFError:  # killed before it was ready
        pass
    child.join(60)
    return child.exitcode


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_run_goes_on(name: str, references: Any, tmp_path: Path) -> None:
    """Every ensemble: thrown away after some steps beyond a checkpoint, and resumed by a new object."""
    whole = references(name)
    build(tmp_path, name).run(21)  # its end is a checkpoint beside the regular ones
    lost = build(tmp_path, name)
    assert lost.resume() and lost.state.step == 21
    lost.checkpoint = None
    lost.run(14)
    resumed = finish(tmp_path, name)
    # the checkpoint at step 21 synchronised files in other places, but left no other bytes
    assert_same(whole, resumed)


@pytest.mark.parametrize("what", ["velocities", "memory"])
def test_a_lost_memory_is_noticed(what: str, references: Any, tmp_path: Path) -> None:
    """Negative control: a checkpoint that misses a bit of state does not pass."""
    whole = references("nose_hoover")
    path = build(tmp_path, "nose_hoover").run(24).checkpoint
    arrays, meta = checkpoint.read(path)  # type: ignore[arg-type]
    name = "state/velocities" if what == "velocities" else "memory/T/systems/chain_velocities"
    arrays[name] = np.nextafter(arrays[name], 1.0)
    checkpoint.write(path, arrays, {k: v for k, v in meta.items() if k != "format"})  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        assert_same(whole, finish(tmp_path, "nose_hoover"))


def one_killed_run(seed: int, starter: Any, references: Any, folder: Path) -> None:
    """Killed up to three times at random moments, then run to its end."""
    draw = random.Random(seed)
    name = NAMES[(7 * seed) % len(NAMES)]
    for _ in range(draw.randint(1, 3)):
        code = killed(starter, folder, name, None, 0, draw.uniform(0.0, 0.25))
        assert code in (-signal.SIGKILL, 0)
    assert_same(references(name), finish(folder, name))


@pytest.mark.parametrize("seed", range(MOMENTS // 10))
def test_killed_at_a_random_moment(seed: int, starter: Any, references: Any, tmp_path: Path) -> None:
    one_killed_run(seed, starter, references, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(MOMENTS // 10, MOMENTS))
def test_killed_at_many_random_moments(seed: int, starter: Any, references: Any, tmp_path: Path) -> None:
    one_killed_run(seed, starter, references, tmp_path)


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_the_worst_moment(place: str, starter: Any, references: Any, tmp_path: Path) -> None:
    """In the middle of a frame, of a checkpoint, of a copy: twice each, at different occasions."""
    name = NAMES[len(place) % len(NAMES)]
    if "copied" in place:
        killed(starter, tmp_path, name, "between the datasets of one frame", 60, 0.0)
    for nth in (3, 17):
        code = killed(starter, tmp_path, name, place, nth, 0.0)
        assert code == -signal.SIGKILL
    assert_same(references(name), finish(tmp_path, name))


def test_what_was_reported_is_there_after_a_kill(starter: Any, tmp_path: Path) -> None:
    """At most the interval that was under way is lost: the HDF5 file is read without any repair."""
    from rikiba.md.reporters.hdf5 import Hdf5, read_hdf5

    # the 9 datasets of a frame are flushed one after another: frame 6 is under way
    assert killed(starter, tmp_path, "nve", "between the datasets of one frame", 6 * 9 + 4, 0.0) == -9
    kept = read_hdf5(tmp_path / "out.hdf5")
    interval = next(r.interval for r in build(tmp_path, "nve").reporters if isinstance(r, Hdf5))
    assert kept["step"].tolist() == [interval * k for k in range(6)] and interval * 6 < STEPS
    assert bool(kept["positions"].isfinite().all()) and torch.unique(kept["positions"][:, 0, 0]).numel() == 6
