"""Time energy and forces of mace-torch on one thread, with random weights, and print JSON.

    .venvs/mace/bin/python benchmarks/peers/time_mace.py --channels 64 --hidden-lmax 0 --dtype float32

Times are seconds per evaluation of one structure: `model_s` with the graph at hand, `graph_s` for making
the graph (neighbour list, one-hot elements, batch), as its ASE calculator does at every step. The least of
several rounds is given beside the median: on a busy machine the least is the better measure.
"""

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
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


def build(options: argparse.Namespace, atoms: Atoms, neighbours: float) -> torch.nn.Module:
    """A model for the elements of the structure, as large as the options say."""
    from e3nn import o3
    from mace import modules

    numbers = sorted({int(z) for z in atoms.numbers})
    hidden = "+".join(
        f"{options.channels}x{order}{'eo'[order % 2]}" for order in range(options.hidden_lmax + 1)
    )
    torch.manual_seed(0)
    return modules.ScaleShiftMACE(
        r_max=options.r_max,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=options.max_ell,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=options.layers,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps(hidden),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=neighbours,
        atomic_numbers=numbers,
        correlation=options.correlation,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
        use_reduced_cg=options.reduced_cg,
    )


def graph(atoms: Atoms, r_max: float) -> dict[str, torch.Tensor]:
    """The peer's own graph of one structure."""
    from mace import data, tools

    table = tools.AtomicNumberTable(sorted({int(z) for z in atoms.numbers}))
    item = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=r_max)
    loader = tools.torch_geometric.dataloader.DataLoader(dataset=[item], batch_size=1, shuffle=False)
    return next(iter(loader)).to_dict()


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


def measure(options: argparse.Namespace, name: str, atoms: Atoms) -> dict[str, Any]:
    """Times of one structure."""
    batch = graph(atoms, options.r_max)
    n_edges = batch["edge_index"].shape[1]
    model = build(options, atoms, n_edges / len(atoms))
    if options.script:
        from e3nn.util import jit

        model = jit.compile(model)
    least, median = timed(lambda: model(batch, compute_force=True), options.rounds)
    graph_least, _ = timed(lambda: graph(atoms, options.r_max), options.rounds)
    return {
        "structure": name,
        "atoms": len(atoms),
        "pairs": n_edges,
        "parameters": sum(p.numel() for p in model.parameters()),
        "model_s": least,
        "model_median_s": median,
        "model_us_per_atom": 1e6 * least / len(atoms),
        "graph_s": graph_least,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--hidden-lmax", type=int, default=0)
    parser.add_argument("--max-ell", type=int, default=3)
    parser.add_argument("--correlation", type=int, default=3)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--r-max", type=float, default=5.0)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--reduced-cg", action="store_true", help="the smaller coupling basis")
    parser.add_argument("--script", action="store_true", help="compile with TorchScript first")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4 keeps slices in its table of constants
    torch.set_default_dtype(getattr(torch, options.dtype))
    torch.set_num_threads(1)
    results = [measure(options, name, atoms) for name, atoms in structures().items()]
    about = {
        "peer": f"mace-torch {version('mace-torch')}",
        "torch": torch.__version__,
        "e3nn": version("e3nn"),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    print(json.dumps({"about": about, "options": vars(options), "results": results}, indent=1))


if __name__ == "__main__":
    main()
