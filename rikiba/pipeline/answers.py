"""Stage: what the trained potentials say about held-out frames, physics and properties."""

import re
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
from rikiba.report.formatting import split_key
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
        answered = {s: r for s, r in own.items() if r.values}
        reference = sources[-1] if len(jobs) > len(models) and sources[-1] in answered else None
        if len(answered) > 1:
            records.append(side_by_side(name, answered, reference=reference))
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
    if plan.structure is not None:
        found |= ask(plan.properties, calculators, plan.structure, model.name, model.name, progress)
    return found


def ask_reference(
    reference: Reference, properties: Mapping[str, Any], structure: Atoms, progress: Progress
) -> Answers:
    """The same properties from the reference itself."""
    calculator = FromASE(reference.ase_calculator())  # type: ignore[attr-defined]
    return ask(properties, [calculator], structure, "reference", reference.level_of_theory, progress)


def ask(
    properties: Mapping[str, Any],
    calculators: Sequence[Calculator],
    structure: Atoms,
    tag: str,
    source: str,
    progress: Progress,
) -> Answers:
    """One record of each property, with the spread over calculators where there are several.

    A property that cannot be computed (a weak potential whose relaxation finds no minimum) is a failed record
    with the reason: the other answers of a long run are not lost with it.
    """
    found: Answers = {}
    for name, question in properties.items():
        progress(f"{name} of {source}")
        try:
            record = (
                over_members(question, calculators, structure)
                if len(calculators) > 1
                else question.compute(calculators[0], structure)
            )
        except (ValueError, ArithmeticError) as error:
            record = unanswered(name, error)
        found[name] = [named(record, f"{name}_{tag}", source)]
    return found


def unanswered(name: str, error: Exception) -> Record:
    """A failed record in the place of an answer: what was asked, and why there is none."""
    text = name.replace("_", " ")
    return Record(
        name=name,
        title=text[:1].upper() + text[1:],
        verdict="fail",
        notes=(f"No answer: {error}",),
    )


def named(record: Record, name: str, source: str) -> Record:
    """The record under a name of its own, with its source in the title."""
    return replace(record, name=name, title=f"{record.title.removesuffix(f': {source}')}: {source}")


def error_table(found: Sequence[Record], published: Sequence[Published]) -> Record:
    """Held-out errors of our models beside published ones on the same data."""
    columns = ["potential", "E MAE (meV/atom)", "E RMSE (meV/atom)", "F MAE (meV/Å)", "F RMSE (meV/Å)"]
    keys = (
        "energy_mae_meV_per_atom",
        "energy_rmse_meV_per_atom",
        "forces_mae_meV_per_A",
        "forces_rmse_meV_per_A",
    )
    rows: list[tuple[Any, ...]] = [(r.title.split(": ")[-1], *(r.values.get(k) for k in keys)) for r in found]
    if published:
        columns.append("source")
        rows = [(*row, "this run") for row in rows]
    for p in published:
        rows.append((p.name, p.energy_mae_meV_per_atom, None, p.forces_mae_meV_per_A, None, p.source))
    notes = ("Published numbers are quoted from their sources, not recomputed.",) if published else ()
    table = Table(title="Errors on held-out frames", columns=tuple(columns), rows=tuple(rows))
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
    numbers = {k: v for k, v in columns.items() if all(_is_number(n) for n in v) and not _is_diagnostic(k)}
    rows: list[tuple[Any, ...]] = [(printed(k), *v) for k, v in independent(numbers).items()]
    values: dict[str, Any] = {}
    series = next((k for k, v in first.values.items() if _is_series(v)), None)
    if series is not None and not first.figures and all(_is_series(c) for c in columns[series]):
        items: list[list[float]] = columns[series]  # type: ignore[assignment]
        if len({len(c) for c in items}) == 1:
            names = _item_names(first, series, len(items[0]))
            rows = [(n, *row) for n, row in zip(names, zip(*items, strict=True), strict=True)] + rows
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
    name, unit = split_key(series)
    return [f"{name} {k + 1}{f' ({unit})' if unit else ''}" for k in range(n)]


def printed(key: str) -> str:
    """A unit-suffixed key as the heading of a row: `C11_GPa` → 'C₁₁ (GPa)'."""
    name, unit = split_key(key)
    return f"{name} ({unit})" if unit else name


def independent(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The rows without elastic constants that are zero or repeat another one for every source."""
    constants = [k for k in rows if re.fullmatch(r"C[1-6][1-6]_GPa", k)]
    scale = max((abs(v) for k in constants for v in rows[k]), default=0.0)
    kept: dict[str, list[Any]] = {}
    for key, row in rows.items():
        if key in constants:
            seen = [[0.0] * len(row), *(kept[k] for k in constants if k in kept)]
            if any(np.allclose(np.abs(row), np.abs(other), rtol=0.0, atol=1e-6 * scale) for other in seen):
                continue
        kept[key] = row
    return kept


def _is_diagnostic(key: str) -> bool:
    """True for numbers about the computation, which each source's own record has."""
    return key.startswith(("n_", "max_force", "asymmetry", "fit_rms", "lowest_eigenvalue", "residual"))


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
