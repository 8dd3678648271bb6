"""Runs: restart bit for bit, bad numbers, stops, reports."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from md_toys import Harmonic, LennardJones, oscillators

from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md import checkpoint
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.ase_traj import AseTraj
from rikiba.md.reporters.base import Reporter, Snapshot
from rikiba.md.reporters.extxyz import Extxyz
from rikiba.md.reporters.hdf5 import Hdf5, read_hdf5
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.reporters.thermo import Thermo
from rikiba.md.simulation import Simulation, SimulationError
from rikiba.md.state import State, maxwell_boltzmann


def argon(pressure: bool = True) -> State:
    frames = [bulk("Ar", "fcc", a, cubic=True).repeat((2, 2, 2)) for a in (5.3, 5.5)]
    return maxwell_boltzmann(System.from_ase(frames), (60.0, 80.0), seed=3)


class Killer(Reporter):
    """Kills the process at a step, as nothing else can."""

    def __init__(self, step: int) -> None:
        self.interval, self.step = 1, step

    def report(self, snapshot: Snapshot) -> str | None:
        if snapshot.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
        return None

    def memory(self) -> dict[str, object]:
        return {}

    def restore(self, memory: dict[str, np.ndarray]) -> None:
        pass

    def close(self) -> None:
        pass


def build(folder: Path, kind: str, kill_at: int = -1) -> Simulation:
    integrator = NVE() if kind == "nve" else Langevin(temperature_K=(60.0, 90.0), friction_per_ps=2.0)
    reporters = [
        Extxyz(path=folder / "t.extxyz", interval=7),
        AseTraj(path=folder / "t.traj", interval=9),
        Hdf5(path=folder / "t.h5", interval=5, forces=True),
        Thermo(path=folder / "t.csv", interval=4, pressure=True),
        InMemory(interval=3),
        Killer(kill_at),
    ]
    return Simulation(
        LennardJones(skin=0.6), integrator, argon(), timestep_fs=(4.0, 3.0), reporters=reporters,
        checkpoint=folder / "c.npz", checkpoint_interval=20,
    )  # fmt: skip


def same_files(a: Path, b: Path) -> None:
    for name in ("t.extxyz", "t.csv"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    one, two = read_hdf5(a / "t.h5"), read_hdf5(b / "t.h5")
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    first, second = ase.io.read(a / "t.traj", ":"), ase.io.read(b / "t.traj", ":")
    assert len(first) == len(second) > 2
    for x, y in zip(first, second, strict=True):
        assert (x.positions == y.positions).all() and (x.get_forces() == y.get_forces()).all()
        assert (x.get_momenta() == y.get_momenta()).all() and x.info == y.info


def same_state(a: Simulation, b: Simulation) -> None:
    assert a.state.step == b.state.step and torch.equal(a.state.time, b.state.time)
    assert torch.equal(a.state.system.positions, b.state.system.positions)
    assert torch.equal(a.state.velocities, b.state.velocities)
    assert torch.equal(a.snapshot.conserved, b.snapshot.conserved)


@pytest.mark.parametrize("kind", ["nve", "langevin"])
def test_kill_and_resume_equals_uninterrupted(kind: str, tmp_path: Path) -> None:
    whole = build(tmp_path / "whole", kind).run(90)
    whole.close()
    folder = tmp_path / "killed"
    code = f"from test_simulation import *; build(Path({str(folder)!r}), {kind!r}, 73).run(90)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len((folder / "t.csv").read_bytes()) > 0
    resumed = build(folder, kind).restore(folder / "c.npz")
    assert resumed.state.step == 60
    resumed.run(30).close()
    same_state(whole, resumed)
    same_files(tmp_path / "whole", folder)
    for name in ("steps", "positions", "conserved"):
        assert torch.equal(getattr(whole.reporters[4], name), getattr(resumed.reporters[4], name))


def test_two_runs_equal_one(tmp_path: Path) -> None:
    one, two = build(tmp_path / "a", "langevin").run(40), build(tmp_path / "b", "langevin").run(13).run(27)
    one.close()
    two.close()
    same_state(one, two)
    same_files(tmp_path / "a", tmp_path / "b")


def test_restart_without_the_thermostats_memory_is_caught(tmp_path: Path) -> None:
    """Negative control: a checkpoint that lost the heat does not continue the conserved quantity."""
    whole = build(tmp_path / "whole", "langevin").run(40)
    arrays, meta = checkpoint.read(build(tmp_path / "b", "langevin").run(20).checkpoint)
    arrays["memory/O/systems/heat"] = np.zeros(2)
    checkpoint.write(tmp_path / "b" / "c.npz", arrays, {k: v for k, v in meta.items() if k != "format"})
    with pytest.raises(AssertionError):
        same_state(whole, build(tmp_path / "b", "langevin").restore(tmp_path / "b" / "c.npz").run(20))


def test_restart_refuses_another_simulation(tmp_path: Path) -> None:
    path = build(tmp_path, "nve").run(5).save(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="integrator"):
        build(tmp_path, "langevin").restore(path)
    other = Simulation(LennardJones(), NVE(), argon(), timestep_fs=1.0)
    with pytest.raises(ValueError, match="reporters"):
        other.restore(path)
    plain = Simulation(LennardJones(), NVE(), argon(), timestep_fs=1.0).save(tmp_path / "y.npz")
    with pytest.raises(ValueError, match="timestep_fs"):
        Simulation(LennardJones(), NVE(), argon(), timestep_fs=2.0).restore(plain)
    with pytest.raises(ValueError, match="other atoms"):
        Simulation(LennardJones(), NVE(), argon()[[0]], timestep_fs=1.0).restore(plain)
    plain.write_bytes(plain.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        Simulation(LennardJones(), NVE(), argon(), timestep_fs=1.0).restore(plain)
    with pytest.raises(FileNotFoundError):
        Simulation(LennardJones(), NVE(), argon(), timestep_fs=1.0).restore(tmp_path / "absent.npz")


def test_restart_refuses_shortened_output(tmp_path: Path) -> None:
    build(tmp_path, "nve").run(20).close()
    (tmp_path / "t.csv").write_bytes((tmp_path / "t.csv").read_bytes()[:50])
    with pytest.raises(ValueError, match="shorter"):
        build(tmp_path, "nve").restore(tmp_path / "c.npz")


def test_checkpoint_is_atomic_and_holds_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    checkpoint.write(path, {"a": np.arange(3)}, {"step": 1})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="cannot go into"):
        checkpoint.write(path, {"a": np.array([object()])}, {"step": 2})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["c.npz"]


class Broken(Harmonic):
    """Forces of system 1 become NaN after some calls."""

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        results = super().__call__(system, forces=forces, stress=stress)
        if self.n_calls > 31:
            results.need("forces")[3] = torch.nan
        return results


def test_bad_numbers_stop_the_run(tmp_path: Path) -> None:
    system, sites = oscillators(2, 0.1, n_systems=2)
    sim = Simulation(
        Broken(sites), NVE(), State.of(system, dof_removed=0), timestep_fs=0.1,
        checkpoint=tmp_path / "c.npz", checkpoint_interval=20,
    )  # fmt: skip
    with pytest.raises(
        SimulationError, match=r"after step 30: .*atom 3 \(system 1\)(.|\n)*c.npz \(step 20\)"
    ):
        sim.run(100)
    assert sim.state.step == 30 and bool(sim.state.velocities.isfinite().all())
    arrays, meta = checkpoint.read(tmp_path / "c.last_finite.npz")
    assert meta["step"] == 30 and np.isfinite(arrays["state/velocities"]).all()
    assert checkpoint.read(tmp_path / "c.npz")[1]["step"] == 20


class StopAt(InMemory):
    def report(self, snapshot: Snapshot) -> str | None:
        super().report(snapshot)
        return "far enough" if snapshot.step == 12 else None


def test_reporter_stops_the_run() -> None:
    system, sites = oscillators(2, 0.1)
    done = []
    sim = Simulation(
        Harmonic(sites), NVE(), State.of(system), timestep_fs=0.1, reporters=[StopAt()],
        progress=lambda *n: done.append(n),
    )  # fmt: skip
    assert sim.run(100).stopped == "far enough" and sim.state.step == 12
    assert done[-1] == (12, 100)
    assert sim.run(5).stopped is None and sim.state.step == 17


def test_files_hold_what_was_run(tmp_path: Path) -> None:
    sim = build(tmp_path, "nve")
    keep = InMemory(interval=1, velocities=True, forces=True)
    sim.reporters = (*sim.reporters, keep)
    sim.run(30).close()
    h5 = read_hdf5(tmp_path / "t.h5")
    assert h5["step"].tolist() == [0, 5, 10, 15, 20, 25, 30]
    for name in ("positions", "velocities", "forces", "temperature_K", "conserved", "time_ps"):
        assert torch.equal(h5[name], getattr(keep, name)[::5]), name
    frames = ase.io.read(tmp_path / "t.extxyz", ":")
    assert [(f.info["step"], f.info["system"]) for f in frames[:4]] == [(0, 0), (0, 1), (7, 0), (7, 1)]
    assert np.allclose(frames[3].positions, keep.positions[7][32:], atol=1e-7)
    assert np.allclose(frames[3].get_velocities(), keep.velocities[7][32:], atol=1e-7)
    assert frames[3].get_potential_energy() == pytest.approx(float(keep.potential_energy[7, 1]))
    assert frames[3].info["time_fs"] == pytest.approx(21.0)
    table = np.genfromtxt(tmp_path / "t.csv", delimiter=",", names=True)
    assert table["step"].tolist() == [s for s in range(0, 31, 4) for _ in range(2)]
    assert (table["conserved_eV"] == keep.conserved[::4].flatten().numpy()).all()
    atoms = frames[-1] if frames[-1].info["step"] == 30 else None
    assert atoms is None or atoms.info["system"] == 1


def test_pressure_against_ase(tmp_path: Path) -> None:
    """Instantaneous pressure, kinetic part included, as ASE computes it from the same stress."""
    sim = Simulation(
        LennardJones(),
        NVE(),
        argon(),
        timestep_fs=4.0,
        reporters=[Thermo(path=tmp_path / "t.csv", pressure=True)],
    )
    sim.run(10)
    sim.run(0)
    atoms = sim.state.to_ase()
    results = sim.results
    for k, a in enumerate(atoms):
        results.attach(a, k, sim.state.system.atom_rows(k))
        total = a.get_stress(voigt=False, include_ideal_gas=True)
        assert float(sim.snapshot.pressure_GPa[k]) == pytest.approx(
            -np.trace(total) / 3 / units.gigapascal, rel=1e-5
        )


def test_stress_is_asked_for_only_when_due(tmp_path: Path) -> None:
    asked: list[bool] = []

    class Spy(LennardJones):
        def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
            asked.append(stress)
            return super().__call__(system, forces=forces, stress=stress)

    Simulation(
        Spy(),
        NVE(),
        argon(),
        timestep_fs=4.0,
        reporters=[Thermo(path=tmp_path / "t.csv", interval=5, pressure=True)],
    ).run(10)
    assert asked == [n % 5 == 0 for n in range(11)]


def test_isolated_molecule_without_cell(tmp_path: Path) -> None:
    system = System.from_ase(molecule("CH3CH2OH"))
    state = maxwell_boltzmann(system, 300.0)
    sim = Simulation(
        Harmonic(system.positions, 5.0), NVE(), state, timestep_fs=0.5,
        reporters=[Extxyz(path=tmp_path / "m.extxyz"), Hdf5(path=tmp_path / "m.h5")],
    )  # fmt: skip
    sim.run(10).close()
    assert len(ase.io.read(tmp_path / "m.extxyz", ":")) == 2
