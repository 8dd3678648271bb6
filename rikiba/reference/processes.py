"""Labels from several processes at once."""

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from ase import Atoms

from .base import Failure, Reference


class Parallel:
    """A reference that labels in `workers` spawned processes, one thread each; the frames' order is kept.

    A process that dies takes no other frame with it: the frames that were in work are tried again one at a
    time, and one that kills its process again is a Failure. The wrapped reference must survive pickling; a
    script that uses this needs the usual `if __name__ == "__main__":`.
    """

    def __init__(self, *, reference: Reference, workers: int = 2) -> None:
        """
        Args:
            reference: the reference that each process runs
            workers: number of processes
        """
        if workers < 1:
            raise ValueError(f"workers is {workers}; at least 1 is needed.")
        self.reference, self.workers = reference, workers

    @property
    def level_of_theory(self) -> str:
        return self.reference.level_of_theory

    @property
    def fingerprint(self) -> str:
        return getattr(self.reference, "fingerprint", self.level_of_theory)

    def label(self, frames: Sequence[Atoms]) -> list[Atoms | Failure]:
        """One labelled copy or Failure per frame, in order."""
        answers = dict(self.stream(frames))
        return [answers[k] for k in range(len(frames))]

    def stream(self, frames: Sequence[Atoms]) -> Iterator[tuple[int, Atoms | Failure]]:
        """(index, answer) as they are finished."""
        size = max(1, min(16, len(frames) // (4 * self.workers)))
        parts = deque(range(k, min(k + size, len(frames))) for k in range(0, len(frames), size))
        suspects: list[int] = []
        while parts:
            suspects += yield from self._round(frames, parts, self.workers)
        singly = deque(range(k, k + 1) for k in sorted(suspects))
        while singly:
            for k in (yield from self._round(frames, singly, 1)):
                yield k, Failure(atoms=frames[k], reason="the process that labelled this structure died")

    def _round(
        self, frames: Sequence[Atoms], parts: deque[range], workers: int
    ) -> Generator[tuple[int, Atoms | Failure], None, list[int]]:
        """Label parts from the queue in one pool, as many at once as there are processes.

        Returns the frames that were in work when a process died; the rest stays in the queue.
        """
        pool = ProcessPoolExecutor(
            min(workers, len(parts)),
            mp_context=get_context("spawn"),
            initializer=_start,
            initargs=(self.reference,),
        )
        running: dict[Future[list[Atoms | Failure]], range] = {}
        lost: list[int] = []
        with pool:
            while (parts or running) and not lost:
                try:
                    while parts and len(running) < workers:
                        running[pool.submit(_run, [frames[k] for k in parts[0]])] = parts[0]
                        parts.popleft()
                except BrokenProcessPool:  # a process died since the last answer
                    if not running:
                        break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    part = running.pop(future)
                    try:
                        yield from zip(part, future.result(), strict=True)
                    except BrokenProcessPool:
                        lost += part
        for part in running.values():
            lost += part
        return lost


_reference: Reference | None = None
"""The reference of a worker process; set once when it starts, never in the parent."""


def _start(reference: Reference) -> None:
    global _reference
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    _reference = reference


def _run(frames: Sequence[Atoms]) -> list[Atoms | Failure]:
    assert _reference is not None
    return _reference.label(frames)
