"""What reporters see and what they must offer so that a restarted run leaves the same files."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import units
from rikiba.core.results import Results

from ..cell import internal_pressure
from ..splitting import Memories, Splitting
from ..state import State, temperature

if TYPE_CHECKING:
    from ase import Atoms


class Snapshot:
    """A simulation at one step; quantities are computed when asked for."""

    def __init__(self, state: State, results: Results, splitting: Splitting, memories: Memories) -> None:
        self.state = state
        self.results = results
        self._splitting = splitting
        self._memories = memories

    @property
    def step(self) -> int:
        return self.state.step

    @cached_property
    def time_ps(self) -> Float[Tensor, "systems"]:
        return self.state.time / units.picosecond

    @cached_property
    def potential_energy(self) -> Float[Tensor, "systems"]:
        """eV."""
        return self.results.need("energy").double()

    @cached_property
    def kinetic_energy(self) -> Float[Tensor, "systems"]:
        """Of the state's velocities, eV."""
        return self.state.kinetic_energy

    @cached_property
    def temperature_K(self) -> Float[Tensor, "systems"]:
        """From the thermostat's unbiased kinetic energy where there is one, else from the velocities."""
        return temperature(self._splitting.kinetic_energy(self.state, self._memories), self.state.dof)

    @cached_property
    def dof(self) -> Int[Tensor, "systems"]:
        """Degrees of freedom that the temperature counts."""
        return self.state.dof

    @cached_property
    def conserved(self) -> Float[Tensor, "systems"]:
        """Kinetic + potential energy + what the operators add (minus heat), eV."""
        extra = self._splitting.conserved(self.state, self._memories)
        return self.potential_energy + self.kinetic_energy + extra

    @cached_property
    def stress_GPa(self) -> Float[Tensor, "systems 3 3"]:
        """σ − Σ m v ⊗ v/V of the state's velocities: tension is positive."""
        return -internal_pressure(self.state, self.results) / units.gigapascal

    @cached_property
    def pressure_GPa(self) -> Float[Tensor, "systems"]:
        """P = (2K/V − tr σ)/3 with the kinetic energy that the temperature is taken from.

        Atoms that constraints connect count as a whole (see `md.cell.internal_pressure`), which includes the
        virial of the constraints' forces.
        """
        inside = internal_pressure(self.state, self.results)
        sampled = self._splitting.kinetic_energy(self.state, self._memories) - self.state.kinetic_energy
        trace = torch.diagonal(inside, dim1=1, dim2=2).sum(1)
        return (trace + 2.0 * sampled / self.state.system.volume) / 3.0 / units.gigapascal


@runtime_checkable
class Reporter(Protocol):
    """Writes something about every `interval`-th step, step 0 included."""

    interval: int
    needs_stress: bool = False

    def report(self, snapshot: Snapshot) -> str | None:
        """Take note of a step; a returned text stops the run and says why."""
        ...

    def memory(self) -> Mapping[str, Any]:
        """Flush to disk and tell what is needed to cut the output back to this moment."""
        ...

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        """Cut the output back to the moment of `memory` and go on from there."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


def checked_interval(interval: int) -> int:
    """The interval, or ValueError where it is not a positive integer."""
    if not isinstance(interval, int) or interval < 1:
        raise ValueError(f"interval is a number of steps, at least 1; given {interval!r}.")
    return interval


class ByteOutput:
    """A file that is appended to in whole pieces, and cut back to a length known from a checkpoint.

    A piece that does not fit on the disk is taken back, so that the file always ends with a whole one unless
    the process is killed while it writes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        self._length = 0

    @property
    def started(self) -> bool:
        return self._file is not None

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._length

    def write(self, piece: bytes) -> None:
        """Append; the first write of a fresh run replaces a file of an earlier run."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "wb", buffering=0)
        try:
            self._file.seek(self._length)
            _write_all(self._file, piece)
        except OSError:
            self._file.truncate(self._length)
            raise
        self._length += len(piece)

    def overwrite(self, place: int, piece: bytes) -> None:
        """Replace bytes that were written before."""
        assert self._file is not None
        self._file.seek(place)
        _write_all(self._file, piece)

    def length(self) -> int:
        """Bytes written so far, all of them on disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return self._length

    def cut(self, length: int) -> None:
        """Keep the first `length` bytes; raises ValueError where the file is shorter."""
        self.close()
        self._length = length
        if length == 0:
            return
        check_length(self.path, length)
        self._file = open(self.path, "r+b", buffering=0)
        self._file.truncate(length)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _write_all(file: IO[bytes], piece: bytes) -> None:
    left = memoryview(piece)
    while len(left):
        left = left[file.write(left) :]


def check_length(path: Path, length: int) -> None:
    """Raise ValueError where a file is missing or shorter than it was at the checkpoint."""
    if not path.exists() or path.stat().st_size < length:
        raise ValueError(
            f"{path} is missing or shorter than the {length} bytes it had at the checkpoint; put the file "
            f"back or start afresh."
        )


def frames_of(snapshot: Snapshot) -> "list[Atoms]":
    """ASE structures with results and velocities, and `step`, `time_fs` and `system` in their info."""
    state = snapshot.state
    frames = state.to_ase()
    for k, atoms in enumerate(frames):
        snapshot.results.attach(atoms, k, state.system.atom_rows(k))
        atoms.info["step"] = snapshot.step
        atoms.info["time_fs"] = float(state.time[k] / units.femtosecond)
        atoms.info["system"] = k
    return frames
