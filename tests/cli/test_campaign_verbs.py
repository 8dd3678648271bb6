"""`rikiba screen` and `rikiba protocol` in-process: what they write, resume, and refuse."""

import json
import tomllib
from pathlib import Path

import pytest

from rikiba.cli.main import main
from rikiba.core.record import Record

ARGON = """
[structure]
kind = "crystal"
formula = "Ar"
lattice = "fcc"
a = 5.3
repeat = [3, 3, 3]
[potential]
kind = "lennard_jones"
epsilon_eV = { Ar = 0.0104 }
sigma = { Ar = 3.4 }
cutoff = 6.5
"""
GRID = """
[ensemble]
kind = "npt"
compressibility_per_GPa = 0.3
[grid]
temperature_K = [20, 40]
pressure_GPa = [0.1]
timestep_fs = 4
steps = 40
"""
STAGES = """
[protocol]
kind = "melt_quench"
timestep_fs = 4
interval = 5
[[protocol.stages]]
name = "hold"
temperature_K = 20
duration_ps = 0.1
[[protocol.stages]]
name = "heat"
temperature_K = 40
rate_K_per_ps = 200
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "job.toml") -> str:
    Path(name).write_text(text)
    return name


def test_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["screen", written(ARGON + GRID)]) == 0
    first = Record.load("runs/job/records/screening.json")
    assert first["n_trajectories"] == 2 and [row[2] for row in first.tables[0].rows] == [20.0, 40.0]
    assert len(list(Path("runs/job/cells").glob("*.npz"))) == 2
    resolved = tomllib.loads(Path("runs/job/resolved.toml").read_text())
    assert resolved["grid"]["replicas"] == 1 and resolved["ensemble"]["kind"] == "npt"
    assert "n_trajectories" in json.loads(Path("runs/job/records/screening.json").read_text())["values"]
    capsys.readouterr()
    assert main(["screen", "job.toml", "--set", "grid.temperature_K=[20, 40, 60]"]) == 0
    assert "2 of 3 trajectories are there already" in capsys.readouterr().err
    assert main(["screen", "job.toml", "--set", "potential.cutoff=6.0"]) == 0
    assert "there already" not in capsys.readouterr().err  # another potential, other outcomes


def test_screen_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    for change, message in (
        ("ensemble.temperature_K=3", "write it in [grid]"),
        ("ensemble.kind='csvr'", "keeps the volume"),
        ("ensemble.barostat='none'", "barostat"),
        ("grid.step=4", "Did you mean 'steps'"),
    ):
        assert main(["screen", written(ARGON + GRID), "--set", change]) == 2
        assert message in capsys.readouterr().err


def test_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocol", written(ARGON + STAGES)]) == 0
    first = Record.load("runs/job/records/melt_quench.json")
    assert [row[0] for row in first.tables[0].rows] == ["hold", "heat"]
    assert (Path("runs/job/01_hold.xyz")).is_file()
    before = Path("runs/job/02_heat.xyz").read_bytes()
    assert main(["protocol", "job.toml", "--resume"]) == 0
    assert Record.load("runs/job/records/melt_quench.json").to_json() == first.to_json()
    assert Path("runs/job/02_heat.xyz").read_bytes() == before
    capsys.readouterr()
    assert main(["protocol", "job.toml", "--set", "protocol.kind='melt'"]) == 2
    assert "known are deformation, deposition, melt_quench" in capsys.readouterr().err
