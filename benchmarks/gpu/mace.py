"""MACE on a GPU: plain torch operations against the Triton kernels, and what a precision costs, as JSON.

    pip install 'rikiba[gpu]'
    python benchmarks/gpu/mace.py > benchmarks/gpu/results.json

No result of this script is committed: the kernels are tested through Triton's interpreter and compiled for
sm_80 and sm_90, but have not been timed on a device. With `--device cpu` the script itself can be tried
(both variants then run the operations of the CPU).

Diamond silicon of 1000 and 8000 atoms, rattled by 0.05 Å; MACE with 128 channels, L = 0, correlation 3, two
layers and 5 Å unless told otherwise, weights random unless `--potential` names a file of `rikiba train`. A
call gives energy, forces and stress and is all that a step of molecular dynamics asks of a calculator, the
pair list included. Variants take turns within each round; a time is the median of all rounds, the least
beside. The force error is measured against float64 on the same device; energy drift at constant energy is the
slope of the total energy over the run with its 95 % interval.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.dispatch import only_reference
from rikiba.md.drift import fit_trend
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann
from rikiba.potentials.base import Potential
from rikiba.potentials.mace import MACE
from rikiba.training.checkpoint import load_potential


class Variant:
    """A way to compute: precision, and whether kernels may be used."""

    def __init__(self, name: str, potential: Potential, *, kernels: bool, precision: Any = "full") -> None:
        self.name, self.kernels = name, kernels
        self.calculator = PotentialCalculator(potential, use_program=False, precision=precision)

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        if self.kernels:
            return self.calculator(system, forces=forces, stress=stress)
        with only_reference():
            return self.calculator(system, forces=forces, stress=stress)


def silicon(cells: int) -> System:
    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(cells)
    atoms.rattle(0.05, seed=1)
    return System.from_ase(atoms)


def model(options: argparse.Namespace) -> Potential:
    if options.potential is not None:
        return load_potential(options.potential)
    neighbours = len(find_pairs(silicon(2), options.cutoff)) / 64
    return MACE(
        elements=("Si",),
        cutoff=options.cutoff,
        channels=options.channels,
        max_L=options.max_L,
        correlation=options.correlation,
        avg_num_neighbors=neighbours,
    )


def variants(options: argparse.Namespace) -> list[Variant]:
    double = model(options).double().to(options.device)
    single = copy.deepcopy(double).float()
    found = [
        Variant("float64, kernels", double, kernels=True),
        Variant("float32, plain torch", single, kernels=False),
        Variant("float32, kernels", single, kernels=True),
    ]
    if options.device.startswith("cuda"):
        found.append(Variant("float32, kernels, TF32 products", single, kernels=True, precision="tf32"))
    return found


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def timed(variant: Variant, system: System, device: str) -> float:
    """Milliseconds of a call that has ended on the device."""
    wait(device)
    start = time.perf_counter()
    variant(system, stress=True)
    wait(device)
    return 1e3 * (time.perf_counter() - start)


def peak_memory(variant: Variant, system: System, device: str) -> float | None:
    """MiB that a call holds at most, weights included; None without a GPU."""
    if not device.startswith("cuda"):
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    variant(system, stress=True)
    return torch.cuda.max_memory_allocated(device) / 2**20


def calls(chosen: list[Variant], cells: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Times, memory and force errors for one size; a variant that runs out of memory says so."""
    system = silicon(cells).to(options.device)
    rows: dict[str, dict[str, Any]] = {}
    forces: dict[str, torch.Tensor] = {}
    alive = []
    for v in chosen:
        rows[v.name] = {"variant": v.name, "atoms": system.n_atoms}
        try:
            forces[v.name] = v(system, stress=True).need("forces")
            again = v(system, stress=True).need("forces")
            rows[v.name]["same_bits_twice"] = torch.equal(forces[v.name], again)
            rows[v.name]["peak_MiB"] = peak_memory(v, system, options.device)
            alive.append(v)
        except torch.OutOfMemoryError as error:
            rows[v.name]["failed"] = str(error).splitlines()[0]
            torch.cuda.empty_cache()
    exact = forces.get("float64, kernels")
    times: dict[str, list[float]] = {v.name: [] for v in alive}
    for _ in range(options.rounds):
        for v in alive:
            times[v.name].append(timed(v, system, options.device))
    for v in alive:
        median = statistics.median(times[v.name])
        rows[v.name] |= {"median_ms": median, "least_ms": min(times[v.name])}
        rows[v.name]["us_per_atom"] = 1e3 * median / system.n_atoms
        if exact is not None:
            error = (forces[v.name] - exact).abs()
            rows[v.name]["force_error_largest_eV_per_A"] = float(error.max())
            rows[v.name]["force_error_rms_eV_per_A"] = float(error.square().mean().sqrt())
            rows[v.name]["force_rms_eV_per_A"] = float(exact.square().mean().sqrt())
    return list(rows.values())


def drift(variant: Variant, options: argparse.Namespace) -> dict[str, Any]:
    """Slope of the total energy per atom at constant energy, from 300 K, with steps of 1 fs."""
    system = silicon(options.drift_cells).to(options.device)
    kept = InMemory(positions=False)
    state = maxwell_boltzmann(system, 300.0, seed=0)
    start = time.perf_counter()
    Simulation(variant, NVE(), state, timestep_fs=1.0, reporters=[kept]).run(options.drift_steps)
    seconds = time.perf_counter() - start
    energy = 1e3 * kept.conserved[:, 0].cpu().numpy() / system.n_atoms
    trend = fit_trend(1e-3 * np.arange(len(energy)), energy)
    low, high = trend.interval(0.95)
    return {
        "variant": variant.name,
        "atoms": system.n_atoms,
        "steps": options.drift_steps,
        "drift_meV_per_atom_per_ps": trend.slope,
        "interval_95": [low, high] if np.isfinite([low, high]).all() else None,
        "ms_per_step": 1e3 * seconds / options.drift_steps,
    }


def about(options: argparse.Namespace) -> dict[str, Any]:
    on_gpu = options.device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(options.device) if on_gpu else platform.processor(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": version("triton") if on_gpu else None,
        "python": platform.python_version(),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--potential", type=Path, default=None, help="a trained potential; else random weights"
    )
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--max-L", type=int, default=0)
    parser.add_argument("--correlation", type=int, default=3)
    parser.add_argument("--cutoff", type=float, default=5.0)
    parser.add_argument("--cells", type=int, nargs="+", default=[5, 10], help="8 n³ atoms")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--drift-cells", type=int, default=3)
    parser.add_argument("--drift-steps", type=int, default=10_000)
    options = parser.parse_args()
    if options.device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise SystemExit("No CUDA device is found. The script itself can be tried with --device cpu.")
        version("triton")  # an error that names it, not a comparison of plain torch with itself
    chosen = variants(options)
    found = {"about": about(options), "options": {k: str(v) for k, v in vars(options).items()}}
    results = [row for cells in options.cells for row in calls(chosen, cells, options)]
    drifts = [drift(v, options) for v in chosen]
    print(json.dumps(found | {"calls": results, "constant_energy": drifts}, indent=1))


if __name__ == "__main__":
    main()
