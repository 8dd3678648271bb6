"""Labelled structures: one `Labelled` per frame, a `Dataset` as their sequence."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from ase import Atoms

from rikiba.core import elements
from rikiba.core.results import Results
from rikiba.core.system import System


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """One structure with its labels and where they come from."""

    system: System
    """A single structure."""
    results: Results
    """The labels; an absent quantity is None."""
    level_of_theory: str
    """E.g. 'GFN2-xTB (tblite 0.8.0)' or 'PBE/def2-SVP'; never empty."""
    group: str = ""
    """Frames of one group (a trajectory, a parent structure) stay on one side of a split."""
    source: str = ""
    """File and frame, for messages."""
    weights: dict[str, float] = field(default_factory=dict)
    """Per-quantity factor on this frame's loss ('energy', 'forces', 'stress'); 1 where not given."""
    noise: dict[str, float] = field(default_factory=dict)
    """Known one-sigma noise of the labels per quantity."""

    def __post_init__(self) -> None:
        if self.system.n_systems != 1:
            raise ValueError(f"A Labelled holds one structure; given {self.system.n_systems}.")
        if not self.level_of_theory:
            raise ValueError(
                f"{self.source or 'A frame'} has no level of theory; name the method that made it."
            )


@final
class Dataset(Sequence[Labelled]):
    """An immutable sequence of labelled frames; `frames` may load lazily (see `data.streaming`).

    A lazy `frames` may offer `column(name) -> sequence of str` for 'group', 'level_of_theory' and 'source',
    and `elements`, so that these are known without loading structures. Selections of it stay lazy.
    """

    def __init__(self, frames: Sequence[Labelled], name: str = "") -> None:
        self.frames = frames
        self.name = name

    @staticmethod
    def from_ase(
        frames: Sequence[Atoms],
        *,
        level_of_theory: str | None = None,
        group: str | None = None,
        need: Sequence[str] = ("energy", "forces"),
        name: str = "",
    ) -> "Dataset":
        """Labels that ASE structures carry in their calculators: energy, forces, stress, charges and so on.

        The level of theory and the group come from `info` unless given. Raises ValueError, naming the frame,
        for a label that is needed and absent or that is not finite.
        """
        from .formats import from_ase

        return Dataset(from_ase(frames, level_of_theory=level_of_theory, group=group, need=need).frames, name)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index):  # type: ignore[no-untyped-def, override]
        """One frame for an integer; a Dataset for a slice, a list of indices or a mask of booleans."""
        if isinstance(index, (int, np.integer)):
            return self.frames[int(index)]
        rows = range(len(self))[index] if isinstance(index, slice) else self._rows(index)
        if isinstance(self.frames, (list, tuple)):
            return Dataset([self.frames[k] for k in rows], self.name)
        return Dataset(_Selection(self.frames, rows), self.name)

    def _rows(self, index: Any) -> list[int]:
        chosen = np.asarray(index)
        if chosen.dtype != bool:
            return [int(k) for k in chosen]
        if chosen.shape != (len(self),):
            raise IndexError(f"A mask of shape {chosen.shape} does not fit {len(self)} frames.")
        return [int(k) for k in np.flatnonzero(chosen)]

    def __iter__(self) -> Iterator[Labelled]:
        return (self.frames[k] for k in range(len(self)))

    def __add__(self, other: "Dataset") -> "Dataset":
        """The frames of both, loaded into memory."""
        return Dataset([*self, *other], self.name or other.name)

    def filter(self, keep: Callable[[Labelled], bool]) -> "Dataset":
        """The frames for which `keep` is true."""
        return self[[k for k, f in enumerate(self) if keep(f)]]

    def map(self, **changes: object) -> "Dataset":
        """Every frame with the named fields replaced."""
        return Dataset([replace(f, **changes) for f in self], self.name)  # type: ignore[arg-type]

    def column(self, name: str) -> Sequence[str]:
        """'group', 'level_of_theory' or 'source' of every frame."""
        if name not in ("group", "level_of_theory", "source"):
            raise ValueError(f"There is no column '{name}'; known are group, level_of_theory, source.")
        if hasattr(self.frames, "column"):
            return self.frames.column(name)
        return [getattr(f, name) for f in self]

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols present, ordered by atomic number."""
        if hasattr(self.frames, "elements"):
            return self.frames.elements
        return elements.sorted_symbols({z for f in self for z in f.system.numbers.tolist()})

    @property
    def groups(self) -> tuple[str, ...]:
        """Group names in order of first appearance."""
        return tuple(dict.fromkeys(self.column("group")))

    @property
    def levels_of_theory(self) -> tuple[str, ...]:
        """Levels of theory in order of first appearance."""
        return tuple(dict.fromkeys(self.column("level_of_theory")))


class _Selection(Sequence[Labelled]):
    """Some rows of a lazy sequence, still lazy."""

    def __init__(self, frames: Sequence[Labelled], rows: Sequence[int]) -> None:
        if isinstance(frames, _Selection):
            rows, frames = [frames.rows[k] for k in rows], frames.frames
        self.frames: Sequence[Labelled] = frames
        self.rows: Sequence[int] = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Selection(self.frames, self.rows[index])
        return self.frames[self.rows[index]]

    def column(self, name: str) -> Sequence[str]:
        if hasattr(self.frames, "column"):
            whole = self.frames.column(name)
            return [whole[k] for k in self.rows]
        return [getattr(f, name) for f in self]
