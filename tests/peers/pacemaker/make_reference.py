"""Make small potentials with random coefficients and evaluate them with pacemaker's own program.

Run in an environment with python-ace: `python make_reference.py [Cu-PBE-core-rep.ace]`.
"""

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from pyace import ACEBBasisSet, PyACECalculator, create_multispecies_basis_config

OUT = Path(__file__).parent / "reference"
SHIFTED, PLAIN = "FinnisSinclairShiftedScaled", "FinnisSinclair"


def bond(kind: str, parameter: float, cutoff: float, width: float, core: list[float], **inner: Any) -> dict:
    return {
        "radbase": kind, "radparameters": [parameter], "rcut": cutoff, "dcut": width,
        "NameOfCutoffFunction": "cos", "core-repulsion": core, **inner,
    }  # fmt: skip


def distance(cutoff: float, width: float) -> dict[str, Any]:
    return {"r_in": cutoff, "delta_in": width, "inner_cutoff_type": "distance"}


def embedding(form: str, fs: list[float], **core: float) -> dict[str, Any]:
    return {"npot": form, "fs_parameters": fs, "ndensity": len(fs) // 2, **core}


ALLOY = {
    "deltaSplineBins": 0.0005,
    "elements": ["Al", "Ni"],
    "embeddings": {
        "Al": embedding(SHIFTED, [1.0, 1.0, 1.0, 0.5]),
        "Ni": embedding(PLAIN, [1.0, 1.0, 0.5, 0.75]),
    },
    "bonds": {
        "Al": bond("SBessel", 5.25, 4.5, 0.01, [100.0, 3.0], **distance(1.9, 0.6)),
        "Ni": bond("ChebPow", 2.5, 4.2, 0.01, [80.0, 2.0], **distance(1.7, 0.5)),
        "AlNi": bond("ChebExpCos", 3.0, 4.0, 0.3, [90.0, 2.5], **distance(1.8, 0.4)),
    },
    "functions": {"ALL": {"nradmax_by_orders": [3, 2, 1, 1], "lmax_by_orders": [0, 2, 2, 1]}},
}
COPPER = {
    "deltaSplineBins": 0.0005,
    "elements": ["Cu"],
    "embeddings": {"Cu": embedding(SHIFTED, [1.0, 1.0, 1.0, 0.5], rho_core_cut=9.0, drho_core_cut=8.0)},
    "bonds": {
        "Cu": bond("ChebExpCos", 5.25, 5.0, 0.5, [50.0, 0.8], r_in=0, delta_in=0, inner_cutoff_type="density")
    },
    "functions": {"Cu": {"nradmax_by_orders": [5, 2, 2, 1, 1], "lmax_by_orders": [0, 3, 2, 1, 1]}},
}
# of the kinds that need six factors, three elements, or nuclear cores
SIX = {
    **COPPER,
    "embeddings": {"Cu": embedding(SHIFTED, [1.0, 1.0, 1.0, 0.5])},
    "bonds": {
        "Cu": bond("ChebLinear", 1.0, 3.0, 0.5, [20.0, 1.0], r_in=0, delta_in=0, inner_cutoff_type="density")
    },
    "functions": {"Cu": {"nradmax_by_orders": [3, 1, 1, 1, 1, 1], "lmax_by_orders": [0, 2, 2, 2, 2, 1]}},
}
NUCLEAR = {"r_in": 2.1, "delta_in": 0.7, "inner_cutoff_type": "zbl"}
TERNARY = {
    "deltaSplineBins": 0.0005,
    "elements": ["Cu", "Ti", "Zr"],
    "embeddings": {s: embedding(SHIFTED, [1.0, 1.0, 0.3, 0.5]) for s in ("Cu", "Ti", "Zr")},
    "bonds": {
        "ALL": bond("ChebExpCos", 4.0, 4.2, 0.3, [1.2, 1.0], **NUCLEAR),
        "CuZr": bond("ChebPow", 2.0, 4.6, 0.2, [1.0, 1.0], **NUCLEAR | {"r_in": 2.3, "delta_in": 0.9}),
    },
    "functions": {
        "UNARY": {"nradmax_by_orders": [3, 2, 1], "lmax_by_orders": [0, 2, 2]},
        "BINARY": {"nradmax_by_orders": [2, 1, 1], "lmax_by_orders": [0, 1, 1]},
        "TERNARY": {"nradmax_by_orders": [0, 1, 1], "lmax_by_orders": [0, 1, 1]},
    },
}


def write(name: str, config: dict[str, Any], seed: int) -> Path:
    """A potential with random coefficients."""
    basis = ACEBBasisSet(create_multispecies_basis_config(config))
    rng = np.random.default_rng(seed)
    basis.all_coeffs = np.round(rng.normal(0.0, 0.2, len(basis.all_coeffs)), 4).tolist()
    path = OUT / name
    if name.endswith(".yaml"):
        basis.save(str(path))
        return path
    found = basis.to_ACECTildeBasisSet()
    (found.save_yaml if name.endswith(".yace") else found.save)(str(path))
    return path


def clusters(symbols: str, crystal: Atoms, seed: int) -> list[Atoms]:
    """A crystal out of place, and two clusters of which one is compressed."""
    rng = np.random.default_rng(seed)
    n = len(Atoms(symbols))
    grid = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)[:n]
    crystal = crystal.copy()
    crystal.rattle(0.15, seed=seed)
    return [
        crystal,
        Atoms(symbols, 2.4 * grid + rng.normal(0.0, 0.2, (n, 3))),
        Atoms(symbols, 1.5 * grid + rng.normal(0.0, 0.1, (n, 3))),
    ]


