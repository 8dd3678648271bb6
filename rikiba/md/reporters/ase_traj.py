"""A trajectory in ASE's binary format."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .base import Reporter, Snapshot, check_length, checked_interval, frames_of

_COUNT_AT, _TABLE_AT, _GROWTH = 32, 40, 42
"""ASE's container: bytes where the number of frames and the place of their table stand; growth of tables."""


class AseTraj(Reporter):
    """Frames in an ASE .traj file, with energy, forces, momenta and `step`, `time_fs`, `system` in `info`.

    Positions are not wrapped. The systems of a batch follow one another in the file.

    Args:
        path: file to write.
        interval: steps between frames.
    """

    def __init__(self, *, path: str | Path, interval: int = 10) -> None:
        self.interval = checked_interval(interval)
        self.path = Path(path)
        self._writer: Any = None
        self._frames = 0

    def report(self, snapshot: Snapshot) -> str | None:
        from ase.io.trajectory import TrajectoryWriter

        frames = frames_of(snapshot)
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = TrajectoryWriter(self.path, mode="a" if self._frames else "w")
        before = self._place()
        try:
            for atoms in frames:
                self._writer.write(atoms)
        except OSError:
            self._abandon()
            self._cut(*before)
            raise
        self._frames += len(frames)
        return None

    def memory(self) -> Mapping[str, Any]:
        self.close()
        if self._frames:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
        frames, length, table = self._place()
        return {"frames": frames, "length": length, "table": table}

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        self.close()
        self._frames = int(memory["frames"])
        if self._frames:
            check_length(self.path, int(memory["length"]))
            self._cut(self._frames, int(memory["length"]), int(memory["table"]))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _place(self) -> tuple[int, int, int]:
        """(frames, bytes, place of the table of frames) of the file as it stands."""
        if self._frames == 0:
            return 0, 0, 0
        with open(self.path, "rb") as file:
            file.seek(_TABLE_AT)
            table = int.from_bytes(file.read(8), "little")
            return self._frames, file.seek(0, os.SEEK_END), table

    def _cut(self, frames: int, length: int, table: int) -> None:
        """Make the file what it was when it had so many frames, to the byte."""
        if frames == 0:
            return
        capacity = 1
        while capacity < frames:
            capacity *= _GROWTH
        with open(self.path, "r+b") as file:
            file.truncate(length)
            file.seek(_COUNT_AT)
            file.write(np.array([frames, table], "<i8").tobytes())
            file.seek(table + 8 * frames)
            file.write(bytes(8 * (capacity - frames)))

    def _abandon(self) -> None:
        """Let go of a file whose last frame could not be written."""
        backend, self._writer = self._writer.backend, None
        try:
            backend.fd.close()
        except OSError:  # what did not fit into the file does not fit now; the file is closed all the same
            pass
