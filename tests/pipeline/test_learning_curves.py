"""Errors against the number of training frames: which frames, which slopes, and a whole run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read, write

from rikiba.cli.main import main
from rikiba.config import ConfigError, to_toml
from rikiba.core.record import Record
from rikiba.data.formats import from_ase
from rikiba.pipeline.frames import Frames
from rikiba.pipeline.learning_curves import nested, slope
from rikiba.pipeline.plan import Comparison, Plan

DATA = Path(__file__).resolve().parents[2] / "examples" / "silicon" / "data"


def frames_of(*symbols: str) -> Frames:
    """One frame of two atoms for each pair of symbols, told apart by its energy."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    made = []
    for k, pair in enumerate(symbols):
        atoms = Atoms(pair, positions=[[0, 0, 0], [0, 0, 1.5 + 0.01 * k]])
        atoms.calc = SinglePointCalculator(atoms, energy=float(k), forces=np.zeros((2, 3)))
        atoms.info["level_of_theory"] = "none"
        made.append(atoms)
    data = from_ase(made)
    return Frames(training=data, validation=data[:0], test=data, isolated=None, records=())


def energies(frames: Frames) -> set[float]:
    return {float(f.results.need("energy")) for f in frames.training}


def test_smaller_parts_lie_within_larger_ones_and_seeds_differ() -> None:
    whole = frames_of(*["H2"] * 40)
    parts = [energies(nested(whole, n, seed=3)) for n in (4, 10, 30)]
    assert [len(p) for p in parts] == [4, 10, 30]
    assert parts[0] < parts[1] < parts[2] < energies(whole)
    assert parts[0] != energies(nested(whole, 4, seed=4))
    assert parts[1] != set(range(10)), "not the first frames, which may be of one trajectory"


def test_a_part_without_an_element_is_refused() -> None:
    with pytest.raises(ConfigError, match="hold no O"):
        nested(frames_of(*["H2"] * 39, "HO"), 2, seed=0)


def test_slope_is_the_exponent_of_a_power_law() -> None:
    n = np.array([25, 50, 100, 400])
    assert slope(n, 7.0 * n**-0.8) == pytest.approx((-0.8, 0.0), abs=1e-12)
    p, error = slope([10, 20], [4.0, 2.0])
    assert p == pytest.approx(-1.0) and np.isnan(error)
    assert slope([10, 20, 40], [4.0, float("nan"), 1.0])[0] == pytest.approx(-1.0)
    assert np.isnan(slope([10, 20], [4.0, float("nan")])).all()


def test_standard_error_of_a_slope_is_that_of_many_draws() -> None:
    rng = np.random.default_rng(0)
    n = np.array([12, 25, 50, 100, 200])
    found = np.array([slope(n, n**-0.5 * np.exp(0.1 * rng.normal(size=5))) for _ in range(2000)])
    assert found[:, 0].mean() == pytest.approx(-0.5, abs=4 * found[:, 0].std() / 2000**0.5)
    assert np.sqrt((found[:, 1] ** 2).mean()) == pytest.approx(found[:, 0].std(), rel=0.1)


def config(folder: Path, **comparison: Any) -> dict[str, Any]:
    names = {"training": "train.xyz", "test": "test.xyz"}
    return {
        "run": {"seed": 1, "processes": 1},
        "data": {"folder": str(folder), **names, "level_of_theory": "PBE"},
        "split": {"validation_fraction": 0},
        "validation": {"physics": False},
        "comparison": {"round_s": 0.02, "rounds": 2, **comparison},
        "model": {
            "snap": {
                "potential": {"kind": "snap", "cutoff": 4.5, "twojmax": 4},
                "training": {"energy_weight": 100.0, "ridge": 1e-8},
            },
            "bp": {
                "potential": {
                    "kind": "behler_parrinello",
                    "cutoff": 4.5,
                    "n_radial": 6,
                    "n_angular": 2,
                    "zetas": [1],
                    "hidden": [8],
                },
                "training": {"max_epochs": 3, "batch_size": 2},
                "members": 2,
            },
        },
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """Two models on 2, 4 and all 8 small silicon frames."""
    folder = tmp_path_factory.mktemp("data")
    small = [a for a in read(DATA / "train.xyz", ":") if len(a) <= 40]
    write(folder / "train.xyz", small[:8], format="extxyz")
    write(folder / "test.xyz", small[8:], format="extxyz")
    file = folder / "run.toml"
    file.write_text(to_toml(config(folder, training_sizes=[4, 2])), encoding="utf-8")
    out = folder / "out"
    assert main(["run", str(file), "--out", str(out)]) == 0
    return out, Record.load(out / "records" / "learning_curves.json")


def test_a_run_has_errors_at_every_size_and_ends_at_the_comparison(done: tuple[Path, Record]) -> None:
    out, found = done
    assert found["training_sizes"] == [2, 4, 8] and set(found["models"]) == {"snap", "bp"}
    whole = Record.load(out / "records" / "comparison.json")
    for key in ("forces_mae_meV_per_A", "energy_mae_meV_per_atom"):
        last = dict(zip(found["models"], [row[-1] for row in found[key]], strict=True))
        assert last == pytest.approx(dict(zip(whole["models"], whole[key], strict=True)))
    for name, row, spread in zip(
        found["models"], found["forces_mae_meV_per_A"], found.spread["forces_mae_meV_per_A"], strict=True
    ):
        assert len(set(row)) == 3 and min(row) > 0, "every size has a training of its own"
        assert all((s is None) == (name == "snap") for s in spread)
    snap = found["models"].index("snap")
    assert found["forces_slope"][snap] < 0, "thirty coefficients are not fixed by two small frames"


def test_the_page_has_curves_with_error_bars(done: tuple[Path, Record]) -> None:
    out, found = done
    assert "Error against the number of training frames" in (out / "report.html").read_text(encoding="utf-8")
    for figure in found.figures:
        assert figure.log_x and figure.log_y
        bars = {c.label: c.error is not None for c in figure.curves}
        assert bars == {"snap": False, "bp": True}
        assert all(c.x == (2.0, 4.0, 8.0) for c in figure.curves)


def test_a_second_run_trains_nothing_again(done: tuple[Path, Record]) -> None:
    out, _ = done
    trained = sorted((out / "learning_curves").rglob("potential.npz"))
    assert len(trained) == 2 * 3
    before = [p.stat().st_mtime_ns for p in trained]
    assert main(["run", str(out.parent / "run.toml"), "--out", str(out)]) == 0
    assert [p.stat().st_mtime_ns for p in trained] == before


def test_sizes_that_the_data_do_not_have_are_refused(done: tuple[Path, Record], tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(to_toml(config(done[0].parent, training_sizes=[4, 8])), encoding="utf-8")
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out" / "models").exists(), "before anything is trained"
    with pytest.raises(ValueError, match="at least 1"):
        Comparison(training_sizes=(0,))
    with pytest.raises(ConfigError, match="training_sizes"):
        Plan.of(config(done[0].parent, training_sizes="all"), Path())
