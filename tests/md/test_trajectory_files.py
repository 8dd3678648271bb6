"""Trajectory files read back by programs that are not ours, and by our own readers of data."""

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from killed_runs import Soft, argon
from md_toys import Harmonic

from rikiba.core.system import System
from rikiba.data import formats
from rikiba.md.ensembles.npt import NPT
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.dcd import Dcd
from rikiba.md.reporters.hdf5 import Hdf5, read_hdf5
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann


def turned() -> State:
    """Two boxes, the second triclinic, both turned away from the axes, with atoms outside."""
    rng = np.random.default_rng(4)
    frames = [bulk("Ar", "fcc", 5.3, cubic=True).repeat((2, 2, 2)), bulk("Ar", "fcc", 5.4).repeat((3, 3, 3))]
    for atoms in frames:
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turn = q * np.sign(np.linalg.det(q))
        atoms.set_cell(atoms.cell.array @ turn)
        atoms.positions = atoms.positions @ turn + 30.0
    return maxwell_boltzmann(System.from_ase(frames), 80.0, seed=2)


def distances(positions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions[:, None] - positions[None], axis=-1)


def test_dcd_as_chemfiles_reads_it(tmp_path: Path) -> None:
    chemfiles = pytest.importorskip("chemfiles", reason="pip install chemfiles")
    kept = InMemory(interval=5, cells=True)
    barostat = NPT(temperature_K=80.0, pressure_GPa=0.5, pressure_time_constant_fs=200.0)
    files = [Dcd(path=tmp_path / "a.dcd", interval=5), Dcd(path=tmp_path / "w.dcd", interval=5, wrap=True)]
    Simulation(Soft(), barostat, turned(), timestep_fs=4.0, reporters=[kept, *files]).run(20).close()
    assert not torch.equal(kept.cells[0], kept.cells[-1])
    for k, rows in enumerate((slice(0, 32), slice(32, 59))):
        with chemfiles.Trajectory(str(tmp_path / f"a.{k}.dcd")) as file:
            assert file.nsteps == 5
            for n in range(5):
                frame, cell = file.read_step(n), kept.cells[n][k].numpy()
                true = kept.positions[n][rows].numpy()
                assert np.abs(distances(frame.positions) - distances(true)).max() < 2e-5
                edges = np.linalg.norm(cell, axis=1)
                assert np.allclose(frame.cell.lengths, edges, atol=1e-9)
                cosines = (cell @ cell.T) / np.outer(edges, edges)
                expected = [cosines[1, 2], cosines[0, 2], cosines[0, 1]]
                assert np.allclose(np.cos(np.radians(frame.cell.angles)), expected, atol=1e-9)
                # atoms stand in the cell as they did: fractions against the reader's own matrix
                fractions = np.linalg.solve(np.asarray(frame.cell.matrix), frame.positions.T).T
                assert np.allclose(fractions, true @ np.linalg.inv(cell), atol=1e-5)
        with chemfiles.Trajectory(str(tmp_path / f"w.{k}.dcd")) as file:
            frame = file.read_step(4)
            fractions = np.linalg.solve(np.asarray(frame.cell.matrix), frame.positions.T).T
            assert fractions.min() > -1e-6 and fractions.max() < 1 + 1e-6


def test_dcd_of_a_molecule_and_its_clock(tmp_path: Path) -> None:
    system = System.from_ase(molecule("CH3CH2OH"))
    run = Simulation(
        Harmonic(system.positions, 5.0), NVE(), maxwell_boltzmann(system, 300.0), timestep_fs=0.5,
        reporters=[Dcd(path=tmp_path / "m.dcd", interval=4)],
    )  # fmt: skip
    run.run(10).close()
    content = (tmp_path / "m.dcd").read_bytes()
    assert struct.unpack("<i4s3i", content[:20]) == (84, b"CORD", 3, 0, 4)
    assert struct.unpack("<f", content[44:48])[0] * 48.88821 == pytest.approx(0.5, rel=1e-6)
    assert len(content) == 92 + 92 + 12 + 3 * 3 * (9 * 4 + 8)
    last = np.frombuffer(content[-3 * 44 :], "<f4").reshape(3, 11)[:, 1:-1].T
    assert np.abs(last - molecule("CH3CH2OH").positions).max() < 0.5


def test_a_left_handed_cell_is_refused(tmp_path: Path) -> None:
    state = argon()
    mirrored = state.replace(system=state.system.replace(cell=state.system.cell[:, [1, 0, 2]]))
    run = Simulation(Soft(), NVE(), mirrored, timestep_fs=4.0, reporters=[Dcd(path=tmp_path / "a.dcd")])
    with pytest.raises(ValueError, match="left-handed"):
        run.run(1)


@pytest.mark.parametrize("compression", ["none", "lzf", "gzip"])
def test_hdf5_keeps_every_bit_and_its_room_is_enough(compression: str, tmp_path: Path) -> None:
    kept = InMemory(interval=1, velocities=True)
    store = Hdf5(path=tmp_path / "t.h5", interval=1, forces=True, compression=compression)  # type: ignore[arg-type]
    run = Simulation(Soft(), NVE(), argon(), timestep_fs=4.0, reporters=[kept, store]).run(150)
    reserved = store._space._need(store._file, 151)
    run.close()
    found = read_hdf5(tmp_path / "t.h5")
    assert torch.equal(found["positions"], kept.positions) and torch.equal(found["conserved"], kept.conserved)
    size = (tmp_path / "t.h5").stat().st_size
    assert size <= reserved < 3 * size
    with h5py.File(tmp_path / "t.h5") as file:
        assert file.attrs["positions"] == "unwrapped"


def test_hdf5_as_training_data(tmp_path: Path) -> None:
    """Each system of each frame, with energy and forces, and which run it is of."""
    kept = InMemory(interval=10, forces=True)
    store = Hdf5(path=tmp_path / "t.h5", interval=10, forces=True)
    Simulation(Soft(), NVE(), argon(), timestep_fs=4.0, reporters=[kept, store]).run(30).close()
    data = formats.read(tmp_path / "t.h5", level_of_theory="soft spheres")
    assert len(data) == 8
    for n, frame in enumerate(data):
        step, k = divmod(n, 2)
        rows = slice(32 * k, 32 * k + 32)
        assert torch.equal(frame.system.positions, kept.positions[step][rows])
        assert torch.equal(frame.results.need("forces"), kept.forces[step][rows])
        assert float(frame.results.need("energy")) == float(kept.potential_energy[step, k])
        assert frame.system.pbc.all() and torch.equal(frame.system.cell[0], argon().system.cell[k])
        assert frame.group == f"t.h5, system {k}"
    structures = formats.read_structures(tmp_path / "t.h5")
    assert len(structures) == 8 and structures[3].get_velocities().any()


def test_hdf5_without_forces_says_so(tmp_path: Path) -> None:
    store = Hdf5(path=tmp_path / "t.h5")
    Simulation(Soft(), NVE(), argon(), timestep_fs=4.0, reporters=[store]).run(10).close()
    with pytest.raises(ValueError, match="forces"):
        formats.read(tmp_path / "t.h5", level_of_theory="soft spheres")
    assert len(formats.read(tmp_path / "t.h5", level_of_theory="soft", need=("energy",))) == 4
