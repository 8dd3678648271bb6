"""A system whose atoms come and go: what it is between two arrivals, and how it is kept on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from ase import Atoms

from rikiba.core.system import System
from rikiba.md import checkpoint as files
from rikiba.md.state import State


@final
@dataclass(frozen=True, kw_only=True)
class Growth:
    """A state, who its atoms are, and what happened so far."""

    state: State
    labels: np.ndarray
    """Of each atom: number of its arrival, or −1 − its place in the substrate."""
    arrived: int = 0
    arrivals: tuple[tuple[int, int], ...] = ()
    """(step, atomic number) of each arrival."""
    removed: tuple[tuple[int, int, int], ...] = ()
    """(step, label, atomic number) of each atom that left."""
    counts: tuple[tuple[float, int], ...] = field(default=())
    """(time in internal units, atoms present) after each stretch."""

    def added(self, number: int, mass: float, position: np.ndarray, velocity: np.ndarray) -> "Growth":
        """With one more atom, at the end."""
        frame = self.state.system.to_ase()[0]
        frame += Atoms(numbers=[number], positions=[position])
        s = self.state
        state = s.replace(
            system=System.from_ase([frame]).replace(
                positions=torch.cat([s.system.positions, torch.from_numpy(position)[None]])
            ),
            velocities=torch.cat([s.velocities, torch.from_numpy(velocity)[None]]),
            masses=torch.cat([s.masses, s.masses.new_tensor([mass])]),
            inverse_masses=torch.cat([s.inverse_masses, s.masses.new_tensor([1.0 / mass])]),
        )
        return replace(
            self,
            state=state,
            labels=np.append(self.labels, self.arrived),
            arrived=self.arrived + 1,
            arrivals=(*self.arrivals, (s.step, number)),
        )

    def without(self, gone: np.ndarray) -> "Growth":
        """Without the atoms that left (a mask)."""
        if not gone.any():
            return self
        s, keep = self.state, torch.from_numpy(~gone)
        frame = s.system.to_ase()[0][~gone]
        state = s.replace(
            system=System.from_ase([frame]).replace(positions=s.system.positions[keep]),
            velocities=s.velocities[keep],
            masses=s.masses[keep],
            inverse_masses=s.inverse_masses[keep],
        )
        numbers = s.system.numbers.numpy()
        left = [(s.step, int(self.labels[k]), int(numbers[k])) for k in np.flatnonzero(gone)]
        return replace(self, state=state, labels=self.labels[~gone], removed=(*self.removed, *left))

    def save(self, path: Path, reporter: Mapping[str, Any]) -> None:
        """Everything, with a reporter's memory."""
        s = self.state
        arrays: dict[str, Any] = {"positions": s.system.positions, "cell": s.system.cell[0]}
        arrays |= {"numbers": s.system.numbers, "pbc": s.system.pbc[0], "velocities": s.velocities}
        arrays |= {"masses": s.masses, "inverse_masses": s.inverse_masses, "seeds": s.seeds}
        arrays |= {"dof_removed": s.dof_removed, "time": s.time, "labels": self.labels}
        arrays |= {f"reporter/{name}": value for name, value in reporter.items()}
        meta = {"step": s.step, "arrived": self.arrived, "arrivals": self.arrivals}
        files.write(path, arrays, {**meta, "removed": self.removed, "counts": self.counts})

    @staticmethod
    def load(path: Path) -> "tuple[Growth, dict[str, np.ndarray]]":
        """The inverse of `save`."""
        arrays, meta = files.read(path)
        frame = Atoms(arrays["numbers"], arrays["positions"], cell=arrays["cell"], pbc=arrays["pbc"])
        names = ("velocities", "masses", "inverse_masses", "seeds", "dof_removed", "time")
        fields: dict[str, Any] = {name: torch.from_numpy(arrays[name]) for name in names}
        state = State(system=System.from_ase([frame]), step=int(meta["step"]), **fields)
        grown = Growth(
            state=state,
            labels=arrays["labels"],
            arrived=int(meta["arrived"]),
            arrivals=tuple((int(a), int(b)) for a, b in meta["arrivals"]),
            removed=tuple((int(a), int(b), int(c)) for a, b, c in meta["removed"]),
            counts=tuple((float(t), int(n)) for t, n in meta["counts"]),
        )
        return grown, files.under(arrays, "reporter")
