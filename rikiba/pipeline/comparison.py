"""Stage: all models side by side: errors with their spread over members, cost of an MD step, training."""

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.base import Calculator
from rikiba.config import ConfigError
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.core.system import System
from rikiba.data.dataset import Dataset
from rikiba.execution.manifest import package_versions
from rikiba.execution.processes import Job, run_jobs
from rikiba.execution.progress import Progress
from rikiba.kernels.threads import one_torch_thread
from rikiba.md.ensembles.nve import NVE
from rikiba.md.limits import SimulationError
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.validation.errors import errors

from .fitting import Fitted
from .frames import Frames
from .plan import Comparison, Plan

ERRORS = {
    "forces_mae_meV_per_A": "F MAE (meV/Å)",
    "forces_rmse_meV_per_A": "F RMSE (meV/Å)",
    "energy_mae_meV_per_atom": "E MAE (meV/atom)",
    "energy_rmse_meV_per_atom": "E RMSE (meV/atom)",
}
"""Key of an error record → heading."""
COST = "cost_us_per_atom_step"


@final
@dataclass(frozen=True, kw_only=True)
class Side:
    """One model of a comparison."""

    name: str
    kind: str
    numbers: Mapping[str, tuple[float, float]]
    """Quantity → mean and standard deviation over members, the cost over timings; NaN where there is none."""
    members: int
    parameters: int
    receptive_field: float
    long_range: bool
    """Whether it has a part that no cutoff ends, such as an Ewald sum."""


def compare(
    plan: Plan, settings: Comparison, frames: Frames, models: Sequence[Fitted], progress: Progress
) -> Record:
    """The table of all models, machine-readable in the record's values, and the plot of error against cost.

    Raises ConfigError where there are no test frames.
    """
    if len(frames.test) == 0:
        raise ConfigError(
            "[comparison] needs test frames: [data] test, or a test_fraction in [split] that is not 0."
        )
    jobs = [Job(member_errors, (model, frames.test)) for model in models]
    found = run_jobs(jobs, workers=plan.run.processes, progress=progress)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    system = largest(frames.test)
    with one_torch_thread():
        costs, notes = time_steps(models, system, settings, plan.run.seed, progress)
    kinds = {model.name: learned_kind(model.potential) for model in plan.models}
    sides = [
        side(model, kinds[model.name], numbers, costs[model.name])
        for model, numbers in zip(models, found, strict=True)
    ]
    provenance = {
        "command": shlex.join((Path(sys.argv[0]).name, *sys.argv[1:])),
        "date": time.strftime("%Y-%m-%d"),
        "versions": package_versions(),
        "processor": platform.processor() or platform.machine(),
        "load_average_before_timing": round(load, 2),
        "processes_while_training": plan.run.processes,
    }
    return as_record(sides, frames, system, notes, provenance)


def learned_kind(table: Mapping[str, Any]) -> str:
    """Name of the family: the kind, or those of a sum's terms."""
    terms = table.get("terms", ()) if table["kind"] == "sum" else ()
    return "+".join(t["kind"] for t in terms) or str(table["kind"])


def member_errors(model: Fitted, test: Dataset, progress: Progress) -> dict[str, list[float]]:
    """The errors of each member by itself; top-level, so that it can be sent to a process."""
    progress(f"Errors of the members of {model.name}")
    records = [errors(PotentialCalculator(m), test) for m in model.members()]
    return {key: [r.values.get(key, float("nan")) for r in records] for key in ERRORS}


def largest(test: Dataset) -> System:
    """The first of the test frames with the most atoms."""
    sizes = [frame.system.n_atoms for frame in test]
    return test[int(np.argmax(sizes))].system


