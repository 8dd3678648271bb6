"""A structure from a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from ase import Atoms


@final
@dataclass(frozen=True, kw_only=True)
class File:
    """One structure of a file that ASE or rikiba reads (extended XYZ, POSCAR, CIF, PDB …).

    Args:
        path: the file; relative to the configuration's folder.
        index: which frame, counted from 0; −1 is the last.
    """

    path: Path
    index: int = -1

    def build(self) -> Atoms:
        """The structure. Raises FileNotFoundError, or ValueError for a frame that is not there."""
        from rikiba.data.formats import read_structures

        frames = read_structures(self.path)
        if not -len(frames) <= self.index < len(frames):
            raise ValueError(f"{self.path} has {len(frames)} frames; index is {self.index}.")
        return frames[self.index]
