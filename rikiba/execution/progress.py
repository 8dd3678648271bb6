"""How long work says how far it is: one callable, so that no room knows of terminals."""

from typing import Protocol


class Progress(Protocol):
    """Told about work: `progress("Labelling", 120, 600)`; with a text alone it is a remark.

    `done` may come in any steps; `done == total` ends that work. A text may hold a rate after a tab
    (`"Dynamics\\t12 ns/day"`), which is shown beside the work and does not name it.
    """

    def __call__(self, text: str, done: int | None = None, total: int | None = None) -> None: ...


def silent(text: str, done: int | None = None, total: int | None = None) -> None:
    """Progress that nobody wants to see."""
