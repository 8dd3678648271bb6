"""What is kept of every trajectory of a batch: numbers in memory, frames in files of their own."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from rikiba.md.reporters.base import Reporter, Snapshot, frames_of

from .grid import Grid

NUMBERS = ("time_ps", "potential_energy", "kinetic_energy", "temperature_K", "conserved")


class Samples(Reporter):
    """Energies, temperature, volume and pressure of each system, and its frames in `frames/KEY.xyz`.

    Args:
        grid: intervals and steps.
        keys: the name of each system.
        folder: of the screening.
        structures: of each system; the pressure is kept where all are periodic along three axes.
    """

    def __init__(self, *, grid: Grid, keys: Sequence[str], folder: Path, structures: Sequence[Atoms]) -> None:
        self.interval = _common_interval(grid)
        self.grid, self.keys, self.folder, self.structures = grid, tuple(keys), folder, tuple(structures)
        self.needs_stress = all(a.pbc.all() for a in structures)
        self._rows: dict[str, list[np.ndarray]] = {name: [] for name in self._names}
        self._lengths = np.zeros(len(self.keys), dtype=np.int64)

    @property
    def _names(self) -> tuple[str, ...]:
        return (*NUMBERS, "volume", "pressure_GPa") if self.needs_stress else NUMBERS

    def report(self, snapshot: Snapshot) -> str | None:
        step, grid = snapshot.step, self.grid
        if step % grid.interval == 0 and step > grid.equilibration_steps:
            for name in self._names:
                source = snapshot.state.system if name == "volume" else snapshot
                self._rows[name].append(getattr(source, name).detach().cpu().numpy().copy())
        if grid.frames_interval and step % grid.frames_interval == 0:
            self._write(snapshot)
        return None

    def _write(self, snapshot: Snapshot) -> None:
        """Append a frame to each system's file, cut to what was there before."""
        from ase.io.extxyz import write_extxyz

        for k, atoms in enumerate(frames_of(snapshot)):
            atoms.info.pop("system")
            text = io.StringIO()
            write_extxyz(text, [atoms])
            path = self.folder / "frames" / f"{self.keys[k]}.xyz"
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "r+b" if path.exists() else "w+b") as file:
                file.truncate(self._lengths[k])
                file.seek(self._lengths[k])
                file.write(text.getvalue().encode("utf-8"))
                self._lengths[k] = file.tell()

    def of(self, k: int) -> dict[str, np.ndarray]:
        """The series of one system."""
        return {name: np.array([row[k] for row in rows]) for name, rows in self._rows.items()}

    def select(self, which: Sequence[int]) -> "Samples":
        """The same of some of the systems."""
        chosen = Samples(
            grid=self.grid,
            keys=[self.keys[k] for k in which],
            folder=self.folder,
            structures=[self.structures[k] for k in which],
        )
        chosen.needs_stress = self.needs_stress
        chosen._rows = {name: [row[list(which)] for row in rows] for name, rows in self._rows.items()}
        chosen._lengths = self._lengths[list(which)]
        return chosen

    def memory(self) -> Mapping[str, Any]:
        for key in self.keys if self.grid.frames_interval else ():
            path = self.folder / "frames" / f"{key}.xyz"
            if path.exists():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        empty = np.zeros((0, len(self.keys)))
        rows = {name: np.array(r) if r else empty for name, r in self._rows.items()}
        return {"lengths": self._lengths, **rows}

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        self._lengths = memory["lengths"].copy()
        self._rows = {name: list(memory[name]) for name in self._names}

    def close(self) -> None:
        pass


def _common_interval(grid: Grid) -> int:
    """Steps between calls, so that both samples and frames are met."""
    return int(np.gcd(grid.interval, grid.frames_interval)) if grid.frames_interval else grid.interval
