"""How many trajectories a second a batch advances, against its size, and print JSON.

    python benchmarks/batch_throughput/ours.py [--rounds 3]

Boxes of 32 argon atoms under Langevin dynamics, one thread. Sizes take turns in every round and the best of
all rounds counts, so that the machine was the same for all of them.
"""

import argparse
import json
import time

import torch
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann
from rikiba.potentials.lennard_jones import LennardJones

SIZES = (1, 2, 4, 8, 16, 32, 64)
ATOM_STEPS = 64_000


def seconds_per_step(n_systems: int) -> float:
    """Of a batch of so many boxes."""
    frames = [bulk("Ar", "fcc", 5.4, cubic=True).repeat(2)] * n_systems
    potential = LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.0)
    state = maxwell_boltzmann(System.from_ase(frames), 40.0, seed=1)
    run = Simulation(PotentialCalculator(potential), Langevin(temperature_K=40.0), state, timestep_fs=4.0)
    run.run(5)
    steps = max(20, ATOM_STEPS // (32 * n_systems))
    began = time.perf_counter()
    run.run(steps)
    return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    best: dict[int, float] = {}
    for _ in range(rounds):
        for n in SIZES:
            best[n] = min(best.get(n, float("inf")), seconds_per_step(n))
    results = [
        {
            "systems": n,
            "step_us": round(1e6 * s, 1),
            "us_per_atom_step": round(1e6 * s / (32 * n), 3),
            "throughput_vs_one": round(n * best[1] / s, 2),
        }
        for n, s in best.items()
    ]
    print(json.dumps({"about": {"atoms": 32, "rounds": rounds, "threads": 1}, "results": results}, indent=1))


if __name__ == "__main__":
    main()
