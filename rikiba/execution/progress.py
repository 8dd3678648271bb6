"""How long work says how far it is: one callable, so that no room knows of terminals."""

from typing import Protocol


class Progress(Protocol):
    """Told about work: `progress("Labelling", 120, 600)`; with a text alone it is a remark.

    `done` may come in any steps; `done == total` ends that work.
    """

    def __call__(self, text: str, done: int | None = None, total: int | None = None) -> None: ...


def silent(text: str, done: int | None = None, total: int | None = None) -> None:
    """Progress that nobody wants to see."""
