"""How far long work is: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rikiba.execution.progress import Progress

EVERY_S = 10.0
"""Longest silence of a log while work goes on."""
STEPS = 10
"""Lines that a log gets of one piece of work, at most, unless it is slow."""


class Lines:
    """Plain lines with the time of day: at the start, every tenth of the work or 10 s, and at the end."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._last: dict[str, tuple[int, float]] = {}
        self._begun: dict[str, tuple[int, float]] = {}

    def __call__(self, text: str, done: int | None = None, total: int | None = None) -> None:
        if done is None:
            self._line(text)
            return
        text, _, rate = text.partition("\t")
        now = time.monotonic()
        begun = self._begun.setdefault(text, (done, now))
        tenth = STEPS * done // total if total else -1
        before = self._last.get(text)
        ended = total is not None and done >= total
        if before is None or tenth > before[0] or now - before[1] >= EVERY_S or ended:
            left = "" if total is None else _left(done - begun[0], total - done, now - begun[1])
            beside = ", ".join(word for word in (rate, left) if word)
            self._line(
                f"{text}: {done}" + (f" of {total}" if total else "") + (f" ({beside})" if beside else "")
            )
            self._last[text] = (tenth, now)
        if ended:
            del self._last[text], self._begun[text]

    def _line(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=self.stream, flush=True)


def _left(done: int, left: int, seconds: float) -> str:
    """Time left at the mean rate so far; nothing within the first second."""
    if done <= 0 or left <= 0 or seconds < 1.0:
        return ""
    rest = round(seconds * left / done)
    hours, minutes = divmod(rest // 60, 60)
    if hours >= 48:
        return f"{hours / 24:.1f} days left"
    return f"{hours}:{minutes:02d}:{rest % 60:02d} left"


@contextmanager
def progress(stream: TextIO | None = None) -> Iterator[Progress]:
    """A bar for each piece of work where the stream is a terminal, else plain lines."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield Lines(stream)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    tasks: dict[str, object] = {}
    with Bars(*columns, console=Console(file=stream)) as bars:

        def show(text: str, done: int | None = None, total: int | None = None) -> None:
            if done is None:
                bars.console.print(text, markup=False, highlight=False)
                return
            text, _, rate = text.partition("\t")
            task = tasks.setdefault(text, None) or bars.add_task(text, total=total, rate=rate)
            tasks[text] = task
            bars.update(task, completed=done, total=total, rate=rate)  # type: ignore[arg-type]
            if total is not None and done >= total:
                del tasks[text]

        yield show
