"""The simulation that `rikiba md` runs."""

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
    """

    steps: int
    timestep_fs: float
    temperature_K: float
    replicas: int = 1
    interval: int = 10
    checkpoint_interval: int = 1000
    seed: int = 0

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
    show: Progress = silent,
) -> Record:
    """Run, and leave trajectory.xyz, thermo.csv and md.checkpoint in the folder.

    Constraints that the structures carry are kept beside those given.

    Raises ValueError where there is no checkpoint to resume from, or it belongs to another simulation.
    """
    from rikiba.core.system import System
    from rikiba.md.ase_constraints import attached
    from rikiba.md.drift import drift
    from rikiba.md.reporters.extxyz import Extxyz
    from rikiba.md.reporters.in_memory import InMemory
    from rikiba.md.reporters.thermo import Thermo
    from rikiba.md.simulation import Simulation
    from rikiba.md.state import maxwell_boltzmann

    copies = [atoms for atoms in frames for _ in range(settings.replicas)]
    system, held = System.from_ase(copies), [*attached(copies), *constraints]
    kept = InMemory(interval=settings.interval, positions=False)
    files = (
        Extxyz(path=out / "trajectory.xyz", interval=settings.interval),
        Thermo(path=out / "thermo.csv", interval=settings.interval),
    )
    simulation = Simulation(
        calculator,
        ensemble,
        maxwell_boltzmann(system, settings.temperature_K, seed=settings.seed, constraints=held),
        timestep_fs=settings.timestep_fs,
        reporters=(kept, *files),
        checkpoint=out / "md.checkpoint",
        checkpoint_interval=settings.checkpoint_interval,
        progress=lambda done, total: show("Molecular dynamics", done, total),
    )
    file = out / "md.checkpoint"
    if resume:
        if not file.is_file():
            raise ValueError(f"There is no checkpoint {file} to go on from; leave --resume out.")
        simulation.restore(file)
    simulation.run(max(0, settings.steps - simulation.state.step))
    simulation.close()
    found = drift(kept.time_ps, kept.conserved, system.counts.tolist(), kinetic_energy_eV=kept.kinetic_energy)
    sources = (ensemble, *constraints)
    references = tuple(doi for x in sources for doi in getattr(x, "references", ()))
    return described(found, kept, simulation, references)


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
