"""Dynamics with a reference engine: ASE's trajectory with the same engine, labelled, conserving energy."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import units as ase_units
from ase.build import molecule
from ase.io import read
from ase.md.verlet import VelocityVerlet

from rikiba.cli.main import main
from rikiba.core.record import Record
from rikiba.data.formats import read_structures

WATER = """
[structure]
kind = "file"
path = "water.xyz"
[reference]
kind = "tblite"
accuracy = 0.01
[ensemble]
kind = "nve"
[md]
steps = {steps}
timestep_fs = {dt}
temperature_K = 300
interval = {interval}
seed = 3
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("tblite")
    monkeypatch.chdir(tmp_path)
    molecule("H2O").write("water.xyz")
    return tmp_path


def run(name: str, **settings: Any) -> tuple[Record, list[Any]]:
    Path(f"{name}.toml").write_text(WATER.format(**settings))
    assert main(["md", f"{name}.toml", "--out", name]) == 0
    return Record.load(f"{name}/records/md.json"), read(f"{name}/trajectory.xyz", index=":")


def test_it_is_the_trajectory_of_ase() -> None:
    """Velocity Verlet of ASE with the same engine from the same velocities, 40 steps of 0.5 fs."""
    from rikiba.reference.tblite import Tblite

    record, frames = run("water", steps=40, dt=0.5, interval=4)
    theirs = frames[0].copy()
    theirs.set_velocities(frames[0].get_velocities())
    theirs.calc = Tblite(accuracy=0.01).ase_calculator()
    dynamics = VelocityVerlet(theirs, timestep=0.5 * ase_units.fs)
    for frame in frames[1:]:
        dynamics.run(4)
        np.testing.assert_allclose(frame.positions, theirs.positions, atol=2e-6)
        assert frame.get_potential_energy() == pytest.approx(theirs.get_potential_energy(), abs=1e-5)
    assert np.abs(frames[-1].positions - frames[0].positions).max() > 0.01
    assert record["n_steps"] == 40


def test_frames_are_labelled_data() -> None:
    _, frames = run("labelled", steps=8, dt=0.5, interval=4)
    level = frames[0].info["level_of_theory"]
    assert level.startswith("GFN2-xTB (tblite")
    assert len(read_structures(Path("labelled/trajectory.xyz"))) == len(frames) == 3
    again = frames[2].copy()
    from rikiba.reference.tblite import Tblite

    (label,) = Tblite(accuracy=0.01).label([again])
    np.testing.assert_allclose(frames[2].get_forces(), label.get_forces(), atol=1e-4)  # type: ignore[union-attr]
    resolved = tomllib.loads(Path("labelled/resolved.toml").read_text())
    assert resolved["reference"]["method"] == "GFN2-xTB"


def test_energy_is_conserved_and_a_long_timestep_is_told_apart() -> None:
    """0.1 ps of 0.25 fs; a timestep six times as long shows the thirty-sixfold oscillation."""
    fine, _ = run("fine", steps=400, dt=0.25, interval=4)
    coarse, _ = run("coarse", steps=68, dt=1.5, interval=1)
    assert fine["oscillation_amplitude_meV_per_atom"] < 0.5
    assert coarse["oscillation_amplitude_meV_per_atom"] > 10 * fine["oscillation_amplitude_meV_per_atom"]


def test_two_sources_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    text = WATER.format(steps=40, dt=0.5, interval=4) + '[calculator]\nkind = "ase.calculators.emt:EMT"\n'
    Path("both.toml").write_text(text)
    assert main(["md", "both.toml"]) == 2
    assert "one of [potential], [calculator] and [reference]" in capsys.readouterr().err
