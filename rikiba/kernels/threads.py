"""Parts of one evaluation on several threads, each a chain of kernels that release the interpreter's lock.

Not OpenMP regions inside kernels: numba's runtime and torch's are two, whose waiting threads would take each
other's cores, and numba's portable one aborts a process that calls it from two threads.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import pairwise
from threading import Barrier

import torch

_outside: ContextVar[int | None] = ContextVar("torch's threads outside one_torch_thread", default=None)


@contextmanager
def one_torch_thread() -> Iterator[int]:
    """Inside, torch computes on the calling thread alone; gives the number of threads that it had outside.

    Small arrays gain nothing from a second thread, whose waking costs more than they do (on a busy machine
    tens of milliseconds), and a program's own threads would share their cores with torch's.
    """
    outside = _outside.get()
    if outside is not None:
        yield outside
        return
    threads = torch.get_num_threads()
    token = _outside.set(threads)
    if threads > 1:
        torch.set_num_threads(1)
    try:
        yield threads
    finally:
        _outside.reset(token)
        if threads > 1:
            torch.set_num_threads(threads)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that run torch single-threaded; one pool per process, for threads do not survive a fork."""
    pool = ThreadPoolExecutor(threads, "rikiba", initializer=torch.set_num_threads, initargs=(1,))
    before, together = torch.get_num_threads(), Barrier(threads)
    for task in [pool.submit(together.wait) for _ in range(threads)]:  # all of them start
        task.result()
    torch.set_num_threads(before)  # the default of later threads, which each initialiser has set to 1
    return pool


def in_threads(task: Callable[[int], None], threads: int) -> None:
    """Run task(0) … task(threads − 1) at once, plainly where threads is 1; raise the first error."""
    if threads == 1:
        task(0)
        return
    running = [_pool(threads, os.getpid()).submit(task, k) for k in range(threads)]
    errors = [x.exception() for x in running]
    for error in errors:
        if error is not None:
            raise error


def over_slices(task: Callable[[int, int], None], n: int, threads: int, multiple: int = 16) -> None:
    """Run task(first, last) on equal parts of 0 … n, each a multiple of `multiple` long but the last."""
    if threads == 1:
        if n:
            task(0, n)
        return
    size = -(-n // (threads * multiple)) * multiple
    bounds = [min(k * size, n) for k in range(threads + 1)]
    parts = [(a, b) for a, b in pairwise(bounds) if b > a]
    if parts:
        in_threads(lambda k: task(*parts[k]), len(parts))


def deal(task: Callable[[int], object], n: int) -> None:
    """Run task(0) … task(n − 1), dealt to torch's number of threads; each writes to its own places."""
    threads = max(1, min(torch.get_num_threads(), n))

    def hand(k: int) -> None:
        for number in range(k, n, threads):
            task(number)

    in_threads(hand, threads)
