"""Training through interpolated radial networks equals training through the networks, or says so."""

from typing import Any

import pytest
import torch

from rikiba.potentials.mace import MACE
from rikiba.training.result import TrainingResult
from rikiba.training.trainer import Trainer

from labelled_frames import dataset, same  # isort: skip

TRAIN = dataset(6, seed=4)


def fit(radial_intervals: int | None, **options: Any) -> TrainingResult:
    model = MACE(
        elements=("O", "Si"), cutoff=4.0, channels=4, max_L=1, l_max=1, correlation=2, radial_widths=(8,)
    )
    settings = {"batch_size": 3, "max_epochs": 4, "dtype": "float64", **options}
    return Trainer(radial_intervals=radial_intervals, **settings).fit(model, TRAIN)


def test_result_is_that_of_the_networks() -> None:
    found, exact = fit(192), fit(None)
    weights, expected = found.potential.state_dict(), exact.potential.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
    assert not same(weights, expected)  # control: it did go through the spline
    assert found.potential.radial_spline is None and not found.notes[1:]


def test_too_few_intervals_are_said() -> None:
    notes = fit(8).notes
    assert any("radial_intervals = 8" in n for n in notes)
    assert not any("radial_intervals" in n for n in fit(128).notes)


def test_equal_bits_twice() -> None:
    a, b = (fit(64, dtype="float32").potential.state_dict() for _ in range(2))
    assert same(a, b)


def test_wrong_number_is_refused() -> None:
    with pytest.raises(ValueError, match="radial_intervals"):
        Trainer(radial_intervals=3)
