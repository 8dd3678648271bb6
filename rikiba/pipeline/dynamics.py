"""Stage: batched replicas with every model and a short run of the reference, and what they have in common."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from ase import Atoms

from rikiba.calculators.ase import FromASE
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.base import Calculator
from rikiba.calculators.committee import Committee
from rikiba.core.record import Record, Scene
from rikiba.core.system import System
from rikiba.execution.processes import Job, run_jobs
from rikiba.execution.progress import Progress
from rikiba.md.ase_constraints import attached
from rikiba.md.constraints.base import Constraint
from rikiba.md.drift import drift
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.hdf5 import Hdf5
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.properties.bond_lengths import BondLengths
from rikiba.properties.trajectories import Trajectory
from rikiba.properties.vdos import Vdos
from rikiba.reference.base import Reference

from .fitting import Fitted
from .plan import MolecularDynamicsPlan, Plan

SCENE_FRAMES = 150
"""Frames of the trajectory that the report shows."""
PROBE_STEPS = 40
"""Steps after which the speed is known well enough to fit a run into its time."""


@final
@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """What one source of forces gave."""

    source: str
    trajectories: tuple[Trajectory, ...]
    """Constant temperature."""
    records: tuple[Record, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Start:
    """What every run begins from."""

    structure: Atoms
    constraints: tuple[Constraint, ...]
    seed: int


def simulate(plan: Plan, models: Sequence[Fitted], out: Path, progress: Progress) -> list[Record]:
    """Run all sources, compare each model with the reference. Trajectories stay in `out/trajectories`."""
    settings, structure = plan.simulation, plan.structure
    assert settings is not None and structure is not None
    folder = out / "trajectories"
    folder.mkdir(parents=True, exist_ok=True)
    start = Start(structure=structure, constraints=plan.constraints, seed=plan.run.seed)
    jobs = []
    if plan.reference is not None and settings.reference_ps > 0:
        level = plan.reference.level_of_theory
        jobs.append(Job(attempt, (level, run_reference, plan.reference, settings, start)))
    jobs += [Job(attempt, (m.name, run_model, m, settings, start, folder)) for m in models]
    found: list[Dynamics] = run_jobs(jobs, workers=plan.run.processes, progress=progress)
    records = [r for d in found for r in d.records]
    reference = found[0] if len(found) > len(models) else None
    for d in found:
        if reference is None or d is reference or not (d.trajectories and reference.trajectories):
            continue
        labels = (d.source, reference.source)
        for compare in (BondLengths(relax=False).compare, Vdos().compare):
            record = compare(d.trajectories, reference.trajectories, labels=labels)
            records.append(replace(record, name=f"{record.name}_{d.source}"))
    return records


def attempt(source: str, run: Callable[..., Dynamics], *arguments: Any, progress: Progress) -> Dynamics:
    """The run, or a failed record with the reason where its dynamics cannot go on: a result too."""
    try:
        return run(*arguments, progress=progress)
    except ArithmeticError as error:
        failed = Record(
            name=f"nvt_{source}",
            title=f"Dynamics: {source}",
            verdict="fail",
            notes=(f"No trajectory: {error}",),
        )
        return Dynamics(source=source, trajectories=(), records=(failed,))


def run_model(
    model: Fitted,
    settings: MolecularDynamicsPlan,
    begin: Start,
    folder: Path,
    progress: Progress,
) -> Dynamics:
    """Constant temperature, then constant energy a quarter as long, with one model."""
    members = model.members()
    calculator: Calculator = PotentialCalculator(members[0]) if len(members) == 1 else Committee(members)
    start = equilibrated(calculator, begin, settings, settings.replicas, begin.seed)
    steps = round(1e3 * settings.total_ps / settings.replicas / settings.timestep_fs)
    bath = Langevin(temperature_K=settings.temperature_K, friction_per_ps=settings.friction_per_ps)
    every = max(1, round(settings.interval_fs / settings.timestep_fs))
    kept = InMemory(interval=every, velocities=True)
    store = folder / f"{model.name}_nvt.h5"
    store.unlink(missing_ok=True)
    nvt = Simulation(
        calculator,
        bath,
        start,
        timestep_fs=settings.timestep_fs,
        reporters=[kept, Hdf5(path=store, interval=every)],
        progress=lambda done, total: progress(f"NVT {model.name}", done, total),
    )
    began = time.perf_counter()
    steps, shortened = _affordable(nvt, steps, settings.max_seconds)
    nvt.run(steps - nvt.state.step)
    seconds = time.perf_counter() - began
    watched = InMemory(interval=1, positions=False)
    nve = Simulation(
        calculator,
        NVE(),
        nvt.state,
        timestep_fs=settings.timestep_fs,
        reporters=[watched],
        progress=lambda done, total: progress(f"NVE {model.name}", done, total),
    ).run(max(1, steps // 4))
    for reporter in nvt.reporters:
        reporter.close()
    conserved = drift(
        watched.time_ps - watched.time_ps[:1],
        watched.conserved,
        len(begin.structure),
        kinetic_energy_eV=watched.kinetic_energy,
    )
    trajectories = _trajectories(kept, nve.state.system, settings)
    return Dynamics(
        source=model.name,
        trajectories=trajectories,
        records=(
            _run_record(model.name, settings, steps, seconds, kept, nvt, shortened),
            replace(conserved, name=f"drift_{model.name}", title=f"{conserved.title} (NVE): {model.name}"),
            *_analyses(model.name, trajectories),
        ),
    )


def run_reference(
    reference: Reference, settings: MolecularDynamicsPlan, begin: Start, progress: Progress
) -> Dynamics:
    """A short constant-temperature run with the reference engine."""
    name = reference.level_of_theory
    calculator = FromASE(reference.ase_calculator())  # type: ignore[attr-defined]
    n = settings.reference_replicas
    steps = round(1e3 * settings.reference_ps / n / settings.timestep_fs)
    bath = Langevin(temperature_K=settings.temperature_K, friction_per_ps=settings.friction_per_ps)
    kept = InMemory(interval=max(1, round(settings.interval_fs / settings.timestep_fs)), velocities=True)
    start = equilibrated(calculator, begin, settings, n, begin.seed + 5000)
    began = time.perf_counter()
    simulation = Simulation(
        calculator,
        bath,
        start,
        timestep_fs=settings.timestep_fs,
        reporters=[kept],
        progress=lambda done, total: progress(f"NVT {name}", done, total),
    ).run(steps)
    trajectories = _trajectories(kept, simulation.state.system, settings)
    seconds = time.perf_counter() - began
    record = _run_record(name, replace(settings, replicas=n), steps, seconds, kept, simulation)
    records = (replace(record, name="nvt_reference"), *_analyses(name, trajectories, suffix="reference"))
    return Dynamics(source=name, trajectories=trajectories, records=records)


def equilibrated(
    calculator: Calculator, begin: Start, settings: MolecularDynamicsPlan, n: int, seed: int
) -> State:
    """n copies of a structure after a strongly damped run from random velocities; clocks at zero."""
    copies = [begin.structure] * n
    held = [*attached(copies), *begin.constraints]
    start = maxwell_boltzmann(System.from_ase(copies), settings.temperature_K, seed=seed, constraints=held)
    bath = Langevin(
        temperature_K=settings.temperature_K, friction_per_ps=settings.equilibration_friction_per_ps
    )
    steps = round(1e3 * settings.equilibration_ps / settings.timestep_fs)
    state = Simulation(calculator, bath, start, timestep_fs=settings.timestep_fs).run(steps).state
    return state.replace(step=0, time=torch.zeros_like(state.time), seeds=state.seeds + 10_000)


def _affordable(simulation: Simulation, steps: int, max_seconds: float | None) -> tuple[int, str]:
    """Steps that fit into the time, and what to say if they are fewer than asked for."""
    if max_seconds is None or steps <= PROBE_STEPS:
        return steps, ""
    simulation.run(PROBE_STEPS // 2)  # compiles kernels and fills caches
    began = time.perf_counter()
    simulation.run(PROBE_STEPS // 2)
    per_step = (time.perf_counter() - began) / (PROBE_STEPS // 2)
    possible = PROBE_STEPS + int(max_seconds / per_step)
    if possible >= steps:
        return steps, ""
    return possible, (
        f"Shortened to {possible} of {steps} steps: {1e3 * per_step:.1f} ms a step did not fit into "
        f"{max_seconds:g} s. Raise [simulation] max_seconds for the whole run."
    )


def _trajectories(kept: InMemory, system: System, settings: MolecularDynamicsPlan) -> tuple[Trajectory, ...]:
    return tuple(
        Trajectory.replicas(
            kept.positions.numpy(),
            system,
            timestep_fs=settings.timestep_fs * kept.interval,
            velocities=kept.velocities.numpy(),
        )
    )


def _analyses(source: str, trajectories: tuple[Trajectory, ...], suffix: str | None = None) -> list[Record]:
    tag = suffix or source
    questions = (BondLengths(relax=False), Vdos())
    found = [q.analyse(trajectories) for q in questions]
    return [replace(r, name=f"md_{r.name}_{tag}", title=f"{r.title}: {source}") for r in found]


def _run_record(
    source: str,
    settings: MolecularDynamicsPlan,
    steps: int,
    seconds: float,
    kept: InMemory,
    run: Simulation,
    shortened: str = "",
) -> Record:
    temperature = kept.temperature_K.numpy()
    replica_means = temperature.mean(0)
    simulated = steps * settings.timestep_fs * settings.replicas / 1e3
    values: dict[str, Any] = {
        "replicas": settings.replicas,
        "steps": steps,
        "timestep_fs": settings.timestep_fs,
        "simulated_ps": simulated,
        "mean_temperature_K": float(temperature.mean()),
        "bath_temperature_K": settings.temperature_K,
        "wall_time_s": seconds,
        "time_per_step_ms": 1e3 * seconds / max(steps, 1),
    }
    spread = {}
    mean, dof = float(temperature.mean()), int(run.state.dof.sum())
    allowed = max(0.25, 5.0 * np.sqrt(2.0 / max(1, dof)))  # 5 standard deviations of one frame
    off = abs(mean / settings.temperature_K - 1.0) > allowed
    notes = [shortened] if shortened else []
    if off:
        values["finding"] = f"{mean:.0f} K under a bath of {settings.temperature_K:g} K"
        notes.insert(
            0,
            f"The mean temperature is {mean:.0f} K under a bath of {settings.temperature_K:g} K: the forces "
            f"heat or cool the atoms. What follows from this trajectory is not of the bath's temperature.",
        )
    if len(replica_means) > 1:
        spread["mean_temperature_K"] = float(replica_means.std(ddof=1) / np.sqrt(len(replica_means)))
    return Record(
        name=f"nvt_{source}",
        title=f"Dynamics at constant temperature: {source}",
        values=values,
        spread=spread,
        scenes=(_scene(source, kept, run.state.system.to_ase()[0]),),
        notes=tuple(notes),
        verdict="fail" if off else None,
        references=Langevin.references,
    )


def _scene(source: str, kept: InMemory, structure: Atoms) -> Scene:
    """The first replica's trajectory, thinned."""
    stride = -(-len(kept) // SCENE_FRAMES)
    positions = kept.positions[::stride, : len(structure)].tolist()
    times = kept.time_ps[::stride, 0].tolist()
    cell = tuple(tuple(v) for v in structure.cell.array.tolist()) if structure.pbc.any() else None
    return Scene(
        title=f"First replica: {source}",
        numbers=tuple(structure.numbers.tolist()),
        frames=tuple(tuple(tuple(r) for r in frame) for frame in positions),
        cell=cell,
        frame_labels=tuple(f"{t:.2f} ps" for t in times),
    )
