"""Evaluate published and small random models of the chgnet package and keep what they answer.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    OMP_NUM_THREADS=1 .venvs/chgnet/bin/python tests/peers/chgnet/make_reference.py [case ...]

One compressed npz per case is written to ``reference/``. README.md beside this file says what is in it.
"""

import argparse
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "mace"))

from peer import GPA, chgnet_in_double, graph_of, model_of, structures

SEED = 40
FOLDER = Path(__file__).parent / "reference"
STEP = 4096.0
COMMAND = "OMP_NUM_THREADS=1 .venvs/chgnet/bin/python tests/peers/chgnet/make_reference.py"

SMALL: dict[str, Any] = {
    "atom_fea_dim": 8,
    "bond_fea_dim": 8,
    "angle_fea_dim": 8,
    "composition_model": "MPtrj",
    "num_radial": 7,
    "num_angular": 5,
    "n_conv": 3,
    "atom_conv_hidden_dim": 12,
    "bond_conv_hidden_dim": 12,
    "mlp_hidden_dims": [10, 6],
    "atom_graph_cutoff": 5,
    "bond_graph_cutoff": 3,
    "cutoff_coeff": 6,
}
OLD: dict[str, Any] = {"gMLP_norm": None, "readout_norm": None, "mlp_out_bias": True}
CASES: dict[str, dict[str, Any] | str] = {
    "norms": SMALL,
    "biases": SMALL | OLD | {"atom_graph_cutoff": 4, "cutoff_coeff": 5, "n_conv": 4},
    "deep": SMALL
    | {
        "atom_conv_hidden_dim": [8, 12],
        "bond_conv_hidden_dim": [8, 12],
        "angle_layer_hidden_dim": 6,
        "n_conv": 2,
    },
    "published_0.3.0": "0.3.0",
    "published_0.2.0": "0.2.0",
    "published_r2scan": "r2scan",
}


def evaluate(model: torch.nn.Module, atoms: Any) -> dict[str, np.ndarray]:
    """What the peer answers for one structure."""
    graph = graph_of(model, atoms)
    found = model.predict_graph(graph, task="efsm", return_site_energies=True)
    return {
        "energy": np.asarray(found["e"]) * len(atoms),
        "node_energy": found["site_energies"],
        "forces": found["f"],
        "stress": found["s"] / GPA,
        "magmoms": found["m"],
        "n_angles": np.asarray(len(graph.bond_graph)),
    }


def write(case: str) -> Path:
    """Build, evaluate and write one case."""
    values = CASES[case]
    model = model_of(values, seed=SEED + list(CASES).index(case), step=STEP)
    arrays: dict[str, np.ndarray] = {}
    if not isinstance(values, str):
        rows = sorted({int(z) - 1 for atoms in structures().values() for z in atoms.numbers})
        for name, tensor in model.state_dict().items():
            kept = tensor.numpy()
            if name == "atom_embedding.embedding.weight":  # of the elements that are met
                kept = np.zeros_like(kept)
                kept[rows] = tensor.numpy()[rows]
            arrays[f"state/{name}"] = kept
    for name, atoms in structures().items():
        about = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array}
        for key, value in (about | evaluate(model, atoms)).items():
            arrays[f"structures/{name}/{key}"] = np.asarray(value)
    about_file = {
        "case": case,
        "arguments": values if isinstance(values, dict) else {"published": values},
        "structures": list(structures()),
        "versions": {name: version(name) for name in ("chgnet", "torch", "numpy", "pymatgen")},
        "command": f"{COMMAND} {case}",
    }
    arrays["about"] = np.array(json.dumps(about_file))
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{case}.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def main() -> None:
    """Write the cases named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[], help="names of cases; all when none is given")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    chgnet_in_double()
    for case in parser.parse_args().cases or CASES:
        if case not in CASES:
            sys.exit(f"no case {case!r}; there are: {', '.join(CASES)}")
        path = write(case)
        found = np.load(path)
        largest = {k.split("/")[1]: float(np.abs(found[k]).max()) for k in found if k.endswith("/forces")}
        listed = ", ".join(f"{name} {value:.3g}" for name, value in largest.items())
        print(f"{case}: {path.stat().st_size / 1024:.0f} kB, largest forces {listed}", flush=True)


if __name__ == "__main__":
    main()
