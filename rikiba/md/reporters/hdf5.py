"""A trajectory of one or many systems in HDF5, readable while it is written and after a crash."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .base import Reporter, Snapshot, checked_interval

_SCALARS = ("time_ps", "potential_energy", "kinetic_energy", "temperature_K", "conserved")


class Hdf5(Reporter):
    """Every interval-th step of a batch in one file.

    Datasets: `step` [frames]; `time_ps`, `potential_energy`, `kinetic_energy`, `conserved` (eV) and
    `temperature_K` [frames systems]; `cell` [frames systems 3 3] and `positions` [frames atoms 3] in Å;
    `velocities` [frames atoms 3] in internal units (Å per Å·√(u/eV)) and `forces` in eV/Å where kept; and
    once `numbers`, `masses`, `system_index`, `pbc`. The file is written in single-writer-multiple-reader
    mode: open it with `h5py.File(path, "r", swmr=True)` at any time.

    Args:
        path: file to write.
        interval: steps between frames.
        velocities: keep velocities.
        forces: keep forces.
        single_precision: store positions, velocities and forces as float32.
    """

    def __init__(
        self,
        *,
        path: str | Path,
        interval: int = 10,
        velocities: bool = True,
        forces: bool = False,
        single_precision: bool = False,
    ) -> None:
        self.interval = checked_interval(interval)
        self.path = Path(path)
        self.velocities = velocities
        self.forces = forces
        self._dtype = np.float32 if single_precision else np.float64
        self._file: Any = None
        self._frames = 0

    def report(self, snapshot: Snapshot) -> str | None:
        values = self._values(snapshot)
        if self._file is None:
            self._create(snapshot, values)
        for name, value in values.items():
            data = self._file[name]
            data.resize(self._frames + 1, axis=0)
            data[self._frames] = value
        self._frames += 1
        for name in values:
            self._file[name].flush()
        return None

    def _values(self, snapshot: Snapshot) -> dict[str, np.ndarray]:
        state = snapshot.state
        values: dict[str, np.ndarray] = {"step": np.asarray(snapshot.step)}
        values.update({name: getattr(snapshot, name).cpu().numpy() for name in _SCALARS})
        values["cell"] = state.system.cell.cpu().numpy()
        values["positions"] = state.system.positions.cpu().numpy().astype(self._dtype)
        if self.velocities:
            values["velocities"] = state.velocities.cpu().numpy().astype(self._dtype)
        if self.forces:
            values["forces"] = snapshot.results.need("forces").cpu().numpy().astype(self._dtype)
        return values

    def _create(self, snapshot: Snapshot, values: Mapping[str, np.ndarray]) -> None:
        import h5py

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self.path, "w", libver="latest")
        system = snapshot.state.system
        static = {
            "numbers": system.numbers,
            "masses": snapshot.state.masses,
            "system_index": system.system_index,
            "pbc": system.pbc,
        }
        for name, tensor in static.items():
            self._file[name] = tensor.cpu().numpy()
        for name, value in values.items():
            frames = max(1, min(1024, (1 << 16) // max(1, value.nbytes)))
            self._file.create_dataset(
                name,
                shape=(0, *value.shape),
                maxshape=(None, *value.shape),
                chunks=(frames, *(max(1, s) for s in value.shape)),
                dtype=value.dtype,
            )
        self._file.swmr_mode = True

    def memory(self) -> Mapping[str, Any]:
        if self._file is not None:
            self._file.flush()
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
        return {"frames": self._frames}

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        self.close()
        self._frames = int(memory["frames"])
        if self._frames == 0:
            return
        if not self.path.exists():
            raise ValueError(f"{self.path} is missing; put the file back or start afresh.")
        # a file left open by a killed writer cannot be opened for writing: copy it up to the checkpoint
        import h5py

        scratch = self.path.with_name(f".{self.path.name}.part")
        with h5py.File(self.path, "r", libver="latest", swmr=True) as old:
            have = int(old["step"].shape[0])
            if have < self._frames:
                raise ValueError(
                    f"{self.path} has {have} frames but had {self._frames} at the checkpoint; put the file "
                    f"back or start afresh."
                )
            with h5py.File(scratch, "w", libver="latest") as new:
                for name in old:
                    _copy(old[name], new, self._frames)
        os.replace(scratch, self.path)
        self._file = h5py.File(self.path, "r+", libver="latest")
        self._file.swmr_mode = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _copy(data: Any, new: Any, frames: int) -> None:
    """Copy a dataset, cut to `frames` where it grows with them."""
    name = data.name.lstrip("/")
    if data.maxshape[0] is not None:
        new[name] = data[...]
        return
    target = new.create_dataset(
        name, shape=(frames, *data.shape[1:]), maxshape=data.maxshape, chunks=data.chunks, dtype=data.dtype
    )
    for start in range(0, frames, 1024):
        stop = min(frames, start + 1024)
        target[start:stop] = data[start:stop]


def read_hdf5(path: str | Path) -> dict[str, torch.Tensor]:
    """Every dataset of such a file as a tensor; readable during a run and after a crash.

    Frames that were not written in full when a run was killed are left out.
    """
    import h5py

    with h5py.File(path, "r", libver="latest", swmr=True) as file:
        growing = [name for name in file if file[name].maxshape[0] is None]
        frames = min(int(file[name].shape[0]) for name in growing)
        return {
            name: torch.from_numpy(np.asarray(file[name][:frames] if name in growing else file[name][...]))
            for name in file
        }
