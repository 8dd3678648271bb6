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
            records.append(
                side_by_side(name, own, reference=sources[-1] if len(jobs) > len(models) else None)
            )
    return records


def ask_model(model: Fitted, plan: Plan, test: Dataset, progress: Progress) -> Answers:
    """Everything one model is asked; top-level, so that it can be sent to a process."""
    members = model.members()
    calculators: list[Calculator] = [PotentialCalculator(m) for m in members]
    whole: Calculator = calculators[0] if len(members) == 1 else Committee(members)
    found: Answers = {}
    if len(test):
        progress(f"Errors of {model.name}")
        found["errors"] = [
            named(errors(whole, test, title="held-out frames"), f"errors_{model.name}", model.name)
        ]
    if plan.validation.physics:
        progress(f"Physics of {model.name}")
        smallest = sorted(range(len(test)), key=lambda k: test[k].system.n_atoms)[:2]
        frames = [test[k].system.to_ase()[0] for k in smallest]
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
    columns = (
        "potential",
        "E MAE (meV/atom)",
        "E RMSE (meV/atom)",
        "F MAE (meV/Å)",
        "F RMSE (meV/Å)",
        "source",
    )
    keys = (
        "energy_mae_meV_per_atom",
        "energy_rmse_meV_per_atom",
        "forces_mae_meV_per_A",
        "forces_rmse_meV_per_A",
    )
    rows: list[tuple[Any, ...]] = [
        (r.title.split(": ")[-1], *(r.values.get(k) for k in keys), "this run") for r in found
    ]
    for p in published:
        rows.append((p.name, p.energy_mae_meV_per_atom, None, p.forces_mae_meV_per_A, None, p.source))
    notes = ("Published numbers are quoted from their sources, not recomputed.",) if published else ()
    table = Table(title="Errors on held-out frames", columns=columns, rows=tuple(rows))
    values = {
        f"{r.name.removeprefix('errors_')}_{k}": r.values[k] for r in found for k in keys if k in r.values
    }
    return Record(
        name="errors", title="Errors on held-out frames", values=values, tables=(table,), notes=notes
    )


def side_by_side(name: str, found: Mapping[str, Record], *, reference: str | None) -> Record:
    """One property from several sources: a table of its numbers, and their curves on one figure.

    A property's first series (frequencies, bond lengths) is its answer and is set side by side item by item;
    with a reference, each other source's root-mean-square and largest difference are values of the record.
    """
    first = next(iter(found.values()))
    sources = list(found)
    columns = {key: [found[s].values.get(key) for s in sources] for key in first.values}
    rows: list[tuple[Any, ...]] = [(k, *v) for k, v in columns.items() if all(_is_number(n) for n in v)]
    values: dict[str, Any] = {}
    series = next((k for k, v in first.values.items() if _is_series(v)), None)
    if series is not None and not first.figures and all(_is_series(c) for c in columns[series]):
        items: list[list[float]] = columns[series]  # type: ignore[assignment]
        if len({len(c) for c in items}) == 1:
            names = _item_names(first, series, len(items[0]))
            rows += [(n, *row) for n, row in zip(names, zip(*items, strict=True), strict=True)]
            values = _differences(series, dict(zip(sources, items, strict=True)), reference)
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
        name=f"compare_{name}",
        title=f"{title}, side by side",
        values=values,
        tables=(table,),
        figures=figures,
    )


def _item_names(record: Record, series: str, n: int) -> list[str]:
    """Names that the record itself gives the items of its series, or numbers."""
    for value in record.values.values():
        if isinstance(value, list) and len(value) == n and all(isinstance(v, str) for v in value):
            return value
    return [f"{series} {k + 1}" for k in range(n)]


def _differences(series: str, columns: Mapping[str, list[float]], reference: str | None) -> dict[str, float]:
    out = {}
    for source, items in columns.items():
        if reference is None or source == reference:
            continue
        d = np.subtract(items, columns[reference])
        out[f"{source}_rms_difference_{series}"] = float(np.sqrt((d**2).mean()))
        out[f"{source}_largest_difference_{series}"] = float(np.abs(d).max())
    return out


def _is_number(v: Any) -> bool:
    return isinstance(v, (int, float)) and not isinstance(v, bool)


def _is_series(v: Any) -> bool:
    return isinstance(v, list) and bool(v) and all(_is_number(t) for t in v)
