"""The verbs build, mc and search: what they write, how they go on, what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from rikiba.cli.main import main
from rikiba.data.formats import read_structures

MC = """
[structure]
kind = "alloy"
composition = { Ar = 0.5, Kr = 0.5 }
host = { kind = "crystal", formula = "Ar", lattice = "fcc", a = 5.5 }

[potential]
kind = "lennard_jones"
epsilon_eV = { Ar = 0.0104, Kr = 0.0140 }
sigma = { Ar = 3.40, Kr = 3.65 }
cutoff = 6.0

[mc]
steps = 120
temperature_K = 80.0
pressure_GPa = 0.0
equilibration_steps = 40
replicas = 2
trajectory_interval = 60
seed = 3

[move.displacement]
step = 0.2

[move.swap]

[move.resize]
kind = "volume"
"""
SEARCH = """
[search]
kind = "random_search"
formula = "Si2"
volume_per_atom = [18.0, 22.0]
min_distance = 2.0
structures = 4
batch = 2

[potential]
kind = "stillinger_weber"
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err + out
    return err


def test_build_writes_the_structure_and_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build", "crystal", "-o", "gan.xyz", "--set", "formula=GaN", "--set", "lattice=wurtzite"]
    assert main([*words, "--set", "a=3.189", "--set", "c=5.185", "--set", "repeat=[5, 5, 4]"]) == 0
    text = capsys.readouterr().out
    assert "Ga200N200" in text and "6.089" in text and "gan.xyz" in text
    (atoms,) = read_structures("gan.xyz")
    assert len(atoms) == 400 and atoms.get_volume() == pytest.approx(400 * 11.4164, rel=1e-4)
    assert json.loads(atoms.info["structure"])["c"] == 5.185
    inner = ["--set", "defect=vacancy", "--set", "host.kind=file", "--set", "host.path=gan.xyz"]
    assert main(["build", "point_defect", "-o", "deep/POSCAR", *inner, "--set", "element=N"]) == 0
    assert len(read_structures("deep/POSCAR", format="vasp")[0]) == 399


def test_build_refuses_what_it_cannot_make(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'crystal'" in refused(capsys, "build", "cristal", "-o", "a.xyz")
    assert "lacks 'formula'" in refused(capsys, "build", "crystal", "-o", "a.xyz", "--set", "lattice=fcc")
    assert "is a folder" in refused(capsys, "build", "water", "-o", ".", "--set", "number=2")
    assert not Path("a.xyz").exists()
    assert main(["explain", "structure", "grain_boundary"]) == 0
    assert "turn" in capsys.readouterr().out


def test_mc_samples_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    Path("job.toml").write_text(MC)
    assert main(["mc", "job.toml", "--out", "whole"]) == 0
    assert "mean energy" in capsys.readouterr().out
    record = json.loads(Path("whole/records/monte_carlo.json").read_text())
    assert len(record["values"]["mean_volume_A3"]) == 2 and record["values"]["n_steps"] == 120
    assert {row[0] for row in record["tables"][0]["rows"]} == {"Displacement", "Swap", "Volume"}
    assert len(read_structures("whole/trajectory.xyz")) == 2 * 3
    assert "Metropolis" in Path("whole/citations.bib").read_text()
    assert 'kind = "volume"' in Path("whole/resolved.toml").read_text()
    assert main(["mc", "job.toml", "--out", "part", "--set", "mc.steps=70"]) == 0
    assert main(["mc", "job.toml", "--out", "part", "--resume"]) == 0
    assert Path("part/trajectory.xyz").read_bytes() == Path("whole/trajectory.xyz").read_bytes()
    again = json.loads(Path("part/records/monte_carlo.json").read_text())
    assert again["values"] == record["values"]


def test_mc_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    Path("job.toml").write_text(MC)
    assert "no checkpoint" in refused(capsys, "mc", "job.toml", "--out", "new", "--resume")
    assert "Did you mean 'swap'" in refused(capsys, "mc", "job.toml", "--set", "move.resize.kind=swop")
    assert "needs pressure_GPa" in refused(capsys, "mc", "job.toml", "--set", "mc.pressure_GPa=none")
    assert "has no key 'temperature'" in refused(capsys, "mc", "job.toml", "--set", "mc.temperature=3")


def test_search_ranks_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    Path("job.toml").write_text(SEARCH)
    assert main(["search", "job.toml", "--out", "whole"]) == 0
    assert "lowest energy" in capsys.readouterr().out
    found = read_structures("whole/minima.xyz")
    record = json.loads(Path("whole/records/search.json").read_text())
    assert len(found) == record["values"]["n_minima"] and record["values"]["n_trials"] == 4
    assert main(["search", "job.toml", "--out", "part", "--set", "search.structures=2"]) == 0
    assert main(["search", "job.toml", "--out", "part", "--resume"]) == 0
    assert Path("part/minima.xyz").read_bytes() == Path("whole/minima.xyz").read_bytes()
    assert np.isfinite(record["values"]["lowest_energy_eV"])


def test_search_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    Path("job.toml").write_text(SEARCH)
    hopping = ["--set", "search={kind = 'basin_hopping', temperature_K = 300.0}"]
    assert "give a table [structure]" in refused(capsys, "search", "job.toml", *hopping)
    extra = ["--set", "structure={kind = 'crystal', formula = 'Si', lattice = 'diamond'}"]
    assert "leave the table [structure] out" in refused(capsys, "search", "job.toml", *extra)
    assert "no file" in refused(capsys, "search", "job.toml", "--out", "none", "--resume")
