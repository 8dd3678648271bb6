"""Transfer between parts of the data: which frames, which intervals, and silicon's crystal and melt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.cli.main import main
from rikiba.config import ConfigError, to_toml
from rikiba.core.record import Record
from rikiba.data.formats import from_ase
from rikiba.data.splits import Division
from rikiba.pipeline.parts import Parts, Transfer, find_parts, leaking
from rikiba.pipeline.plan import Plan
from rikiba.pipeline.ratios import Ratio, ratio, worst
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.validation.errors import errors, errors_by_frame

DATA = Path(__file__).resolve().parents[2] / "examples" / "silicon" / "data"
MELT, SOLID = ("structure at 2530 K", "structure at 3374 K"), ("structure at 300 K", "structure at 843 K")


def frame(phase: str | None, symbols: str = "H2", distance: float = 0.8, group: str = "") -> Atoms:
    atoms = Atoms(symbols, positions=[[0, 0, 0], [0, 0, distance]])
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((2, 3)))
    atoms.info = {"level_of_theory": "none", "what": "made"}
    atoms.info |= {} if phase is None else {"phase": phase}
    atoms.info |= {"group": group} if group else {}
    return atoms


def divided(training: list[Atoms], test: list[Atoms]) -> Division:
    data = from_ase(training)
    return Division(training=data, validation=data[:0], test=from_ase(test))


def two_phases(**settings: Any) -> Parts:
    """Two training and test frames of 'ice 1' and 'ice 2', three of water, one of nothing."""
    names = ["ice 1", "ice 2", "water", "water", "water", None]
    training = [frame(p, distance=0.8 + 0.1 * k) for k, p in enumerate(names)]
    test = [frame(p, distance=0.85 + 0.1 * k) for k, p in enumerate(names)]
    return find_parts(Transfer(key="phase", **settings), divided(training, test), "group")


def test_parts_are_values_or_what_patterns_gather() -> None:
    plain = two_phases()
    assert plain.names == ("ice 1", "ice 2", "water") == plain.trained
    assert [len(plain.of(n, "training")) for n in plain.names] == [1, 1, 3]
    assert plain.left_out == 2, "a frame without the key is in no part, in training and in test"
    gathered = two_phases(parts={"ice": ("ice *",), "liquid": ("water",)}, train_on=("liquid",))
    assert gathered.names == ("ice", "liquid") and gathered.trained == ("liquid",)
    assert gathered.rows["test"] == {"ice": (0, 1), "liquid": (2, 3, 4)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"parts": {"ice": ("ice*",), "steam": ("steam*",)}},
            r"parts.steam: no frame fits.*ice 1; ice 2; water",
        ),
        ({"parts": {"ice": ("ice*",), "second": ("*2", "water")}}, "'ice 2' fits both ice and second"),
        ({"parts": {"ice": ("ice*",)}}, "needs two parts"),
        ({"train_on": ("steam",)}, "train_on names"),
    ],
)
def test_parts_that_are_not_there_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        two_phases(**settings)


def test_divisions_that_make_no_table_are_refused() -> None:
    wanted = Transfer(key="phase")
    a, b = frame("a"), frame("b", distance=1.2)
    with pytest.raises(ConfigError, match="no frame has 'form'; keys of the frames are phase, what"):
        find_parts(Transfer(key="form"), divided([a, b], [a, b]), "group")
    with pytest.raises(ConfigError, match=r"without test frames: b\. .* a: 1, 1; b: 1, 0"):
        find_parts(wanted, divided([a, b], [a]), "group")
    with pytest.raises(ConfigError, match="no training frames"):
        find_parts(Transfer(key="phase", train_on=("b",)), divided([a], [a, b]), "group")
    with pytest.raises(ConfigError, match="training frames of a hold no O"):
        find_parts(wanted, divided([a, frame("b", "HO")], [a, frame("b", "HO")]), "group")
    assert find_parts(wanted, divided([a], [a, b]), "group").trained == ("a",), "b is tested on only"
    for wrong in ({"tolerance": 0.5}, {"parts": {"all": ("*",)}}, {"negligible_forces_meV_per_A": -1.0}):
        with pytest.raises(ValueError, match=r"tolerance|all|negative"):
            Transfer(key="phase", **wrong)  # type: ignore[arg-type]


def test_groups_and_near_duplicates_are_one_observation() -> None:
    training = [frame("a", distance=0.7), frame("b", distance=1.5)]
    test = [frame("a", distance=d, group=g) for d, g in ((0.8, "1"), (0.9, "1"), (1.0, "2"))]
    test += [frame("b", distance=d) for d in (1.1, 1.2, 1.2001, 0.7001)]
    parts = find_parts(Transfer(key="phase"), divided(training, test), "group")
    assert parts.observations["a"].tolist() == [0, 0, 1]
    assert len(set(parts.observations["b"].tolist())) == 3
    leaks = leaking(parts)
    assert leaks["a"]["b"].tolist() == [False, False, False, True] == leaks["all"]["b"].tolist()
    assert not leaks["b"]["b"].any() and not leaks["a"]["a"].any()


def test_errors_by_frame_are_those_of_each_frame_alone() -> None:
    data = from_ase([frame("a", distance=3.0 + 0.3 * k) for k in range(4)] + [frame("b", "He2", 3.5)])
    model = LennardJones(epsilon_eV={"H": 0.01, "He": 0.02}, sigma={"H": 3.0, "He": 2.5}, cutoff=6.0)
    found = errors_by_frame(PotentialCalculator(model), data, atoms_per_batch=4)
    for key in ("forces_mae_meV_per_A", "energy_mae_meV_per_atom"):
        alone = [errors(PotentialCalculator(model), data[k : k + 1])[key] for k in range(5)]
        assert found[key] == pytest.approx(alone) and len(set(found[key])) == 5


def test_intervals_hold_the_true_ratio_as_often_as_they_say() -> None:
    """Of 5 frames and 3 members: frames that are hard for both, and errors that scatter."""
    rng = np.random.default_rng(0)
    holds, misses_without_pairing = 0, 0
    for _ in range(1000):
        hard = np.exp(rng.normal(0, 0.5, 5))
        above, below = (
            s * hard * np.exp(rng.normal(0, 0.2, 5)) * np.exp(rng.normal(0, 0.2, (3, 1))) for s in (3.0, 1.0)
        )
        found = ratio(above, below)
        holds += found.low < 3.0 < found.high
        misses_without_pairing += not ratio(above[:, :1] * np.ones(5), below[:, :1] * np.ones(5)).low < 3.0
    assert 0.92 < holds / 1000 < 0.99, holds
    assert misses_without_pairing / 1000 > 0.04, "one frame counted five times is surer than it may be"


def test_few_frames_and_wide_intervals_decide_nothing() -> None:
    ones = np.ones((1, 3))
    three = ratio(50 * ones, ones)
    assert three.value == 50 and np.isnan(three.low) and three.judged(2.0) == "undecided"
    assert ratio(50 * np.ones((1, 4)), np.ones((1, 4))).judged(2.0) == "fails"
    assert ratio(np.ones((1, 4)), np.ones((1, 4))).judged(2.0) == "holds"
    assert ratio(np.array([[1.0, 1, 1, 30]]), np.ones((1, 4))).judged(2.0) == "undecided"
    assert ratio(np.ones((1, 4)), np.zeros((1, 4))).judged(2.0) == "undecided"
    seeds = np.array([[1.0], [40.0]]) * np.ones((2, 6))
    assert ratio(seeds, np.ones((2, 6))).judged(2.0) == "undecided", "seeds that disagree decide nothing"
    assert ratio(seeds[1:], np.ones((1, 6))).judged(2.0) == "fails"
    assert worst(["holds", "undecided"]) == "undecided" and worst(["undecided", "fails"]) == "fails"
    assert worst(["holds", "holds"]) == "holds" and worst([]) == "undecided"
    assert Ratio(value=1.5, low=1.0, high=2.0, observations=9).judged(2.0) == "holds"


def config(folder: Path, **transfer: Any) -> dict[str, Any]:
    names = {"training": "train.xyz", "test": "test.xyz"}
    return {
        "run": {"seed": 1, "processes": 1},
        "data": {"folder": str(folder), **names, "level_of_theory": "PBE"},
        "split": {"validation_fraction": 0},
        "validation": {"physics": False},
        "transfer": {"key": "phase", **transfer},
        "model": {
            "qsnap": {
                "potential": {"kind": "snap", "cutoff": 4.7, "twojmax": 4, "quadratic": True},
                "training": {"energy_weight": 100.0, "ridge": 1e-8},
            }
        },
    }


def silicon(folder: Path, order: Callable[[list[str]], list[str]] = list) -> Path:
    """Crystal and melt of the mlearn set (36 and 4 frames each), named by `phase` in a given order."""
    for name in ("train", "test"):
        frames = read(DATA / f"{name}.xyz", ":")
        ends = [a.info["description"] for a in frames]
        kept = [(a, d) for a, d in zip(frames, ends, strict=True) if d.endswith((*MELT, *SOLID))]
        phases = order(["melt" if d.endswith(MELT) else "crystal" for _, d in kept])
        for (atoms, _), phase in zip(kept, phases, strict=True):
            atoms.info["phase"] = phase
        write(folder / f"{name}.xyz", [a for a, _ in kept], format="extxyz")
    return folder


def run(folder: Path, content: dict[str, Any]) -> Record:
    (folder / "run.toml").write_text(to_toml(content), encoding="utf-8")
    assert main(["run", str(folder / "run.toml"), "--out", str(folder / "out")]) == 0
    return Record.load(folder / "out" / "records" / "transfer.json")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    torch.set_num_threads(1)
    folder = silicon(tmp_path_factory.mktemp("phases"))
    return folder, run(folder, config(folder))


def test_what_is_trained_on_one_phase_fails_on_the_other_and_on_all_does_not(
    done: tuple[Path, Record],
) -> None:
    _, found = done
    crystal, melt = (found["tested_on"].index(n) for n in ("crystal", "melt"))
    assert found["trained_on"][2] == "all" and found.verdict == "fail"
    judged = found["judgements"][0]
    assert judged[crystal][melt] == judged[melt][crystal] == "fails"
    assert judged[crystal][crystal] == judged[melt][melt] == "compared with"
    assert "fails" not in judged[2], "what has seen both is not said to fail"
    forces, ratios = np.array(found["forces_mae_meV_per_A"][0]), found["forces_ratio"][0]
    assert ratios[crystal][melt] == pytest.approx(forces[crystal, melt] / forces[melt, melt])
    assert ratios[melt][crystal] > 3 > max(ratios[2])
    assert sum("qsnap trained on" in n for n in found.notes) == 2
    assert any("share groups or trajectories" in n for n in found.notes)


def test_errors_on_all_are_those_of_the_run(done: tuple[Path, Record]) -> None:
    folder, found = done
    whole = next((folder / "out" / "records").glob("errors_*.json"))
    energies, counts = np.array(found["energy_mae_meV_per_atom"][0][2]), np.array(found["n_test"])
    assert energies @ counts / counts.sum() == pytest.approx(Record.load(whole)["energy_mae_meV_per_atom"])


def test_the_page_and_the_command_line_say_so(
    done: tuple[Path, Record], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = done
    trained = sorted((folder / "out" / "transfer").rglob("potential.npz"))
    assert len(trained) == 2
    before = [p.stat().st_mtime_ns for p in trained]
    assert main(["run", str(folder / "run.toml"), "--out", str(folder / "out")]) == 0
    assert [p.stat().st_mtime_ns for p in trained] == before, "what is trained is used again"
    assert "Transfer between parts of the data" in capsys.readouterr().out
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "qsnap trained on melt fails on crystal" in page and "[transfer]" in (
        folder / "out" / "resolved.toml"
    ).read_text(encoding="utf-8")


def test_shuffled_names_make_no_difference(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    folder = silicon(tmp_path, lambda names: rng.permutation(names).tolist())
    found = run(folder, config(folder))
    assert found.verdict != "fail" and not {"fails"} & {j for row in found["judgements"][0] for j in row}
    across = [found["forces_ratio"][0][k][1 - k] for k in (0, 1)]
    assert np.abs(np.log(across)).max() < np.log(1.3), across


def test_a_run_says_what_is_wrong_before_it_trains(done: tuple[Path, Record], tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        to_toml(config(done[0], parts={"crystal": ["crystal"], "glass": ["glass"]})), encoding="utf-8"
    )
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out" / "models").exists()
    with pytest.raises(ConfigError, match="key"):
        Plan.of({**config(done[0]), "transfer": {}}, Path())
