"""What ends a run: full disks, bad numbers, lost atoms; each with a message, and nothing lost."""

import inspect
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from killed_runs import Soft, argon
from md_toys import Harmonic, LennardJones

from rikiba.core import registry
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md import checkpoint
from rikiba.md.contacts import closest_contacts
from rikiba.md.ensembles.npt import NPT
from rikiba.md.ensembles.nve import NVE
from rikiba.md.limits import Limits, OutputError, SimulationError
from rikiba.md.reporters.hdf5 import read_hdf5
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann

FILES = [
    name
    for name in registry.names("md.reporters")
    if name != "health" and "path" in inspect.signature(registry.load("md.reporters", name)).parameters
]


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond n bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def writing(folder: Path, name: str) -> Simulation:
    cls = registry.load("md.reporters", name)
    return Simulation(
        Soft(), NVE(), argon(), timestep_fs=4.0, reporters=[cls(path=folder / f"out.{name}", interval=1)],
        checkpoint=folder / "run.checkpoint", checkpoint_interval=10,
    )  # fmt: skip


def content(path: Path) -> Any:
    names = sorted(p for p in path.parent.iterdir() if p.name.startswith(path.stem + "."))
    if path.suffix == ".hdf5":
        return {name: value.numpy().tobytes() for name, value in read_hdf5(path).items()}
    return [p.read_bytes() for p in names if not p.name.endswith(".part")]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["same object", "restored"])
def test_a_full_disk_loses_nothing(name: str, how: str, tmp_path: Path) -> None:
    whole = writing(tmp_path / "whole", name).run(100)
    whole.close()
    run = writing(tmp_path / "full", name).run(12)
    room = max(p.stat().st_size for p in (tmp_path / "full").glob("out.*"))
    with full_disk(room + 100), pytest.raises(OutputError, match=r"stopped at step \d+(.|\n)*run.checkpoint"):
        run.run(88)
    failed = run.state.step
    assert 12 <= failed < 100
    if how == "restored":
        run = writing(tmp_path / "full", name)
        assert run.resume() and run.state.step <= failed
    run.run(100 - run.state.step).close()
    assert torch.equal(run.state.system.positions, whole.state.system.positions)
    assert content(tmp_path / "full" / f"out.{name}") == content(tmp_path / "whole" / f"out.{name}")


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    run = Simulation(
        Soft(), NVE(), argon(), timestep_fs=4.0, checkpoint=tmp_path / "c", checkpoint_interval=5
    )
    run.run(5)
    before = (tmp_path / "c").read_bytes()
    with full_disk(1000), pytest.raises(OutputError, match=r"checkpoint could not be written(.|\n)*step 5"):
        run.run(5)
    assert (tmp_path / "c").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["c"]


class Wrong(Harmonic):
    """Forces of one atom become NaN, or grow tenfold with every call."""

    def __init__(self, sites: torch.Tensor, how: str, atom: int) -> None:
        super().__init__(sites)
        self.how, self.atom = how, atom

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        found = super().__call__(system, forces=forces, stress=stress)
        if self.n_calls > 31:
            wrong = found.need("forces").clone()
            wrong[self.atom] = torch.nan if self.how == "nan" else 10.0 ** (self.n_calls - 31)
            found = found.replace(forces=wrong)
        return found