def time_steps(
    models: Sequence[Fitted], system: System, settings: Comparison, seed: int, progress: Progress
) -> tuple[dict[str, list[float]], list[str]]:
    """Processor time of an MD step of each model's first member, µs per atom, one value a round.

    Models take turns, so that what slows the machine for a while slows them all. Where a trajectory breaks
    off the model is timed over shorter ones, and a note says so; one that does not last two steps has no
    cost.
    """
    steppers: dict[str, Stepper] = {}
    costs: dict[str, list[float]] = {model.name: [] for model in models}
    notes = []
    start = maxwell_boltzmann(system, settings.temperature_K, seed=seed)
    for turn in range(-1, settings.rounds):
        progress("Timing MD steps", turn + 1, settings.rounds + 1)
        for model in models:
            try:
                if turn < 0:
                    calculator = PotentialCalculator(model.members()[0])
                    stepper = Stepper(calculator, start, settings.timestep_fs)
                    seconds = stepper.time(2) / 2
                    stepper.round = max(1, round(settings.round_s / max(seconds, 1e-6)))
                    steppers[model.name] = stepper
                elif model.name in steppers:
                    stepper = steppers[model.name]
                    seconds = stepper.time(stepper.round) / stepper.round
                    costs[model.name].append(1e6 * seconds / system.n_atoms)
            except SimulationError as error:
                steppers.pop(model.name, None)
                costs[model.name] = []
                notes.append(f"{model.name}: no cost of an MD step, as its trajectory broke off: {error}")
    for name, stepper in steppers.items():
        if stepper.broke_off is not None:
            notes.append(f"{name} is not stable in MD at {settings.temperature_K:g} K: {stepper.broke_off}")
    return costs, notes


class Stepper:
    """An NVE run whose steps are timed, started again where it breaks off: costs do not ask for stability."""

    def __init__(self, calculator: Calculator, start: State, timestep_fs: float) -> None:
        self.calculator, self.start, self.timestep_fs = calculator, start, timestep_fs
        self.round = 1
        self.stretch: int | None = None
        """Steps of one trajectory, half of what one lasted; None where none broke off."""
        self.broke_off: str | None = None
        self.simulation = self.fresh()

    def fresh(self) -> Simulation:
        """A run after its first step, which is the one that compiles kernels and makes the neighbour list."""
        return Simulation(self.calculator, NVE(), self.start, timestep_fs=self.timestep_fs).run(1)

    def time(self, steps: int) -> float:
        """Processor seconds of that many steps; SimulationError where no trajectory lasts two."""
        done, spent = 0, 0.0
        while done < steps:
            left = steps - done
            if self.stretch is not None:
                left = min(left, self.stretch)
                self.simulation = self.fresh()
            began = time.process_time()
            try:
                self.simulation.run(left)
            except SimulationError as error:
                lasted = self.simulation.state.step
                if lasted < 2:
                    raise
                self.stretch, self.broke_off = lasted // 2, str(error)
                continue
            spent += time.process_time() - began
            done += left
        return spent


def side(model: Fitted, kind: str, found: Mapping[str, list[float]], costs: list[float]) -> Side:
    """One model's row."""
    first = model.members()[0]
    numbers = {key: moments(values) for key, values in found.items()}
    numbers[COST] = moments(costs)
    for key, name in (("training_wall_s", "wall_time_s"), ("training_processor_s", "processor_time_s")):
        numbers[key] = moments([float(r.values.get(name, float("nan"))) for r in model.records])
    return Side(
        name=model.name,
        kind=kind,
        numbers=numbers,
        members=len(model.files),
        parameters=sum(p.numel() for p in first.parameters()),
        receptive_field=float(first.receptive_field),
        long_range=first.uses_positions,
    )


def moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; NaN for the deviation of one value, and for both of none."""
    if not values:
        return float("nan"), float("nan")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points (cost, error) that no other one beats in both, by rising cost."""
    front: list[str] = []
    best = float("inf")
    for name, (cost, error) in sorted(points.items(), key=lambda item: item[1]):
        if np.isfinite(cost) and error < best:
            front.append(name)
            best = error
    return front


