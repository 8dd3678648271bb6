"""A grid of conditions from beginning to end: batches, processes, what is finished already, the table."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.execution.processes import Job, JobError, try_jobs
from rikiba.execution.progress import Progress, silent
from rikiba.md import checkpoint as files
from rikiba.properties.error_bars import REFERENCES
from rikiba.properties.rdf import replica_error

from .batches import Batch, cell_file, run_batch
from .grid import Bath, Condition, Grid, key

COLUMNS: dict[str, tuple[str, str]] = {
    "temperature_K": ("⟨T⟩ (K)", "none"),
    "potential_energy": ("⟨U⟩ (eV/atom)", "atom"),
    "volume": ("⟨V⟩ (Å³/atom)", "atom"),
    "pressure_GPa": ("⟨P⟩ (GPa)", "none"),
}
"""Sample → heading, and what it is divided by."""


@final
@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one condition."""

    condition: Condition
    formula: str
    n_atoms: int
    samples: dict[str, np.ndarray]
    """Series of the production steps."""
    reason: str = ""
    """Why it failed; empty where it did not."""


def screen(
    calculator: Callable[[], Calculator],
    structures: Sequence[Atoms],
    bath: Bath,
    grid: Grid,
    *,
    out: Path,
    energies: str,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> Record:
    """Run every condition that is not finished yet, and answer with the table of all.

    Every trajectory depends on its own conditions only, not on the batch or process that ran it: with a
    classical potential to the bit, with a learned one to rounding.

    Args:
        calculator: makes the calculator, in each process anew.
        structures: what the grid is run for.
        bath: the ensemble.
        grid: the conditions.
        out: folder; outcomes stay in `cells`, so that a second call repeats nothing.
        energies: what identifies the calculator (its parameters, a digest of its weights); part of the
            key of an outcome.
        progress: told about batches.
        executor: runs the batches in place of local processes; it must see the folder.

    Raises ValueError where no condition could be run.
    """
    conditions = grid.conditions(len(structures))
    keys = [key(c, structures[c.structure], grid, bath, energies) for c in conditions]
    missing = [k for k, name in enumerate(keys) if not cell_file(out, name).is_file()]
    everything = Batch(
        conditions=tuple(conditions),
        keys=tuple(keys),
        structures=tuple(structures[c.structure] for c in conditions),
        grid=grid,
        bath=bath,
        calculator=calculator,
        folder=out,
    )
    if len(missing) < len(keys):
        progress(f"{len(keys) - len(missing)} of {len(keys)} trajectories are there already")
    died = _run_all(everything, missing, progress, executor)
    outcomes = [
        _read(out, name) or _lost(c, structures[c.structure], died.get(k, "no outcome was written"))
        for k, (c, name) in enumerate(zip(conditions, keys, strict=True))
    ]
    if all(o.reason for o in outcomes):
        raise ValueError(f"No trajectory of the grid could be run: {outcomes[0].reason}")
    return describe(outcomes, grid, structures)


def _run_all(
    everything: Batch, missing: Sequence[int], progress: Progress, executor: Executor | None
) -> dict[int, str]:
    """Run batches; those without an answer are halved until the condition that takes a process with it is
    alone. Returns place → reason for what has no outcome."""
    died: dict[int, str] = {}
    waiting = divided(everything, missing)
    while waiting:
        jobs = [Job(run_batch, (everything.part(places),)) for places in waiting]
        answers = try_jobs(jobs, workers=everything.grid.processes, progress=progress, executor=executor)
        again = []
        for places, answer in zip(waiting, answers, strict=True):
            if not isinstance(answer, JobError):
                continue
            left = [k for k in places if not cell_file(everything.folder, everything.keys[k]).is_file()]
            if len(left) == 1:
                died[left[0]] = str(answer)
            elif left:
                half = len(left) // 2
                again += [left[:half], left[half:]]
        waiting = again
    return died


def divided(batch: Batch, places: Sequence[int]) -> list[list[int]]:
    """Places in groups of at most `batch_atoms` atoms, and at least as many groups as processes."""
    most = -(-len(places) // batch.grid.processes) if places else 1
    groups: list[list[int]] = []
    atoms = 0
    for k in places:
        n = len(batch.structures[k])
        if not groups or len(groups[-1]) >= most or atoms + n > batch.grid.batch_atoms:
            groups.append([])
            atoms = 0
        groups[-1].append(k)
        atoms += n
    return groups


def _read(folder: Path, name: str) -> Outcome | None:
    path = cell_file(folder, name)
    if not path.is_file():
        return None
    arrays, meta = files.read(path)
    return Outcome(
        condition=Condition(**meta["condition"]),
        formula=meta["formula"],
        n_atoms=len(arrays["numbers"]),
        samples=files.under(arrays, "samples"),
        reason=meta["reason"],
    )


def _lost(condition: Condition, atoms: Atoms, reason: str) -> Outcome:
    return Outcome(
        condition=condition,
        formula=atoms.get_chemical_formula(),
        n_atoms=len(atoms),
        samples={},
        reason=reason,
    )


def describe(outcomes: Sequence[Outcome], grid: Grid, structures: Sequence[Atoms]) -> Record:
    """Means with standard errors over the replicas of each condition, and the failures."""
    groups: dict[tuple[Any, ...], list[Outcome]] = {}
    for o in outcomes:
        c = o.condition
        groups.setdefault((c.structure, c.pressure_GPa, c.temperature_K), []).append(o)
    rows, points = [], []
    shown = [name for name in COLUMNS if any(name in o.samples for o in outcomes)]
    for (structure, pressure, kelvin), members in groups.items():
        good = [o for o in members if not o.reason]
        means = {name: _mean(good, name) for name in shown}
        numbers = [value for name in shown for value in means[name]]
        head = (structure, members[0].formula, kelvin, "—" if pressure is None else pressure)
        rows.append((*head, len(good), len(members) - len(good), *numbers))
        points.append((structure, pressure, kelvin, means))
    failed = [o for o in outcomes if o.reason]
    headings = [h for name in shown for h in (COLUMNS[name][0], "±")]
    table = Table(
        title="Conditions",
        columns=("structure", "formula", "T (K)", "P (GPa)", "finished", "failed", *headings),
        rows=tuple(rows),
    )
    return Record(
        name="screening",
        title="Screening",
        values={
            "n_trajectories": len(outcomes),
            "n_failed": len(failed),
            "n_conditions": len(groups),
            "steps": grid.steps,
            "equilibration_steps": grid.equilibration_steps,
        },
        tables=(table, *_failures(failed)),
        figures=tuple(_figures(points, shown, len(structures))),
        notes=(
            "± is one standard error: of four or more replicas from their scatter or the correlation in "
            "time, whichever is larger; of fewer from the correlation in time.",
        ),
        verdict="fail" if failed else None,
        references=REFERENCES,
    )


def _mean(good: Sequence[Outcome], name: str) -> tuple[float, float]:
    """Mean and standard error over the replicas; NaN where there is none."""
    per_atom = COLUMNS[name][1] == "atom"
    series = [o.samples[name] / (o.n_atoms if per_atom else 1) for o in good if name in o.samples]
    if not series:
        return float("nan"), float("nan")
    return float(np.concatenate(series).mean()), float(replica_error(series))


def _failures(failed: Sequence[Outcome]) -> list[Table]:
    if not failed:
        return []
    rows = []
    for o in failed:
        c = o.condition
        pressure = "—" if c.pressure_GPa is None else c.pressure_GPa
        rows.append((c.structure, c.temperature_K, pressure, c.replica, o.reason))
    columns = ("structure", "T (K)", "P (GPa)", "replica", "reason")
    return [Table(title="Failures", columns=columns, rows=tuple(rows))]


def _figures(points: Sequence[tuple[Any, ...]], shown: Sequence[str], n: int) -> list[Figure]:
    """Each mean against the temperature, a curve for each structure and pressure."""
    found = []
    for name in (s for s in shown if s != "temperature_K"):
        curves: dict[str, list[tuple[float, float, float]]] = {}
        for structure, pressure, kelvin, means in points:
            words = [f"structure {structure}"] if n > 1 else []
            words += [] if pressure is None else [f"{pressure:g} GPa"]
            if np.isfinite(means[name][0]):
                label = ", ".join(words) or "constant volume"
                curves.setdefault(label, []).append((kelvin, *means[name]))
        lines = [Curve.of(label, *np.array(sorted(p)).T) for label, p in curves.items()]
        lines = [replace(line, style="points") if len(line.x) == 1 else line for line in lines]
        found.append(
            Figure(title=COLUMNS[name][0], x_label="T (K)", y_label=COLUMNS[name][0], curves=tuple(lines))
        )
    return found
