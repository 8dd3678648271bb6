"""Stage: models trained on one part of the data (a phase, a system) and tested on the others."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.record import Record, Table, Verdict
from rikiba.data.dataset import Dataset
from rikiba.data.splits import Division
from rikiba.execution.processes import Job, run_jobs
from rikiba.execution.progress import Progress
from rikiba.report.formatting import number_text
from rikiba.validation.errors import errors_by_frame

from .comparison import ERRORS, moments
from .fitting import Fitted, fit
from .frames import Frames
from .parts import ALL, Parts, Transfer, find_parts, leaking
from .plan import Plan
from .ratios import FEWEST, Judgement, Ratio, ratio, worst

SHOWN = {"forces_mae_meV_per_A": "F", "energy_mae_meV_per_atom": "E"}
"""Errors that are judged → their letter."""


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model trained on one part (or all) and tested on one."""

    model: str
    trained: str
    tested: str
    against: str | None
    """The training that the ratios compare with: that on the tested part, or on all; None for none."""
    errors: Mapping[str, tuple[float, float]]
    """Quantity → mean and standard deviation over members, on all test frames of the part."""
    ratios: Mapping[str, Ratio]
    """To the same model trained `against`, without test frames that either has nearly seen."""
    judgement: Judgement | None
    """None where the training is what others are compared with."""
    leaks: int
    """Test frames left out of the ratios."""


def parts_of(plan: Plan, settings: Transfer, frames: Frames) -> Parts:
    """The parts of the run's frames; raises ConfigError as `find_parts` does."""
    group_key = "group" if plan.data is None else plan.data.group_key
    whole = Division(training=frames.training, validation=frames.validation, test=frames.test)
    return find_parts(settings, whole, group_key)


def transfer(
    plan: Plan,
    settings: Transfer,
    parts: Parts,
    frames: Frames,
    models: Sequence[Fitted],
    out: Path,
    progress: Progress,
) -> Record:
    """Errors of every model, trained on each part alone and on all, on the test frames of every part.

    A cell is judged by the ratio of its errors to those of the same model with the same settings and seeds
    trained on the tested part, frame by frame on the same test frames, so that a part where forces are large
    is not held against a training.
    """
    trained = {
        name: fit(plan, _only(frames, parts, name), out / "transfer" / _folder(k, name), progress)
        for k, name in enumerate(parts.trained)
    }
    trained[ALL] = list(models)
    order = [row for name in parts.names for row in parts.rows["test"][name]]
    tested = frames.test[order]
    jobs = [Job(member_errors_by_frame, (m, tested)) for fitted in trained.values() for m in fitted]
    found = iter(run_jobs(jobs, workers=plan.run.processes, progress=progress))
    by_frame = {(name, m.name): next(found) for name, fitted in trained.items() for m in fitted}
    leaks = leaking(parts)
    cells = [
        _cell(
            settings, parts, {name: by_frame[name, m.name] for name in trained}, leaks, (m.name, row, column)
        )
        for m in models
        for row in trained
        for column in parts.names
    ]
    return as_record(settings, parts, cells, _shared(frames))


def _only(frames: Frames, parts: Parts, name: str) -> Frames:
    return replace(frames, training=parts.of(name, "training"), validation=parts.of(name, "validation"))


def _folder(k: int, name: str) -> str:
    return f"{k + 1}_{re.sub(r'[^A-Za-z0-9.-]+', '_', name)[:60]}"


def member_errors_by_frame(model: Fitted, test: Dataset, progress: Progress) -> dict[str, np.ndarray]:
    """Quantity → (members, frames); top-level, so that it can be sent to a process."""
    progress(f"Errors of {model.name} frame by frame")
    found = [errors_by_frame(PotentialCalculator(m), test) for m in model.members()]
    return {key: np.array([f[key] for f in found]) for key in SHOWN}