def as_record(
    sides: Sequence[Side],
    frames: Frames,
    system: System,
    notes: Sequence[str],
    provenance: Mapping[str, Any],
) -> Record:
    """Values as columns: one entry a model, in the order of `models`, by rising error of the forces."""
    ranked = sorted(sides, key=lambda s: np.nan_to_num(s.numbers["forces_mae_meV_per_A"][0], nan=np.inf))
    fronts = {
        key: pareto({s.name: (s.numbers[COST][0], s.numbers[key][0]) for s in ranked})
        for key in ("forces_mae_meV_per_A", "energy_mae_meV_per_atom")
    }
    keys = (*ERRORS, COST, "training_wall_s", "training_processor_s")
    columns = {k: [s.numbers[k][0] for s in ranked] for k in keys}
    spread = {k: [None if np.isnan(d := s.numbers[k][1]) else d for s in ranked] for k in keys}
    front = fronts["forces_mae_meV_per_A"]
    values: dict[str, Any] = {
        "n_training": len(frames.training),
        "n_test": len(frames.test),
        "n_atoms_timed": system.n_atoms,
        "level_of_theory": ", ".join(frames.training.levels_of_theory),
        "elements": list(frames.training.elements),
        "models": [s.name for s in ranked],
        "kinds": [s.kind for s in ranked],
        **columns,
        "members": [s.members for s in ranked],
        "parameters": [s.parameters for s in ranked],
        "receptive_field_A": [s.receptive_field for s in ranked],
        "long_range": [s.long_range for s in ranked],
        "front": front,
    }
    return Record(
        name="comparison",
        title="Families on the same data",
        values=values,
        spread=spread,
        tables=(table(ranked, front),),
        figures=tuple(figure(ranked, key, fronts[key]) for key in fronts),
        notes=(
            *notes,
            "Errors: mean and standard deviation over the members of a model, each a potential by itself.",
            f"Cost: processor time of a velocity-Verlet step of {system.n_atoms} atoms on one thread, "
            f"models in turn; mean and standard deviation of the timings. Load average when it began: "
            f"{provenance['load_average_before_timing']}.",
        ),
        provenance=provenance,
    )


def table(ranked: Sequence[Side], front: Sequence[str]) -> Table:
    """One row a model, numbers with their spread beside them."""
    headed = {**ERRORS, COST: "µs per atom and MD step", "training_processor_s": "training, processor (s)"}
    columns: list[str] = ["model"]
    for heading in headed.values():
        columns += [heading, f"± {heading.partition(' (')[0]}"]
    columns += ["training, wall (s)", "seeds", "parameters", "on the front"]
    rows = []
    for s in ranked:
        cells: list[Any] = [s.name]
        for key in headed:
            cells += [None if np.isnan(v) else v for v in s.numbers[key]]
        on = "yes" if s.name in front else ""
        rows.append((*cells, s.numbers["training_wall_s"][0], s.members, s.parameters, on))
    return Table(title="Families on the same data", columns=tuple(columns), rows=tuple(rows))


def figure(ranked: Sequence[Side], key: str, front: Sequence[str]) -> Figure:
    """Error against cost, one point a model, and a line through those that none beats in both."""
    points = {s.name: (*s.numbers[COST], *s.numbers[key]) for s in ranked if np.isfinite(s.numbers[COST][0])}
    curves = [
        Curve.of(name, [cost], [error], None if np.isnan(deviation) else [deviation], "points")
        for name, (cost, _, error, deviation) in points.items()
    ]
    x, y = [points[n][0] for n in front], [points[n][2] for n in front]
    line = Curve.of("not beaten in both", x, y)
    return Figure(
        title=f"Accuracy and speed: {'forces' if key.startswith('forces') else 'energy'}",
        x_label="processor time (µs per atom and MD step)",
        y_label=ERRORS[key],
        curves=(*curves, line),
        log_x=True,
        log_y=True,
    )
