"""Progress as lines in a log and as bars on a terminal."""

import io
import time

import pytest

from rikiba.cli.progress import Lines, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_for_every_tenth() -> None:
    log = io.StringIO()
    with progress(log) as show:
        for k in range(1001):
            show("Training", k, 1000)
        show("A remark")
    lines = [line.split(" ", 1)[1] for line in log.getvalue().splitlines()]
    assert lines == [f"Training: {k} of 1000" for k in range(0, 1001, 100)] + ["A remark"]


def test_work_without_an_end_is_not_flooded() -> None:
    log = io.StringIO()
    show = Lines(log)
    for k in range(1000):
        show("Searching", k)
    assert log.getvalue().count("\n") == 1


def test_a_terminal_gets_bars() -> None:
    terminal = Terminal()
    with progress(terminal) as show:
        for k in range(11):
            show("Training", k, 10)
            show("Labelling", 2 * k, 20)
        show("A [remark]")
    text = terminal.getvalue()
    assert "Training" in text and "10/10" in text and "20/20" in text and "A [remark]" in text


def test_a_rate_and_the_time_left_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    log = io.StringIO()
    show = Lines(log)
    for k in range(0, 101, 10):
        clock[0] = 60.0 * k
        show(f"Dynamics\t{k} ns/day", k, 100)
    lines = [line.split(" ", 1)[1] for line in log.getvalue().splitlines()]
    assert lines[0] == "Dynamics: 0 of 100 (0 ns/day)"
    assert lines[1] == "Dynamics: 10 of 100 (10 ns/day, 1:30:00 left)" and len(lines) == 11
    assert lines[-1] == "Dynamics: 100 of 100 (100 ns/day)"
    terminal = Terminal()
    with progress(terminal) as bar:
        bar("Dynamics\t3 ns/day", 5, 10)
        bar("Dynamics\t4 ns/day", 10, 10)
    assert "4 ns/day" in terminal.getvalue() and "\t" not in terminal.getvalue()
