"""Motion by the plain definitions of its operations equals motion by the compiled ones."""

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.kernels.dispatch import only_reference
from rikiba.md.constraints.bonds import Bonds
from rikiba.md.constraints.rigid_water import RigidWater
from rikiba.md.ensembles.csvr import Csvr
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nose_hoover import NoseHoover
from rikiba.md.ensembles.npt import NPT
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.potentials.lennard_jones import LennardJones

ENSEMBLES = {
    "langevin": lambda: Langevin(temperature_K=100.0, friction_per_ps=5.0),
    "csvr": lambda: Csvr(temperature_K=100.0, time_constant_fs=20.0),
    "nose_hoover": lambda: NoseHoover(temperature_K=100.0, time_constant_fs=50.0),
    "npt": lambda: NPT(temperature_K=100.0, pressure_GPa=0.1, barostat="martyna_tobias_klein"),
}


def water() -> Atoms:
    box = molecule("H2O")
    box += Atoms("OHH", box.positions + np.array([0.0, 0.0, 3.2]))
    box.set_cell([7.0, 7.0, 7.0])
    box.pbc = True
    return box


def argon() -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.1, seed=0)
    return atoms


def moved(name: str, atoms: Atoms, constraints: list[Any]) -> State:
    names = set(atoms.symbols)
    sigma = {s: v for s, v in {"Ar": 3.4, "O": 2.4, "H": 1.2}.items() if s in names}
    model = LennardJones(epsilon_eV=dict.fromkeys(names, 0.01), sigma=sigma, cutoff=3.0).double()
    state = maxwell_boltzmann(System.from_ase([atoms] * 2), 100.0, seed=3, constraints=constraints)
    return Simulation(PotentialCalculator(model), ENSEMBLES[name](), state, timestep_fs=1.0).run(5).state


@pytest.mark.parametrize("name", ENSEMBLES)
@pytest.mark.parametrize("held", ["free", "bonds", "rigid water"])
def test_definitions_move_as_compiled_operations_do(name: str, held: str) -> None:
    atoms = argon() if held == "free" else water()
    constraints: list[Any] = {"free": [], "bonds": [Bonds()], "rigid water": [RigidWater()]}[held]
    fast = moved(name, atoms, constraints)
    with only_reference():
        slow = moved(name, atoms, constraints)
    tolerance = 1e-7 if held == "bonds" else 1e-11  # where both stop iterating
    torch.testing.assert_close(fast.system.positions, slow.system.positions, rtol=0, atol=tolerance)
    torch.testing.assert_close(fast.velocities, slow.velocities, rtol=0, atol=tolerance)
    start = torch.as_tensor(atoms.positions).repeat(2, 1)
    assert float((fast.system.positions - start).abs().max()) > 1e-3  # they do move
