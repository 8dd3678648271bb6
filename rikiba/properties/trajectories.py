"""What a simulation leaves to be analysed: `Trajectory`, and the contract of the analyses that read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import numpy as np
from ase import Atoms
from jaxtyping import Float, Int

from rikiba.core import elements
from rikiba.core.record import Record
from rikiba.core.system import System


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """One structure at equally spaced times."""

    positions: Float[np.ndarray, "frames atoms 3"]
    """Å, unwrapped: continuous across periodic boundaries."""
    numbers: Int[np.ndarray, "atoms"]
    timestep_fs: float
    """Time between stored frames (not the integrator's step)."""
    cell: Float[np.ndarray, "frames 3 3"] | None = None
    """Å; None where there is no cell."""
    pbc: tuple[bool, bool, bool] = (False, False, False)
    velocities: Float[np.ndarray, "frames atoms 3"] | None = None
    """√(eV/u), which is also ASE's unit."""
    masses: Float[np.ndarray, "atoms"] | None = None
    """u; standard masses if not given (see `mass`)."""

    def __post_init__(self) -> None:
        shape = self.positions.shape
        if len(shape) != 3 or shape[2] != 3 or shape[1] != len(self.numbers):
            raise ValueError(
                f"positions must be [frames, atoms, 3] with {len(self.numbers)} atoms; given {shape}."
            )
        if not self.timestep_fs > 0:
            raise ValueError(
                f"timestep_fs is the time between frames and positive; given {self.timestep_fs}."
            )
        if self.velocities is not None and self.velocities.shape != shape:
            raise ValueError(f"velocities have shape {self.velocities.shape}, positions {shape}.")
        if any(self.pbc) and self.cell is None:
            raise ValueError("A periodic trajectory needs its cell.")
        if self.cell is not None and self.cell.shape != (shape[0], 3, 3):
            raise ValueError(f"cell must be [frames, 3, 3] = ({shape[0]}, 3, 3); given {self.cell.shape}.")
        if not np.isfinite(self.positions).all():
            raise ValueError("positions are not finite everywhere.")

    @property
    def n_frames(self) -> int:
        return self.positions.shape[0]

    @property
    def mass(self) -> Float[np.ndarray, "atoms"]:
        """Masses in u."""
        if self.masses is not None:
            return self.masses
        from ase.data import atomic_masses

        return np.asarray(atomic_masses)[self.numbers]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Elements present, ordered by atomic number."""
        return elements.sorted_symbols(int(z) for z in self.numbers)

    def of(self, symbol: str | None) -> Int[np.ndarray, "chosen"]:
        """Indices of the atoms of one element (all for None)."""
        return (
            np.flatnonzero(self.numbers == elements.number(symbol))
            if symbol
            else np.arange(len(self.numbers))
        )

    def system(self, frame: int) -> System:
        """One frame as a System."""
        cell = None if self.cell is None else self.cell[frame]
        return System.from_ase(
            Atoms(numbers=self.numbers, positions=self.positions[frame], cell=cell, pbc=self.pbc)
        )

    def __getitem__(self, frames: slice) -> "Trajectory":
        """A contiguous or strided part; the timestep follows the stride."""
        if not isinstance(frames, slice):
            raise TypeError("A Trajectory is cut by slices; use .positions[k] or .system(k) for one frame.")
        step = 1 if frames.step is None else frames.step
        if step < 1:
            raise ValueError(f"A Trajectory runs forwards in time; given stride {step}.")
        return Trajectory(
            positions=self.positions[frames],
            numbers=self.numbers,
            timestep_fs=self.timestep_fs * step,
            cell=None if self.cell is None else self.cell[frames],
            pbc=self.pbc,
            velocities=None if self.velocities is None else self.velocities[frames],
            masses=self.masses,
        )

    @staticmethod
    def from_ase(frames: Sequence[Atoms], *, timestep_fs: float, wrapped: bool = False) -> "Trajectory":
        """From ASE structures; `wrapped` says that atoms were folded into the cell and must be unwrapped.

        Velocities are kept where every frame has momenta.
        """
        if not frames:
            raise ValueError("A Trajectory needs at least one frame.")
        first = frames[0]
        for k, a in enumerate(frames):
            if not np.array_equal(a.numbers, first.numbers):
                raise ValueError(f"Frame {k} has other atoms than frame 0; a Trajectory is one structure.")
        positions = np.array([a.positions for a in frames])
        has_cell = first.cell.rank == 3
        cell = np.array([a.cell.array for a in frames]) if has_cell or first.pbc.any() else None
        pbc = tuple(bool(p) for p in first.pbc)
        if wrapped:
            if cell is None:
                raise ValueError("Only a periodic trajectory can be wrapped; this one has no cell.")
            positions = unwrap(positions, cell, pbc)  # type: ignore[arg-type]
        moving = all(a.has("momenta") for a in frames)
        return Trajectory(
            positions=positions,
            numbers=first.numbers.copy(),
            timestep_fs=timestep_fs,
            cell=cell,
            pbc=pbc,  # type: ignore[arg-type]
            velocities=np.array([a.get_velocities() for a in frames]) if moving else None,
            masses=first.get_masses(),
        )

    @staticmethod
    def replicas(
        positions: Float[np.ndarray, "frames atoms 3"],
        system: System,
        *,
        timestep_fs: float,
        velocities: Float[np.ndarray, "frames atoms 3"] | None = None,
        cell: Float[np.ndarray, "frames systems 3 3"] | None = None,
    ) -> "list[Trajectory]":
        """One Trajectory per structure of a batched simulation; a fixed cell is the system's."""
        positions = np.asarray(positions, float)
        out = []
        for k in range(system.n_systems):
            rows = system.atom_rows(k)
            own = system.cell[k].detach().cpu().numpy()
            boxes = np.broadcast_to(own, (len(positions), 3, 3)) if cell is None else cell[:, k]
            out.append(
                Trajectory(
                    positions=positions[:, rows],
                    numbers=system.numbers[rows].cpu().numpy(),
                    timestep_fs=timestep_fs,
                    cell=boxes if bool(system.has_volume[k]) or bool(system.pbc[k].any()) else None,
                    pbc=tuple(bool(p) for p in system.pbc[k]),  # type: ignore[arg-type]
                    velocities=None if velocities is None else np.asarray(velocities, float)[:, rows],
                )
            )
        return out


@runtime_checkable
class TrajectoryProperty(Protocol):
    """A frozen dataclass of numerical choices. `analyse` answers from one trajectory or several replicas."""

    def analyse(self, trajectories: Trajectory | Sequence[Trajectory]) -> Record: ...


def as_replicas(trajectories: Trajectory | Sequence[Trajectory]) -> list[Trajectory]:
    """A list of at least one trajectory, all of the same atoms and timestep; ValueError otherwise."""
    found = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    if not found:
        raise ValueError("There is no trajectory to analyse.")
    for k, t in enumerate(found):
        if not np.array_equal(t.numbers, found[0].numbers) or t.pbc != found[0].pbc:
            raise ValueError(f"Replica {k} has other atoms or periodicity than replica 0.")
        if abs(t.timestep_fs - found[0].timestep_fs) > 1e-9 * t.timestep_fs:
            raise ValueError(
                f"Replica {k} is sampled every {t.timestep_fs} fs, replica 0 every {found[0].timestep_fs}."
            )
    return found


def unwrap(
    wrapped: Float[np.ndarray, "frames atoms 3"],
    cell: Float[np.ndarray, "frames 3 3"],
    pbc: tuple[bool, bool, bool],
) -> Float[np.ndarray, "frames atoms 3"]:
    """Continuous positions: u_{t+1} = u_t + [w_{t+1} − w_t] to the nearest image of cell t+1.

    The toroidal-view scheme, which keeps diffusion right when the cell fluctuates (von Bülow, Bullerjahn &
    Hummer, doi:10.1063/5.0008316). Frames must be close enough that no atom moves half a cell.
    """
    out = np.array(wrapped, float)
    step = np.diff(out, axis=0)
    inverse = np.linalg.pinv(cell[1:])
    images = np.rint(np.einsum("tax,txy->tay", step, inverse)) * np.asarray(pbc, float)
    step -= np.einsum("tax,txy->tay", images, cell[1:])
    out[1:] = out[0] + np.cumsum(step, axis=0)
    return out
