"""Independent jobs in processes of their own, one thread each, with progress from all of them.

The seam to `concurrent.futures`: any executor with its interface can take the place of the local pool.
"""

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, final

from .progress import Progress, silent


@final
@dataclass(frozen=True)
class Job:
    """A call to make: `function(*arguments, progress=…)`; function and arguments must be picklable."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class JobError(RuntimeError):
    """A job raised; the message is its own."""


def run_jobs(jobs: Sequence[Job], *, workers: int, progress: Progress = silent) -> list[Any]:
    """Results of the jobs, in order; with one worker they run here, one after another.

    Each worker is a fresh interpreter (spawn) with one thread. A ValueError of a job is raised as it is, so
    that a user's mistake keeps its message; anything else as JobError.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1; given {workers}.")
    if workers == 1 or len(jobs) <= 1:
        return [job.function(*job.arguments, progress=progress) for job in jobs]
    context = multiprocessing.get_context("spawn")
    threads = {k: os.environ.get(k) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))
    try:
        with context.Manager() as manager, _pool(workers, len(jobs), context) as pool:
            messages = manager.Queue()
            futures = [pool.submit(_call, job, messages) for job in jobs]
            pending = set(futures)
            while pending:
                _, pending = wait(pending, timeout=0.2)
                _relay(messages, progress)
            _relay(messages, progress)
            return [_result(f) for f in futures]
    finally:
        for key, value in threads.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})


def _pool(workers: int, n_jobs: int, context: Any) -> Executor:
    return ProcessPoolExecutor(max_workers=min(workers, n_jobs), mp_context=context)


def _call(job: Job, messages: Any) -> Any:
    import torch

    torch.set_num_threads(1)

    def tell(text: str, done: int | None = None, total: int | None = None) -> None:
        messages.put((text, done, total))

    return job.function(*job.arguments, progress=tell)


def _relay(messages: Any, progress: Progress) -> None:
    while True:
        try:
            progress(*messages.get_nowait())
        except queue.Empty:
            return


def _result(future: Any) -> Any:
    try:
        return future.result()
    except (ValueError, FileNotFoundError):
        raise
    except Exception as error:
        raise JobError(f"{type(error).__name__}: {error}") from error
