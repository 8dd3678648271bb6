"""Time what a step of molecular dynamics costs besides the forces, and print JSON.

    python benchmarks/md_overhead/ours.py

Forces are zero and cost nothing, so what is left is the overhead of the integrator and of `Simulation`
(caching, finite-number check, clock): 64 atoms of silicon, float64, one thread, as in `peers.py` beside it.
Also BAOAB Langevin, 16 systems of 64 atoms at once, and velocity Verlet with thermodynamic output every ten
steps. `step_us` is microseconds per step, the least of several rounds; the median stands beside it.
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

from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.thermo import Thermo
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann

TEMPERATURE_K, TIMESTEP_FS = 300.0, 1.0
LIMIT_US = 150.0


class Zero:
    """A calculator that answers zeros."""

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        energy = torch.zeros(system.n_systems, dtype=torch.float64)
        return Results(energy=energy, forces=torch.zeros_like(system.positions))


def measure(
    name: str, ensemble: Any, systems: int, repeat: int, steps: int, rounds: int, folder: Path
) -> Any:
    """Microseconds per step of one integrator: least and median of the rounds, one uncounted before."""
    system = System.from_ase([bulk("Si", "diamond", a=5.431, cubic=True).repeat(repeat)] * systems)
    reporters = [Thermo(path=folder / "thermo.csv", interval=10)] if name.endswith("thermo") else []
    state = maxwell_boltzmann(system, TEMPERATURE_K, seed=0)
    simulation = Simulation(Zero(), ensemble, state, timestep_fs=TIMESTEP_FS, reporters=reporters)
    simulation.run(steps)
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        simulation.run(steps)
        found.append(1e6 * (time.perf_counter() - start) / steps)
    if torch.equal(simulation.state.system.positions, system.positions):
        raise RuntimeError("the atoms did not move")
    simulation.close()
    return {
        "integrator": name,
        "systems": systems,
        "atoms": system.n_atoms,
        "step_us": min(found),
        "step_median_us": statistics.median(found),
    }


def main() -> None:
    """Print one JSON object; exit code 1 where 64 atoms cost more than the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=2, help="8·repeat³ atoms")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    langevin = Langevin(temperature_K=TEMPERATURE_K, friction_per_ps=1.0)
    cases = (
        ("velocity Verlet", NVE(), 1),
        ("BAOAB", langevin, 1),
        ("BAOAB", langevin, 16),
        ("velocity Verlet, thermo", NVE(), 1),
    )
    with tempfile.TemporaryDirectory() as folder:
        results = [
            measure(name, ensemble, systems, options.repeat, options.steps, options.rounds, Path(folder))
            for name, ensemble, systems in cases
        ]
    about = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "limit_us": LIMIT_US,
    }
    print(json.dumps({"about": about, "results": results}, indent=1))
    if any(r["step_us"] > LIMIT_US for r in results[:2]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
