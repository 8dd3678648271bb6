"""The simulation that `rikiba md` runs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.record import Curve, Figure, Record
from rikiba.execution.progress import Progress, silent
from rikiba.md.constraints.base import Constraint


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """The table [md].

    Args:
        steps: number of steps.
        timestep_fs: integration step.
        temperature_K: of the initial velocities.
        replicas: copies of each structure, advanced together.
        interval: steps between frames and rows.
        checkpoint_interval: steps between checkpoints.
        seed: of velocities and noise.
        check_timestep: find the fastest vibration of each structure first and say where the timestep is long
            for it.
    """

    steps: int
    timestep_fs: float
    temperature_K: float
    replicas: int = 1
    interval: int = 10
    checkpoint_interval: int = 1000
    seed: int = 0
    check_timestep: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "replicas"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; given {getattr(self, name)}.")
        if self.steps < 2 * self.interval:
            raise ValueError(
                f"{self.steps} steps with interval = {self.interval} leave no three frames to judge."
            )


def simulate(
    calculator: Calculator,
    frames: Sequence[Atoms],
    ensemble: Any,
    settings: Settings,
    *,
    constraints: Sequence[Constraint] = (),
    out: Path,
    resume: bool = False,
    level_of_theory: str | None = None,
    show: Progress = silent,
    limits: Any = None,
    reporters: Sequence[Any] = (),
) -> Record:
    """Run, and leave trajectory.xyz, thermo.csv and md.checkpoint in the folder.

    Constraints that the structures carry are kept beside those given. `reporters` come on top of these files;
    what a `health` among them notices goes into the Record's notes.

    Raises ValueError where there is no checkpoint to resume from, or it belongs to another simulation.
    """
    from rikiba.core.system import System
    from rikiba.md.ase_constraints import attached
    from rikiba.md.drift import drift
    from rikiba.md.limits import Limits
    from rikiba.md.reporters.extxyz import Extxyz
    from rikiba.md.reporters.in_memory import InMemory
    from rikiba.md.reporters.thermo import Thermo
    from rikiba.md.simulation import Simulation
    from rikiba.md.state import maxwell_boltzmann
    from rikiba.md.vibration import timestep_warning

    warning = timestep_warning(calculator, frames, settings.timestep_fs) if settings.check_timestep else None
    if warning:
        show(f"Note: {warning}")
    copies = [atoms for atoms in frames for _ in range(settings.replicas)]
    system, held = System.from_ase(copies), [*attached(copies), *constraints]
    kept = InMemory(interval=settings.interval, positions=False)
    files = (
        Extxyz(path=out / "trajectory.xyz", interval=settings.interval, level_of_theory=level_of_theory),
        Thermo(path=out / "thermo.csv", interval=settings.interval),
    )
    simulation = Simulation(
        calculator,
        ensemble,
        maxwell_boltzmann(system, settings.temperature_K, seed=settings.seed, constraints=held),
        timestep_fs=settings.timestep_fs,
        reporters=(kept, *files, *reporters),
        limits=Limits() if limits is None else limits,
        checkpoint=out / "md.checkpoint",
        checkpoint_interval=settings.checkpoint_interval,
    )
    file = out / "md.checkpoint"
    if resume:
        if not file.is_file():
            raise ValueError(f"There is no checkpoint {file} to go on from; leave --resume out.")
        simulation.restore(file)
    began, timer = simulation.state.step, Rate(settings.timestep_fs, system.n_systems, system.n_atoms)
    simulation.progress = lambda done, total: show(
        f"Molecular dynamics\t{timer(done)}", began + done, began + total
    )
    simulation.run(max(0, settings.steps - simulation.state.step))
    simulation.close()
    found = drift(kept.time_ps, kept.conserved, system.counts.tolist(), kinetic_energy_eV=kept.kinetic_energy)
    sources = (ensemble, *constraints)
    references = tuple(doi for x in sources for doi in getattr(x, "references", ()))
    record = described(found, kept, simulation, references)
    alarms = [a for r in reporters for a in getattr(r, "alarms", ())]
    notes = ([warning] if warning else []) + [f"Health: {a}." for a in alarms]
    return replace(record, notes=(*notes, *record.notes))


class Rate:
    """How fast a simulation goes, in words: simulated time a day and evaluations a second."""

    def __init__(self, timestep_fs: float, n_systems: int, n_atoms: int) -> None:
        self.timestep_fs, self.n_systems, self.n_atoms = timestep_fs, n_systems, n_atoms
        self._start = time.perf_counter()

    def __call__(self, steps: int) -> str:
        """After so many steps: ns/day of one system (times the number of systems), µs for an atom's step."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        per_day = 1e-6 * self.timestep_fs * steps / seconds * 86400.0
        replicas = f" × {self.n_systems}" if self.n_systems > 1 else ""
        each = 1e6 * seconds / max(1, steps * self.n_atoms)
        return f"{per_day:.3g}{replicas} ns/day, {each:.3g} µs/atom/step"


def described(found: Record, kept: Any, simulation: Any, references: tuple[str, ...]) -> Record:
    """The drift's record with the run's length and mean temperature, and its curves of temperature."""
    temperatures = kept.temperature_K
    late = temperatures[len(temperatures) // 2 :].mean(0)
    curves = [
        Curve.of(f"system {k}", kept.time_ps[:, k], temperatures[:, k]) for k in range(min(16, len(late)))
    ]
    figure = Figure(title="Temperature", x_label="time (ps)", y_label="T (K)", curves=tuple(curves))
    values = {
        "n_steps": simulation.state.step,
        "simulated_time_ps": float(kept.time_ps[-1].max()),
        "mean_temperature_K": float(late.mean()),
        "degrees_of_freedom": sorted(set(simulation.state.dof.tolist())),
        "stopped": simulation.stopped or "at the end",
        **found.values,
    }
    return replace(
        found,
        name="md",
        title="Molecular dynamics",
        values=values,
        figures=(figure, *found.figures),
        notes=("The mean temperature is that of the second half.", *found.notes),
        references=tuple(dict.fromkeys((*found.references, *references))),
    )
