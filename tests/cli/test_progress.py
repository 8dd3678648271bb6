"""Progress as lines in a log and as bars on a terminal."""

import io

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
