"""Work on several threads: same bits, torch single-threaded inside, errors raised, usable after a fork."""

import multiprocessing
import os
import threading
from typing import Any

import numpy as np
import pytest
import torch

from rikiba.kernels.threads import in_threads, one_torch_thread, over_slices


def test_tasks_run_at_the_same_time_with_one_torch_thread_each() -> None:
    together, seen = threading.Barrier(3, timeout=20.0), {}

    def task(k: int) -> None:
        together.wait()  # passes only if all three are running
        seen[k] = (threading.get_ident(), torch.get_num_threads())

    before = torch.get_num_threads()
    in_threads(task, 3)
    assert sorted(seen) == [0, 1, 2] and len({ident for ident, _ in seen.values()}) == 3
    assert {threads for _, threads in seen.values()} == {1}
    assert torch.get_num_threads() == before


def test_one_thread_is_the_caller() -> None:
    seen: list[int] = []
    in_threads(lambda k: seen.append(threading.get_ident()), 1)
    assert seen == [threading.get_ident()]


def test_errors_are_raised() -> None:
    def task(k: int) -> None:
        if k == 1:
            raise ValueError("of the second")

    with pytest.raises(ValueError, match="of the second"):
        in_threads(task, 2)
    in_threads(lambda k: None, 2)  # and the threads live on


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 100, 1000])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_slices_cover_everything_once(n: int, threads: int) -> None:
    count = np.zeros(n, np.int64)

    def task(a: int, b: int) -> None:
        assert a % 16 == 0
        count[a:b] += 1

    over_slices(task, n, threads)
    assert bool((count == 1).all())


def test_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyError), one_torch_thread() as given:
            assert (given, torch.get_num_threads()) == (2, 1)
            with one_torch_thread() as inner:
                assert inner == 2
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        with one_torch_thread() as given:
            assert given == 1
    finally:
        torch.set_num_threads(before)


def _in_child(found: Any) -> None:
    seen: list[int] = []
    in_threads(seen.append, 2)
    found.put(sorted(seen))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_threads_after_a_fork() -> None:
    in_threads(lambda k: None, 2)  # the parent has threads that the child will not have
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    child = context.Process(target=_in_child, args=(found,))
    child.start()
    try:
        assert found.get(timeout=20) == [0, 1]
    finally:
        child.join(20)
        assert child.exitcode == 0


def test_kernels_give_the_same_bits_in_parts() -> None:
    """Messages of all atoms at once, and of two halves at the same time."""
    from rikiba.kernels.message_cpu import Paths, Rows, message_forward

    generator = np.random.default_rng(0)
    n_atoms, n_pairs, channels = 20, 20 * 7, 64
    start = np.arange(0, n_pairs + 1, 7)
    sender, row = generator.integers(0, n_atoms, n_pairs), generator.integers(0, 30, n_pairs)
    weights, table, features, angular = (
        generator.normal(size=n).astype(np.float32)
        for n in (n_pairs * 12, 40 * 2 * channels, n_atoms * channels, n_pairs * 4)
    )
    one = [np.array(x) for x in ([0, 0], [1, 1], [0, 1], [1, 3], [0, 1])]
    paths = Paths(*one)
    rows = Rows(np.array([0, 1, 1, 1]), np.array([1, 3, 3, 3]), np.array([0, 0, 1, 2]))

    def run(first: int, last: int) -> np.ndarray:
        out = np.zeros((last - first) * 4 * channels, np.float32)
        message_forward(
            first, last, start, sender, row, weights, table, features, n_atoms, angular, 0,
            paths, rows, channels, np.zeros(0, np.float32), out
        )  # fmt: skip
        scalars, vectors = np.split(out, [(last - first) * channels])
        return np.concatenate([scalars.reshape(-1, channels), vectors.reshape(-1, 3 * channels)], 1)

    whole, parts = run(0, n_atoms), [np.zeros(0), np.zeros(0)]

    def task(k: int) -> None:
        parts[k] = run(10 * k, 10 * (k + 1))

    in_threads(task, 2)
    assert np.array_equal(whole, np.concatenate(parts)) and np.abs(whole).min() > 0
