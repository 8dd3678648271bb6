"""Runs of every ensemble with every reporter, made to be killed, and how to tell that two are the same."""

import functools
import inspect
import os
import signal
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import torch
from ase.build import bulk

from rikiba.core import registry
from rikiba.core.pairs import PairFinder
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md import checkpoint
from rikiba.md.reporters import base, hdf5
from rikiba.md.reporters.base import Reporter
from rikiba.md.reporters.hdf5 import read_hdf5
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.testing import examples_of

STEPS = 60
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "npt-full": (
        "npt",
        {
            "temperature_K": 80.0,
            "pressure_GPa": 0.1,
            "barostat": "martyna_tobias_klein",
            "cell": "full",
            "pressure_time_constant_fs": 300.0,
        },
    ),
    "nph-orthogonal": ("nph", {"temperature_K": 80.0, "pressure_GPa": 0.1, "cell": "orthogonal"}),
    "berendsen-pressure": ("berendsen", {"temperature_K": 80.0, "pressure_GPa": 0.1}),
    "langevin-two-baths": ("langevin", {"temperature_K": (60.0, 90.0), "order": "OBABO"}),
    "nve-position": ("nve", {"integrator": "position_verlet"}),
}
"""Choices of an ensemble that run other operators than its first example."""


class Soft:
    """Σ ½ε(1 − r²/r_c²)³ over pairs, by hand: a process that has run it can still be forked."""

    def __init__(self, *, epsilon: float = 0.3, cutoff: float = 5.0) -> None:
        self.epsilon, self.cutoff, self.pairs = epsilon, cutoff, PairFinder(cutoff, 0.6)

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        pairs = self.pairs(system)
        r = pairs.vectors(system)
        x = 1.0 - (r * r).sum(-1) / self.cutoff**2
        each = r.new_zeros(system.n_atoms).index_add(0, pairs.i, 0.5 * self.epsilon * x**3)
        pull = (-3.0 * self.epsilon * x * x / self.cutoff**2)[:, None] * r
        force = r.new_zeros((system.n_atoms, 3)).index_add(0, pairs.i, 2.0 * pull)
        found = Results(energy=system.total(each), forces=force)
        if not stress:
            return found
        owner = system.system_index[pairs.i]
        w = r.new_zeros((system.n_systems, 3, 3)).index_add(0, owner, pull[:, :, None] * r[:, None, :])
        return found.replace(stress=w / system.volume[:, None, None])


def ensembles() -> list[str]:
    """Every registered ensemble, also those added later, and the variants."""
    return [*registry.names("md.ensembles"), *VARIANTS]


def ensemble(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in VARIANTS:
            kind, arguments = VARIANTS[name]
            return registry.load("md.ensembles", kind)(**arguments)
        return examples_of(registry.load("md.ensembles", name))[0]


@functools.cache
def argon() -> State:
    """Two systems that differ in density and temperature."""
    frames = [bulk("Ar", "fcc", a, cubic=True).repeat((2, 2, 2)) for a in (5.3, 5.5)]
    return maxwell_boltzmann(System.from_ase(frames), (60.0, 80.0), seed=3)


def reporters(folder: Path) -> list[Reporter]:
    """One of every registered kind, at different intervals."""
    found = []
    for k, name in enumerate(registry.names("md.reporters")):
        cls = registry.load("md.reporters", name)
        known = inspect.signature(cls).parameters
        given: dict[str, Any] = {"interval": 2 + k % 4}
        if "path" in known:
            given["path"] = folder / f"out.{name}"
        if "pressure" in known:
            given["pressure"] = True
        found.append(cls(**given))
    return found


def build(folder: Path, name: str) -> Simulation:
    return Simulation(
        Soft(),
        ensemble(name),
        argon(),
        timestep_fs=(4.0, 3.0),
        reporters=reporters(folder),
        checkpoint=folder / "run.checkpoint",
        checkpoint_interval=12,
    )


def finish(folder: Path, name: str) -> Simulation:
    """Begin, or go on where a killed run's checkpoint is, and run to the end."""
    simulation = build(folder, name)
    simulation.resume()
    simulation.run(STEPS - simulation.state.step).close()
    return simulation


def assert_same(one: Simulation, other: Simulation) -> None:
    """State, checkpoint, memory of reporters and every file, to the bit."""
    assert one.state.step == other.state.step == STEPS
    assert torch.equal(one.state.system.positions, other.state.system.positions)
    assert torch.equal(one.state.velocities, other.state.velocities)
    assert torch.equal(one.snapshot.conserved, other.snapshot.conserved)
    assert one.checkpoint is not None and other.checkpoint is not None
    assert one.checkpoint.read_bytes() == other.checkpoint.read_bytes()
    folders = one.checkpoint.parent, other.checkpoint.parent
    names = [sorted(p.name for p in folder.iterdir() if not p.name.endswith(".part")) for folder in folders]
    assert names[0] == names[1] and len(names[0]) >= len(registry.names("md.reporters"))
    for name in names[0]:
        a, b = (folder / name for folder in folders)
        if name.endswith("hdf5"):
            first, second = read_hdf5(a), read_hdf5(b)
            assert first.keys() == second.keys()
            assert all(torch.equal(first[k], second[k]) for k in first), name
        else:
            assert a.read_bytes() == b.read_bytes(), name


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(module: Any, name: str, nth: int, before: Any = None) -> None:
    """Kill this process in the nth call of a function."""
    original, calls = getattr(module, name), [0]

    def called(*args: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == nth:
            if before is not None:
                before(*args)
            kill()
        return original(*args, **more)

    setattr(module, name, called)


def half_a_piece(file: Any, piece: bytes) -> None:
    file.write(piece[: len(piece) // 2])


def half_a_checkpoint(file: Any, *_: Any) -> None:
    file.write(b"PK\x03\x04 not a whole archive")
    file.flush()


PLACES: dict[str, Any] = {
    "while a text or binary frame is written": lambda n: at_call(base, "_write_all", n, half_a_piece),
    "while a checkpoint is written": lambda n: at_call(checkpoint.np, "savez", 1 + n % 3, half_a_checkpoint),
    "before a checkpoint takes its name": lambda n: at_call(checkpoint.os, "replace", 1 + n % 3),
    "before a trajectory is synchronised": lambda n: at_call(base.os, "fsync", n),
    "between the datasets of one frame": lambda n: at_call(h5py.Dataset, "flush", n),
    "while HDF5 makes its file longer": lambda n: at_call(h5py.Dataset, "resize", n),
    "while a killed HDF5 file is copied": lambda n: at_call(hdf5, "_copy", 1 + n % 10),
}
"""Where a run is killed → how to arrange it for the nth occasion."""


def without_waiting_for_the_disk() -> None:
    """Synchronising guards against a loss of power, not against a kill, and is slow on a busy disk."""
    os.fsync = lambda handle: None


def run_to_be_killed(folder: Path, name: str, place: str | None, nth: int, ready: Connection) -> None:
    """The child: runs until it is killed, by itself at a place or by its parent at any moment."""
    torch.set_num_threads(1)
    without_waiting_for_the_disk()
    simulation = build(folder, name)
    simulation.resume()
    if place is not None:
        PLACES[place](nth)
        simulation = build(folder, name)
        simulation.resume()
    ready.send(simulation.state.step)
    simulation.run(STEPS - simulation.state.step)
    sys.stdout.flush()
