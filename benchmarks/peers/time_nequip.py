"""Time energy and forces of the nequip package and of rikiba on the same weights, one thread, and print JSON.

    python benchmarks/peers/time_nequip.py --l-max 1 --features 64 --dtype float32

Starts the peer in its own environment (benchmarks/peers/install_peers.py nequip), reads its random weights,
checks that energies and forces agree and times both. Seconds per evaluation of one structure: `model_s` with
the graph at hand, `graph_s` for the neighbour list and input. The least of several rounds is given beside the
median: on a busy machine the least is the better measure.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule


def structures() -> dict[str, Atoms]:
    """64 atoms of diamond silicon and an ethanol molecule, both rattled."""
    silicon = bulk("Si", "diamond", a=5.431, cubic=True).repeat(2)
    ethanol = molecule("CH3CH2OH")
    for atoms in (silicon, ethanol):
        atoms.rattle(0.05, seed=1)
    return {"silicon_64": silicon, "ethanol": ethanol}


def settings(options: argparse.Namespace, atoms: Atoms) -> dict[str, Any]:
    """Arguments of nequip's builder for the elements of one structure."""
    return {
        "r_max": options.r_max,
        "type_names": sorted(set(atoms.get_chemical_symbols())),
        "num_layers": options.layers,
        "l_max": options.l_max,
        "parity": options.parity,
        "num_features": options.features,
        "radial_mlp_width": options.radial_width,
        "avg_num_neighbors": 28.0,
        "per_type_energy_scales": 1.0,
        "per_type_energy_shifts": 0.0,
    }


def timed(task: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Least and median seconds of `rounds` calls, after three that are not counted."""
    for _ in range(3):
        task()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        task()
        found.append(time.perf_counter() - start)
    return min(found), statistics.median(found)


def peer(options: argparse.Namespace, folder: Path) -> None:
    """In the peer's environment: build, evaluate, time, leave weights and numbers in the folder."""
    from nequip.data import from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    for name, atoms in structures().items():
        given = settings(options, atoms)
        model = NequIPGNNModel(seed=0, model_dtype=options.dtype, **given).eval()
        types = ChemicalSpeciesToAtomTypeMapper(model_type_names=given["type_names"])
        neighbours = NeighborListTransform(r_max=options.r_max)
        data = neighbours(types(from_ase(atoms)))
        answer = model(dict(data))
        least, median = timed(lambda m=model, d=data: m(dict(d)), options.rounds)
        graph_least, _ = timed(lambda n=neighbours, t=types, a=atoms: n(t(from_ase(a))), options.rounds)
        arrays = {f"state/{k}": v.numpy() for k, v in model.state_dict().items() if v.numel()}
        arrays["energy"] = answer["total_energy"].detach().numpy()
        arrays["forces"] = answer["forces"].detach().numpy()
        arrays["times"] = np.array([least, median, graph_least])
        np.savez(folder / f"{name}.npz", **arrays)


def ours(
    options: argparse.Namespace, name: str, atoms: Atoms, stored: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The same model here: the numbers agree, then the times."""
    from rikiba.calculators.autograd import evaluate
    from rikiba.core.pairs import find_pairs
    from rikiba.core.system import System
    from rikiba.interop.nequip import read_nequip
    from rikiba.potentials.nequip import NequIP

    state = {k[6:]: torch.as_tensor(v) for k, v in stored.items() if k.startswith("state/")}
    weights = read_nequip(state, settings(options, atoms))
    model = NequIP(**weights.arguments).double()
    model.load_state_dict(weights.tensors)
    model = model.to(getattr(torch, options.dtype))
    for p in model.parameters():
        p.requires_grad_(False)
    system = System.from_ase(atoms)
    pairs = find_pairs(system, model.cutoff)
    found = evaluate(model, system, pairs, forces=True)
    error = float(np.abs(found.need("forces").numpy() - stored["forces"]).max())
    scale = float(np.abs(stored["forces"]).max())
    if error > (1e-4 if options.dtype == "float32" else 1e-10) * max(scale, 1e-3):
        raise SystemExit(f"{name}: forces differ by {error:.1e} eV/Å of {scale:.1e}; times mean nothing")
    least, median = timed(lambda: evaluate(model, system, pairs, forces=True), options.rounds)
    graph_least, _ = timed(lambda: find_pairs(System.from_ase(atoms), model.cutoff), options.rounds)
    theirs = stored["times"].tolist()
    return {
        "structure": name,
        "atoms": len(atoms),
        "pairs": pairs.i.shape[0],
        "largest_force_difference": error,
        "peer": {"model_s": theirs[0], "model_median_s": theirs[1], "graph_s": theirs[2]},
        "rikiba": {"model_s": least, "model_median_s": median, "graph_s": graph_least},
        "ratio_model": theirs[0] / least,
        "ratio_whole": (theirs[0] + theirs[2]) / (least + graph_least),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--l-max", type=int, default=1)
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--radial-width", type=int, default=128)
    parser.add_argument("--r-max", type=float, default=5.0)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peer-writes-to", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if options.peer_writes_to is not None:
        peer(options, options.peer_writes_to)
        return
    from install_peers import interpreter

    with tempfile.TemporaryDirectory() as folder:
        command = [str(interpreter("nequip")), __file__, *sys.argv[1:], "--peer-writes-to", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        results = []
        for name, atoms in structures().items():
            with np.load(Path(folder) / f"{name}.npz") as f:
                results.append(ours(options, name, atoms, dict(f)))
    shown = {k: v for k, v in vars(options).items() if k != "peer_writes_to"}
    about = {
        "peer": "nequip 0.19.1, eager",
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    print(json.dumps({"about": about, "options": shown, "results": results}, indent=1))


if __name__ == "__main__":
    main()
