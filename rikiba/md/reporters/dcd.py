"""A trajectory for viewers, in the DCD format of CHARMM and NAMD."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rikiba.core import units

from .base import ByteOutput, Reporter, Snapshot, checked_interval

AKMA_FS = 48.88821
"""The format's unit of time, fs."""
_COUNT_AT, _LAST_AT, _STEP_AT = 8, 20, 44
"""Bytes of the header where the number of frames, the last step and the timestep stand."""


class Dcd(Reporter):
    """Positions (single precision) and cell of every interval-th step, one file for each system of a batch.

    Readable by VMD, OVITO, MDAnalysis, chemfiles …; elements and bonds come from a structure file beside it.
    The format keeps a cell's lengths and angles only: positions are turned with the cell so that a lies along
    x and b in the xy plane, and a left-handed cell raises ValueError. Positions are not wrapped unless asked
    for.

    Args:
        path: file to write; the systems of a batch get NAME.0.dcd, NAME.1.dcd, …
        interval: steps between frames.
        wrap: fold atoms into the cell along its periodic axes.
    """

    def __init__(self, *, path: str | Path, interval: int = 10, wrap: bool = False) -> None:
        self.interval = checked_interval(interval)
        self.path = Path(path)
        self.wrap = wrap
        self._outs: list[ByteOutput] = []
        self._frames = 0
        self._first = (0, 0.0)

    def report(self, snapshot: Snapshot) -> str | None:
        pieces = [self._frame(snapshot, k) for k in range(snapshot.state.n_systems)]
        time = float(snapshot.state.time[0] / units.femtosecond)
        if self._frames == 0:
            self._first = (snapshot.step, time)
            pieces = [self._header(p, snapshot) + p for p in pieces]
        self._open(len(pieces))
        before = [out.size for out in self._outs]
        try:
            for out, piece in zip(self._outs, pieces, strict=True):
                out.write(piece)
        except OSError:
            for out, length in zip(self._outs, before, strict=True):
                out.cut(length)
            raise
        self._frames += 1
        steps = snapshot.step - self._first[0]
        timestep = (time - self._first[1]) / steps / AKMA_FS if steps else 0.0
        for out in self._outs:
            self._count(out, snapshot.step)
            if self._frames == 2:
                out.overwrite(_STEP_AT, struct.pack("<f", timestep))
        return None

    def _open(self, n: int) -> None:
        if not self._outs:
            names = [self.path] if n == 1 else [_numbered(self.path, k) for k in range(n)]
            self._outs = [ByteOutput(name) for name in names]

    def _count(self, out: ByteOutput, step: int) -> None:
        out.overwrite(_COUNT_AT, struct.pack("<i", self._frames))
        out.overwrite(_LAST_AT, struct.pack("<i", step))

    def _header(self, frame: bytes, snapshot: Snapshot) -> bytes:
        """84 bytes of numbers, a title and the number of atoms, each between two copies of its length."""
        has_cell = struct.unpack("<i", frame[:4])[0] == 48
        numbers = [0] * 20
        numbers[1], numbers[2], numbers[10], numbers[19] = snapshot.step, self.interval, int(has_cell), 24
        title = b"Written by rikiba. Positions in A, " + (b"wrapped." if self.wrap else b"unwrapped.")
        n_atoms = struct.unpack("<i", frame[56:60] if has_cell else frame[:4])[0] // 4
        parts = (
            b"CORD" + struct.pack("<20i", *numbers),
            struct.pack("<i", 1) + title.ljust(80),
            struct.pack("<i", n_atoms),
        )
        return b"".join(_record(p) for p in parts)

    def _frame(self, snapshot: Snapshot, k: int) -> bytes:
        system = snapshot.state.system
        positions = system.positions[system.atom_rows(k)]
        parts = []
        if bool(system.has_volume[k]):
            cell = system.cell[k]
            if self.wrap:
                positions = _wrapped(positions, cell, system.pbc[k])
            upright, edges, angles = _upright(cell, k)
            positions = positions @ torch.linalg.solve(cell, upright)
            (a, b, c), (alpha, beta, gamma) = edges, angles
            parts.append(struct.pack("<6d", a, gamma, b, beta, alpha, c))
        single = np.ascontiguousarray(positions.cpu().numpy().T.astype("<f4"))
        parts += [single[axis].tobytes() for axis in range(3)]
        return b"".join(_record(p) for p in parts)

    def memory(self) -> Mapping[str, Any]:
        lengths = [out.length() for out in self._outs]
        return {"frames": self._frames, "lengths": lengths, "first": list(self._first)}

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        self.close()
        self._outs, self._frames = [], int(memory["frames"])
        self._first = (int(memory["first"][0]), float(memory["first"][1]))
        lengths = memory["lengths"].astype(int).tolist()
        self._open(len(lengths)) if lengths else None
        for out, length in zip(self._outs, lengths, strict=True):
            out.cut(length)
            if length:
                out.overwrite(_COUNT_AT, struct.pack("<i", self._frames))

    def close(self) -> None:
        for out in self._outs:
            out.close()


def _record(content: bytes) -> bytes:
    length = struct.pack("<i", len(content))
    return length + content + length


def _numbered(path: Path, k: int) -> Path:
    return path.with_name(f"{path.stem}.{k}{path.suffix}")


def _wrapped(positions: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    fractions = torch.linalg.solve(cell.T, positions.T).T
    folded: Tensor = (fractions - torch.where(pbc, fractions.floor(), 0.0)) @ cell
    return folded


def _upright(cell: Tensor, k: int) -> tuple[Tensor, list[float], list[float]]:
    """The same cell with a along x and b in the xy plane, its edges (Å) and angles (degrees)."""
    if float(torch.linalg.det(cell)) < 0:
        raise ValueError(
            f"The cell of system {k} is left-handed, which a DCD file cannot say; swap two lattice vectors "
            f"or write another format."
        )
    edges = cell.norm(dim=-1)
    cosines = (cell @ cell.T) / (edges[:, None] * edges[None])
    angles = torch.rad2deg(torch.acos(torch.stack([cosines[1, 2], cosines[0, 2], cosines[0, 1]])))
    # cell = upright · rotation, both unique where the diagonal of upright is positive
    _, r = torch.linalg.qr(cell.T)
    signs = torch.diagonal(r).sign()
    return (r * signs[:, None]).T, edges.tolist(), angles.tolist()
