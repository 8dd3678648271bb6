"""Melt, quench, anneal: stages that hold or ramp temperature and pressure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core import units
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.execution.progress import Progress, silent
from rikiba.md.ensembles.csvr import Csvr
from rikiba.md.ensembles.npt import NPT
from rikiba.md.reporters.extxyz import Extxyz
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.splitting import Ensemble
from rikiba.md.target import Ramp, Value
from rikiba.properties.trajectories import Trajectory

from ..legs import Legs, thermal
from ..neighbourhood import Neighbourhood, neighbourhood


@final
@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: it goes from where the one before ended to its own temperature and pressure, or holds them.

    Args:
        name: of its files and its row.
        temperature_K: at its end; at its beginning that of the stage before (its own in the first).
        duration_ps: how long it takes; for a hold, or in place of a rate.
        rate_K_per_ps: how fast the temperature changes, up or down; in place of a duration.
        pressure_GPa: at its end; none keeps the volume.
    """

    name: str
    temperature_K: float
    duration_ps: float | None = None
    rate_K_per_ps: float | None = None
    pressure_GPa: float | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"A stage's name is of letters, digits, - and _; given '{self.name}'.")
        if not self.temperature_K > 0:
            raise ValueError(
                f"Stage '{self.name}': temperature_K must be positive; given {self.temperature_K}."
            )
        if (self.duration_ps is None) == (self.rate_K_per_ps is None):
            raise ValueError(f"Stage '{self.name}': give either duration_ps or rate_K_per_ps.")
        if not (self.duration_ps or self.rate_K_per_ps or 0.0) > 0:
            raise ValueError(f"Stage '{self.name}': duration_ps or rate_K_per_ps must be positive.")


@final
@dataclass(frozen=True, kw_only=True)
class Leg:
    """A stage with its beginning."""

    stage: Stage
    begin_ps: float
    n_steps: int
    duration_ps: float
    from_K: float
    from_GPa: float | None

    @property
    def rate_K_per_ps(self) -> float:
        """Change of temperature per time; negative where it cools, 0 in a hold."""
        return (self.stage.temperature_K - self.from_K) / self.duration_ps

    def value(self, start: float | None, end: float) -> Value:
        """A constant where the stage holds it, else a ramp on the simulation's clock."""
        if start is None or start == end:
            return end
        return Ramp(start=start, end=end, duration_ps=self.duration_ps, begin_ps=self.begin_ps)


