"""Simulations one after another in one folder, each with its checkpoint, resumed where they stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms

from rikiba.calculators.base import Calculator
from rikiba.core.record import Record
from rikiba.core.system import System
from rikiba.execution.progress import Progress, silent
from rikiba.md.reporters.base import Reporter
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import Ensemble, Splitting
from rikiba.md.state import State, maxwell_boltzmann

SUFFIX = ".checkpoint"


@runtime_checkable
class StagedProtocol(Protocol):
    """A course of simulations that answers with Records; files of `campaigns/protocols`."""

    def run(
        self,
        calculator: Calculator,
        atoms: Atoms,
        *,
        out: Path,
        resume: bool = False,
        progress: Progress = silent,
    ) -> list[Record]:
        """Carry it out in a folder; with `resume` from where an earlier call stopped, bit for bit."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Legs:
    """Where the simulations of a protocol run, and whether they go on from checkpoints."""

    calculator: Calculator
    out: Path
    timestep_fs: float
    checkpoint_interval: int = 1000
    progress: Progress = silent

    def begin(self, resume: bool) -> "Legs":
        """Remove the checkpoints of an earlier run, unless it is resumed; returns itself."""
        for file in () if resume else self.out.glob(f"*{SUFFIX}"):
            file.unlink()
        return self

    def run(
        self,
        name: str,
        integrator: Splitting | Ensemble,
        state: State,
        n_steps: int,
        reporters: Sequence[Reporter] = (),
    ) -> Simulation:
        """n_steps from a state; from the leg's own checkpoint where there is one."""
        file, last = self.out / f"{name}{SUFFIX}", state.step + n_steps
        simulation = Simulation(
            self.calculator,
            integrator,
            state,
            timestep_fs=self.timestep_fs,
            reporters=reporters,
            checkpoint=file,
            checkpoint_interval=self.checkpoint_interval,
            progress=lambda done, total: self.progress(name, done, total),
        )
        if file.is_file():
            simulation.restore(file)
        simulation.run(max(0, last - simulation.state.step))
        simulation.close()
        return simulation


def thermal(atoms: Atoms, temperature_K: float, seed: int, replicas: int = 1) -> State:
    """Copies of a structure, each with its own velocities of a temperature; what FixAtoms names stands still.

    Raises ValueError for other constraints.
    """
    still = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise ValueError(f"{type(constraint).__name__} is not supported here; only FixAtoms is.")
        still[constraint.get_indices()] = True
    return maxwell_boltzmann(
        System.from_ase([atoms] * replicas),
        temperature_K,
        seed=seed,
        masses=torch.from_numpy(atoms.get_masses().copy()).repeat(replicas),
        fixed=torch.from_numpy(still).repeat(replicas) if still.any() else None,
    )
