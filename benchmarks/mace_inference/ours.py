"""Time energy and forces of MACE by its compiled program and by automatic differentiation, and print JSON.

    python benchmarks/mace_inference/ours.py --channels 128 --max-L 0

Random weights, one thread; a call is everything a step of molecular dynamics asks of the calculator, the pair
list included. `program` and `autograd` are milliseconds per call, the least of several rounds, the median
beside; the rounds of both alternate. Forces of the two are compared first. The peer is
`benchmarks/peers/time_mace.py`.
"""

import argparse
import json
import os
import platform
import statistics
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import torch
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials.mace import MACE


def structures() -> dict[str, Atoms]:
    """Ethanol and diamond silicon, rattled."""
    silicon = bulk("Si", "diamond", a=5.431, cubic=True)
    found = {
        "ethanol": molecule("CH3CH2OH"),
        "silicon_64": silicon.repeat(2),
        "silicon_216": silicon.repeat(3),
    }
    for atoms in found.values():
        atoms.rattle(0.05, seed=1)
    return found


def seconds(calculator: PotentialCalculator, system: System) -> float:
    start = time.perf_counter()
    calculator(system)
    return time.perf_counter() - start


def measure(options: argparse.Namespace, name: str, atoms: Atoms) -> dict[str, Any]:
    """Times of one structure."""
    system = System.from_ase(atoms)
    n_pairs = len(find_pairs(system, options.cutoff))
    model = MACE(
        elements=sorted(set(atoms.get_chemical_symbols())),
        cutoff=options.cutoff,
        channels=options.channels,
        max_L=options.max_L,
        l_max=options.l_max,
        correlation=options.correlation,
        avg_num_neighbors=n_pairs / len(atoms),
    ).to(getattr(torch, options.dtype))
    start = time.perf_counter()
    program = model.program(tabulate=True)
    build = time.perf_counter() - start
    assert program is not None
    fast, plain = (PotentialCalculator(model, use_program=p) for p in (program, False))
    start = time.perf_counter()
    found = fast(system)
    first = time.perf_counter() - start
    error = float((found.need("forces") - plain(system).need("forces")).abs().max())
    times: dict[str, list[float]] = {"program": [], "autograd": []}
    for _ in range(options.rounds):
        times["program"] += [1e3 * seconds(fast, system) for _ in range(10)]
        times["autograd"].append(1e3 * seconds(plain, system))
    out: dict[str, Any] = {"structure": name, "atoms": len(atoms), "pairs": n_pairs}
    for kind, values in times.items():
        out[f"{kind}_ms"] = min(values)
        out[f"{kind}_median_ms"] = statistics.median(values)
        out[f"{kind}_us_per_atom"] = 1e3 * min(values) / len(atoms)
    return out | {"force_difference": error, "build_s": build, "first_call_s": first}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--max-L", type=int, default=0)
    parser.add_argument("--l-max", type=int, default=3)
    parser.add_argument("--correlation", type=int, default=3)
    parser.add_argument("--cutoff", type=float, default=5.0)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(options, name, atoms) for name, atoms in structures().items()]
    about = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    print(json.dumps({"about": about, "options": vars(options), "results": results}, indent=1))


if __name__ == "__main__":
    main()
