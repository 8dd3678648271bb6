"""Print as JSON how much memory and time energy and forces of a large copper crystal take with MACE.

    python benchmarks/mace_inference/memory.py --atoms 100000 --channels 64

The peak is that of the whole process, interpreter and libraries included (`start_GB` is what these take
alone); `neighbours_GB` is the peak once the pair list stands, which every potential needs.
"""

import argparse
import json
import os
import resource
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import torch
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.potentials.mace import MACE


def peak_GB() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--atoms", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--max-L", type=int, default=0)
    parser.add_argument("--cutoff", type=float, default=5.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    edge = round((options.atoms / 4) ** (1 / 3))
    layers = -(-options.atoms // (4 * edge * edge))
    atoms = bulk("Cu", "fcc", a=3.61, cubic=True).repeat((edge, edge, layers))
    atoms.rattle(0.05, seed=1)
    system = System.from_ase(atoms)
    model = MACE(
        elements=("Cu",), cutoff=options.cutoff, channels=options.channels, max_L=options.max_L,
        avg_num_neighbors=42.0,
    ).float()  # fmt: skip
    calculator = PotentialCalculator(model)
    calculator(System.from_ase(bulk("Cu", "fcc", a=3.61)))
    start = peak_GB()
    n_pairs = len(calculator.pairs(system))
    neighbours = peak_GB()
    calculator(system)
    began = time.thread_time()
    calculator(system)
    seconds = time.thread_time() - began
    found = {
        "atoms": len(atoms),
        "pairs": n_pairs,
        "start_GB": start,
        "neighbours_GB": neighbours,
        "peak_GB": peak_GB(),
        "cpu_s": seconds,
        "us_per_atom": 1e6 * seconds / len(atoms),
    }
    print(json.dumps({"options": vars(options), "result": found}, indent=1))


if __name__ == "__main__":
    main()
