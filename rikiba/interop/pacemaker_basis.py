"""Fitted potentials of pacemaker as it writes them (`.yaml`): functions B of coupled products, made products.

B = Σ_m C_m Π_t A_t, where C_m couples the harmonics of the factors to an invariant by a tree of
Clebsch–Gordan coefficients: Drautz, doi:10.1103/PhysRevB.99.014104; Bochkarev et al.,
doi:10.1103/PhysRevMaterials.6.013804.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from rikiba.nn.so3 import complex_coupling

RANKS = 6
"""Most factors of a function."""


def read_basis(data: Mapping[str, Any], bond: Any, embedding: Any) -> dict[str, Any]:
    """Arguments of `PacemakerACE` from the content of a `.yaml` file.

    `bond` and `embedding` make the tables of a pair and of an element from keys of a `.yace` file. Raises
    ValueError for blocks that lack a pair or an element, and KeyError for one that lacks a key.
    """
    blocks = {tuple(str(b["speciesblock"]).split()): b for b in data["species"]}
    names = [key[0] for key in blocks if len(key) == 1]
    for key in blocks:
        if not set(key) <= set(names):
            raise ValueError(f"the block {' '.join(key)} names elements without a block: {', '.join(names)}.")
    bonds = {f"{a}-{b}": bond(_bond(_of_pair(blocks, a, b))) for a in names for b in names}
    functions: dict[str, list[dict[str, Any]]] = {s: [] for s in names}
    for block in blocks.values():
        for given in block.get("nbody") or ():
            if not given.get("skip"):
                centre, *neighbours = str(given["type"]).split()
                functions[centre].append(_function(given, neighbours))
    return {
        "elements": names,
        "bonds": bonds,
        "embeddings": {s: embedding(_embedding(blocks[(s,)])) for s in names},
        "functions": functions,
        "atomic_energies": dict.fromkeys(names, 0.0),
    }


def _of_pair(blocks: Mapping[tuple[str, ...], Mapping[str, Any]], a: str, b: str) -> Mapping[str, Any]:
    keys = ((a,),) if a == b else ((a, b), (b, a))
    for key in keys:
        if key in blocks and "radbase" in blocks[key]:
            return blocks[key]
    raise ValueError(f"there is no block with the radial functions of {a} and {b}.")


def _bond(block: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a `.yace` file."""
    if (name := block.get("NameOfCutoffFunctionij", "cos")) != "cos":
        raise ValueError(f"the cutoff function {name} is not offered; cos is.")
    prefactor, decay = block.get("core-repulsion") or (0.0, 1.0)
    return {
        "radbasename": block["radbase"],
        "radparameters": block["radparameters"],
        "radcoefficients": block.get("radcoefficients") or [],
        "nradbasemax": block["nradbaseij"],
        "rcut": block["rcutij"],
        "dcut": block["dcutij"],
        "prehc": prefactor,
        "lambdahc": decay,
        "inner_cutoff_type": block.get("inner_cutoff_type", "density"),
        "rcut_in": block.get("r_in", 0.0),
        "dcut_in": block.get("delta_in", 0.0),
    }


def _embedding(block: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ndensity": block["ndensityi"],
        "npoti": block["npoti"],
        "FS_parameters": block["parameters"],
        "rho_core_cutoff": block.get("rho_core_cut", 1e5),
        "drho_core_cutoff": block.get("drho_core_cut", 250.0),
    }


def _function(given: Mapping[str, Any], neighbours: Sequence[str]) -> dict[str, Any]:
    n, l = [int(x) for x in given["nr"]], [int(x) for x in given["nl"]]
    if not len(n) == len(l) == len(neighbours):
        raise ValueError(
            f"a function of {len(neighbours)} neighbours needs as many nr and nl; given {given}."
        )
    m, factor = tree_coupling(tuple(l), tuple(int(x) for x in given.get("lint", ())))
    c = np.array([float(x) for x in given["c"]])
    return {
        "neighbours": list(neighbours),
        "n": n,
        "l": l,
        "m": m.tolist(),
        "coefficients": (factor[:, None] * c).tolist(),
    }


@cache
def tree_coupling(l: tuple[int, ...], between: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(rows of m, C_m) of the invariant in l_1 ⊗ l_2 ⊗ …, Σ C² = 1.

    `between` are the degrees inside the tree: none for up to two factors, L_12 for three, L_12 and L_34 for
    four, L_12, L_34 and L_1234 for five, and L_12, L_34, L_1234 and L_56 for six. Raises ValueError for
    another number of them, and where a triangle does not close.
    """
    rank = len(l)
    inner = {1: 0, 2: 0, 3: 1, 4: 2, 5: 3, 6: 4}
    if rank not in inner or (len(between) != inner[rank] and any(between)) or len(between) > inner[rank]:
        raise ValueError(f"{rank} factors with degrees {between} between them; up to {RANKS} are coupled.")
    between = (*between, *(0,) * (inner[rank] - len(between)))
    if rank == 1:
        if l[0]:
            raise ValueError(f"a function of one neighbour has l = 0; given {l[0]}.")
        return np.zeros((1, 1), np.int64), np.ones(1)
    leaf = [np.eye(2 * x + 1) for x in l]
    if rank <= 3:
        pair = _joined(leaf[0], leaf[1], l[0], l[1], between[0] if between else 0)
        table = pair[..., 0] if rank == 2 else _joined(pair, leaf[2], between[0], l[2], 0)[..., 0]
    else:
        left = _joined(leaf[0], leaf[1], l[0], l[1], between[0])
        right = _joined(leaf[2], leaf[3], l[2], l[3], between[1])
        degree = between[2] if rank > 4 else 0
        table = _joined(left, right, between[0], between[1], degree)
        if rank == 5:
            table = _joined(table, leaf[4], degree, l[4], 0)
        elif rank == 6:
            last = _joined(leaf[4], leaf[5], l[4], l[5], between[3])
            table = _joined(table, last, degree, between[3], 0)
        table = table[..., 0]
    place = np.argwhere(np.abs(table) > 1e-14)
    return place - np.array(l), table[tuple(place.T)]


def _joined(a: np.ndarray, b: np.ndarray, l_a: int, l_b: int, l: int) -> np.ndarray:
    """Two parts of a tree, their last axes coupled to degree l."""
    if not abs(l_a - l_b) <= l <= l_a + l_b:
        raise ValueError(f"degrees {l_a} and {l_b} do not couple to {l}.")
    joined = np.tensordot(a, complex_coupling(l_a, l_b, l), 1)
    # [leaves of a, M_b, M] with [leaves of b, M_b]
    return np.moveaxis(np.tensordot(joined, b, (a.ndim - 1, b.ndim - 1)), a.ndim - 1, -1)
