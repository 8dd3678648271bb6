"""A trajectory in ASE's binary format."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .base import Reporter, Snapshot, checked_interval, frames_of


class AseTraj(Reporter):
    """Frames in an ASE .traj file, with energy, forces, momenta and `step`, `time_fs`, `system` in `info`.

    The systems of a batch follow one another in the file.

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

        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = TrajectoryWriter(self.path, mode="a" if self._frames else "w")
        for atoms in frames_of(snapshot):
            self._writer.write(atoms)
            self._frames += 1
        return None

    def memory(self) -> Mapping[str, Any]:
        self.close()  # ASE's writer keeps nothing back, but the file must be on disk
        if self._frames:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
        return {"frames": self._frames}

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        from ase.io.trajectory import TrajectoryReader, TrajectoryWriter

        self.close()
        self._frames = int(memory["frames"])
        if self._frames == 0:
            return
        if not self.path.exists():
            raise ValueError(f"{self.path} is missing; put the file back or start afresh.")
        scratch = self.path.with_name(f".{self.path.name}.part")
        with TrajectoryReader(self.path) as old, TrajectoryWriter(scratch, mode="w") as new:
            if len(old) < self._frames:
                raise ValueError(
                    f"{self.path} has {len(old)} frames but had {self._frames} at the checkpoint; put the "
                    f"file back or start afresh."
                )
            for k in range(self._frames):
                new.write(old[k])
        os.replace(scratch, self.path)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
