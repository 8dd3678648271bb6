"""Time what other programs spend on a step of velocity Verlet besides the forces, and print JSON.

    python benchmarks/md_overhead/peers.py ase torch_sim

Forces are zero and cost nothing, so what is left is the overhead of the integrator: 64 atoms of silicon,
float64, one thread. ASE's share holds what its Calculator base class does at every step (a copy of the atoms
and the search for changes), which nobody can avoid there. torch-sim runs in its own environment
(`benchmarks/peers/install_peers.py torch_sim`), which this script starts. `step_us` is microseconds per step,
the least of several rounds; the median stands beside it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

ROOT = Path(__file__).resolve().parents[2]
TEMPERATURE_K, TIMESTEP_FS = 300.0, 1.0


def silicon(repeat: int) -> Any:
    """Diamond silicon, 8·repeat³ atoms."""
    from ase.build import bulk

    return bulk("Si", "diamond", a=5.431, cubic=True).repeat(repeat)


def timed(run: Callable[[int], Any], n_steps: int, rounds: int) -> dict[str, float]:
    """Microseconds per step of `run(n_steps)`: least and median of the rounds, one uncounted before."""
    run(n_steps)
    found = []
    for _ in range(rounds):
        start = time.process_time()
        run(n_steps)
        found.append(1e6 * (time.process_time() - start) / n_steps)
    return {"step_us": min(found), "step_median_us": statistics.median(found)}


def time_ase(repeat: int, n_steps: int, rounds: int) -> dict[str, Any]:
    """ASE's VelocityVerlet with a calculator that answers zeros."""
    import numpy as np
    from ase import units
    from ase.calculators.calculator import Calculator, all_changes
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.md.verlet import VelocityVerlet

    class Zero(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(self, atoms: Any, properties: Any, system_changes: Any = all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}

    atoms = silicon(repeat)
    atoms.calc = Zero()
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE_K, rng=np.random.default_rng(0))
    dynamics = VelocityVerlet(atoms, timestep=TIMESTEP_FS * units.fs)
    before = atoms.positions.copy()
    times = timed(dynamics.run, n_steps, rounds)
    if np.allclose(before, atoms.positions):
        raise RuntimeError("the atoms did not move")
    return {"peer": f"ase {version('ase')}", "integrator": "VelocityVerlet", "atoms": len(atoms)} | times


def time_torch_sim(repeat: int, n_steps: int, rounds: int) -> dict[str, Any]:
    """torch-sim's NVE update with a model that answers zeros; run inside its environment."""
    import torch
    from torch_sim.integrators import nve
    from torch_sim.io import atoms_to_state
    from torch_sim.models.interface import ModelInterface
    from torch_sim.units import UnitSystem

    class Zero(ModelInterface):
        def __init__(self) -> None:
            super().__init__()
            self._device, self._dtype = torch.device("cpu"), torch.float64
            self._compute_forces, self._compute_stress = True, False

        def forward(self, state: Any, **kwargs: Any) -> dict[str, Any]:
            return {
                "energy": torch.zeros(state.n_systems, dtype=torch.float64),
                "forces": torch.zeros_like(state.positions),
            }

    torch.set_num_threads(1)
    units = UnitSystem.metal
    kT = torch.tensor(TEMPERATURE_K * units.temperature, dtype=torch.float64)
    dt = torch.tensor(TIMESTEP_FS * 1e-3 * units.time, dtype=torch.float64)
    init, update = nve(Zero(), dt=dt, kT=kT, seed=0)
    state = init(atoms_to_state([silicon(repeat)], torch.device("cpu"), torch.float64))
    before = state.positions.clone()

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = update(state)

    times = timed(run, n_steps, rounds)
    if torch.allclose(before, state.positions):
        raise RuntimeError("the atoms did not move")
    peer = f"torch-sim-atomistic {version('torch-sim-atomistic')}, torch {torch.__version__}"
    return {"peer": peer, "integrator": "nve", "atoms": state.n_atoms} | times


def elsewhere(peer: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run this file with the peer's own interpreter and read what it prints."""
    interpreter = ROOT / ".venvs" / peer / "bin" / "python"
    if not interpreter.exists():
        raise SystemExit(f"{peer} is not installed; run: python benchmarks/peers/install_peers.py {peer}")
    numbers = ("--repeat", options.repeat, "--steps", options.steps, "--rounds", options.rounds)
    command = [str(interpreter), __file__, peer, "--here", *map(str, numbers)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)["results"][0]


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peers", nargs="*", default=["ase", "torch_sim"], help="ase, torch_sim; both if none")
    parser.add_argument("--repeat", type=int, default=2, help="8·repeat³ atoms")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--here", action="store_true", help="time in this interpreter")
    options = parser.parse_args()
    times = {"ase": time_ase, "torch_sim": time_torch_sim}
    unknown = set(options.peers) - set(times)
    if unknown:
        parser.error(f"no peer {sorted(unknown)}; there are {sorted(times)}")
    results = []
    for peer in options.peers:
        if peer == "ase" or options.here:
            results.append(times[peer](options.repeat, options.steps, options.rounds))
        else:
            results.append(elsewhere(peer, options))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    about = {"python": sys.version.split()[0], "load_average": load}
    print(json.dumps({"about": about, "results": results}, indent=1))


if __name__ == "__main__":
    main()
