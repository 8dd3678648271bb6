"""The command line in-process: what verbs write, and what they say of bad input."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import read, write

from rikiba.cli import main as cli
from rikiba.cli.main import main

LENNARD_JONES = """
[potential]
kind = "lennard_jones"
epsilon_eV = { Ar = 0.0104 }
sigma = { Ar = 3.4 }
cutoff = 8.5
"""
ARGON = """
[structure]
kind = "crystal"
formula = "Ar"
lattice = "fcc"
a = 5.3
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def toml(text: str, name: str = "job.toml") -> str:
    Path(name).write_text(text)
    return name


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one message of a command that exits with code 2."""
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("rikiba")]
    assert len(lines) == 1 and "Traceback" not in err + out
    return err[err.index(lines[0]) :].strip()


def test_list_and_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for word in (
        "potentials:",
        "lennard_jones",
        "mace",
        "reference:",
        "tblite",
        "md.ensembles:",
        "langevin",
        "eos",
    ):
        assert word in text
    assert main(["list", "reference"]) == 0
    assert "potentials:" not in capsys.readouterr().out
    assert main(["explain", "potential", "mace"]) == 0
    table = tomllib.loads(capsys.readouterr().out)["potential"]
    assert table["kind"] == "mace" and isinstance(table["channels"], int)


def test_unknown_names_are_helped(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'potentials'" in refused(capsys, "list", "potentails")
    assert "Did you mean 'mace'" in refused(capsys, "explain", "potential", "mase")
    assert main(["no_such_verb"]) == 2
    assert "invalid choice" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rikiba 0")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.verbs()) and len(cli.verbs()) >= 10


def test_property_writes_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    file = toml(ARGON + LENNARD_JONES + "[property.eos]\n")
    assert main(["property", file, "--set", "property.eos.n_points=7"]) == 0
    out = Path("runs/job")
    record = json.loads((out / "records" / "eos.json").read_text())
    # fcc Lennard-Jones with all neighbours has a = 1.5496 σ = 5.269 Å; the cutoff makes it a little wider
    assert record["values"]["a_A"] == pytest.approx(5.269, abs=0.02)
    resolved = tomllib.loads((out / "resolved.toml").read_text())
    assert resolved["property"]["eos"]["n_points"] == 7 and resolved["property"]["eos"]["relax"] is True
    assert resolved["potential"]["truncation"] == "smooth" and resolved["structure"]["cubic"] is True
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["shell"] == "rikiba property job.toml --set property.eos.n_points=7"
    assert set(manifest["inputs"]) == {"job.toml"}
    assert "@article{birch1947" in (out / "citations.bib").read_text()
    assert "Equation of state" in (out / "report.html").read_text()
    assert "Equation of state" in capsys.readouterr().out
    # what was resolved gives the same answer
    assert main(["property", str(out / "resolved.toml"), "--out", "again"]) == 0
    assert json.loads(Path("again/records/eos.json").read_text())["values"] == record["values"]


def test_md_runs_resumes_and_repeats() -> None:
    text = ARGON + "repeat = [2, 2, 2]\n" + LENNARD_JONES
    text += '[ensemble]\nkind = "langevin"\ntemperature_K = 40\n'
    text += "[md]\nsteps = 60\ntimestep_fs = 2\ntemperature_K = 40\ninterval = 5\nseed = 3\n"
    file = toml(text)
    assert main(["md", file, "--out", "whole"]) == 0
    assert main(["md", file, "--out", "part", "--set", "md.steps=30"]) == 0
    assert main(["md", file, "--out", "part", "--resume"]) == 0
    for name in ("trajectory.xyz", "thermo.csv", "records/md.json"):
        assert Path("part", name).read_bytes() == Path("whole", name).read_bytes(), name
    assert main(["md", file, "--out", "other", "--set", "md.seed=4"]) == 0
    assert Path("other/thermo.csv").read_bytes() != Path("whole/thermo.csv").read_bytes()
    assert len(read("whole/trajectory.xyz", ":")) == 13


def test_md_with_reporters_limits_and_a_long_timestep(capsys: pytest.CaptureFixture[str]) -> None:
    text = ARGON + "repeat = [2, 2, 2]\n" + LENNARD_JONES + '[ensemble]\nkind = "nve"\n'
    text += "[md]\nsteps = 60\ntimestep_fs = 60\ntemperature_K = 40\ninterval = 5\n"
    text += '[reporter.dcd]\npath = "view.dcd"\n[reporter.watch]\nkind = "health"\npath = "alarms"\n'
    text += "bonds = true\n[limits]\nmax_temperature_K = 5000\n"
    file = toml(text)
    assert main(["md", file]) == 0
    out, err = capsys.readouterr()
    assert "ns/day" in err and "µs/atom/step" in err
    assert "timestep_fs = 60 is long for the fastest vibration" in err + out and "(Ar, period" in out
    assert Path("runs/job/view.dcd").read_bytes()[4:8] == b"CORD"
    resolved = tomllib.loads(Path("runs/job/resolved.toml").read_text())
    assert resolved["limits"]["max_temperature_K"] == 5000 and resolved["limits"]["min_contact"] == 0.3
    assert resolved["reporter"]["watch"]["window"] == 200
    said = refused(capsys, "md", file, "--set", "limits.max_temperature_K=10", "--out", "hot")
    assert "system 0 is at" in said and "limit 10 K" in said
    assert "max_temperature_K must be positive" in refused(
        capsys, "md", file, "--set", "limits.max_temperature_K=-1"
    )


def test_md_holds_constraints(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the tables [[constraint]] and those that the structure's file carries."""
    text = ARGON + "repeat = [2, 2, 2]\n" + LENNARD_JONES
    text += '[ensemble]\nkind = "langevin"\ntemperature_K = 40\n'
    text += "[md]\nsteps = 10\ntimestep_fs = 2\ntemperature_K = 40\ninterval = 5\n"
    held = '[[constraint]]\nkind = "fixed_atoms"\natoms = [0, 1]\n'
    held += '[[constraint]]\nkind = "distances"\npairs = [[2, 3]]\n'
    assert main(["md", toml(text + held), "--out", "out"]) == 0
    frames = read("out/trajectory.xyz", ":")
    assert (frames[0].positions[:2] == frames[-1].positions[:2]).all()
    lengths = [a.get_distance(2, 3, mic=True) for a in frames]
    assert lengths[-1] == pytest.approx(lengths[0], abs=1e-6)
    record = json.loads(Path("out/records/md.json").read_text())
    assert record["values"]["degrees_of_freedom"] == [3 * (len(frames[0]) - 2) - 1]
    carried = text.replace(
        ARGON + "repeat = [2, 2, 2]\n", '[structure]\nkind = "file"\npath = "out/trajectory.xyz"\n'
    )
    assert main(["md", toml(carried), "--out", "again"]) == 0
    again = read("again/trajectory.xyz", ":")
    assert (again[0].positions[:2] == again[-1].positions[:2]).all()
    assert "known are bonds" in refused(capsys, "md", toml(text + '[[constraint]]\nkind = "glue"\n'))


