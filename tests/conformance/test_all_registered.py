"""Every class that a room registers keeps the contract; a new file is picked up without a line here."""

import inspect
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from rikiba.calculators.ase import FromASE
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import registry
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.properties.trajectories import Trajectory
from rikiba.testing import (
    check_calculator,
    check_operator,
    check_potential,
    check_property,
    check_reference,
    check_trajectory_property,
    examples_of,
)
from rikiba.testing.building import check_constructor

OPERATOR_ROOMS = ("md.thermostats", "md.barostats")
CONSTRUCTED_ROOMS = (
    "md.constraints",
    "md.ensembles",
    "md.reporters",
    "relaxation",
    "relaxation.searches",
    "sampling.moves",
    "data.structures",
)


@cache
def potentials() -> list[tuple[str, Any]]:
    return [
        (f"{name}-{k}", p)
        for name in registry.names("potentials")
        for k, p in enumerate(examples_of(registry.load("potentials", name)))
    ]


def operators() -> list[tuple[str, Any]]:
    return [
        (f"{room}.{name}", o)
        for room in OPERATOR_ROOMS
        for name in registry.names(room)
        for o in examples_of(registry.load(room, name))
    ]


def test_something_is_registered() -> None:
    assert {"behler_parrinello", "lennard_jones", "mace"} <= set(registry.names("potentials"))
    assert {"eos", "elastic", "frequencies", "rdf", "msd", "vdos"} <= set(registry.names("properties"))
    assert "langevin" in registry.names("md.thermostats")


@pytest.mark.parametrize("name", [n for n, _ in potentials()])
def test_potential(name: str) -> None:
    check_potential(dict(potentials())[name])


@pytest.mark.parametrize("name", [n for n, _ in potentials()])
def test_calculator_of_every_potential(name: str) -> None:
    potential = dict(potentials())[name]
    rng = np.random.default_rng(1)
    symbols = list(rng.choice(potential.elements, 4))
    sites = np.array([[0.0, 0, 0], [1.9, 0, 0], [0, 2.0, 0], [0.3, 0.2, 1.8]])
    frames = [Atoms(symbols, sites), Atoms(symbols, sites * 1.1, cell=[4.3, 4.4, 4.5], pbc=True)]
    frames = potential.trial_structures() or frames
    for atoms in frames:
        atoms.rattle(0.05, seed=3)
    precision = "float32" if potential.dtype == torch.float32 else "float64"
    calculator = PotentialCalculator(potential)
    check_calculator(calculator, frames[:1], precision=precision)
    check_calculator(calculator, frames[1:], precision=precision)


def subjects() -> list[tuple[Any, Atoms]]:
    """Calculators and structures of different kinds: a crystal and a molecule with a rotatable bond."""
    argon = PotentialCalculator(LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.5))
    return [(argon, bulk("Ar", "fcc", a=5.2)), (FromASE(EMT()), molecule("H2O2"))]


def trajectory() -> Trajectory:
    """Oscillating and slowly walking atoms in a periodic box, 20 fs a frame."""
    rng = np.random.default_rng(0)
    n, frames = 16, 400
    phase = rng.random((n, 3)) * 2.0 * np.pi
    angle = 0.6 * np.arange(frames)[:, None, None] + phase
    walk = np.cumsum(rng.normal(0.0, 0.03, (frames, n, 3)), axis=0)
    start = bulk("Ar", "fcc", a=5.2, cubic=True).repeat((2, 2, 1))
    return Trajectory(
        positions=start.positions + walk + 0.05 * np.sin(angle),
        numbers=np.array([14, 8] * 8),
        timestep_fs=20.0,
        cell=np.broadcast_to(start.cell.array, (frames, 3, 3)),
        pbc=(True, True, True),
        velocities=0.003 * np.cos(angle) + 1e-4 * rng.normal(size=(frames, n, 3)),
    )


@pytest.mark.parametrize("name", registry.names("properties"))
def test_property(name: str) -> None:
    """A property computes for at least one kind of structure, or analyses a trajectory; often both."""
    for example in examples_of(registry.load("properties", name)):
        done = 0
        if hasattr(example, "compute"):
            refused = []
            for calculator, atoms in subjects():
                try:
                    check_property(example, calculator, atoms)
                    done += 1
                except ValueError as error:
                    refused.append(str(error))
            assert done, refused
        if hasattr(example, "analyse"):
            bonded = trajectory()
            if name == "bond_lengths":
                atoms = molecule("H2O2")
                noise = np.random.default_rng(0).normal(0.0, 0.02, (50, 4, 3))
                bonded = Trajectory(positions=atoms.positions + noise, numbers=atoms.numbers, timestep_fs=5.0)
            check_trajectory_property(example, bonded)
            done += 1
        assert done, f"{name} has neither compute nor analyse."


@pytest.mark.parametrize("name", registry.names("reference"))
def test_reference(name: str) -> None:
    cls = registry.load("reference", name)
    if name == "tblite":
        pytest.importorskip("tblite", reason="tblite is not installed: pip install rikiba[xtb]")
    required = {
        n for n, p in inspect.signature(cls).parameters.items() if p.default is inspect.Parameter.empty
    }
    if required and not hasattr(cls, "examples"):
        assert required == {"calculator", "level_of_theory"}, f"{name} needs a classmethod examples()."
        examples = [cls(calculator="ase.calculators.emt:EMT", level_of_theory="EMT (ASE)")]
    else:
        examples = examples_of(cls)
    water, ammonia = molecule("H2O"), molecule("NH3")
    water.rattle(0.05, seed=0)
    for reference in examples:
        check_reference(reference, [water, ammonia])


@pytest.mark.parametrize("name", [n for n, _ in operators()])
def test_operator(name: str) -> None:
    check_operator(dict(operators())[name])


@pytest.mark.parametrize(
    ("room", "name"), [(room, name) for room in CONSTRUCTED_ROOMS for name in registry.names(room)]
)
def test_constructor_is_a_schema(room: str, name: str) -> None:
    check_constructor(registry.load(room, name))
