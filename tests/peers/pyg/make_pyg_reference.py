"""Evaluate small, randomly initialised DimeNets of PyTorch Geometric and keep what they answer.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    OMP_NUM_THREADS=1 .venvs/pyg/bin/python tests/peers/pyg/make_pyg_reference.py

Two things are put in from outside: edges and triplets come from a search over all pairs, which spares the
packages torch_cluster and torch_sparse; zeros of the Bessel functions are kept in float64, where the package
rounds them to float32.
"""

import json
from importlib.metadata import version
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from scipy.optimize import brentq
from scipy.special import spherical_jn
from torch_geometric.nn.models import dimenet, dimenet_utils

SHARED: dict[str, Any] = {
    "hidden_channels": 6,
    "out_channels": 1,
    "num_blocks": 2,
    "num_spherical": 4,
    "num_radial": 3,
    "cutoff": 3.0,
    "num_after_skip": 1,
    "num_output_layers": 2,
    "output_initializer": "glorot_orthogonal",
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dimenet": ("DimeNet", {"num_bilinear": 3}),
    "dimenet_plus_plus": (
        "DimeNetPlusPlus",
        {"int_emb_size": 4, "basis_emb_size": 3, "out_emb_channels": 5, "envelope_exponent": 6},
    ),
}


def structures() -> dict[str, Atoms]:
    found = {}
    for seed, name in enumerate(("CH3CH2OH", "C6H6", "H2O")):
        atoms = molecule(name)
        noise = np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
        atoms.positions = np.round(atoms.positions + noise, 6)
        found[name] = atoms
    return found | {"O": Atoms("O")}


def edges(pos: torch.Tensor, r: float, **_: Any) -> torch.Tensor:
    d = torch.cdist(pos.detach(), pos.detach())
    return ((d < r) & ~torch.eye(len(d), dtype=torch.bool)).nonzero().T.contiguous()


def triplets(edge_index: torch.Tensor, num_nodes: int) -> tuple[torch.Tensor, ...]:
    """k → j → i for all pairs of edges, k ≠ i."""
    row, col = edge_index.tolist()
    found = [
        (col[ji], row[ji], row[kj], kj, ji)
        for ji, kj in product(range(len(row)), repeat=2)
        if col[kj] == row[ji] and row[kj] != col[ji]
    ]
    i, j, k, kj, ji = torch.tensor(found, dtype=torch.int64).reshape(-1, 5).T
    return edge_index[1], edge_index[0], i, j, k, kj, ji


def zeros(n: int, k: int) -> np.ndarray:
    found = [np.arange(1, k + n) * np.pi]
    for l in range(1, n):
        before = found[-1]
        found.append(
            np.array(
                [brentq(lambda x, l=l: spherical_jn(l, x), a, b, xtol=1e-14) for a, b in pairwise(before)]
            )
        )
    return np.stack([z[:k] for z in found])


def write(case: str) -> Path:
    name, more = CASES[case]
    settings = SHARED | more
    torch.manual_seed(7)
    model = getattr(dimenet, name)(**settings).double()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, dtype=parameter.dtype)
        parameter.data = torch.round(parameter.data * 4096) / 4096
    rows = [1, 6, 8]
    arrays = {f"state/{k}": v.numpy() for k, v in model.state_dict().items() if k != "emb.emb.weight"}
    table = np.zeros_like(model.emb.emb.weight.detach().numpy())
    table[rows] = model.emb.emb.weight.detach().numpy()[rows]
    arrays["state/emb.emb.weight"] = table
    for key, atoms in structures().items():
        pos = torch.from_numpy(atoms.positions).requires_grad_()
        energy = model(torch.from_numpy(atoms.numbers).long(), pos).sum()
        forces = -torch.autograd.grad(energy, pos, allow_unused=True, materialize_grads=True)[0]
        arrays |= {f"{key}/numbers": atoms.numbers, f"{key}/positions": atoms.positions}
        arrays |= {f"{key}/energy": energy.detach().numpy(), f"{key}/forces": forces.numpy()}
    versions = {p: version(p) for p in ("torch_geometric", "torch", "sympy", "scipy", "numpy", "ase")}
    command = ".venvs/pyg/bin/python tests/peers/pyg/make_pyg_reference.py"
    about = {"class": name, "settings": settings, "structures": list(structures()), "versions": versions}
    arrays["about"] = np.array(json.dumps(about | {"command": command}))
    path = Path(__file__).resolve().parent / f"{case}.npz"
    np.savez_compressed(path, **arrays)
    return path


if __name__ == "__main__":
    torch.set_num_threads(1)
    dimenet.radius_graph, dimenet.triplets, dimenet_utils.Jn_zeros = edges, triplets, zeros
    for case in CASES:
        print(case, write(case).stat().st_size, flush=True)
