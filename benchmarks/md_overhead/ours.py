"""Time what a step of molecular dynamics costs besides the forces, and print JSON.

    python benchmarks/md_overhead/ours.py

The calculator checks its pair list against the skin, as every calculator must, and answers zeros that are
there already: what is left is the overhead of the integrator, of `Simulation` (caching, finite-number check,
clock) and of the check. Silicon, float64, one thread, 64 and 1,000 atoms and 16 systems of 64 at once; with
thermodynamic output every ten steps too. `step_us` is microseconds per step, the least of several rounds,
with the median beside it; `bare_us` is the same with a calculator that checks nothing. Times are of the
process, which a busy machine disturbs less than the clock on the wall.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ase.build import bulk

from rikiba.core.pairs import PairFinder
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md.ensembles.csvr import Csvr
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nose_hoover import NoseHoover
from rikiba.md.ensembles.npt import NPT
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.thermo import Thermo
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann

TEMPERATURE_K = 300.0
TIMESTEP_FS = 1e-3
"""So short that free atoms never leave the skin: searches belong to the forces."""
LIMITS_US = {64: 100.0, 1000: 250.0}
"""At constant volume, by atoms, the skin check included."""


class Zero:
    """A calculator that answers zeros, after a look at its pair list where it has one."""

    def __init__(self, system: System, pairs: PairFinder | None) -> None:
        self.pairs = pairs
        self.answer = Results(
            energy=torch.zeros(system.n_systems, dtype=torch.float64),
            forces=torch.zeros_like(system.positions),
            stress=torch.zeros_like(system.cell),
        )

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        if self.pairs is not None:
            self.pairs.candidates(system)
        return self.answer


def times_us(run: Any, steps: int, rounds: int) -> list[float]:
    """Microseconds per step of each round; one uncounted before."""
    run(steps)
    found = []
    for _ in range(rounds):
        start = time.process_time()
        run(steps)
        found.append(1e6 * (time.process_time() - start) / steps)
    return found


def measure(
    name: str, ensemble: Any, systems: int, repeat: int, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """One row: a run with the skin check and one without."""
    system = System.from_ase([bulk("Si", "diamond", a=5.431, cubic=True).repeat(repeat)] * systems)
    state = maxwell_boltzmann(system, TEMPERATURE_K, seed=0)
    found = {}
    for key, pairs in (("step_us", PairFinder(4.0, 1.0)), ("bare_us", None)):
        reporters = [Thermo(path=folder / "thermo.csv", interval=10)] if name.endswith("thermo") else []
        calculator = Zero(system, pairs)
        simulation = Simulation(calculator, ensemble, state, timestep_fs=TIMESTEP_FS, reporters=reporters)
        found[key] = times_us(simulation.run, options.steps, options.rounds)
        if torch.equal(simulation.state.system.positions, system.positions):
            raise RuntimeError("the atoms did not move")
        simulation.close()
    return {
        "integrator": name,
        "systems": systems,
        "atoms": system.n_atoms,
        "step_us": min(found["step_us"]),
        "step_median_us": statistics.median(found["step_us"]),
        "bare_us": min(found["bare_us"]),
    }


def main() -> None:
    """Print one JSON object; exit code 1 where a step at constant volume costs more than the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    langevin = Langevin(temperature_K=TEMPERATURE_K, friction_per_ps=1.0)
    room = {"temperature_K": TEMPERATURE_K, "pressure_GPa": 0.0}
    cases = (
        ("velocity Verlet", NVE(), 1, 2),
        ("velocity Verlet", NVE(), 1, 5),
        ("BAOAB", langevin, 1, 2),
        ("BAOAB", langevin, 1, 5),
        ("BAOAB", langevin, 16, 2),
        ("CSVR", Csvr(temperature_K=TEMPERATURE_K), 1, 2),
        ("Nosé–Hoover", NoseHoover(temperature_K=TEMPERATURE_K), 1, 2),
        ("velocity Verlet, thermo", NVE(), 1, 2),
        ("NPT, stochastic cell rescaling", NPT(**room), 1, 2),
        ("NPT, Martyna–Tobias–Klein", NPT(barostat="martyna_tobias_klein", **room), 1, 2),
    )
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(*case, options, Path(folder)) for case in cases]
    about = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "limits_us": LIMITS_US,
    }
    print(json.dumps({"about": about, "results": results}, indent=1))
    judged = [r for r in results if not r["integrator"].startswith("NPT")]
    if any(r["step_us"] > LIMITS_US.get(r["atoms"], float("inf")) for r in judged):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