def test_md_names_all_mistakes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = ARGON.replace('"fcc"', '"ffc"') + LENNARD_JONES + "skin_depth = 1\n"
    text += '[ensemble]\nkind = "npt"\ntemperature_K = "hot"\ncell = "full"\n'
    text += "[md]\ntimestep_fs = true\ntemperature_K = 40\nstep = 10\n"
    text += '[limit]\n[reporter.view]\nkind = "dcdd"\n[[constraint]]\nkind = "glue"\n'
    text += '[[constraint]]\nkind = "bonds"\nbetween = "all", \n'.replace(", ", "") + "length = 2\n"
    said = refused(capsys, "md", toml(text))
    for words in (
        "Did you mean 'fcc'", "no key 'skin_depth'", '[ensemble] temperature_K must be', "no key 'step'",
        "timestep_fs must be a number; given true", "[md] lacks 'steps'", "no table [limit]",
        "Did you mean 'dcd'", "[[constraint]] 1: ", "no key 'length' for Bonds",
    ):  # fmt: skip
        assert words in said, (words, said)
    assert said.splitlines()[0].endswith("10 mistakes:") and said.count("\n- ") == 10
    # what is right is not spoken of
    assert "[limits]" not in said and "degrees" not in said


def test_md_takes_a_stress_tensor(capsys: pytest.CaptureFixture[str]) -> None:
    text = ARGON + "repeat = [2, 2, 2]\n" + LENNARD_JONES
    text += '[ensemble]\nkind = "npt"\ntemperature_K = 40\ncell = "full"\nreference_interval = 20\n'
    text += "stress_GPa = [[0.1, 0.05, 0], [0.05, -0.1, 0], [0, 0, 0.02]]\n"
    text += "[md]\nsteps = 40\ntimestep_fs = 2\ntemperature_K = 40\ninterval = 5\n"
    assert main(["md", toml(text), "--out", "pulled"]) == 0
    cells = [a.cell.array for a in read("pulled/trajectory.xyz", ":")]
    stretch = np.linalg.solve(cells[0], cells[-1])
    assert abs(stretch[0, 1]) > 1e-6 and np.abs(stretch - stretch.T).max() < 1e-7
    resolved = tomllib.loads(Path("pulled/resolved.toml").read_text())
    assert resolved["ensemble"]["stress_GPa"][0] == [0.1, 0.05, 0.0]
    said = refused(capsys, "md", toml(text), "--set", "ensemble.pressure_GPa=1")
    assert "pressure_GPa (hydrostatic) or stress_GPa" in said


