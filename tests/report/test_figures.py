import json
from pathlib import Path

import numpy as np
import pytest
import report_samples

from rikiba.core.record import Curve, Figure, Scene
from rikiba.report.figures import MOST_POINTS, caption, describe, draw, drawn, to_plotly
from rikiba.report.scenes import decode, encode


def _figure(*curves: Curve, **options: bool) -> Figure:
    return Figure(title="t", x_label="x (Å)", y_label="y (eV)", curves=curves, **options)


def test_every_point_of_a_curve_is_in_the_trace() -> None:
    x = np.linspace(0, 1, 50)
    trace = to_plotly(_figure(Curve.of("c", x, x**2)))["data"][0]
    assert trace["x"] == pytest.approx(list(x), rel=1e-6) and trace["y"] == pytest.approx(
        list(x**2), rel=1e-6
    )


def test_a_band_encloses_its_line() -> None:
    x = np.linspace(1, 2, 20)
    band, line = to_plotly(_figure(Curve.of("c", x, x, 0.1 * x)))["data"]
    assert band["fill"] == "toself" and line["mode"] == "lines"
    upper, lower = np.array(band["y"][:20]), np.array(band["y"][20:])[::-1]
    assert upper == pytest.approx(1.1 * x, rel=1e-6) and lower == pytest.approx(0.9 * x, rel=1e-6)


def test_error_bars_of_points() -> None:
    trace = to_plotly(_figure(Curve.of("c", [1, 2], [3, 4], [0.1, 0.2], "points")))["data"][0]
    assert trace["error_y"]["array"] == [0.1, 0.2]


def test_a_large_cloud_keeps_its_outliers_and_says_so() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000)
    y = x + rng.normal(0, 0.01, x.size)
    y[[17, 12_345]] += [5, -5]
    figure = _figure(Curve.of("forces", x, y, style="points"), diagonal=True)
    keep = drawn(figure, figure.curves[0])
    assert len(keep) == len(set(keep)) == MOST_POINTS and {17, 12_345} <= set(keep)
    assert "4,000 of 20,000" in caption(figure)
    small = _figure(Curve.of("forces", x[:100], y[:100], style="points"))
    assert caption(small) == "" and len(drawn(small, small.curves[0])) == 100


def test_a_long_line_keeps_its_spikes() -> None:
    y = np.zeros(200_000)
    y[123_457] = 1.0
    y[77_777] = -1.0
    figure = _figure(Curve.of("energy", np.arange(y.size), y))
    assert {123_457, 77_777} <= set(drawn(figure, figure.curves[0]))


def test_what_cannot_be_drawn_is_said() -> None:
    figure = _figure(Curve.of("loss", [1, 2, 3], [0.0, np.nan, 1.0]), log_y=True)
    trace = to_plotly(figure)["data"][0]
    assert trace["y"] == [0.0, None, 1.0]
    assert "1 of 3 points are not finite" in caption(
        figure
    ) and "no place on the vertical log axis" in caption(figure)
    json.dumps(to_plotly(figure), allow_nan=False)


def test_the_diagonal_spans_both_axes() -> None:
    figure = _figure(Curve.of("a", [0.0, 1.0], [-2.0, 3.0], style="points"), diagonal=True)
    guide = to_plotly(figure)["data"][0]
    assert guide["x"] == guide["y"] == [-2.0, 3.0]
    assert to_plotly(figure)["layout"]["yaxis"]["scaleanchor"] == "x"


def test_empty_figures_and_curves_are_drawn(tmp_path: Path) -> None:
    for figure in (_figure(diagonal=True), _figure(Curve.of("nothing", [], []))):
        json.dumps(to_plotly(figure), allow_nan=False)
        assert describe(figure).startswith("t.")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_image_files(tmp_path: Path, ending: str) -> None:
    for k, figure in enumerate(f for r in report_samples.records() for f in r.figures):
        path = draw(figure, tmp_path / f"{k}.{ending}")
        start = path.read_bytes()[:100]
        assert start.startswith(b"\x89PNG") if ending == "png" else b"<?xml" in start


def test_scenes_lose_less_than_half_a_step() -> None:
    scene = report_samples.silicon_scene()
    data = encode(scene)
    x = np.asarray(scene.frames)
    extent = x.max((0, 1)) - x.min((0, 1))
    assert np.abs(decode(data) - x).max() <= extent.max() / 131_070 * (1 + 1e-9)
    assert [data["kinds"][k]["symbol"] for k in data["kind"]] == ["Si"] * 64


def test_a_large_scene_stays_small() -> None:
    frames = np.random.default_rng(0).uniform(0, 30, (20, 1000, 3))
    scene = Scene(
        title="box", numbers=(29,) * 1000, frames=tuple(map(tuple, (map(tuple, f) for f in frames.tolist())))
    )
    assert len(json.dumps(encode(scene))) < 9 * frames.size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": ()}, "at least 1"),
        ({"frames": (((0.0, 0.0, 0.0),),)}, "has not 2 atoms"),
        ({"frames": (((0.0, 0.0, 0.0), (0.0, np.nan, 0.0)),)}, "not finite"),
        ({"frame_labels": ("a", "b")}, "2 frame labels for 1 frames"),
    ],
)
def test_bad_scenes_are_refused(change: dict, message: str) -> None:
    good = {"title": "s", "numbers": (1, 8), "frames": (((0.0, 0.0, 0.0), (1.0, 0.0, 0.0)),)}
    encode(Scene(**good))
    with pytest.raises(ValueError, match=message):
        encode(Scene(**{**good, **change}))