def _cell(
    settings: Transfer,
    parts: Parts,
    found: Mapping[str, Mapping[str, np.ndarray]],
    leaks: Mapping[str, Mapping[str, np.ndarray]],
    place: tuple[str, str, str],
) -> Cell:
    """One cell of a model whose errors by frame, of each training, are `found`."""
    model, row, column = place
    against = column if column in parts.trained else ALL if parts.rows["training"].get(column) else None
    sizes = {name: len(parts.rows["test"][name]) for name in parts.names}
    start = sum(n for name, n in list(sizes.items())[: parts.names.index(column)])
    own = slice(start, start + sizes[column])
    test = parts.of(column, "test")
    clean = ~(leaks[row][column] | (leaks[against][column] if against else False))
    observations = parts.observations[column]
    errors, ratios, judgements = {}, {}, []
    for key in SHOWN:
        atoms = [f.system.n_atoms for f in test] if key.startswith("forces") else [1] * len(test)
        weights = np.array(atoms, float)
        errors[key] = moments(list(found[row][key][:, own] @ weights / weights.sum()))
        if against is None or row == against:
            continue
        sides = [_sums(found[name][key][:, own] * weights, observations, clean) for name in (row, against)]
        ratios[key] = ratio(*sides)
        judgements.append(_judged(settings, key, errors[key][0], ratios[key]))
    judgement: Judgement | None = worst(judgements) if row != against else None
    return Cell(
        model=model,
        trained=row,
        tested=column,
        against=against,
        errors=errors,
        ratios=ratios,
        judgement=judgement,
        leaks=int((~clean).sum()),
    )


