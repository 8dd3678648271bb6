"""Exploration by molecular dynamics at several temperatures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.system import System
from rikiba.md.ase_constraints import attached
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann


@final
@dataclass(frozen=True, kw_only=True)
class MolecularDynamics:
    """Langevin trajectories at each temperature from each seed structure; every stretch of one is a group.

    A trajectory ends early, with the frames it has, where the calculator cannot answer any more.

    Args:
        temperatures_K: bath temperatures.
        trajectories: independent trajectories at each temperature.
        duration_fs: length of each, after equilibration.
        equilibration_fs: discarded at the start.
        timestep_fs: integration step.
        interval_fs: time between frames kept.
        friction_per_ps: of the bath; high, so that frames decorrelate.
        seed: of velocities and noise.
        first: number of the first trajectory (set where an exploration is divided into parts).
    """

    temperatures_K: tuple[float, ...] = (300.0, 500.0, 700.0, 1000.0)
    trajectories: int = 2
    duration_fs: float = 500.0
    equilibration_fs: float = 50.0
    timestep_fs: float = 1.0
    interval_fs: float = 10.0
    friction_per_ps: float = 10.0
    seed: int = 0
    first: int = 0

    def __post_init__(self) -> None:
        if not self.temperatures_K or min(self.temperatures_K) <= 0:
            raise ValueError(f"temperatures_K must be positive; given {self.temperatures_K}.")
        if (
            self.trajectories < 1
            or self.interval_fs < self.timestep_fs
            or self.duration_fs < self.interval_fs
        ):
            raise ValueError(
                f"Needed: trajectories ≥ 1, timestep_fs ≤ interval_fs ≤ duration_fs; given "
                f"{self.trajectories}, {self.timestep_fs}, {self.interval_fs}, {self.duration_fs}."
            )

    def parts(self) -> "list[MolecularDynamics]":
        """One exploration per trajectory."""
        return [
            replace(self, temperatures_K=(t,), trajectories=1, first=self.first + k)
            for t in self.temperatures_K
            for k in range(self.trajectories)
        ]

    def explore(self, calculator: Calculator, seeds: Sequence[Atoms]) -> list[Atoms]:
        """Frames with `info['group']` and `info['temperature_K']`."""
        frames = []
        for part in self.parts():
            for n, seed in enumerate(seeds):
                frames += part._trajectory(calculator, seed, n)
        return frames

    def _trajectory(self, calculator: Calculator, seed: Atoms, n: int) -> list[Atoms]:
        (temperature,) = self.temperatures_K
        number = self.seed + 1000 * self.first + 1_000_000 * n + round(temperature)
        start = maxwell_boltzmann(
            System.from_ase(seed), temperature_K=temperature, seed=number, constraints=attached(seed)
        )
        kept = InMemory(interval=max(1, round(self.interval_fs / self.timestep_fs)))
        bath = Langevin(temperature_K=temperature, friction_per_ps=self.friction_per_ps)
        simulation = Simulation(calculator, bath, start, timestep_fs=self.timestep_fs, reporters=[kept])
        steps = round((self.equilibration_fs + self.duration_fs) / self.timestep_fs)
        stopped = ""
        try:
            simulation.run(steps)
        except Exception as error:  # engines raise their own types; what was seen before is still good
            if len(kept) == 0:
                raise
            stopped = f"{type(error).__name__}: {error}"
        group = f"md {temperature:g} K {self.first + 1}" + (f" of seed {n + 1}" if n else "")
        frames = []
        for step, positions in zip(kept.steps.tolist(), kept.positions, strict=True):
            if step * self.timestep_fs <= self.equilibration_fs:
                continue
            atoms = seed.copy()
            atoms.calc = None
            atoms.positions = positions.numpy()
            atoms.info |= {"group": group, "temperature_K": temperature, "step": step}
            frames.append(atoms)
        if stopped and frames:
            frames[-1].info["stopped"] = stopped
        return frames