def test_md_with_any_ase_calculator(capsys: pytest.CaptureFixture[str]) -> None:
    text = '[structure]\nkind = "crystal"\nformula = "Cu"\nlattice = "fcc"\n'
    text += '[calculator]\nkind = "ase.calculators.emt:EMT"\n[ensemble]\nkind = "nve"\n'
    text += "[md]\nsteps = 20\ntimestep_fs = 1\ntemperature_K = 300\n"
    assert main(["md", toml(text)]) == 0
    assert "--resume" in refused(capsys, "md", "job.toml", "--out", "fresh", "--resume")
    assert "lacks 'steps'" in refused(capsys, "md", toml(text.replace("steps = 20\n", "")))
    assert "checkpoint" in refused(capsys, "md", toml(text + LENNARD_JONES))


def test_relax(capsys: pytest.CaptureFixture[str]) -> None:
    file = toml(ARGON.replace("5.3", "5.0") + LENNARD_JONES + '[relaxation]\nkind = "lbfgs"\ncell = "full"\n')
    assert main(["relax", file, "--set", "relaxation.smax_GPa=0.001"]) == 0
    assert read("runs/job/relaxed.xyz").cell.lengths() == pytest.approx([5.269] * 3, abs=0.02)
    assert "did not converge" in refused(capsys, "relax", file, "--set", "relaxation.max_steps=1")


def labelled_copper(name: str, n: int = 4, key: str = "energy") -> None:
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=k)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        atoms.info[key], atoms.arrays["forces"] = energy, forces
        frames.append(atoms)
    write(name, frames, format="extxyz")


