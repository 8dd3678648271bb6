"""How far predictions are from labels that the model has not seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from rikiba.calculators.base import Calculator
from rikiba.core import elements, units
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.core.results import QUANTITIES, Results
from rikiba.core.system import System
from rikiba.data.dataset import Labelled

_FIELDS = ("charge", "spin", "magmoms", "field", "head", "owned")
_PERCENTILES = (50.0, 90.0, 95.0, 99.0, 100.0)
_MAX_POINTS = 4000


@final
@dataclass(kw_only=True)
class _Collected:
    """Labels, predictions and where they belong, gathered over batches."""

    label: list[np.ndarray] = field(default_factory=list)
    predicted: list[np.ndarray] = field(default_factory=list)
    frame: list[np.ndarray] = field(default_factory=list)
    number: list[np.ndarray] = field(default_factory=list)

    def add(self, label: np.ndarray, predicted: np.ndarray, frame: np.ndarray, number: np.ndarray) -> None:
        self.label.append(label)
        self.predicted.append(predicted)
        self.frame.append(frame)
        self.number.append(number)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return tuple(np.concatenate(x) for x in (self.label, self.predicted, self.frame, self.number))  # type: ignore[return-value]

    def __bool__(self) -> bool:
        return bool(self.label)


@dataclass(frozen=True)
class _Quantity:
    """How one quantity is named, scaled and split."""

    key: str
    name: str
    unit: str
    unit_key: str
    factor: float


_QUANTITIES = (
    _Quantity("energy", "E", "meV/atom", "meV_per_atom", 1e3),
    _Quantity("forces", "F", "meV/Å", "meV_per_A", 1e3),
    _Quantity("stress", "σ", "GPa", "GPa", 1.0 / units.gigapascal),
    _Quantity("charges", "q", "me", "me", 1e3),
    _Quantity("magmoms", "m", "μB", "muB", 1.0),
)


def errors(
    calculator: Calculator,
    dataset: Sequence[Labelled],
    *,
    atoms_per_batch: int = 1024,
    name: str = "",
    title: str = "",
) -> Record:
    """Mean absolute and root-mean-square errors of E per atom, F and σ per component, against labels.

    Of charges and magnetic moments too, where labels and predictions have them. Also per element (forces),
    per group of frames, percentiles of |error|, mean signed energy error, and parity figures. The spread is
    the standard error from resampling groups (four or more), since frames of one trajectory are not
    independent. Known label noise is printed beside the errors.

    Args:
        calculator: what predicts.
        dataset: labelled frames; a quantity that a frame lacks is left out for it.
        atoms_per_batch: atoms evaluated together.
        name: name of the record, 'errors' if not given.
        title: which set this is, e.g. 'test set'.

    Raises ValueError for no frames and for frames of different levels of theory.
    """
    if len(dataset) == 0:
        raise ValueError("There are no frames to compare with.")
    levels = tuple(dict.fromkeys(f.level_of_theory for f in dataset))
    if len(levels) > 1:
        raise ValueError(f"Frames of several levels of theory cannot share one error: {', '.join(levels)}.")
    collected = {q.key: _Collected() for q in _QUANTITIES}
    for start, frames in _batches(dataset, atoms_per_batch):
        _collect(calculator, frames, start, collected)
    groups = np.array([f.group for f in dataset])
    values: dict[str, Any] = {"n_frames": len(dataset), "level_of_theory": levels[0]}
    spread: dict[str, Any] = {}
    tables: list[Table] = []
    figures: list[Figure] = []
    for q in _QUANTITIES:
        if collected[q.key]:
            _describe(q, collected[q.key], groups, values, spread, tables, figures, levels[0])
    values |= _noise(dataset)
    heading = f"Errors against {levels[0]}"
    return Record(
        name=name or "errors",
        title=f"{heading}, {title}" if title else heading,
        values=values,
        spread=spread,
        tables=(_summary(values, spread), *tables),
        figures=tuple(figures),
        notes=_notes(values, spread, len(set(groups.tolist()))),
    )


def errors_by_frame(
    calculator: Calculator, dataset: Sequence[Labelled], *, atoms_per_batch: int = 1024
) -> dict[str, np.ndarray]:
    """Mean absolute errors of each frame: E per atom (meV/atom), F and σ per component, and so on.

    Keys are those of `errors`, e.g. 'forces_mae_meV_per_A'; arrays are as long as the dataset, NaN for frames
    without the label. A quantity that no frame has is absent.
    """
    collected = {q.key: _Collected() for q in _QUANTITIES}
    for start, frames in _batches(dataset, atoms_per_batch):
        _collect(calculator, frames, start, collected)
    found = {}
    for q in _QUANTITIES:
        if collected[q.key]:
            label, predicted, frame, _ = collected[q.key].arrays()
            size = np.abs(predicted - label).mean(1) * q.factor
            total = np.bincount(frame, size, len(dataset))
            with np.errstate(invalid="ignore"):
                found[f"{q.key}_mae_{q.unit_key}"] = total / np.bincount(frame, minlength=len(dataset))
    return found


def _batches(dataset: Sequence[Labelled], limit: int) -> Iterator[tuple[int, list[Labelled]]]:
    """(index of the first, frames) with at most `limit` atoms (or one frame) and equal optional fields."""
    batch: list[Labelled] = []
    start = count = 0
    signature: tuple[bool, ...] = ()
    for k in range(len(dataset)):
        frame = dataset[k]
        own = _signature(frame)
        if batch and (count + frame.system.n_atoms > limit or own != signature):
            yield start, batch
            batch, start, count = [], k, 0
        batch.append(frame)
        count += frame.system.n_atoms
        signature = own
    if batch:
        yield start, batch


def _signature(frame: Labelled) -> tuple[bool, ...]:
    """What must agree within a batch: optional fields, the labels there are, and whether a stress exists."""
    given = tuple(getattr(frame.system, f) is not None for f in _FIELDS)
    return (*given, frame.results.stress is not None)


def _collect(
    calculator: Calculator, frames: list[Labelled], start: int, collected: dict[str, _Collected]
) -> None:
    system = System.cat([f.system.replace(info=None, tags=None) for f in frames])
    wants_stress = frames[0].results.stress is not None
    predicted = calculator(system, forces=True, stress=wants_stress)
    for k, frame in enumerate(frames):
        rows = system.atom_rows(k)
        numbers = frame.system.numbers.cpu().numpy()
        at = start + k
        for q in _QUANTITIES:
            label = getattr(frame.results, q.key)
            if label is None or not bool(label.isfinite().all()):
                continue
            if QUANTITIES[q.key].per == "atom" and getattr(predicted, q.key) is None:
                continue  # a potential without charges has no error of charges
            target = label.double().cpu().numpy()
            guess = _of(predicted, q.key, k, rows)
            if q.key == "energy":
                target, guess = target / len(numbers), guess / len(numbers)
            number = numbers if QUANTITIES[q.key].per == "atom" else np.zeros(1, int)
            components = target.reshape(len(number), -1)
            collected[q.key].add(
                components, guess.reshape(components.shape), np.full(len(number), at), number
            )


def _of(results: Results, key: str, k: int, rows: slice) -> np.ndarray:
    value = results.need(key)
    return (
        (value[rows] if QUANTITIES[key].per == "atom" else value[k : k + 1]).detach().double().cpu().numpy()
    )


def _describe(
    q: _Quantity,
    collected: _Collected,
    groups: np.ndarray,
    values: dict[str, Any],
    spread: dict[str, Any],
    tables: list[Table],
    figures: list[Figure],
    level: str,
) -> None:
    """Numbers, tables and the parity figure of one quantity."""
    label, predicted, frame, number = collected.arrays()
    error = (predicted - label) * q.factor
    mae, rmse = f"{q.key}_mae_{q.unit_key}", f"{q.key}_rmse_{q.unit_key}"
    values[mae], values[rmse] = float(np.abs(error).mean()), float(np.sqrt((error**2).mean()))
    if q.key == "energy":
        values[f"energy_mean_error_{q.unit_key}"] = float(error.mean())
    by_group = {g: error[groups[frame] == g] for g in dict.fromkeys(groups[frame].tolist())}
    if len(by_group) >= 4:
        spread[mae], spread[rmse] = _group_errors(list(by_group.values()))
    values[f"{q.key}_percentiles_{q.unit_key}"] = np.percentile(np.abs(error), _PERCENTILES).tolist()
    rows = [("all", *_row(error))]
    if QUANTITIES[q.key].per == "atom":
        rows += [(elements.symbol(int(z)), *_row(error[number == z])) for z in sorted(set(number.tolist()))]
    if 1 < len(by_group) <= 60:
        rows += [(g or "(no group)", *_row(e)) for g, e in by_group.items()]
    columns = (
        "part",
        "numbers",
        f"MAE ({q.unit})",
        f"RMSE ({q.unit})",
        *(f"{p:g} % ({q.unit})" for p in _PERCENTILES),
    )
    tables.append(Table(title=f"Errors of {q.name}", columns=columns, rows=tuple(rows)))
    figures.append(_parity(q, label, predicted, number, level))


def _row(error: np.ndarray) -> tuple[float, ...]:
    size = np.abs(error)
    return (
        error.size,
        float(size.mean()),
        float(np.sqrt((error**2).mean())),
        *np.percentile(size, _PERCENTILES).tolist(),
    )


def _group_errors(by_group: list[np.ndarray], n: int = 500) -> tuple[float, float]:
    """Standard errors of MAE and RMSE by resampling whole groups."""
    rng = np.random.default_rng(0)
    count = np.array([e.size for e in by_group], float)
    absolute = np.array([np.abs(e).sum() for e in by_group])
    square = np.array([(e**2).sum() for e in by_group])
    pick = rng.integers(0, len(by_group), (n, len(by_group)))
    total = count[pick].sum(1)
    grow = np.sqrt(len(by_group) / (len(by_group) - 1))
    mae = absolute[pick].sum(1) / total
    rmse = np.sqrt(square[pick].sum(1) / total)
    return float(mae.std(ddof=1) * grow), float(rmse.std(ddof=1) * grow)


def _parity(q: _Quantity, label: np.ndarray, predicted: np.ndarray, number: np.ndarray, level: str) -> Figure:
    curves = []
    unit = {"energy": "eV/atom", "forces": "eV/Å", "charges": "e"}.get(q.key, q.unit)
    scale = q.factor if unit == q.unit else 1e-3 * q.factor
    for z in sorted(set(number.tolist())):
        x, y = label[number == z].ravel() * scale, predicted[number == z].ravel() * scale
        if len(x) > _MAX_POINTS:
            keep = np.random.default_rng(0).choice(len(x), _MAX_POINTS, replace=False)
            # the largest errors are always drawn
            keep = np.union1d(keep, np.argsort(np.abs(y - x))[-50:])
            x, y = x[keep], y[keep]
        curves.append(Curve.of(elements.symbol(int(z)) if z else q.name, x, y, style="points"))
    return Figure(
        title=f"Parity of {q.name}",
        x_label=f"{level} ({unit})",
        y_label=f"predicted ({unit})",
        curves=tuple(curves),
        diagonal=True,
    )


def _noise(dataset: Sequence[Labelled]) -> dict[str, float]:
    """Root-mean-square of the known noise of the labels, where every frame tells it."""
    out = {}
    for q in _QUANTITIES:
        found = [
            f.noise[q.key] / (f.system.n_atoms if q.key == "energy" else 1)
            for f in dataset
            if q.key in f.noise
        ]
        if len(found) == len(dataset):
            out[f"{q.key}_label_noise_{q.unit_key}"] = q.factor * float(np.sqrt(np.mean(np.square(found))))
    return out


def _summary(values: dict[str, Any], spread: dict[str, Any]) -> Table:
    rows = []
    for q in _QUANTITIES:
        mae, rmse = f"{q.key}_mae_{q.unit_key}", f"{q.key}_rmse_{q.unit_key}"
        if mae in values:
            noise = values.get(f"{q.key}_label_noise_{q.unit_key}", "")
            rows.append(
                (q.name, q.unit, values[mae], spread.get(mae, ""), values[rmse], spread.get(rmse, ""), noise)
            )
    columns = ("quantity", "unit", "MAE", "±", "RMSE", "±", "label noise")
    return Table(title="Errors", columns=columns, rows=tuple(rows))


def _notes(values: dict[str, Any], spread: dict[str, Any], n_groups: int) -> tuple[str, ...]:
    notes = ["E is per atom; F and σ are per Cartesian component."]
    if spread:
        notes.append(f"± is one standard error from resampling {n_groups} groups of frames.")
    else:
        notes.append(f"No error bar: {n_groups} groups of frames are too few to resample.")
    bias, mae = values.get("energy_mean_error_meV_per_atom"), values.get("energy_mae_meV_per_atom")
    if bias is not None and mae and abs(bias) > 0.7 * mae and values["n_frames"] > 5:
        notes.append("Energies are mostly shifted by a constant, which forces and differences do not see.")
    return tuple(notes)
