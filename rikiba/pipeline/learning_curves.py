"""Stage: errors of all models against the number of training frames, nested subsets, seeds as error bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from rikiba.config import ConfigError
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.execution.processes import Job, run_jobs
from rikiba.execution.progress import Progress

from .comparison import ERRORS, member_errors, moments
from .fitting import Fitted, fit
from .frames import Frames
from .plan import Plan

SHOWN = ("forces_mae_meV_per_A", "energy_mae_meV_per_atom")
"""Errors with a curve and a slope."""


@final
@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """One model's errors against the number of frames."""

    name: str
    sizes: tuple[int, ...]
    errors: Mapping[str, tuple[tuple[float, float], ...]]
    """Quantity → mean and standard deviation over members at each size."""

    def slope(self, key: str) -> tuple[float, float]:
        """Exponent p of error ∝ n^p and its standard error."""
        return slope(self.sizes, [mean for mean, _ in self.errors[key]])


def check_sizes(sizes: Sequence[int], frames: Frames) -> None:
    """Raises ConfigError for sizes that are not below the number of training frames."""
    n = len(frames.training)
    if wrong := [k for k in sizes if k >= n]:
        raise ConfigError(
            f"[comparison] training_sizes must be below the number of training frames, {n}, which is the "
            f"last point anyway; given {', '.join(map(str, wrong))}."
        )


def nested(frames: Frames, size: int, seed: int) -> Frames:
    """The same data with the first `size` training frames of an order that `seed` draws.

    A smaller part of the same seed is within every larger one. Raises ConfigError where the part lacks an
    element of the whole.
    """
    order = np.random.default_rng(seed).permutation(len(frames.training))
    part = frames.training[sorted(order[:size].tolist())]
    if missing := set(frames.training.elements) - set(part.elements):
        raise ConfigError(
            f"[comparison] training_sizes: the {size} frames drawn hold no {', '.join(sorted(missing))}, so "
            "nothing can be learnt of it. Leave this size out, or give [run] another seed."
        )
    return replace(frames, training=part)


def learning_curves(
    plan: Plan,
    sizes: Sequence[int],
    frames: Frames,
    models: Sequence[Fitted],
    out: Path,
    progress: Progress,
) -> Record:
    """Every model trained on nested parts of the training frames and tested on the same test frames.

    The last point is the model trained on all. All members of a model see the same part and differ by their
    seed; trainers stay as they are, so that a limit of time holds at every size. Raises ConfigError where a
    part lacks an element.
    """
    sizes = sorted(set(sizes))
    parts = [nested(frames, n, plan.run.seed) for n in sizes]
    trained = [
        fit(plan, part, out / "learning_curves" / str(n), progress)
        for n, part in zip(sizes, parts, strict=True)
    ]
    every = [*trained, list(models)]
    jobs = [Job(member_errors, (model, frames.test)) for at_size in every for model in at_size]
    found = iter(run_jobs(jobs, workers=plan.run.processes, progress=progress))
    by_size = [{model.name: next(found) for model in at_size} for at_size in every]
    counts = (*sizes, len(frames.training))
    curves = [
        LearningCurve(
            name=model.name,
            sizes=counts,
            errors={key: tuple(moments(at[model.name][key]) for at in by_size) for key in ERRORS},
        )
        for model in models
    ]
    return as_record(curves, frames)


def slope(sizes: Sequence[int], errors: Sequence[float]) -> tuple[float, float]:
    """p and its standard error of error = c n^p by least squares of the logarithms, all points alike.

    NaN for both where fewer than two errors are finite and positive, for the standard error of two.
    """
    x, y = np.log(np.asarray(sizes, float)), np.asarray(errors, float)
    good = np.isfinite(y) & (y > 0)
    x, y = x[good], np.log(y[good])
    if len(x) < 2:
        return float("nan"), float("nan")
    x = x - x.mean()
    p = float(x @ y / (x @ x))
    if len(x) == 2:
        return p, float("nan")
    residual = y - y.mean() - p * x
    return p, float(np.sqrt(residual @ residual / (len(x) - 2) / (x @ x)))


def as_record(curves: Sequence[LearningCurve], frames: Frames) -> Record:
    """Values as a row a model and a column a size, by rising error of the forces at the largest."""
    ranked = sorted(curves, key=lambda c: np.nan_to_num(c.errors[SHOWN[0]][-1][0], nan=np.inf))
    values: dict[str, Any] = {
        "n_test": len(frames.test),
        "training_sizes": list(ranked[0].sizes),
        "models": [c.name for c in ranked],
    }
    spread: dict[str, Any] = {}
    for key in ERRORS:
        values[key] = [[mean for mean, _ in c.errors[key]] for c in ranked]
        spread[key] = [[_or_none(deviation) for _, deviation in c.errors[key]] for c in ranked]
    for key in SHOWN:
        name = f"{key.partition('_')[0]}_slope"
        values[name] = [c.slope(key)[0] for c in ranked]
        spread[name] = [_or_none(c.slope(key)[1]) for c in ranked]
    return Record(
        name="learning_curves",
        title="Error against the number of training frames",
        values=values,
        spread=spread,
        tables=tuple(table(ranked, key) for key in SHOWN),
        figures=tuple(figure(ranked, key) for key in SHOWN),
        notes=(
            "Each smaller part lies within the larger ones; the last is all training frames. Validation and "
            "test frames are the same throughout. Errors: mean and standard deviation over the members of a "
            "model.",
            "Slope: p of error ∝ n^p through all points, with its standard error where there are more than "
            "two; it levels off where the time or the size of the model, and not the data, is the limit.",
        ),
    )


def table(ranked: Sequence[LearningCurve], key: str) -> Table:
    """One row a model, one column a size."""
    columns = ["model"]
    for n in ranked[0].sizes:
        columns += [f"{n} frames", f"± {n} frames"]
    rows = []
    for c in ranked:
        cells = [_or_none(v) for pair in (*c.errors[key], c.slope(key)) for v in pair]
        rows.append((c.name, *cells))
    return Table(title=ERRORS[key], columns=(*columns, "slope", "± slope"), rows=tuple(rows))


def figure(ranked: Sequence[LearningCurve], key: str) -> Figure:
    """A line a model, with error bars where there are several members."""
    curves = []
    for c in ranked:
        means, deviations = zip(*c.errors[key], strict=True)
        curves.append(Curve.of(c.name, c.sizes, means, None if np.isnan(deviations).any() else deviations))
    return Figure(
        title=f"Learning curves: {key.partition('_')[0]}",
        x_label="training frames",
        y_label=ERRORS[key],
        curves=tuple(curves),
        log_x=True,
        log_y=True,
    )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
