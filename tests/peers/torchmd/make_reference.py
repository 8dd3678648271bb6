"""Evaluate small, randomly initialised equivariant transformers of TorchMD-Net and keep what they answer.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py torchmd``::

    OMP_NUM_THREADS=1 .venvs/torchmd/bin/python tests/peers/torchmd/make_reference.py

One compressed npz per case is written to ``reference/``: ``state/NAME`` the parameters (rounded to 2⁻¹²),
``structures/NAME/…`` structure, energy and forces (eV, Å) in float64, ``about`` the rest as JSON. Molecules
only: their cells must be wider than twice the cutoff.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from torchmdnet.models.model import create_model

FOLDER = Path(__file__).parent / "reference"
BASE: dict[str, Any] = {
    "model": "equivariant-transformer",
    "precision": 64,
    "embedding_dimension": 8,
    "num_layers": 2,
    "num_rbf": 6,
    "rbf_type": "expnorm",
    "trainable_rbf": True,
    "activation": "silu",
    "attn_activation": "silu",
    "neighbor_embedding": True,
    "num_heads": 2,
    "distance_influence": "both",
    "cutoff_lower": 0.0,
    "cutoff_upper": 3.5,
    "max_z": 15,
    "max_num_neighbors": 64,
    "vector_cutoff": True,
    "output_model": "Scalar",
    "derivative": True,
    "aggr": "add",
    "reduce_op": "sum",
    "prior_model": None,
    "atom_filter": -1,
    "static_shapes": False,
    "check_errors": True,
    "equivariance_invariance_group": "O(3)",
    "box_vecs": None,
}
CASES: dict[str, dict[str, Any]] = {
    "on_values": {},
    "on_attention": {"vector_cutoff": False, "num_layers": 3, "num_heads": 4, "cutoff_upper": 5.0},
}


def structures() -> dict[str, Atoms]:
    """Rattled molecules, one of them with an atom out of reach."""
    found = {name: molecule(name) for name in ("CH3CH2OH", "SiH4", "CH3CONH2")}
    found["far"] = found["SiH4"] + Atoms("O", [[9.0, 0.0, 0.0]])
    for k, atoms in enumerate(found.values()):
        atoms.rattle(0.05, seed=k)
    return found


def write(case: str) -> None:
    """Build, evaluate and write one case."""
    values = BASE | CASES[case]
    torch.manual_seed(40 + len(case))
    model = create_model(dict(values))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data += 0.3 * torch.randn_like(parameter)
        parameter.data = torch.round(parameter.data * 4096) / 4096
    arrays = {f"state/{name}": tensor.numpy() for name, tensor in model.state_dict().items()}
    for name, atoms in structures().items():
        numbers = torch.as_tensor(atoms.numbers, dtype=torch.long)
        energy, forces = model(numbers, torch.as_tensor(atoms.positions), torch.zeros_like(numbers))
        arrays |= {
            f"structures/{name}/numbers": atoms.numbers,
            f"structures/{name}/positions": atoms.positions,
            f"structures/{name}/energy": energy.detach().numpy().reshape(()),
            f"structures/{name}/forces": forces.detach().numpy(),
        }
    about = {
        "arguments": values,
        "structures": list(structures()),
        "versions": {name: version(name) for name in ("torchmd-net", "torch", "numpy", "ase")},
        "command": "OMP_NUM_THREADS=1 .venvs/torchmd/bin/python tests/peers/torchmd/make_reference.py",
    }
    arrays["about"] = np.array(json.dumps(about))
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(FOLDER / f"{case}.npz", **arrays)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in CASES:
        write(each)
