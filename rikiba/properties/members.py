"""One property over several models: the mean and its spread."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.record import Record, Table

from .base import Property


def over_members(property: Property, calculators: Sequence[Calculator], atoms: Atoms) -> Record:
    """Compute a property with each calculator; values are means, spreads the sample standard deviation.

    Numbers and lists of numbers of one shape are averaged; what cannot be is left out and named in the
    notes. Figures are those of the first member. Raises ValueError for fewer than two calculators.
    """
    if len(calculators) < 2:
        raise ValueError(f"A spread needs at least 2 calculators; given {len(calculators)}.")
    records = [property.compute(c, atoms) for c in calculators]
    first = records[0]
    values: dict[str, Any] = {}
    spread: dict[str, Any] = {}
    left_out = []
    for key in first.values:
        stacked = _stack([r.values.get(key) for r in records])
        if stacked is None:
            same = all(r.values.get(key) == first.values[key] for r in records)
            if same:
                values[key] = first.values[key]
            else:
                left_out.append(key)
            continue
        values[key] = stacked.mean(0).tolist()
        spread[key] = stacked.std(0, ddof=1).tolist()
    rows = tuple(
        (key, *(float(r.values[key]) for r in records), values[key], spread[key])
        for key in spread
        if isinstance(values[key], float)
    )
    columns = ("quantity", *(f"member {k + 1}" for k in range(len(records))), "mean", "spread")
    notes = [f"Mean and sample standard deviation over {len(records)} models; figures are of the first."]
    notes += [f"Member {k + 1}: {n}" for k, r in enumerate(records) for n in r.notes]
    if left_out:
        notes.append(f"Differ between members and were not averaged: {', '.join(left_out)}.")
    return replace(
        first,
        values=values,
        spread=spread,
        tables=(Table(title=f"{first.title}: members", columns=columns, rows=rows),),
        notes=tuple(dict.fromkeys(notes)),
    )


def _stack(values: list[Any]) -> np.ndarray | None:
    """[members, …] where all are numbers (not booleans) of one shape."""
    if any(v is None or isinstance(v, (str, bool)) for v in values):
        return None
    try:
        arrays = [np.asarray(v) for v in values]
    except ValueError:
        return None
    if any(a.dtype.kind not in "if" or a.shape != arrays[0].shape for a in arrays):
        return None
    return np.stack(arrays).astype(float)
