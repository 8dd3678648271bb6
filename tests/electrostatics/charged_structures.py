"""Structures with charges that tests of electrostatics share."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk


def fluorite() -> tuple[Atoms, list[float]]:
    atoms = bulk("CaF2", "fluorite", a=4.0)
    return atoms, [2.0 if s == "Ca" else -1.0 for s in atoms.get_chemical_symbols()]


LATTICES = {
    "NaCl": (bulk("NaCl", "rocksalt", a=4.0), [1.0, -1.0], 1.747564594633182, 2.0),
    "CsCl": (bulk("CsCl", "cesiumchloride", a=4.0), [1.0, -1.0], 1.762674773070988, 2 * math.sqrt(3)),
    "ZnS": (bulk("ZnS", "zincblende", a=4.0), [1.0, -1.0], 1.638055053388790, math.sqrt(3)),
    "CaF2": (*fluorite(), 5.038784879848568, math.sqrt(3)),
}
"""Structure, charges, Madelung constant per nearest distance, that distance."""


def random_salt(seed: int) -> tuple[Atoms, list[float]]:
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(4.0, 6.0, 3)) + rng.uniform(-1.0, 1.0, (3, 3))
    atoms = Atoms("NaClNaCl", rng.random((4, 3)) @ cell, cell=cell, pbc=True)
    charges = rng.normal(size=4)
    return atoms, list(charges - charges.mean())


def random_gas(n: int, seed: int, skew: float = 0.0) -> tuple[Atoms, np.ndarray]:
    """n neutral charges without order at 0.05 an Å³."""
    rng = np.random.default_rng(seed)
    side = (n / 0.05) ** (1.0 / 3.0)
    cell = side * (np.diag([1.0, 0.95, 1.05]) + skew * np.array([[0, 0, 0], [0.3, 0, 0], [-0.2, 0.35, 0]]))
    charges = rng.normal(size=n)
    return Atoms(f"Na{n}", rng.random((n, 3)) @ cell, cell=cell, pbc=True), charges - charges.mean()


def water(data_dir: Path, name: str, cell: Any) -> tuple[Atoms, np.ndarray, list[tuple[int, int]]]:
    """NIST's SPC/E molecules: atoms, charges, pairs within molecules."""
    lines = (data_dir / "nist_srsw" / name).read_text().split("\n")[2:]
    rows = [line.split() for line in lines if line.strip()]
    places = np.array([[float(x) for x in (r[1:4])] for r in rows])
    atoms = Atoms("OHH" * (len(rows) // 3), places, cell=cell, pbc=True)
    charges = np.tile([-0.8476, 0.4238, 0.4238], len(rows) // 3)
    inside = [(3 * m + a, 3 * m + b) for m in range(len(rows) // 3) for a, b in ((0, 1), (0, 2), (1, 2))]
    return atoms, charges, inside