def failing(tmp_path: Path, how: str) -> Simulation:
    system = System.from_ase([molecule("H2O"), molecule("NH3")])
    return Simulation(
        Wrong(system.positions, how, 4), NVE(), maxwell_boltzmann(system, 300.0), timestep_fs=0.5,
        checkpoint=tmp_path / "c", checkpoint_interval=10, limits=Limits(interval=1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("how", "said"),
    [("nan", r"atom 4 \(system 1\) is not finite"), ("hot", r"system 1 is at .* K \(limit 100000 K\)")],
)
def test_bad_forces_name_the_guilty(how: str, said: str, tmp_path: Path) -> None:
    run = failing(tmp_path, how)
    with pytest.raises(
        SimulationError, match=rf"after step 3\d: .*{said}(.|\n)*Likely cause(.|\n)*\(step 30\)"
    ) as e:
        run.run(100)
    assert e.value.systems == (1,) and 4 in e.value.atoms and 30 <= e.value.step < 40
    assert checkpoint.read(tmp_path / "c")[1]["step"] == 30
    if how == "hot":
        assert "atom 1 (H) of system 1 moves" in str(e.value)


def test_the_others_go_on_without_the_bad_one(tmp_path: Path) -> None:
    """The system at fault is left out; what the other does has the bits it would have had."""
    run = failing(tmp_path, "nan")
    with pytest.raises(SimulationError) as e:
        run.run(100)
    rest = [k for k in range(2) if k not in e.value.systems]
    alone = run.only(rest, calculator=Harmonic(molecule_sites("H2O")))
    alone.run(100 - alone.state.step)
    healthy = failing(tmp_path / "other", "nan")
    healthy.evaluator.calculator = Harmonic(healthy.state.system.positions)
    healthy.run(100)
    assert alone.state.step == 100
    assert torch.equal(alone.state.system.positions, healthy.state.system.positions[:3])


def molecule_sites(name: str) -> torch.Tensor:
    return System.from_ase(molecule(name)).positions


def test_an_atom_that_flies_away_is_lost(tmp_path: Path) -> None:
    system = System.from_ase([molecule("H2O"), molecule("NH3")])
    velocities = torch.zeros_like(system.positions)
    velocities[5] = 3.0
    flat = Harmonic(system.positions, k=0.0)
    run = Simulation(
        flat, NVE(), State.of(system, velocities), timestep_fs=10.0, limits=Limits(max_distance=50.0),
        checkpoint=tmp_path / "c",
    )  # fmt: skip
    with pytest.raises(SimulationError, match=r"atom 2 \(H\) of system 1 is .* Å from the others") as e:
        run.run(1000)
    assert e.value.atoms == (5,)
    # along periodic axes an atom that walks far is not lost
    system = system.replace(
        cell=10.0 * torch.eye(3, dtype=torch.float64).repeat(2, 1, 1), pbc=torch.ones(2, 3, dtype=torch.bool)
    )
    limits = Limits(max_distance=50.0, min_contact=None, max_temperature_K=1e9)
    Simulation(flat, NVE(), State.of(system, velocities), timestep_fs=10.0, limits=limits).run(200)


class Pressed(Soft):
    """A stress that presses the cell together however small it gets."""

    shear = 0.0

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        found = super().__call__(system, forces=forces, stress=stress)
        if not stress:
            return found
        wrong = 1.0 * torch.eye(3, dtype=torch.float64)
        wrong[0, 1] = wrong[1, 0] = self.shear
        return found.replace(stress=wrong.expand(system.n_systems, 3, 3))


@pytest.mark.parametrize(("shear", "said"), [(0.0, "Å wide at its narrowest"), (2.0, "right-angled one")])
def test_a_cell_that_collapses_or_leans(shear: float, said: str, tmp_path: Path) -> None:
    calculator = Pressed()
    calculator.shear = shear
    barostat = NPT(
        temperature_K=60.0, pressure_GPa=0.0, barostat="martyna_tobias_klein", cell="full",
        pressure_time_constant_fs=100.0,
    )  # fmt: skip
    limits = Limits(
        interval=1, min_width=6.0 if shear == 0 else 1e-3, min_orthogonality=0.3, min_contact=None,
        max_temperature_K=None,
    )  # fmt: skip
    run = Simulation(calculator, barostat, argon(), timestep_fs=2.0, limits=limits, checkpoint=tmp_path / "c")
    with pytest.raises(SimulationError, match=said) as e:
        run.run(400)
    assert "barostat" in str(e.value) and e.value.systems


def test_overlapping_atoms_are_named() -> None:
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 2, 2))
    atoms.positions[7] = atoms.positions[3] + [0.0, 0.0, 0.2]
    state = maxwell_boltzmann(System.from_ase([bulk("Ar", "fcc", a=5.3, cubic=True), atoms]), 60.0)
    run = Simulation(LennardJones(), NVE(), state, timestep_fs=4.0)
    with pytest.raises(
        SimulationError, match=r"atoms 3 \(Ar\) and 7 \(Ar\) of system 1 are|moves .* Å a step"
    ):
        run.run(50)
    soft = Simulation(Soft(), NVE(), state, timestep_fs=4.0, limits=Limits(interval=1))
    with pytest.raises(SimulationError, match=r"atoms 3 \(Ar\) and 7 \(Ar\) of system 1 are 0.(19|20)"):
        soft.run(5)
    assert [c.atoms for c in closest_contacts(state.system)][1] == (3, 7)


def test_limits_are_silent_about_a_sound_run_and_refuse_nonsense() -> None:
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    system = System.from_ase([water, bulk("Cu", cubic=True)])
    Limits().check(maxwell_boltzmann(system, 2000.0))
    alone = closest_contacts(System.from_ase(Atoms("H")))[0]
    assert alone.ratio == np.inf
    with pytest.raises(ValueError, match="min_contact must be positive"):
        Limits(min_contact=-1.0)


def test_an_error_of_another_kind_says_where_the_run_was(tmp_path: Path) -> None:
    class Refuses(Soft):
        def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
            if float(system.positions[0, 0]) != float(argon().system.positions[0, 0]):
                raise RuntimeError("no licence")
            return super().__call__(system, forces=forces, stress=stress)

    run = Simulation(Refuses(), NVE(), argon(), timestep_fs=4.0, checkpoint=tmp_path / "c")
    with pytest.raises(RuntimeError, match="no licence") as e:
        run.run(3)
    assert "after step 0" in e.value.__notes__[0] and "(step 0)" in e.value.__notes__[0]
