"""Grids: the same as serial runs to the bit, resumed, and one that crashes loses nobody else's work."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.base import Calculator
from rikiba.campaigns import batches
from rikiba.campaigns.batches import Batch, cell_file, run_batch
from rikiba.campaigns.grid import Bath, Grid, key
from rikiba.campaigns.screening import divided, screen
from rikiba.config import ConfigError
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md import checkpoint as files
from rikiba.potentials.lennard_jones import LennardJones

STRUCTURES = [bulk("Ar", "fcc", a, cubic=True).repeat(2) for a in (5.3, 5.6)]
GRID = Grid(
    temperature_K=(20.0, 60.0),
    pressure_GPa=(0.0, 0.3),
    timestep_fs=(4.0, 3.0),
    steps=30,
    equilibration_steps=10,
    interval=5,
    frames_interval=20,
    seed=3,
)
NPT = Bath(kind="npt", settings={"compressibility_per_GPa": 0.5}, pressured=True)


def argon() -> Calculator:
    return PotentialCalculator(LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.0))


def prepared(folder: Path, grid: Grid = GRID, bath: Bath = NPT, make: Any = argon) -> Batch:
    conditions = grid.conditions(len(STRUCTURES))
    return Batch(
        conditions=tuple(conditions),
        keys=tuple(key(c, STRUCTURES[c.structure], grid, bath, "argon") for c in conditions),
        structures=tuple(STRUCTURES[c.structure] for c in conditions),
        grid=grid,
        bath=bath,
        calculator=make,
        folder=folder,
    )


def outcomes(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    return {f.stem: files.read(f)[0] for f in sorted((folder / "cells").glob("*.npz"))}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].keys() == b[k].keys() and all(np.array_equal(a[k][n], b[k][n]) for n in a[k]) for k in a
    )


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every condition in a batch of its own."""
    folder = tmp_path_factory.mktemp("serial")
    whole = prepared(folder)
    for k in range(len(whole)):
        run_batch(whole.part([k]))
    return folder


def test_a_batch_equals_serial_runs_bit_for_bit(serial: Path, tmp_path: Path) -> None:
    """Two structures at two temperatures and pressures, each with its own timestep: 8 in a state."""
    whole = prepared(tmp_path)
    assert len(whole) == 8 and len(set(whole.keys)) == 8
    run_batch(whole)
    assert same(outcomes(tmp_path), outcomes(serial))
    for file in (serial / "frames").glob("*.xyz"):
        assert (tmp_path / "frames" / file.name).read_bytes() == file.read_bytes()
    assert not list((tmp_path / "batches").glob("*"))
    # negative control: another seed is another trajectory
    other = prepared(tmp_path / "other", replace(GRID, seed=4))
    run_batch(other.part([0]))
    assert not same(outcomes(tmp_path / "other"), outcomes(serial))
    first = outcomes(serial)[whole.keys[0]]["samples/volume"]
    assert not np.array_equal(first, next(iter(outcomes(tmp_path / "other").values()))["samples/volume"])


def test_an_interrupted_batch_goes_on(serial: Path, tmp_path: Path, monkeypatch: Any) -> None:
    whole = prepared(tmp_path, replace(GRID, checkpoint_interval=7))

    class Interrupted(Exception):
        pass

    def stops(text: str, done: int | None = None, total: int | None = None) -> None:
        if done is not None and done >= 25:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_batch(whole.part(range(4)), progress=stops)
    assert whole.part(range(4)).checkpoint.is_file() and not list(tmp_path.glob("cells/*"))
    seen: list[int] = []
    run_batch(whole.part(range(4)), progress=lambda text, done=0, total=0: seen.append(total))
    assert max(seen) == 40 - 21  # it went on from the checkpoint of step 21
    expected = {k: v for k, v in outcomes(serial).items() if k in whole.keys[:4]}
    assert same(outcomes(tmp_path), expected)
    for k in whole.keys[:4]:
        assert (tmp_path / "frames" / f"{k}.xyz").read_bytes() == (
            serial / "frames" / f"{k}.xyz"
        ).read_bytes()


class Poisoned:
    """Argon whose forces are not finite from a distance on: the hot loose structure fails, others do not."""

    def __init__(self, far: float) -> None:
        self.inner, self.far = argon(), far

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        found = self.inner(system, forces=forces, stress=stress)
        spread = torch.stack([system.positions[system.atom_rows(k)].max() for k in range(len(system))])
        bad = (spread > self.far)[system.system_index]
        return found.replace(forces=torch.where(bad[:, None], torch.nan, found.need("forces")))


def poisoned() -> Calculator:
    return Poisoned(8.56)


def test_a_crashed_replica_does_not_lose_the_rest(serial: Path, tmp_path: Path) -> None:
    grid = replace(GRID, processes=1)
    record = screen(poisoned, STRUCTURES, NPT, grid, out=tmp_path, energies="argon")
    found, expected = outcomes(tmp_path), outcomes(serial)
    failed = [k for k in found if files.read(cell_file(tmp_path, k))[1]["reason"]]
    assert 0 < len(failed) < 8 and record["n_failed"] == len(failed) and record.verdict == "fail"
    kept = {k: v for k, v in found.items() if k not in failed}
    assert same(kept, {k: expected[k] for k in kept})
    table = next(t for t in record.tables if t.title == "Failures")
    assert len(table.rows) == len(failed) and any("finite" in row[-1] for row in table.rows)


