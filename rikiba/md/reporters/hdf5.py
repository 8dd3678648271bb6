"""A trajectory of one or many systems in HDF5, readable while it is written and after a crash."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from .base import Reporter, Snapshot, checked_interval

_SCALARS = ("time_ps", "potential_energy", "kinetic_energy", "temperature_K", "conserved")
_LAYOUT = {
    "format": "rikiba trajectory",
    "version": 1,
    "positions": "unwrapped",
    "units": "Å, eV, ps, K; velocities √(eV/u)",
}
_PIECE = 1 << 23
"""Bytes copied at a time."""


class Hdf5(Reporter):
    """Every interval-th step of a batch in one file that a crash cannot spoil.

    Datasets: `step` [frames]; `time_ps`, `potential_energy`, `kinetic_energy`, `conserved` (eV) and
    `temperature_K` [frames systems]; `cell` [frames systems 3 3] and `positions` [frames atoms 3] in Å;
    `velocities` [frames atoms 3] in internal units (Å per Å·√(u/eV)) and `forces` in eV/Å where kept; and
    once `numbers`, `masses`, `system_index`, `pbc`. Positions are not wrapped. The file is written in HDF5's
    single-writer-multiple-reader mode: open it with `read_hdf5` or `h5py.File(path, "r", swmr=True)` at any
    time, also after the writer was killed; a frame counts where every dataset has it. A restart copies the
    frames up to the checkpoint into a new file.

    Args:
        path: file to write.
        interval: steps between frames.
        velocities: keep velocities.
        forces: keep forces.
        single_precision: store positions, velocities and forces as float32.
        compression: of positions, velocities and forces: none; lzf is quick, gzip is smaller. Noise does not
            compress well: a fifth with gzip, a third in single precision.
    """

    def __init__(
        self,
        *,
        path: str | Path,
        interval: int = 10,
        velocities: bool = True,
        forces: bool = False,
        single_precision: bool = False,
        compression: Literal["none", "lzf", "gzip"] = "none",
    ) -> None:
        self.interval = checked_interval(interval)
        if compression not in ("none", "lzf", "gzip"):
            raise ValueError(f"compression is none, lzf or gzip; given '{compression}'.")
        self.path = Path(path)
        self.velocities = velocities
        self.forces = forces
        self.compression = compression
        self._dtype = np.float32 if single_precision else np.float64
        self._file: Any = None
        self._frames = 0
        self._space = _Space()

    def report(self, snapshot: Snapshot) -> str | None:
        values = self._values(snapshot)
        if self._file is None:
            self._create(snapshot, values)
        self._space.reserve(self._file, self._frames + 1)
        for name, value in values.items():
            data = self._file[name]
            data.resize(self._frames + 1, axis=0)
            data[self._frames] = value
        for name in values:
            self._file[name].flush()
        self._frames += 1
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
        _room_for(self.path, 1 << 16)
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
        self._file.attrs.update(_LAYOUT)
        for name, value in values.items():
            packed = self.compression != "none" and value.ndim > 1 and name != "cell"
            # a packed chunk is written anew with every frame it gets and may grow: one frame is one chunk
            frames = 1 if packed else max(1, min(1024, (1 << 16) // max(1, value.nbytes)))
            self._file.create_dataset(
                name,
                shape=(0, *value.shape),
                maxshape=(None, *value.shape),
                chunks=(frames, *(max(1, s) for s in value.shape)),
                dtype=value.dtype,
                compression=self.compression if packed else None,
                shuffle=packed,
            )
        self._file.swmr_mode = True
        self._space = _Space()

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
        self._cut()

    def _cut(self) -> None:
        """Copy the file up to the frames that count; go on in the copy.

        A file left open by a killed writer can be read but not be opened for writing. The copy is switched to
        the mode that survives a kill before it takes the name of the file.
        """
        import h5py

        scratch = self.path.with_name(f".{self.path.name}.part")
        with h5py.File(self.path, "r", libver="latest", swmr=True) as old:
            have = min(int(old[name].shape[0]) for name in old if old[name].maxshape[0] is None)
            if have < self._frames:
                raise ValueError(
                    f"{self.path} has {have} frames but had {self._frames} at the checkpoint; put the file "
                    f"back or start afresh."
                )
            _room_for(scratch, self.path.stat().st_size)
            new = h5py.File(scratch, "w", libver="latest")
            new.attrs.update(old.attrs)
            for name in old:
                _copy(old[name], new, self._frames)
        new.swmr_mode = True
        new.flush()
        os.replace(scratch, self.path)
        self._file = new
        self._space = _Space()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            _give_back(self.path)


class _Space:
    """Room on the disk for the frames to come: HDF5 does not survive a write that fails.

    Blocks are reserved before a frame is handed over, so that a full disk is noticed while nothing has
    happened yet. What is reserved and not used is given back when the file is closed.
    """

    def __init__(self) -> None:
        self._reserved = 0
        self._base = (0, 0)

    def reserve(self, file: Any, frames: int) -> None:
        """Raise OSError where so many frames do not fit."""
        if not hasattr(os, "posix_fallocate"):
            return
        handle = file.id.get_vfd_handle()
        if self._base == (0, 0):
            self._base = (frames - 1, os.fstat(handle).st_size)
        if self._need(file, frames) <= self._reserved:
            return
        size = self._need(file, frames + max(1, frames // 16))
        os.posix_fallocate(handle, 0, size)
        self._reserved = size

    def _need(self, file: Any, frames: int) -> int:
        """An upper bound of the file's bytes with so many frames."""
        begun, total = self._base
        for data in file.values():
            if data.maxshape and data.maxshape[0] is None:
                chunk = int(np.prod(data.chunks)) * data.dtype.itemsize
                chunks = -(-(frames - begun) // data.chunks[0]) + 1
                # packing may lengthen noise and leave gaps; the index takes some bytes a chunk
                total += chunks * (chunk + chunk // 8 + 512) + (1 << 14)
        return total


def _give_back(path: Path) -> None:
    """Cut a closed file where its superblock (version 2 or 3) says that it ends."""
    with open(path, "r+b") as file:
        head = file.read(36)
        end = int.from_bytes(head[28:36], "little")
        if head[8] in (2, 3) and head[9] == 8 and 0 < end < file.seek(0, os.SEEK_END):
            file.truncate(end)


def _room_for(path: Path, size: int) -> None:
    """Raise OSError where a new file of this size does not fit."""
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def _copy(data: Any, new: Any, frames: int) -> None:
    """Copy a dataset, cut to `frames` where it grows with them."""
    name = data.name.lstrip("/")
    if data.maxshape[0] is not None:
        new[name] = data[...]
        return
    target = new.create_dataset(
        name,
        shape=(frames, *data.shape[1:]),
        maxshape=data.maxshape,
        chunks=data.chunks,
        dtype=data.dtype,
        compression=data.compression,
        shuffle=data.shuffle,
    )
    frame = max(1, int(np.prod(data.shape[1:])) * data.dtype.itemsize)
    step = max(1, _PIECE // frame)
    for start in range(0, frames, step):
        stop = min(frames, start + step)
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
