"""What every property must do."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.record import Record
from rikiba.properties.trajectories import Trajectory

from .building import check_constructor


def check_property(property: Any, calculator: Calculator, atoms: Atoms) -> Record:
    """A frozen dataclass whose `compute` gives a complete, repeatable Record and leaves the structure alone.

    Returns the Record. Raises AssertionError that says what is wrong.
    """
    _check_class(property, "compute")
    before = atoms.copy()
    record = property.compute(calculator, atoms)
    assert np.array_equal(before.positions, atoms.positions), (
        f"{_name(property)} moves the atoms it is given."
    )
    assert np.array_equal(before.cell.array, atoms.cell.array), f"{_name(property)} changes the cell."
    check_record(record)
    _check_repeat(property, record, lambda: property.compute(calculator, atoms))
    return record


def check_trajectory_property(property: Any, trajectories: Trajectory | Sequence[Trajectory]) -> Record:
    """The same for `analyse`; one trajectory and a list of one give the same Record."""
    _check_class(property, "analyse")
    record = property.analyse(trajectories)
    check_record(record)
    _check_repeat(property, record, lambda: property.analyse(trajectories))
    if isinstance(trajectories, Trajectory):
        _check_repeat(property, record, lambda: property.analyse([trajectories]))
    return record


def check_record(record: Record) -> None:
    """A Record that says something in finite numbers, with spreads like its values, and survives JSON."""
    assert isinstance(record, Record), f"A Record is expected, not {type(record).__name__}."
    assert record.name and record.title, "A Record needs a name and a title."
    assert record.values, f"Record '{record.name}' has no values."
    for key, value in record.values.items():
        numbers = _numbers(value)
        assert np.isfinite(numbers).all(), f"'{key}' of record '{record.name}' is not finite: {value}."
    for key, value in record.spread.items():
        assert np.shape(value) == np.shape(record.values[key]), f"'{key}': spread and value differ in shape."
        assert (_numbers(value) >= 0).all(), f"'{key}': a spread is a standard deviation, not negative."
    again = Record.from_json(record.to_json())
    assert again.values.keys() == record.values.keys(), f"Record '{record.name}' does not survive JSON."
    for figure in record.figures:
        assert figure.x_label and figure.y_label and figure.curves, f"Figure '{figure.title}' is empty."


def _check_class(property: Any, method: str) -> None:
    name = _name(property)
    assert dataclasses.is_dataclass(property), f"{name} must be a dataclass."
    assert property.__dataclass_params__.frozen, f"{name} must be frozen: numerical choices do not change."  # type: ignore[union-attr]
    assert hasattr(property, method), f"{name} has no method '{method}'."
    check_constructor(type(property))
    copy = dataclasses.replace(property)  # type: ignore[type-var]
    assert copy == property, f"{name} does not equal a copy of itself."


def _check_repeat(property: Any, record: Record, again: Callable[[], Record]) -> None:
    second = again()
    for key, value in record.values.items():
        a, b = _numbers(value), _numbers(second.values[key])
        scale = max(float(np.abs(a).max()), 1.0) if a.size else 1.0
        assert a.shape == b.shape and (np.abs(a - b) <= 1e-6 * scale).all(), (
            f"{_name(property)}: '{key}' is {value} once and {second.values[key]} again."
        )


def _numbers(value: Any) -> np.ndarray:
    """The numbers in a value; empty for text."""
    try:
        array = np.asarray(value)
    except ValueError:
        return np.zeros(0)
    return array.astype(float) if array.dtype.kind in "fiub" else np.zeros(0)


def _name(property: Any) -> str:
    return type(property).__name__
