import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rikiba.core.record import Curve, Figure, Record, Scene, Table

MARKS = ("nan", "inf", "-inf")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda s: s not in MARKS)
number = st.floats() | st.integers(-(2**60), 2**60) | st.booleans()
cell = number | text | st.none()
value = st.recursive(
    cell, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=2), max_leaves=6
)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    n = draw(st.integers(0, 4))
    row = lambda: tuple(draw(st.lists(st.floats(), min_size=n, max_size=n)))  # noqa: E731
    style = draw(st.sampled_from(["line", "points", "step", "band"]))
    return Curve(label=draw(text), x=row(), y=row(), error=draw(st.none()) or row(), style=style)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = tuple(draw(st.lists(text, max_size=3)))
    row = st.tuples(*[cell] * len(columns))
    return Table(title=draw(text), columns=columns, rows=tuple(draw(st.lists(row, max_size=3))))


point = st.tuples(*[st.floats(-1e3, 1e3)] * 3)
scenes = st.builds(
    Scene,
    title=text,
    numbers=st.just((1, 8)),
    frames=st.tuples(st.tuples(point, point)),
    cell=st.none() | st.tuples(point, point, point),
    frame_labels=st.none() | st.tuples(text),
)
figures = st.builds(
    Figure,
    title=text,
    x_label=text,
    y_label=text,
    curves=st.tuples(curves()),
    log_x=st.booleans(),
    diagonal=st.booleans(),
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    values = draw(st.dictionaries(text, value, max_size=4))
    return Record(
        name=draw(text),
        title=draw(text),
        values=values,
        spread={k: draw(st.floats()) for k in values if draw(st.booleans())},
        tables=tuple(draw(st.lists(tables(), max_size=2))),
        figures=tuple(draw(st.lists(figures, max_size=2))),
        scenes=tuple(draw(st.lists(scenes, max_size=1))),
        notes=tuple(draw(st.lists(text, max_size=2))),
        verdict=draw(st.sampled_from([None, "pass", "fail", "undecided"])),
        references=tuple(draw(st.lists(text, max_size=2))),
        provenance=draw(st.dictionaries(text, text, max_size=2)),
    )


def same(a: Any, b: Any) -> bool:
    """Equality in which NaN equals NaN and 1 is neither 1.0 nor True."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, f), getattr(b, f)) for f in a.__dataclass_fields__)
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


@settings(max_examples=60, deadline=None)
@given(records())
def test_json_round_trip(record: Record) -> None:
    json_text = record.to_json()
    json.loads(json_text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert same(Record.from_json(json_text), record)


def test_the_comparison_can_fail() -> None:
    assert not same(
        Record(name="a", title="t", values={"x": 1.0}), Record(name="a", title="t", values={"x": 1})
    )
    assert not same(
        Record(name="a", title="t", values={"x": math.nan}), Record(name="a", title="t", values={"x": 0.0})
    )


def test_save_and_load(tmp_path: Path) -> None:
    record = Record(name="a", title="Å → ∞", values={"x_GPa": [math.inf, -math.inf, math.nan, 1.5]})
    path = record.save(tmp_path / "new" / "folder" / "a.json")
    assert same(Record.load(path), record)


def test_numpy_and_torch_values_become_plain() -> None:
    record = Record(
        name="a",
        title="t",
        values={
            "n": np.int64(3),
            "x": np.float64(0.5),
            "v": np.eye(2),
            "t": torch.tensor([1.0, math.nan]),
            "b": np.bool_(True),
        },
    )
    back = Record.from_json(record.to_json())
    assert same(
        dict(back.values), {"n": 3, "x": 0.5, "v": [[1.0, 0.0], [0.0, 1.0]], "t": [1.0, math.nan], "b": True}
    )


def test_curve_from_arrays() -> None:
    curve = Curve.of("c", torch.arange(4).reshape(2, 2), np.arange(4.0), error=[0.1] * 4, style="points")
    assert curve.x == (0.0, 1.0, 2.0, 3.0) and curve.error == (0.1,) * 4


def test_bad_parts_are_refused() -> None:
    Table(title="t", columns=("a", "b"), rows=((1, 2),))
    with pytest.raises(ValueError, match="a row of 1 under 2 columns"):
        Table(title="t", columns=("a", "b"), rows=((1, 2), (1,)))
    with pytest.raises(ValueError, match="equally long"):
        Curve.of("c", [1, 2], [1])
    with pytest.raises(ValueError, match="equally long"):
        Curve.of("c", [1, 2], [1, 2], error=[0.1])
    with pytest.raises(ValueError, match="spread without a value for \\['y'\\]"):
        Record(name="a", title="t", values={"x": 1.0}, spread={"y": 1.0})


def test_a_missing_value_says_what_there_is() -> None:
    record = Record(name="a", title="t", values={"C11_GPa": 1.0, "C12_GPa": 2.0})
    assert record["C11_GPa"] == 1.0
    with pytest.raises(KeyError, match="no value 'C44_GPa'; it has C11_GPa, C12_GPa"):
        record["C44_GPa"]
