"""Jobs in processes: order, progress, threads, errors."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rikiba.execution.processes import Job, JobError, run_jobs, try_jobs


def square(x: int, progress: Any) -> tuple[int, int, str | None]:
    progress(f"job {x}", 1, 1)
    return x * x, os.getpid(), os.environ.get("OMP_NUM_THREADS")


def fails(kind: str, progress: Any) -> None:
    raise {"value": ValueError, "other": RuntimeError}[kind](f"this is {kind}")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_in_order_with_progress(workers: int) -> None:
    heard: list[tuple[str, int | None, int | None]] = []
    found = run_jobs(
        [Job(square, (k,)) for k in range(5)],
        workers=workers,
        progress=lambda text, done=None, total=None: heard.append((text, done, total)),
    )
    assert [f[0] for f in found] == [0, 1, 4, 9, 16]
    assert sorted(heard) == [(f"job {k}", 1, 1) for k in range(5)]
    elsewhere = {pid for _, pid, _ in found} - {os.getpid()}
    assert bool(elsewhere) is (workers > 1)
    if workers > 1:
        assert {threads for _, _, threads in found} == {"1"}


def test_errors_keep_their_message() -> None:
    jobs = [Job(square, (2,)), Job(fails, ("value",))]
    with pytest.raises(ValueError, match="this is value"):
        run_jobs(jobs, workers=2)
    with pytest.raises(JobError, match="RuntimeError: this is other"):
        run_jobs([Job(square, (2,)), Job(fails, ("other",))], workers=2)
    with pytest.raises(ValueError, match="at least 1"):
        run_jobs(jobs, workers=0)


def dies(progress: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_fails_leaves_the_others_their_results() -> None:
    jobs = [Job(square, (2,)), Job(fails, ("value",)), Job(square, (3,))]
    with ThreadPoolExecutor(1) as pool:
        for found in (try_jobs(jobs, workers=1), try_jobs(jobs, workers=1, executor=pool)):
            assert [found[0][0], found[2][0]] == [4, 9]
            assert isinstance(found[1], JobError) and "ValueError: this is value" in str(found[1])
    assert try_jobs([], workers=2) == []


def test_a_process_that_dies_takes_no_other_job_with_it() -> None:
    first, second = try_jobs([Job(dies, ()), Job(square, (3,))], workers=2)
    assert isinstance(first, JobError) and "process died" in str(first)
    assert second[0] == 9