def evaluated(path: Path, frames: list[Atoms]) -> dict[str, Any]:
    found = []
    for atoms in frames:
        atoms.calc = PyACECalculator(str(path))
        entry = {
            "symbols": atoms.get_chemical_symbols(),
            "positions": atoms.positions.tolist(),
            "energy": atoms.get_potential_energy(),
            "energies": np.array(atoms.calc.results["energies"]).tolist(),
            "forces": atoms.get_forces().tolist(),
        }
        if atoms.pbc.all():
            entry |= {"cell": atoms.cell.tolist(), "stress": atoms.get_stress(voigt=False).tolist()}
        found.append(entry)
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "frames": found}


def main() -> None:
    OUT.mkdir(exist_ok=True)
    alloy = bulk("NiAl", "cesiumchloride", a=2.7).repeat((2, 1, 1))
    copper = bulk("Cu", a=3.5, cubic=True)
    mixed = bulk("CuTi", "cesiumchloride", a=3.0).repeat((2, 1, 1))
    mixed.symbols[3] = "Zr"
    files = {
        "AlNi.yace": evaluated(write("AlNi.yace", ALLOY, 3), clusters("AlNi2AlNiAl", alloy, 1)),
        "Cu.ace": evaluated(write("Cu.ace", COPPER, 4), clusters("Cu6", copper, 2)),
        "AlNi.yaml": evaluated(write("AlNi.yaml", ALLOY, 3), clusters("AlNi2AlNiAl", alloy, 1)),
        "Cu.yaml": evaluated(write("Cu.yaml", SIX, 5), clusters("Cu6", copper, 2)),
        "CuTiZr.yaml": evaluated(write("CuTiZr.yaml", TERNARY, 6), clusters("CuTiZr2TiCu", mixed, 5)),
    }
    for name in sys.argv[1:]:
        files[Path(name).name] = evaluated(Path(name), clusters("Cu6", bulk("Cu", a=3.5, cubic=True), 3))
    about = f"python-ace {version('python-ace')}: make_reference.py; eV, eV/Å, eV/Å³"
    (OUT / "values.json").write_text(json.dumps({"about": about, "files": files}, indent=1) + "\n")


if __name__ == "__main__":
    main()