def _sums(errors: np.ndarray, observations: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """(members, observations) of (members, frames), without the frames that are not clean."""
    kept = [np.flatnonzero(clean & (observations == k)) for k in range(observations.max() + 1)]
    return np.array([errors[:, rows].sum(1) for rows in kept if len(rows)]).reshape(-1, len(errors)).T


def _judged(settings: Transfer, key: str, error: float, found: Ratio) -> Judgement:
    if found.observations >= FEWEST and error <= getattr(settings, f"negligible_{key.replace('_mae', '')}"):
        return "holds"
    return found.judged(settings.tolerance)


def _shared(frames: Frames) -> bool:
    """Whether training and test frames are of the same trajectories, as far as is known."""
    leaks = next((r for r in frames.records if r.name == "leaks"), None)
    return leaks is not None and bool(leaks["n_shared_groups"] or leaks["n_shared_trajectories"])


def as_record(settings: Transfer, parts: Parts, cells: Sequence[Cell], shared: bool) -> Record:
    """Values as [model][trained on][tested on]; the verdict is of the trainings on one part."""
    models = list(dict.fromkeys(c.model for c in cells))
    rows = (*parts.trained, ALL)
    at = {(c.model, c.trained, c.tested): c for c in cells}

    def grid(value: Any) -> list[list[list[Any]]]:
        return [[[value(at[m, r, c]) for c in parts.names] for r in rows] for m in models]

    values: dict[str, Any] = {
        "models": models,
        "trained_on": list(rows),
        "tested_on": list(parts.names),
        "n_training": [*(len(parts.rows["training"][n]) for n in parts.trained), len(parts.whole.training)],
        "n_test": [len(parts.rows["test"][n]) for n in parts.names],
        "tolerance": settings.tolerance,
    }
    spread: dict[str, Any] = {}
    for key in SHOWN:
        values[key] = grid(lambda c, key=key: c.errors[key][0])
        spread[key] = grid(lambda c, key=key: _or_none(c.errors[key][1]))
        for bound, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            name = f"{key.partition('_')[0]}_ratio{suffix}"
            values[name] = grid(
                lambda c, key=key, b=bound: _or_none(getattr(c.ratios[key], b)) if key in c.ratios else None
            )
    values["judgements"] = grid(lambda c: c.judgement or "compared with")
    judged = [c.judgement for c in cells if c.trained not in (ALL, c.tested) and c.judgement]
    verdicts: dict[Judgement, Verdict] = {"holds": "pass", "fails": "fail", "undecided": "undecided"}
    return Record(
        name="transfer",
        title="Transfer between parts of the data",
        values=values,
        spread=spread,
        tables=(
            *(square(m, key, parts, at) for m in models for key in SHOWN),
            *(ratio_table(m, [c for c in cells if c.model == m], parts) for m in models),
        ),
        notes=_notes(settings, parts, cells, shared),
        verdict=verdicts[worst(judged)],
        references=("10.2307/3002019",),
    )


def square(model: str, key: str, parts: Parts, at: Mapping[tuple[str, str, str], Cell]) -> Table:
    """One row a training, one column a tested part, and its spread where there are several members."""
    rows = (*parts.trained, ALL)
    several = not np.isnan(at[model, rows[0], parts.names[0]].errors[key][1])
    columns = ["trained on"]
    for name in parts.names:
        columns += [f"tested on {name}", f"± {name}"] if several else [f"tested on {name}"]
    lines = []
    for row in rows:
        pairs = [at[model, row, name].errors[key] for name in parts.names]
        lines.append((row, *(_or_none(v) for pair in pairs for v in (pair if several else pair[:1]))))
    return Table(title=f"{model}: {ERRORS[key]}", columns=tuple(columns), rows=tuple(lines))


def ratio_table(model: str, cells: Sequence[Cell], parts: Parts) -> Table:
    """One row a training and another part: how many times the error of the same model trained there."""
    columns = ["trained on", "tested on", "compared with", "observations", "nearly seen"]
    for letter in SHOWN.values():
        columns += [f"{letter} ratio", f"{letter} from", f"{letter} to"]
    lines = []
    for c in cells:
        if c.judgement is None:
            continue
        numbers: list[Any] = []
        for key in SHOWN:
            r = c.ratios.get(key)
            numbers += [None] * 3 if r is None else [_or_none(v) for v in (r.value, r.low, r.high)]
        observations = max((r.observations for r in c.ratios.values()), default=0)
        lines.append(
            (c.trained, c.tested, c.against or "nothing", observations, c.leaks, *numbers, c.judgement)
        )
    title = f"{model}: how many times the error of the same model trained there"
    return Table(title=title, columns=(*columns, "judged"), rows=tuple(lines))


def _notes(settings: Transfer, parts: Parts, cells: Sequence[Cell], shared: bool) -> tuple[str, ...]:
    notes = [_sentence(c) for c in cells if c.judgement == "fails" and c.trained != ALL]
    notes += [
        f"{_sentence(c)} All frames were there to learn from: one potential of this size, with these "
        "weights, does not do for all parts what it does for one."
        for c in cells
        if c.judgement == "fails" and c.trained == ALL
    ]
    few = [n for n in parts.names if len(set(parts.observations[n].tolist())) < FEWEST]
    if few:
        notes.append(
            f"Fewer than {FEWEST} independent test frames, too few to judge anything, on {', '.join(few)}."
        )
    if any(c.leaks for c in cells):
        where = sorted({c.tested for c in cells if c.leaks})
        notes.append(
            f"Test frames of {', '.join(where)} have near duplicates among training frames: they are in the "
            "errors, and left out of the ratios of trainings that have nearly seen them."
        )
    if shared:
        notes.append(
            "Training and test frames share groups or trajectories (see the leaks): errors where a model was "
            "trained look better, and ratios larger, than for frames that are independent."
        )
    if unlearnt := [n for n in parts.names if not parts.rows["training"].get(n)]:
        notes.append(
            f"No training frames of {', '.join(unlearnt)}: errors there, and nothing to compare with."
        )
    if parts.left_out:
        notes.append(f"{parts.left_out} frames are in no part; those for training are in 'all'.")
    notes.append(
        f"Ratios: to the same model trained on the tested part (on all where it was not trained on alone), "
        f"on the same test frames, with 95 % intervals where there are {FEWEST} observations (frames, or "
        f"groups where they are named, near duplicates once). Up to {settings.tolerance:g} a "
        f"training holds, above it fails, and it is undecided where the interval reaches to both sides; "
        f"errors up to {settings.negligible_forces_meV_per_A:g} meV/Å and "
        f"{settings.negligible_energy_meV_per_atom:g} meV/atom hold anyway. Parts differ in their numbers of "
        "training frames, which is a part of the ratio."
    )
    return tuple(notes)


def _sentence(c: Cell) -> str:
    said = [
        f"{letter} {_short(r.value)} ({_short(r.low)} to {_short(r.high)})"
        for key, letter in SHOWN.items()
        if (r := c.ratios.get(key)) is not None
    ]
    return (
        f"{c.model} trained on {c.trained} fails on {c.tested}: {', '.join(said)} times the error of the one "
        f"trained on {c.against}."
    )


def _short(value: float) -> str:
    return number_text(float(f"{value:.3g}"))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