def test_evaluate_errors_and_physics(capsys: pytest.CaptureFixture[str]) -> None:
    labelled_copper("cu.xyz")
    text = (
        '[calculator]\nkind = "ase.calculators.emt:EMT"\n[data]\npath = "cu.xyz"\nlevel_of_theory = "EMT"\n'
    )
    assert main(["evaluate", toml(text)]) == 0
    values = json.loads(Path("runs/job/records/errors.json").read_text())["values"]
    # the labels are this calculator's own
    assert values["forces_rmse_meV_per_A"] == pytest.approx(0.0, abs=1e-4)
    # one that is off by a known amount is seen to be: Morse's forces are not EMT's
    morse = text.split("[data]")[1]
    wrong = (
        '[potential]\nkind = "morse"\ndepth_eV = { Cu-Cu = 0.34 }\nalpha_per_A = { Cu-Cu = 1.36 }\n'
        f"distance = {{ Cu-Cu = 2.87 }}\ncutoff = 6.0\n[data]{morse}"
    )
    assert (
        main(["evaluate", toml(wrong), "--physics", "--set", "physics.checks=['translation', 'net_force']"])
        == 0
    )
    values = json.loads(Path("runs/job/records/errors.json").read_text())["values"]
    assert values["forces_rmse_meV_per_A"] > 1.0
    physics = json.loads(Path("runs/job/records/physics.json").read_text())
    assert physics["verdict"] == "pass" and physics["values"]["n_passed"] >= 2
    assert "--physics" in refused(
        capsys, "evaluate", toml('[calculator]\nkind = "ase.calculators.emt:EMT"\n')
    )


def test_unlabelled_data_and_other_keys(capsys: pytest.CaptureFixture[str]) -> None:
    labelled_copper("cu.xyz", key="REF_energy")
    text = (
        '[calculator]\nkind = "ase.calculators.emt:EMT"\n[data]\npath = "cu.xyz"\nlevel_of_theory = "EMT"\n'
    )
    said = refused(capsys, "evaluate", toml(text))
    assert "no energy under 'energy'" in said and "REF_energy" in said
    write("bare.xyz", bulk("Cu"), format="extxyz")
    assert "no " in refused(capsys, "evaluate", "job.toml", "--set", "data.path=bare.xyz")
    assert "absent.xyz" in refused(capsys, "evaluate", "job.toml", "--set", "data.path=absent.xyz")
    assert "Did you mean 'energy_key'" in refused(capsys, "evaluate", "job.toml", "--set", "data.enrgy_key=x")


def test_label(capsys: pytest.CaptureFixture[str]) -> None:
    TBLite = pytest.importorskip("tblite.ase").TBLite
    water = '[structure]\nkind = "molecule"\nname = "H2O"\n[reference]\nkind = "tblite"\n'
    assert main(["label", toml(water)]) == 0
    frame = read("runs/job/labelled.xyz")
    assert frame.info["level_of_theory"].startswith("GFN2-xTB")
    direct = molecule("H2O")
    direct.calc = TBLite(method="GFN2-xTB", accuracy=0.01, verbosity=0)
    # two CODATA sets of the Hartree differ by 1e-8
    assert frame.get_potential_energy() == pytest.approx(direct.get_potential_energy(), rel=2e-8)
    assert frame.get_forces() == pytest.approx(direct.get_forces(), abs=1e-5)
    assert np.abs(frame.get_forces().sum(0)).max() < 1e-6
    close = bulk("Cu", cubic=True)
    close.positions[1] = close.positions[0] + 0.01
    write("close.xyz", close, format="extxyz")
    said = refused(
        capsys, "label", "job.toml", "--set", "structure={kind = 'file', path = 'close.xyz'}", "--out", "bad"
    )
    assert "No structure could be labelled" in said and Path("bad/failures.xyz").is_file()


def test_report_of_several_runs(capsys: pytest.CaptureFixture[str]) -> None:
    file = toml(ARGON + LENNARD_JONES + "[property.eos]\nn_points = 6\n")
    main(["property", file, "--out", "a"])
    main(["property", file, "--out", "b"])
    assert main(["report", "a", "b", "--out", "both.html", "--title", "Argon twice"]) == 0
    assert "Argon twice" in Path("both.html").read_text()
    assert "no folder 'nowhere'" in refused(capsys, "report", "nowhere")


