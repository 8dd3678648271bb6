"""A trajectory as extended XYZ."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .base import ByteOutput, Reporter, Snapshot, checked_interval, frames_of


class Extxyz(Reporter):
    """Frames with energy, forces and velocities (as momenta), and `step`, `time_fs`, `system` in the header.

    The systems of a batch follow one another in the file.

    Args:
        path: file to write.
        interval: steps between frames.
        level_of_theory: what made the energies and forces, written to the header, so that the file is a
            labelled data set; not written if not given.
    """

    def __init__(self, *, path: str | Path, interval: int = 10, level_of_theory: str | None = None) -> None:
        self.interval = checked_interval(interval)
        self.level_of_theory = level_of_theory
        self._out = ByteOutput(path)

    def report(self, snapshot: Snapshot) -> str | None:
        from ase.io.extxyz import write_extxyz

        text = io.StringIO()
        frames = frames_of(snapshot)
        for atoms in frames if self.level_of_theory is not None else ():
            atoms.info["level_of_theory"] = self.level_of_theory
        write_extxyz(text, frames)
        self._out.write(text.getvalue().encode())
        return None

    def memory(self) -> Mapping[str, Any]:
        return {"length": self._out.length()}

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        self._out.cut(int(memory["length"]))

    def close(self) -> None:
        self._out.close()