def test_finished_ones_are_not_repeated(tmp_path: Path, monkeypatch: Any) -> None:
    grid = replace(GRID, pressure_GPa=None, frames_interval=0)
    bath = Bath(kind="langevin", settings={}, pressured=False)
    first = screen(argon, STRUCTURES[:1], bath, grid, out=tmp_path, energies="argon")
    before = outcomes(tmp_path)
    ran: list[int] = []
    monkeypatch.setattr(
        "rikiba.campaigns.screening.run_batch",
        lambda batch, progress: (ran.append(len(batch)), batches.run_batch(batch, progress=progress))[1],
    )
    again = screen(argon, STRUCTURES[:1], bath, grid, out=tmp_path, energies="argon")
    assert ran == [] and again.to_json() == first.to_json()
    wider = screen(argon, STRUCTURES[:1], bath, replace(grid, replicas=2), out=tmp_path, energies="argon")
    assert sum(ran) == 2 and wider["n_trajectories"] == 4
    assert same({k: v for k, v in outcomes(tmp_path).items() if k in before}, before)
    screen(argon, STRUCTURES[:1], bath, grid, out=tmp_path, energies="another potential")
    assert sum(ran) == 4


def deadly() -> Calculator:
    return Deadly()


class Deadly:
    """Kills its process where it meets the loose structure."""

    def __init__(self) -> None:
        self.inner = argon()

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        if float(system.volume.max()) > 1390.0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(system, forces=forces, stress=stress)


@pytest.mark.slow
def test_a_killed_process_does_not_lose_the_rest(tmp_path: Path) -> None:
    """Two trajectories in two processes; that of the loose structure takes its process with it."""
    grid = Grid(temperature_K=(5.0,), timestep_fs=4.0, steps=20, interval=5, processes=2)
    bath = Bath(kind="langevin", settings={}, pressured=False)
    record = screen(deadly, STRUCTURES, bath, grid, out=tmp_path, energies="deadly")
    assert record["n_failed"] == 1 and record["n_trajectories"] == 2
    assert "process died" in next(t for t in record.tables if t.title == "Failures").rows[0][-1]
    assert len(outcomes(tmp_path)) == 1


def test_another_executor_gives_the_same(tmp_path: Path) -> None:
    grid = replace(GRID, pressure_GPa=None, frames_interval=0, batch_atoms=64)
    bath = Bath(kind="csvr", settings={}, pressured=False)
    here = screen(argon, STRUCTURES, bath, grid, out=tmp_path / "a", energies="argon")
    with ThreadPoolExecutor(1) as pool:
        there = screen(argon, STRUCTURES, bath, grid, out=tmp_path / "b", energies="argon", executor=pool)
    assert here.to_json() == there.to_json()
    assert same(outcomes(tmp_path / "a"), outcomes(tmp_path / "b"))


def test_averages_follow_the_conditions(tmp_path: Path) -> None:
    """Under pressure the volume falls; the spread of replicas is the error."""
    grid = Grid(
        temperature_K=(40.0,), pressure_GPa=(0.0, 1.0), timestep_fs=4.0, steps=200,
        equilibration_steps=200, replicas=4,
    )  # fmt: skip
    record = screen(argon, STRUCTURES[:1], NPT, grid, out=tmp_path, energies="argon")
    table = record.tables[0]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [r["P (GPa)"] for r in rows] == [0.0, 1.0] and all(r["finished"] == 4 for r in rows)
    assert rows[1]["⟨V⟩ (Å³/atom)"] < rows[0]["⟨V⟩ (Å³/atom)"] - 2.0
    for row in rows:
        assert abs(row["⟨T⟩ (K)"] - 40.0) < 5.0
        assert abs(row["⟨P⟩ (GPa)"] - row["P (GPa)"]) < 0.1
    assert len(record.figures) == 3


def test_groups_fit_the_atoms_and_use_the_processes() -> None:
    whole = prepared(Path("."))
    assert [len(g) for g in divided(replace(whole, grid=replace(GRID, batch_atoms=100)), range(8))] == [
        3,
        3,
        2,
    ]
    assert [len(g) for g in divided(replace(whole, grid=replace(GRID, processes=2)), range(8))] == [4, 4]
    assert [len(g) for g in divided(replace(whole, grid=replace(GRID, batch_atoms=8)), range(3))] == [1, 1, 1]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="too few samples"):
        Grid(temperature_K=(1.0,), timestep_fs=1.0, steps=10)
    with pytest.raises(ValueError, match="twice"):
        Grid(temperature_K=(1.0, 1.0), timestep_fs=1.0, steps=100)
    with pytest.raises(ValueError, match="one for each of the 1"):
        Grid(temperature_K=(1.0,), timestep_fs=(1.0, 2.0), steps=100)
    with pytest.raises(ConfigError, match=r"write it in \[grid\]"):
        Bath(kind="langevin", settings={"temperature_K": 3.0}, pressured=False)
    with pytest.raises(ConfigError, match="keeps the volume"):
        Bath(kind="langevin", settings={}, pressured=True)
    with pytest.raises(ConfigError, match="needs pressure_GPa"):
        Bath(kind="npt", settings={}, pressured=False)
    silent = Bath(kind="langevin", settings={"friction": 3.0}, pressured=False)
    with pytest.raises(ConfigError, match="friction_per_ps"):
        silent(Grid(temperature_K=(1.0,), timestep_fs=1.0, steps=100).conditions(1))


def test_an_impossible_structure_is_said(tmp_path: Path) -> None:
    grid = Grid(temperature_K=(5.0,), timestep_fs=4.0, steps=20, interval=5)
    bath = Bath(kind="langevin", settings={}, pressured=False)
    with pytest.raises(ValueError, match="No trajectory of the grid"):
        screen(argon, [Atoms("Ne")], bath, grid, out=tmp_path, energies="argon")
