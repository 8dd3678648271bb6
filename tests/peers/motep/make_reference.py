"""Energies, forces, stress and basis functions of moment tensor potentials from motep.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    .venvs/motep/bin/python tests/peers/motep/make_reference.py

Reads ``reference/*.mtp`` (written by make_potentials.py, and template.mtp below) and writes
``reference/motep.json``.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import motep
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from motep.calculator import MTP
from motep.io.mlip.mtp import read_mtp

FOLDER = Path(__file__).parent / "reference"
COMMAND = ".venvs/motep/bin/python tests/peers/motep/make_reference.py"
GRAPHS = Path(motep.__file__).parent / "potentials" / "mtp" / "jax" / "precomputed_moments"
TYPES = {"level8": ["Si"], "level12": ["O", "Si"], "level16": ["Si"], "template": ["Si", "O"]}
LEVELS = range(2, 22, 2)

# the untrained potential of level 8 as the MLIP programs have it: components, products, scalars
BASIC = "{0, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}, {0, 2, 0, 0}, {0, 1, 1, 0}, {0, 1, 0, 1}, "
BASIC += "{0, 0, 2, 0}, {0, 0, 1, 1}, {0, 0, 0, 2}, {1, 0, 0, 0}"
TIMES = "{0, 0, 1, 11}, {1, 1, 1, 12}, {2, 2, 1, 12}, {3, 3, 1, 12}, {4, 4, 1, 13}, {5, 5, 2, 13}, "
TIMES += "{6, 6, 2, 13}, {7, 7, 1, 13}, {8, 8, 2, 13}, {9, 9, 1, 13}, {0, 10, 1, 14}, {0, 11, 1, 15}, "
TIMES += "{0, 12, 1, 16}, {0, 15, 1, 17}"


def template() -> str:
    """A file as those programs lay it out, with random coefficients of two elements."""
    rng = np.random.default_rng(8)

    def row(n: int, size: float) -> str:
        return "{" + ", ".join(f"{x:.15e}" for x in rng.normal(0.0, size, n)) + "}"

    lines = ["MTP", "version = 1.1.0", "potential_name = MTP1m", "scaling = 1.250000000000000e-01"]
    lines += ["species_count = 2", "potential_tag = ", "radial_basis_type = RBChebyshev", "\tmin_dist = 1.2"]
    lines += ["\tmax_dist = 4.7", "\tradial_basis_size = 8", "\tradial_funcs_count = 2", "\tradial_coeffs"]
    for a in range(2):
        for b in range(2):
            lines += [f"\t\t{a}-{b}", "\t\t\t" + row(8, 0.3), "\t\t\t" + row(8, 0.3)]
    lines += ["alpha_moments_count = 18", "alpha_index_basic_count = 11", f"alpha_index_basic = {{{BASIC}}}"]
    lines += ["alpha_index_times_count = 14", f"alpha_index_times = {{{TIMES}}}", "alpha_scalar_moments = 9"]
    lines += ["alpha_moment_mapping = {0, 10, 11, 12, 13, 14, 15, 16, 17}"]
    lines += [f"species_coeffs = {row(2, 2.0)}", f"moment_coeffs = {row(9, 0.02)}"]
    return "\n".join(lines) + "\n"


def structures(symbols: list[str]) -> dict[str, Atoms]:
    """A triclinic cell narrower than the cutoff and a cluster."""
    rng = np.random.default_rng(5)
    cell = np.array([[4.1, 0.2, 0.0], [0.5, 4.6, -0.3], [-0.4, 0.6, 5.2]])
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]) + 0.05 * rng.normal(
        size=(4, 3)
    )
    corners = np.array([[0, 0, 0], [2.2, 0, 0], [0, 2.3, 0.2], [0.2, 0.1, 2.4], [1.9, 2.0, 0.4]])
    kinds = (symbols * 5)[:5]
    return {
        "triclinic": Atoms(kinds[:4], scaled_positions=sites, cell=cell, pbc=True),
        "cluster": Atoms(kinds, corners + 0.1 * rng.normal(size=(5, 3))),
    }


def answers(name: str) -> dict[str, Any]:
    data = read_mtp(FOLDER / f"{name}.mtp")
    data.species = [atomic_numbers[s] for s in TYPES[name]]
    out = {}
    for key, atoms in structures(TYPES[name]).items():
        atoms.calc = MTP(data, engine="cext")
        trained = MTP(data, engine="numpy", mode="train")
        trained.calculate(atoms.copy())
        one = {
            "symbols": list(atoms.symbols),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
            "energy": float(atoms.get_potential_energy()),
            "energies": atoms.calc.results["energies"].tolist(),
            "forces": atoms.get_forces().tolist(),
            "basis": trained.engine.mbd.vatoms.tolist(),
        }
        if atoms.pbc.all():
            one["stress"] = atoms.get_stress(voigt=False).tolist()
        out[key] = one
    return out


def contracted(tree: Any, tensors: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """Value of one of motep's contractions: [left, right, rank, [axes, axes]] or a moment (μ, ν, ν)."""
    if not isinstance(tree[0], list):
        return tensors[tree[0], tree[1]]
    left, right, _, axes = tree
    return np.tensordot(contracted(left, tensors), contracted(right, tensors), axes=axes)


def basis() -> dict[str, Any]:
    """motep's graphs of every level, evaluated for random directions and radial functions."""
    rng = np.random.default_rng(3)
    u = rng.normal(size=(6, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    f = rng.uniform(0.2, 1.0, (5, 6))
    tensors = {}
    for mu in range(5):
        power = np.ones(6)
        for nu in range(9):
            tensors[mu, nu] = np.tensordot(f[mu], power, axes=(0, 0))
            power = np.einsum("n...,nx->n...x", power, u)
    values = {
        str(level): [
            float(contracted(tree, tensors))
            for tree in json.loads((GRAPHS / f"moments_level{level}.json").read_text())
        ]
        for level in LEVELS
    }
    counts = {
        str(level): len(json.loads((GRAPHS / f"moments_level{level}.json").read_text()))
        for level in range(2, 26, 2)
    }
    return {"directions": u.tolist(), "radial": f.tolist(), "values": values, "counts": counts}


def main() -> None:
    (FOLDER / "template.mtp").write_text(template(), encoding="utf-8")
    about = {"command": COMMAND, "motep": version("motep"), "numpy": version("numpy")}
    out = {"about": about, "potentials": {n: answers(n) for n in TYPES}, "basis": basis()}
    (FOLDER / "motep.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