class MeltQuench:
    """Stages of holds and ramps at constant volume or pressure, with g(r), coordination and energies of each.

    Constant volume by stochastic velocity rescaling, constant pressure with stochastic cell rescaling. The
    clock runs through, every stage leaves a trajectory and a checkpoint of its own, and a run that was
    stopped goes on in the middle of a stage, bit for bit. Cooling rates of simulations are many orders of
    magnitude above those of experiments: repeat with a slower one and compare.

    Args:
        stages: in order; the first is a hold.
        timestep_fs: integration step.
        seed: of velocities and noise.
        interval: steps between samples and frames.
        checkpoint_interval: steps between checkpoints.
        time_constant_fs: of the thermostat, fs.
        pressure_time_constant_fs: of the barostat, fs.
        compressibility_per_GPa: of the material, roughly, 1/GPa; sets the barostat's rate.
        coordination_cutoff: neighbours are counted up to it, Å; the first minimum of g(r) if not given.

    Raises ValueError for stages that cannot follow one another.
    """

    references = ("10.1063/1.2408420", "10.1063/5.0020514")

    def __init__(
        self,
        *,
        stages: Sequence[Stage],
        timestep_fs: float,
        seed: int = 0,
        interval: int = 20,
        checkpoint_interval: int = 1000,
        time_constant_fs: float = 100.0,
        pressure_time_constant_fs: float = 1000.0,
        compressibility_per_GPa: float = 0.1,
        coordination_cutoff: float | None = None,
    ) -> None:
        self.stages, self.timestep_fs, self.seed = tuple(stages), timestep_fs, seed
        self.interval, self.checkpoint_interval = interval, checkpoint_interval
        self.time_constant_fs = time_constant_fs
        self.pressure_time_constant_fs = pressure_time_constant_fs
        self.compressibility_per_GPa = compressibility_per_GPa
        self.coordination_cutoff = coordination_cutoff
        self.legs()

    def legs(self) -> list[Leg]:
        """The stages with their beginnings and numbers of steps."""
        if not self.stages:
            raise ValueError("A schedule has at least one stage.")
        names = [s.name for s in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"Stages need names of their own; given {', '.join(names)}.")
        found: list[Leg] = []
        begin, kelvin, pressure = 0.0, self.stages[0].temperature_K, self.stages[0].pressure_GPa
        for stage in self.stages:
            change = abs(stage.temperature_K - kelvin)
            if stage.duration_ps is None and change == 0.0:
                raise ValueError(
                    f"Stage '{stage.name}' stays at {kelvin:g} K, so it needs duration_ps, not a rate."
                )
            wanted = stage.duration_ps or change / (stage.rate_K_per_ps or 1.0)
            n_steps = round(1e3 * wanted / self.timestep_fs)
            if n_steps < 4 * self.interval:
                raise ValueError(
                    f"Stage '{stage.name}' of {n_steps} steps holds fewer than four samples with interval = "
                    f"{self.interval}."
                )
            duration = 1e-3 * n_steps * self.timestep_fs
            leg = Leg(
                stage=stage,
                begin_ps=begin,
                n_steps=n_steps,
                duration_ps=duration,
                from_K=kelvin,
                from_GPa=pressure if stage.pressure_GPa is not None else None,
            )
            found.append(leg)
            begin, kelvin, pressure = begin + duration, stage.temperature_K, stage.pressure_GPa
        return found

    def ensemble(self, leg: Leg) -> Ensemble:
        """Constant volume or pressure, with the leg's values."""
        temperature = leg.value(leg.from_K, leg.stage.temperature_K)
        if leg.stage.pressure_GPa is None:
            return Csvr(temperature_K=temperature, time_constant_fs=self.time_constant_fs)
        return NPT(
            temperature_K=temperature,
            pressure_GPa=leg.value(leg.from_GPa, leg.stage.pressure_GPa),
            time_constant_fs=self.time_constant_fs,
            pressure_time_constant_fs=self.pressure_time_constant_fs,
            compressibility_per_GPa=self.compressibility_per_GPa,
        )

    def run(
        self,
        calculator: Calculator,
        atoms: Atoms,
        *,
        out: Path,
        resume: bool = False,
        progress: Progress = silent,
    ) -> list[Record]:
        """Carry it out; trajectories stay in `NN_STAGE.xyz`. Raises ValueError without a periodic cell."""
        if not atoms.pbc.all():
            raise ValueError(f"A melt needs a cell that is periodic along three axes; pbc is {atoms.pbc}.")
        legs = Legs(
            calculator=calculator,
            out=out,
            timestep_fs=self.timestep_fs,
            checkpoint_interval=self.checkpoint_interval,
            progress=progress,
        ).begin(resume)
        state = thermal(atoms, self.stages[0].temperature_K, self.seed)
        samples = []
        for k, leg in enumerate(self.legs()):
            name = f"{k + 1:02d}_{leg.stage.name}"
            kept = InMemory(interval=self.interval, cells=True)
            frames = Extxyz(path=out / f"{name}.xyz", interval=self.interval)
            state = legs.run(name, self.ensemble(leg), state, leg.n_steps, (kept, frames)).state
            path = Trajectory.replicas(
                kept.positions.numpy(),
                state.system,
                timestep_fs=self.timestep_fs * self.interval,
                cell=kept.cells.numpy(),
            )[0]
            samples.append((leg, kept, path))
        return [self.describe(samples)]

    def describe(self, samples: Sequence[tuple[Leg, InMemory, Trajectory]]) -> Record:
        """A row for each stage, g(r) of the second halves, energy against temperature."""
        rows, rdfs, energies = [], [], []
        values: dict[str, Any] = {}
        for leg, kept, path in samples:
            half = len(kept) // 2
            late = path[half:]
            near = neighbourhood(late, cutoff=self.coordination_cutoff)
            assert late.cell is not None
            volume = float(np.abs(np.linalg.det(late.cell)).mean())
            density = float(path.mass.sum()) / volume / units.gram_per_cubic_centimetre
            per_atom = kept.potential_energy[:, 0].numpy() / len(path.numbers)
            temperature = kept.temperature_K[:, 0].numpy()
            rows.append(_row(leg, density, temperature[half:].mean(), per_atom[half:].mean(), near))
            rdfs.append(Curve.of(leg.stage.name, near.r, near.g))
            energies.append(Curve.of(leg.stage.name, temperature, per_atom, style="points"))
            values |= {
                f"{leg.stage.name}_density_g_per_cm3": density,
                f"{leg.stage.name}_coordination": near.coordination,
                f"{leg.stage.name}_rate_K_per_ps": leg.rate_K_per_ps,
            }
        return Record(
            name="melt_quench",
            title="Melt and quench",
            values=values,
            tables=(Table(title="Stages", columns=COLUMNS, rows=tuple(rows)),),
            figures=(
                Figure(title="Radial distribution", x_label="r (Å)", y_label="g(r)", curves=tuple(rdfs)),
                Figure(title="Energy", x_label="T (K)", y_label="U (eV/atom)", curves=tuple(energies)),
            ),
            notes=(
                "Temperatures, densities, energies and g(r) are those of the second half of each stage; in a "
                "ramp they are averages over changing conditions.",
                "Neighbours are counted up to the first minimum of g(r)."
                if self.coordination_cutoff is None
                else f"Neighbours are counted up to {self.coordination_cutoff:g} Å.",
            ),
            references=self.references,
        )


COLUMNS = (
    "stage",
    "ensemble",
    "T (K)",
    "rate (K/ps)",
    "P (GPa)",
    "duration (ps)",
    "⟨T⟩ (K)",
    "density (g/cm³)",
    "⟨U⟩ (eV/atom)",
    "neighbours",
    "within (Å)",
)


def _row(
    leg: Leg, density: float, kelvin: float, energy: float, near: Neighbourhood
) -> tuple[str | float, ...]:
    s = leg.stage
    course = (
        f"{s.temperature_K:g}" if leg.from_K == s.temperature_K else f"{leg.from_K:g} → {s.temperature_K:g}"
    )
    ensemble, pressure = ("NVT", "—") if s.pressure_GPa is None else ("NPT", f"{s.pressure_GPa:g}")
    return (
        s.name,
        ensemble,
        course,
        leg.rate_K_per_ps,
        pressure,
        leg.duration_ps,
        float(kelvin),
        density,
        float(energy),
        near.coordination,
        near.cutoff,
    )
