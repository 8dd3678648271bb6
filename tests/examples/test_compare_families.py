"""Every learned family, from one command, on data that one path names."""

from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write
from small_runs import COMPARISON

from rikiba import config as tables
from rikiba.cli.main import main
from rikiba.core import registry
from rikiba.core.record import Record
from rikiba.pipeline.comparison import pareto

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "examples" / "compare_families" / "compare_families.toml"
DATA = ROOT / "examples" / "silicon" / "data"
NOT_COMPARED = {"pair_basis", "hdnnp_3g", "hdnnp_4g", "magnetic_hdnnp"}
"""Learned, but a term beside others rather than a family; and those that learn charges or spins too."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a few of the small silicon frames."""
    folder = tmp_path_factory.mktemp("mine")
    small = [a for a in read(DATA / "train.xyz", ":") if len(a) <= 24]
    write(folder / "train.xyz", small[:6], format="extxyz")
    write(folder / "test.xyz", small[6:8], format="extxyz")
    return folder


@pytest.fixture(scope="module")
def comparison(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    out = tmp_path_factory.mktemp("compare_families")
    words = [w for s in (f"data.folder={data}", *COMPARISON) for w in ("--set", s)]
    assert main(["run", str(FILE), "--out", str(out), *words]) == 0
    return out, Record.load(out / "records" / "comparison.json")


def test_the_file_has_every_learned_family() -> None:
    """A family that is added without a row in the comparison fails here."""
    models = tables.read(FILE)["model"]
    named = {m["potential"]["kind"] for m in models.values()}
    learned = {n for n in registry.names("potentials") if registry.load("potentials", n).learned}
    assert named == {n for n in learned if n != "sum"} - NOT_COMPARED


def test_all_are_measured_on_the_same_frames(comparison: tuple[Path, Record]) -> None:
    _, found = comparison
    models = tables.read(FILE)["model"]
    assert (found["n_training"], found["n_test"], set(found["models"])) == (6, 2, set(models))
    for key in ("forces_mae_meV_per_A", "energy_mae_meV_per_atom", "cost_us_per_atom_step"):
        assert np.isfinite(found[key]).all() and min(found[key]) > 0, key
    assert found["forces_mae_meV_per_A"] == sorted(found["forces_mae_meV_per_A"])
    solved = {name for name, m in models.items() if "training" in m}
    for name, members, spread in zip(
        found["models"], found["members"], found.spread["forces_mae_meV_per_A"], strict=True
    ):
        assert members == (1 if name in solved else 2)
        assert (spread is None) == (name in solved) and (spread is None or spread > 0)


def test_time_is_the_same_for_all_that_descend(comparison: tuple[Path, Record]) -> None:
    """A step more than the time, or the first one and its compilation."""
    out, _ = comparison
    records = {r.name: r for r in (Record.load(p) for p in (out / "models").glob("*/training.json"))}
    told = [r for r in records.values() if "stopped" in r.values]
    assert len(told) >= 2 * 12 and all(r["stopped"] == "max_seconds" for r in told)
    assert all(r["processor_time_s"] >= 0.2 and r["wall_time_s"] > 0 for r in told)


def test_the_front_is_in_the_plot_and_the_page(comparison: tuple[Path, Record]) -> None:
    out, found = comparison
    columns = (found["cost_us_per_atom_step"], found["forces_mae_meV_per_A"])
    points = dict(zip(found["models"], zip(*columns, strict=True), strict=True))
    assert found["front"] == pareto(points)
    figure = found.figures[0]
    assert {c.label: (c.x[0], c.y[0]) for c in figure.curves[:-1]} == points
    assert figure.curves[-1].x == tuple(points[n][0] for n in found["front"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Families on the same data" in page and "µs per atom and MD step" in page


def test_advice_cites_the_users_own_table(
    comparison: tuple[Path, Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, found = comparison
    words = ["recommend", "--atoms", "200", "--reactive", "--steps", "1000", "--show", "99"]
    assert main([*words, "--table", str(out), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for name, cost in zip(found["models"], found["cost_us_per_atom_step"], strict=True):
        assert f". {name}" in said and f"{cost:.3g} µs per atom and step" in said
    assert Record.load(tmp_path / "records" / "advice.json")["atoms"] == 200
    assert main([*words, "--table", str(tmp_path / "nothing.json")]) == 2
    assert "There is no file" in capsys.readouterr().err
