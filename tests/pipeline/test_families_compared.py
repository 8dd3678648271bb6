"""Which points of (cost, error) stand on the front, and what all trainings share."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units

from rikiba.calculators.base import NonFiniteError
from rikiba.config import ConfigError
from rikiba.core.record import Curve, Figure
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md.limits import SimulationError
from rikiba.md.state import State
from rikiba.pipeline.comparison import Stepper, learned_kind, moments, pareto
from rikiba.pipeline.plan import Plan, fitter_of, with_shared_training
from rikiba.report.figures import to_plotly
from rikiba.training.least_squares import LeastSquares
from rikiba.training.trainer import Trainer

DATA = Path(__file__).resolve().parents[2] / "examples" / "silicon" / "data"


def test_front_is_what_no_other_point_beats_in_both() -> None:
    """Against the definition, point by point."""
    rng = np.random.default_rng(0)
    points = {str(k): tuple(p) for k, p in enumerate(rng.random((30, 2)))}
    front = pareto(points)
    beaten = {
        a
        for a, (x, y) in points.items()
        if any(u <= x and v <= y and (u, v) != (x, y) for u, v in points.values())
    }
    assert set(front) == set(points) - beaten and 1 < len(front) < 30
    assert [points[n][0] for n in front] == sorted(points[n][0] for n in front)


def test_front_leaves_out_what_has_no_number() -> None:
    nan = math.nan
    assert pareto({"a": (nan, 1.0), "b": (2.0, 2.0), "c": (3.0, nan), "d": (4.0, 1.0)}) == ["b", "d"]
    assert pareto({}) == []


def test_moments_are_those_of_a_sample() -> None:
    assert moments([1.0, 3.0]) == pytest.approx((2.0, 2**0.5))
    assert math.isnan(moments([1.0])[1]) and math.isnan(moments([])[0])


class FreeUntil:
    """No forces, and no answer where an atom is further out than `edge`; counts its answers."""

    def __init__(self, edge: float) -> None:
        self.edge, self.answers = edge, 0

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        if system.positions.abs().max() > self.edge:
            raise NonFiniteError("The energy is not finite.")
        self.answers += 1
        return Results(energy=system.positions.new_zeros(1), forces=torch.zeros_like(system.positions))


def moving_atom() -> State:
    """One whose distance from the origin grows by 0.1 Å in a step of 1 fs."""
    return State.from_ase(Atoms("H", velocities=[[0.1 / units.fs, 0, 0]]))


@pytest.mark.parametrize(("edge", "stretch"), [(100.0, None), (1.05, 5), (0.25, 1)])
def test_steps_of_what_breaks_off_are_timed_all_the_same(edge: float, stretch: int | None) -> None:
    calculator = FreeUntil(edge)
    stepper = Stepper(calculator, moving_atom(), 1.0)
    before = calculator.answers
    assert stepper.time(40) > 0
    assert stepper.stretch == stretch and (stepper.broke_off is None) == (stretch is None)
    assert calculator.answers - before >= 40


def test_what_does_not_last_two_steps_has_no_cost() -> None:
    stepper = Stepper(FreeUntil(0.15), moving_atom(), 1.0)
    with pytest.raises(SimulationError, match="not finite"):
        stepper.time(1)


SNAP: dict[str, Any] = {"potential": {"kind": "snap"}, "training": {"energy_weight": 7.0}}


def config(**models: Any) -> dict[str, Any]:
    data = {"folder": str(DATA), "training": "train.xyz", "test": "test.xyz", "level_of_theory": "PBE"}
    shared = {"members": 3, "max_seconds": 5.0, "clock": "processor", "learning_rate": 0.02}
    return {"data": data, "training": shared, "model": models}


def test_training_is_shared_by_those_that_descend() -> None:
    own = {"potential": {"kind": "ani"}, "training": {"learning_rate": 0.1}, "members": 2}
    given = config(mace={"potential": {"kind": "mace"}}, ani=own, snap=SNAP)
    plan = Plan.of(given, Path())
    mace, ani, snap = plan.models
    assert isinstance(mace.trainer, Trainer) and isinstance(ani.trainer, Trainer)
    assert (mace.members, mace.trainer.learning_rate, mace.trainer.clock) == (3, 0.02, "processor")
    assert (ani.members, ani.trainer.learning_rate, ani.trainer.max_seconds) == (2, 0.1, 5.0)
    assert snap.members == 1 and snap.trainer == LeastSquares(energy_weight=7.0)
    assert plan.data is not None and plan.data.training == DATA / "train.xyz"
    assert "training" not in with_shared_training(given) and given["training"]["members"] == 3


def test_a_misspelt_shared_setting_is_refused() -> None:
    given = config(mace={"potential": {"kind": "mace"}})
    given["training"]["learning_rat"] = 1.0
    with pytest.raises(ConfigError, match=r"\[training\].*learning_rat"):
        Plan.of(given, Path())


def test_families_are_named_by_what_learns() -> None:
    assert fitter_of("a", SNAP) is LeastSquares and fitter_of("b", {"potential": {"kind": "mace"}}) is Trainer
    assert learned_kind({"kind": "sum", "terms": [{"kind": "mace"}, {"kind": "zbl"}]}) == "mace+zbl"


def test_more_lone_points_than_symbols_have_their_names_beside_them() -> None:
    def texts(n: int) -> list[Any]:
        curves = tuple(Curve.of(f"m{k}", [k + 1], [1.0], None, "points") for k in range(n))
        figure = Figure(title="t", x_label="x", y_label="y", curves=curves)
        return [t.get("text") for t in to_plotly(figure)["data"]]

    assert texts(8) == [[f"m{k}"] for k in range(8)]
    assert texts(7) == [None] * 7
