"""Which points of (cost, error) stand on the front, and what all trainings share."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rikiba.config import ConfigError
from rikiba.core.record import Curve, Figure
from rikiba.pipeline.comparison import learned_kind, moments, pareto
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