def test_wrong_element(capsys: pytest.CaptureFixture[str]) -> None:
    file = toml(ARGON.replace("Ar", "Ne") + LENNARD_JONES + "[property.eos]\n")
    said = refused(capsys, "property", file)
    assert "LennardJones knows Ar" in said and "Ne" in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("potential.cutof=3", "Did you mean 'cutoff'"),
        ("potential.cutoff=true", "must be a number; given true"),
        ("potential.cutoff=-1", "must be a positive number"),
        ("potential.kind=lenard_jones", "Did you mean 'lennard_jones'"),
        ("property.eoss.n_points=6", "Did you mean 'eos'"),
        ("propperty.eos.n_points=6", "Did you mean 'property'"),
        ("structure.lattice=ffc", "Did you mean 'fcc'"),
        ("structure", "takes table.key=value"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], settings: str, words: str) -> None:
    file = toml(ARGON + LENNARD_JONES + "[property.eos]\n")
    assert words in refused(capsys, "property", file, "--set", settings)


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="Did you mean"):
        main(["property", toml(ARGON + LENNARD_JONES + "[property.eoss]\n"), "--debug"])


TRAINING = """
[data]
training = "cu.xyz"
level_of_theory = "EMT"

[split]
validation_fraction = 0.25
test_fraction = 0.0

[model.small.potential]
kind = "behler_parrinello"
cutoff = 4.0
n_radial = 4
n_angular = 2
hidden = [8]

[model.small.training]
max_epochs = 3
"""


def test_train_writes_a_potential_that_evaluates(capsys: pytest.CaptureFixture[str]) -> None:
    labelled_copper("cu.xyz", n=8)
    frames = read("cu.xyz", ":")
    for k, atoms in enumerate(frames):
        atoms.info["group"] = f"g{k // 2}"
    write("cu.xyz", frames, format="extxyz")
    assert main(["train", toml(TRAINING)]) == 0
    file = Path("runs/job/models/small/potential.npz")
    assert str(file) in capsys.readouterr().out and file.is_file()
    text = f'[potential]\ncheckpoint = "{file}"\n[data]\npath = "cu.xyz"\nlevel_of_theory = "EMT"\n'
    assert main(["evaluate", toml(text, "evaluate.toml")]) == 0
    values = json.loads(Path("runs/evaluate/records/errors.json").read_text())["values"]
    assert main(["train", "job.toml", "--set", "model.small.training.max_epochs=60", "--out", "long"]) == 0
    assert (
        main(
            [
                "evaluate",
                "evaluate.toml",
                "--set",
                f"potential.checkpoint={str(file).replace('runs/job', 'long')}",
                "--out",
                "better",
            ]
        )
        == 0
    )
    better = json.loads(Path("better/records/errors.json").read_text())["values"]
    assert 0.0 < better["forces_rmse_meV_per_A"] < 0.5 * values["forces_rmse_meV_per_A"]
    committee = text.replace(f'"{file}"', f'["{file}", "{file}"]')
    assert main(["evaluate", toml(committee, "evaluate.toml")]) == 0
    again = json.loads(Path("runs/evaluate/records/errors.json").read_text())["values"]
    assert again["forces_rmse_meV_per_A"] == pytest.approx(values["forces_rmse_meV_per_A"], rel=1e-5)
    assert "no file" in refused(
        capsys, "evaluate", "evaluate.toml", "--set", "potential.checkpoint=absent.npz"
    )
    assert "cu.xyz is not" in refused(
        capsys, "evaluate", "evaluate.toml", "--set", "potential.checkpoint=cu.xyz"
    )


def test_training_on_unlabelled_or_mistaken_input(capsys: pytest.CaptureFixture[str]) -> None:
    write("cu.xyz", bulk("Cu"), format="extxyz")
    file = toml(TRAINING)
    assert "no energy under 'energy'" in refused(capsys, "train", file)
    said = refused(capsys, "train", file, "--set", "model.small.potential.hiden=[8]")
    assert "[model.small.potential] has no key 'hiden' for BehlerParrinello. Did you mean 'hidden'?" in said
    assert "absent.xyz" in refused(capsys, "train", file, "--set", "data.training=absent.xyz")
    assert not Path("runs").exists()
