"""Independent jobs in processes of their own, one thread each, with progress from all of them.

The seam to `concurrent.futures`: any executor with its interface can take the place of the local pool.
"""

import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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
    return [_result(f) for f in _in_pool(jobs, min(workers, len(jobs)), progress)]


def try_jobs(
    jobs: Sequence[Job], *, workers: int, progress: Progress = silent, executor: Executor | None = None
) -> list[Any]:
    """Results of the jobs, in order; a JobError stands where a job raised or its process died.

    A process that dies (killed, out of memory, a crash in a library) takes the local pool with it. Jobs that
    were left without an answer are then made again, each in a process of its own, so that one of them loses
    nobody else's work. An `executor` of one's own (a cluster's, with the interface of `concurrent.futures`)
    takes the place of the local pool; it gets calls without progress and brings its own isolation.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1; given {workers}.")
    if executor is not None:
        futures: list[Future[Any]] = [executor.submit(_call_in_silence, job) for job in jobs]
        wait(futures)
        return [_outcome(f) for f in futures]
    if workers == 1:
        return [_here(job, progress) for job in jobs]
    futures = _in_pool(jobs, min(workers, max(len(jobs), 1)), progress) if jobs else []
    again = [isinstance(f.exception(), BrokenProcessPool) for f in futures]
    return [
        _outcome(_in_pool([job], 1, progress)[0] if broken else f)
        for job, f, broken in zip(jobs, futures, again, strict=True)
    ]


def _in_pool(jobs: Sequence[Job], workers: int, progress: Progress) -> list["Future[Any]"]:
    """Finished futures of the jobs, from fresh interpreters with one thread each."""
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), context.Manager() as manager:
        messages = manager.Queue()
        with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
            futures = [_submit(pool, job, messages) for job in jobs]
            pending = {f for f in futures if not f.done()}
            while pending:
                _, pending = wait(pending, timeout=0.2)
                _relay(messages, progress)
        _relay(messages, progress)
        return futures


def _submit(pool: Executor, job: Job, messages: Any) -> "Future[Any]":
    """The job's future; a failed one where the pool broke before it took the job."""
    try:
        return pool.submit(_call, job, messages)
    except BrokenProcessPool as error:
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside see one thread."""
    threads = {k: os.environ.get(k) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))
    try:
        yield
    finally:
        for key, value in threads.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})


def _here(job: Job, progress: Progress) -> Any:
    try:
        return job.function(*job.arguments, progress=progress)
    except Exception as error:
        return _failure(error)


def _call_in_silence(job: Job) -> Any:
    return job.function(*job.arguments, progress=silent)


def _outcome(future: "Future[Any]") -> Any:
    error = future.exception()
    if error is None:
        return future.result()
    if not isinstance(error, Exception):
        raise error
    return _failure(error)


def _failure(error: Exception) -> "JobError":
    if isinstance(error, BrokenProcessPool):
        return JobError("The process died: it was killed, ran out of memory, or a library crashed.")
    return JobError(f"{type(error).__name__}: {error}")


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
        raise _failure(error) from error
