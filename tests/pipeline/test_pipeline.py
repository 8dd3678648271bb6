"""The whole run at small size: what it writes, what it does again, what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_runs import ETHANOL

from rikiba import config as tables
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.config import ConfigError
from rikiba.core.record import Record
from rikiba.pipeline.dynamics import Start, equilibrated
from rikiba.pipeline.plan import Plan
from rikiba.pipeline.run import run_pipeline
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.report.store import read_records

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(ethanol_run: tuple[Path, list[Record]]) -> tuple[Path, list[Record]]:
    return ethanol_run


def test_everything_is_written(run: tuple[Path, list[Record]]) -> None:
    out, records = run
    for name in ("report.html", "resolved.toml", "manifest.json", "times.json", "citations.bib"):
        assert (out / name).stat().st_size > 0, name
    page = (out / "report.html").read_text()
    assert "GFN2-xTB (tblite" in page and "DFT" not in page
    assert "10.1021/acs.jctc.8b01176" in (out / "citations.bib").read_text()
    assert {r.name for r in read_records(out / "records")} >= {r.name for r in records} - {"summary"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert any(k.endswith("ethanol.toml") for k in manifest["inputs"])
    for model in ("behler_parrinello", "mace"):
        assert (out / "models" / model / "potential.npz").exists()
        assert (out / "trajectories" / f"{model}_nvt.h5").exists()


def test_answers_are_there(run: tuple[Path, list[Record]]) -> None:
    _, records = run
    found = {r.name: r for r in records}
    assert found["labels"]["n_labelled"] == 4 * 8 + 60
    assert found["labels"]["level_of_theory"].startswith("GFN2-xTB")
    division = found["division"]
    assert division["n_training"] + division["n_validation"] + division["n_test"] == 92
    for model in ("behler_parrinello", "mace"):
        # some epochs on few frames already beat predicting no force at all by far (forces are about 1 eV/Å)
        assert 0 < found[f"errors_{model}"]["forces_mae_meV_per_A"] < 500
        assert len(found[f"frequencies_{model}"]["frequencies_cm1"]) == 21
        assert found[f"drift_{model}"]["finding"]
        assert found[f"physics_{model}"].verdict in ("pass", "fail")
    sides = found["compare_frequencies"].tables[0]
    assert sides.columns[1:3] == ("behler_parrinello", "mace") and "GFN2-xTB" in sides.columns[3]
    assert found["compare_bond_lengths"]["mace_rms_difference_lengths_A"] < 0.2
    # the reference's own answers, at their known values: the O–H stretch and bond of ethanol in GFN2-xTB
    assert found["frequencies_reference"]["frequencies_cm1"][-1] == pytest.approx(3568, abs=10)
    assert found["bond_lengths_reference"]["mean_H_O_A"] == pytest.approx(0.962, abs=0.002)


def test_groups_stand_on_one_side(run: tuple[Path, list[Record]]) -> None:
    from rikiba.data.streaming import open_store

    out, _ = run
    groups = [set(open_store(out / "data" / f"{p}.store").groups) for p in ("training", "validation", "test")]
    assert (
        all(groups) and not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    )


def test_a_second_run_trains_nothing_again(run: tuple[Path, list[Record]], tmp_path: Path) -> None:
    """Same inputs: labels and potentials are kept; one changed setting: only its model is trained again."""
    out, _ = run
    again = tmp_path / "again"
    shutil.copytree(out, again)
    stamp = {
        m: (again / "models" / m / "potential.npz").stat().st_mtime_ns for m in ("mace", "behler_parrinello")
    }
    source = ROOT / "examples" / "ethanol" / "ethanol.toml"
    changed = [*ETHANOL, "model.mace.training.max_epochs=2", "validation.physics=false"]
    config: dict[str, Any] = tables.apply_settings(tables.read(source), changed)
    config.pop("simulation"), config.pop("property")
    records = run_pipeline(config, out=again, source=source)
    now = {m: (again / "models" / m / "potential.npz").stat().st_mtime_ns for m in stamp}
    assert now["behler_parrinello"] == stamp["behler_parrinello"]
    assert now["mace"] != stamp["mace"]
    assert not any(r.name.startswith(("physics", "nvt")) for r in records)


MINIMAL: dict[str, Any] = {
    "data": {"training": "train.xyz", "level_of_theory": "PBE"},
    "model": {"a": {"potential": {"kind": "behler_parrinello"}}},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"simulatoin": {}}, r"no table \[simulatoin\].*simulation"),
        ({"model": {}}, "no model to train"),
        ({"model": {"a": {"potental": {}}}}, "holds 'potential', 'training' and 'members'"),
        ({"model": {"a": {"potential": {"kind": "maze"}}}}, "Did you mean 'mace'"),
        ({"model": {"a": {"potential": {"kind": "mace", "chanels": 3}}}}, "Did you mean 'channels'"),
        ({"model": {"a": {"potential": {"kind": "mace"}, "members": 0}}}, "members must be a whole number"),
        ({"data": None}, "frames from one place"),
        ({"property": {"eos": {}}}, "need a \\[structure\\]"),
        ({"structure": {"kind": "molecule", "name": "ethanal"}}, "no molecule 'ethanal'"),
        ({"split": {"validation_fraction": "much"}}, "must be a number"),
    ],
)
def test_what_makes_no_run_is_refused_before_work(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "train.xyz").write_text("")
    config = {k: v for k, v in (MINIMAL | change).items() if v is not None}
    with pytest.raises(ConfigError, match=message):
        Plan.of(config, tmp_path)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "train.xyz").write_text("")
    change = {
        "run": {"processes": 0},
        "split": {"validation_fraction": "much", "sed": 1},
        "model": {
            "a": {"potential": {"kind": "maze"}},
            "b": {"potential": {"kind": "mace"}, "training": {"max_epoch": 3}},
        },
        "property": {"eos": {}, "elastik": {}},
        "simulatoin": {},
        "constraint": [{"kind": "glue"}],
    }
    with pytest.raises(ConfigError) as caught:
        Plan.of(MINIMAL | change, tmp_path)
    said = caught.value.mistakes
    wanted = (
        "[simulatoin]", "processes must be", "fraction must be a number", "no key 'sed'", "'mace'",
        "'max_epochs'", "'elastic'", "need a [structure]", "what [simulation] holds", "[[constraint]] 1",
    )  # fmt: skip
    for words in wanted:
        assert sum(words in s for s in said) == 1, (words, said)
    assert len(said) == len(wanted), said


def test_constraints_of_the_simulation(tmp_path: Path) -> None:
    """Those of the file hold in its dynamics, and are tried on the structure before any work."""
    (tmp_path / "train.xyz").write_text("")
    content = MINIMAL | {
        "structure": {"kind": "molecule", "name": "CH3CH2OH"},
        "simulation": {"equilibration_ps": 0.01, "temperature_K": 100.0},
        "constraint": [{"kind": "bonds"}, {"kind": "fixed_atoms", "atoms": [2]}],
    }
    plan = Plan.of(content, tmp_path)
    assert plan.structure is not None and plan.simulation is not None
    potential = LennardJones(
        epsilon_eV=dict.fromkeys("HCO", 0.001), sigma=dict.fromkeys("HCO", 1.0), cutoff=4.0
    )
    begin = Start(structure=plan.structure, constraints=plan.constraints, seed=0)
    state = equilibrated(PotentialCalculator(potential.double()), begin, plan.simulation, 3, 0)
    bonds, n = 6, len(plan.structure)
    assert state.dof.tolist() == [3 * (n - 1) - bonds] * 3
    for atoms in state.to_ase():
        assert atoms.get_distance(0, 1) != plan.structure.get_distance(0, 1)  # not held
        assert (atoms.positions[2] == state.to_ase()[0].positions[2]).all()
    wrong = content | {"constraint": [{"kind": "fixed_atoms", "atoms": [90]}]}
    with pytest.raises(ConfigError, match=r"\[\[constraint\]\]: .*90"):
        Plan.of(wrong, tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"\[data\] training: there is no file .*train\.xyz"):
        Plan.of(MINIMAL, tmp_path)


def test_two_learned_terms_do_not_both_add_the_atomic_energies(tmp_path: Path) -> None:
    source = ROOT / "examples" / "silicon" / "silicon.toml"
    config: dict[str, Any] = {
        "data": tables.read(source)["data"],
        "split": {"validation_fraction": 0.0},
        "model": {
            "twice": {
                "potential": {
                    "kind": "sum",
                    "terms": [{"kind": "behler_parrinello"}, {"kind": "pair_basis"}],
                },
                "training": {"max_epochs": 1},
            }
        },
    }
    with pytest.raises(ConfigError, match="2 terms would each add the atomic energies"):
        run_pipeline(config, out=tmp_path / "out", source=source)
