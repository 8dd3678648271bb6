"""Which conditions a screening covers, and what each of them is known by."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from ase import Atoms

from rikiba import config
from rikiba.config import ConfigError
from rikiba.md.splitting import Ensemble


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One trajectory: a structure, its bath and its random numbers."""

    structure: int
    """Place of the structure in the list."""
    temperature_K: float
    pressure_GPa: float | None
    """None at constant volume."""
    replica: int
    timestep_fs: float
    seed: int


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """The table [grid]: every structure at every temperature and pressure, several times.

    Args:
        temperature_K: bath temperatures.
        timestep_fs: integration step; one for all or one for each temperature.
        steps: steps that are averaged over.
        equilibration_steps: steps before them.
        pressure_GPa: pressures; none for constant volume.
        replicas: independent trajectories of each condition.
        interval: steps between samples.
        frames_interval: steps between frames of the trajectories; 0 writes none.
        checkpoint_interval: steps between checkpoints.
        batch_atoms: most atoms that are advanced together.
        processes: batches at a time, one thread each.
        seed: base of every random number; a trajectory depends on it and on its own conditions only.
    """

    temperature_K: tuple[float, ...]
    timestep_fs: float | tuple[float, ...]
    steps: int
    equilibration_steps: int = 0
    pressure_GPa: tuple[float, ...] | None = None
    replicas: int = 1
    interval: int = 10
    frames_interval: int = 0
    checkpoint_interval: int = 1000
    batch_atoms: int = 2000
    processes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature_K or self.pressure_GPa == ():
            raise ValueError("A grid needs at least one temperature (and one pressure, if any are given).")
        for name in ("temperature_K", "pressure_GPa"):
            values = getattr(self, name) or ()
            if len(set(values)) < len(values):
                raise ValueError(f"{name} holds a value twice; use replicas for repeats. Given {values}.")
        for name in ("steps", "replicas", "interval", "checkpoint_interval", "batch_atoms", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; given {getattr(self, name)}.")
        if self.equilibration_steps < 0 or self.frames_interval < 0:
            raise ValueError("equilibration_steps and frames_interval are at least 0.")
        if self.steps < 4 * self.interval:
            raise ValueError(
                f"{self.steps} steps with interval = {self.interval} leave too few samples for a mean with "
                f"its error; take at least {4 * self.interval} steps."
            )
        if isinstance(self.timestep_fs, tuple) and len(self.timestep_fs) != len(self.temperature_K):
            raise ValueError(
                f"timestep_fs is one number or one for each of the {len(self.temperature_K)} temperatures; "
                f"given {len(self.timestep_fs)}."
            )

    def conditions(self, n_structures: int) -> list[Condition]:
        """All of them, in the order structure, pressure, temperature, replica."""
        timesteps = self.timestep_fs if isinstance(self.timestep_fs, tuple) else None
        found = []
        for structure in range(n_structures):
            for pressure in self.pressure_GPa or (None,):
                for k, kelvin in enumerate(self.temperature_K):
                    step = timesteps[k] if timesteps is not None else self.timestep_fs
                    for replica in range(self.replicas):
                        words = [self.seed, structure, kelvin, pressure, replica]
                        found.append(
                            Condition(
                                structure=structure,
                                temperature_K=kelvin,
                                pressure_GPa=pressure,
                                replica=replica,
                                timestep_fs=step,  # type: ignore[arg-type]
                                seed=int(digest(words)[:15], 16),
                            )
                        )
        return found

    @property
    def total_steps(self) -> int:
        return self.equilibration_steps + self.steps


@final
@dataclass(frozen=True, kw_only=True)
class Bath:
    """What makes the ensemble of many conditions at once.

    Args:
        kind: name in md.ensembles.
        settings: its arguments but temperature and pressure.
        pressured: the grid has pressures.

    Raises ConfigError where the ensemble cannot take what the grid varies, or settings that the grid gives.
    """

    kind: str
    settings: Mapping[str, Any]
    pressured: bool

    def __post_init__(self) -> None:
        cls = config.pick("md.ensembles", {"kind": self.kind}, where="[ensemble]")
        arguments = {p.name: p for p in config.schema(cls)}
        for name in ("temperature_K", "pressure_GPa"):
            if name in self.settings:
                raise ConfigError(f"[ensemble] {name} varies over the grid; write it in [grid].")
        if self.pressured and "pressure_GPa" not in arguments:
            raise ConfigError(
                f"[grid] has pressure_GPa, but the ensemble '{self.kind}' keeps the volume; use 'npt'."
            )
        own = arguments.get("pressure_GPa")
        stressed = "stress_GPa" not in arguments or "stress_GPa" in self.settings
        if not self.pressured and own is not None and (own.required or not stressed):
            raise ConfigError(f"The ensemble '{self.kind}' needs pressure_GPa in [grid].")

    def __call__(self, conditions: Sequence[Condition]) -> Ensemble:
        """The ensemble whose systems have these conditions, in order."""
        cls = config.pick("md.ensembles", {"kind": self.kind}, where="[ensemble]")
        arguments = {p.name for p in config.schema(cls)}
        table: dict[str, Any] = dict(self.settings)
        if "temperature_K" in arguments:
            table["temperature_K"] = [c.temperature_K for c in conditions]
        if self.pressured:
            table["pressure_GPa"] = [c.pressure_GPa for c in conditions]
        made: Ensemble = config.build(cls, table, where="[ensemble]")
        return made


def digest(content: Any) -> str:
    """SHA-256 of what JSON can hold, the same on every machine."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def key(condition: Condition, atoms: Atoms, grid: Grid, bath: Bath, energies: str) -> str:
    """What a trajectory is known by: everything that decides its outcome, and nothing else."""
    structure = [atoms.numbers.tolist(), atoms.positions.tolist(), atoms.cell.tolist(), atoms.pbc.tolist()]
    own = asdict(condition) | {"structure": structure, "masses": atoms.get_masses().tolist()}
    run = [grid.steps, grid.equilibration_steps, grid.interval, grid.frames_interval]
    return digest([own, run, bath.kind, config.table_of(dict(bath.settings)), energies])[:24]
