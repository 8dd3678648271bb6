"""Stage: what the trained potentials say about held-out frames, physics and properties."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms

from rikiba.calculators.ase import FromASE
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.base import Calculator
from rikiba.calculators.committee import Committee
from rikiba.core.record import Figure, Record, Table
from rikiba.data.dataset import Dataset
from rikiba.execution.processes import Job, run_jobs
from rikiba.execution.progress import Progress
from rikiba.properties.members import over_members
from rikiba.reference.base import Reference
from rikiba.validation.battery import physics_battery
from rikiba.validation.errors import errors

from .fitting import Fitted
from .frames import Frames
from .plan import Plan, Published

Answers = dict[str, list[Record]]
"""Kind of question → one record of each source."""


def answer(plan: Plan, frames: Frames, models: Sequence[Fitted], progress: Progress) -> list[Record]:
    """Errors, physics and properties of every model, and the tables that set them side by side."""
    jobs = [Job(ask_model, (model, plan, frames.test)) for model in models]
    if plan.reference is not None and plan.structure is not None and plan.properties:
        jobs.append(Job(ask_reference, (plan.reference, plan.properties, plan.structure)))
    answers = run_jobs(jobs, workers=plan.run.processes, progress=progress)
    records = [r for a in answers for kind in ("errors", "physics") for r in a.get(kind, [])]
    if len(frames.test):
        records.append(error_table([r for a in answers for r in a.get("errors", [])], plan.published))
    sources = [m.name for m in models]
    if len(jobs) > len(models):
        sources.append(plan.reference.level_of_theory if plan.reference else "reference")
    for name in plan.properties:
        own = {s: a[name][0] for s, a in zip(sources, answers, strict=True)}
        records += own.values()
        if len(own) > 1:
            records.append(side_by_side(name, own, reference=sources[-1] if len(jobs) > len(models) else None))
    return records


def ask_model(model: Fitted, plan: Plan, test: Dataset, progress: Progress) -> Answers:
    """Everything one model is asked; top-level, so that it can be sent to a process."""
    members = model.members()
    calculators: list[Calculator] = [PotentialCalculator(m) for m in members]
    whole: Calculator = calculators[0] if len(members) == 1 else Committee(members)
    found: Answers = {}
    if len(test):
        progress(f"Errors of {model.name}")
        found["errors"] = [named(errors(whole, test, title="held-out frames"), f"errors_{model.name}", model.name)]
    if plan.validation.physics:
        progress(f"Physics of {model.name}")
        frames = [test[k].system.to_ase()[0] for k in range(min(2, len(test)))]
        structures = frames or ([plan.structure] if plan.structure is not None else [])
        record = physics_battery(members[0], structures or None, name=model.name)
        found["physics"] = [named(record, f"physics_{model.name}", model.name)]
    for name, question in plan.properties.items():
        progress(f"{name} of {model.name}")
        assert plan.structure is not None
        if len(calculators) > 1:
            record = over_members(question, calculators, plan.structure)
        else:
            record = question.compute(calculators[0], plan.structure)
        found[name] = [named(record, f"{name}_{model.name}", model.name)]
    return found


def ask_reference(
    reference: Reference, properties: Mapping[str, Any], structure: Atoms, progress: Progress
) -> Answers:
    """The same properties from the reference itself."""
    calculator = FromASE(reference.ase_calculator())  # type: ignore[attr-defined]
    found: Answers = {}
    for name, question in properties.items():
        progress(f"{name} of {reference.level_of_theory}")
        record = question.compute(calculator, structure)
        found[name] = [named(record, f"{name}_reference", reference.level_of_theory)]
    return found


def named(record: Record, name: str, source: str) -> Record:
    """The record under a name of its own, with its source in the title."""
    return replace(record, name=name, title=f"{record.title}: {source}")


def error_table(found: Sequence[Record], published: Sequence[Published]) -> Record:
    """Held-out errors of our models beside published ones on the same data."""
    columns = ("potential", "E MAE (meV/atom)", "E RMSE (meV/atom)", "F MAE (meV/Å)", "F RMSE (meV/Å)", "source")
    keys = (
        "energy_mae_meV_per_atom",
        "energy_rmse_meV_per_atom",
        "forces_mae_meV_per_A",
        "forces_rmse_meV_per_A",
    )
    rows: list[tuple[Any, ...]] = [
        (r.title.split(": ")[-1], *(r.values.get(k, "–") for k in keys), "this run") for r in found
    ]
    for p in published:
        energy = "–" if p.energy_mae_meV_per_atom is None else p.energy_mae_meV_per_atom
        forces = "–" if p.forces_mae_meV_per_A is None else p.forces_mae_meV_per_A
        rows.append((p.name, energy, "–", forces, "–", p.source))
    notes = ("Published numbers are quoted from their sources, not recomputed.",) if published else ()
    table = Table(title="Errors on held-out frames", columns=columns, rows=tuple(rows))
    values = {f"{k}_{r.name.removeprefix('errors_')}": r.values[k] for r in found for k in keys if k in r.values}
    return Record(name="errors", title="Errors on held-out frames", values=values, tables=(table,), notes=notes)


def side_by_side(name: str, found: Mapping[str, Record], *, reference: str | None) -> Record:
    """One property from several sources: a table of what is comparable, and their curves on one figure.

    With a reference, each other source's root-mean-square and largest difference are values of the record.
    """
    first = next(iter(found.values()))
    sources = list(found)
    rows: list[tuple[Any, ...]] = []
    for key in first.values:
        given = [found[s].values.get(key) for s in sources]
        if all(_is_number(v) for v in given):
            rows.append((key, *given))
        elif not first.figures and all(_is_series(v) and len(v) == len(given[0]) for v in given):
            rows += [(f"{key} {k + 1}", *items) for k, items in enumerate(zip(*given, strict=True))]
    values: dict[str, Any] = {}
    if reference is not None and not first.figures:
        for s in sources:
            if s == reference:
                continue
            column, base = 1 + sources.index(s), 1 + sources.index(reference)
            for key in dict.fromkeys(r[0].rsplit(" ", 1)[0] for r in rows if " " in r[0]):
                d = np.array([r[column] - r[base] for r in rows if r[0].startswith(f"{key} ")])
                values[f"rms_difference_{s}_{key}"] = float(np.sqrt((d**2).mean()))
                values[f"largest_difference_{s}_{key}"] = float(np.abs(d).max())
    figures = tuple(
        Figure(
            title=figure.title,
            x_label=figure.x_label,
            y_label=figure.y_label,
            curves=tuple(
                replace(c, label=f"{s} {c.label}" if len(f.figures[k].curves) > 1 else s)
                for s, f in found.items()
                if k < len(f.figures)
                for c in f.figures[k].curves
            ),
        )
        for k, figure in enumerate(first.figures)
    )
    title = first.title.rsplit(": ", 1)[0]
    table = Table(title=f"{title}, side by side", columns=("quantity", *sources), rows=tuple(rows))
    return Record(
        name=f"compare_{name}", title=f"{title}, side by side", values=values, tables=(table,), figures=figures
    )


def _is_number(v: Any) -> bool:
    return isinstance(v, (int, float)) and not isinstance(v, bool)


def _is_series(v: Any) -> bool:
    return isinstance(v, list) and bool(v) and all(_is_number(t) for t in v)

