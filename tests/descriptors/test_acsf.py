"""Symmetry functions against the explicit sums of the papers."""

import itertools
import math

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.descriptors.acsf import SymmetryFunctions, angular_set, shifted_radial_set

RADIAL = ((0.5, 0.0), (2.0, 1.5))
WIDE = ((0.3, 0.0, 1.0, 1.0), (0.3, 0.0, 4.0, -1.0), (1.0, 1.5, 2.0, 1.0), (1.0, 1.5, 2.5, -1.0))
NARROW = ((0.05, 0.0, 1.0, -1.0), (0.2, 1.0, 3.0, 1.0))
ELEMENTS = (8, 14)
CUTOFF = 4.0


def envelope(r: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * r / CUTOFF)) if r < CUTOFF else 0.0


def by_definition(atoms: Atoms) -> np.ndarray:
    """Plain loops over neighbours and pairs of neighbours, images included."""
    images = [np.array(s) @ atoms.cell.array for s in itertools.product(range(-3, 4), repeat=3)]
    if not atoms.pbc.any():
        images = [np.zeros(3)]
    rows = []
    for centre in atoms.positions:
        around = [
            (int(z), p + s - centre)
            for z, p in zip(atoms.numbers, atoms.positions, strict=True)
            for s in images
            if 1e-9 < np.linalg.norm(p + s - centre) < CUTOFF
        ]
        row = []
        for z in ELEMENTS:
            for eta, rs in RADIAL:
                d = [np.linalg.norm(v) for zz, v in around if zz == z]
                row.append(sum(math.exp(-eta * (r - rs) ** 2) * envelope(r) for r in d))
        for kind in ("integer", "direct", "narrow"):
            functions = {
                "integer": [f for f in WIDE if f[2].is_integer()],
                "direct": [f for f in WIDE if not f[2].is_integer()],
                "narrow": NARROW,
            }[kind]
            for za, zb in itertools.combinations_with_replacement(ELEMENTS, 2):
                for eta, rs, zeta, sign in functions:
                    total = 0.0
                    for (z1, v1), (z2, v2) in itertools.combinations(around, 2):
                        if sorted((z1, z2)) != [za, zb]:
                            continue
                        r1, r2, r3 = (np.linalg.norm(v) for v in (v1, v2, v2 - v1))
                        cos = v1 @ v2 / r1 / r2
                        value = 2 ** (1 - zeta) * max(1 + sign * cos, 0.0) ** zeta
                        value *= (
                            math.exp(-eta * ((r1 - rs) ** 2 + (r2 - rs) ** 2)) * envelope(r1) * envelope(r2)
                        )
                        if kind == "narrow":
                            value *= math.exp(-eta * (r3 - rs) ** 2) * envelope(r3)
                        total += value
                    row.append(total)
        rows.append(row)
    return np.array(rows)


def structure(seed: int, periodic: bool) -> Atoms:
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * 4.0 + rng.normal(scale=0.4, size=(3, 3))
    return Atoms(numbers=[8, 14, 14, 8, 14], positions=rng.random((5, 3)) @ cell, cell=cell, pbc=periodic)


def features(atoms: Atoms, **options: object) -> np.ndarray:
    functions = SymmetryFunctions(
        n_elements=2, cutoff=CUTOFF, radial=RADIAL, wide=WIDE, narrow=NARROW, envelope="cosine", **options
    )
    system = System.from_ase(atoms)
    types = (system.numbers == 14).long()
    return functions(system, find_pairs(system, CUTOFF), types, torch.float64).numpy()


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_equal_to_the_definition(seed: int, periodic: bool) -> None:
    atoms = structure(seed, periodic)
    np.testing.assert_allclose(features(atoms), by_definition(atoms), rtol=1e-9, atol=1e-11)


def test_definition_notices_a_changed_exponent() -> None:
    atoms = structure(2, False)
    wrong = SymmetryFunctions(
        n_elements=2,
        cutoff=CUTOFF,
        radial=((0.5, 0.0), (2.1, 1.5)),
        wide=WIDE,
        narrow=NARROW,
        envelope="cosine",
    )
    system = System.from_ase(atoms)
    values = wrong(system, find_pairs(system, CUTOFF), (system.numbers == 14).long(), torch.float64).numpy()
    assert np.abs(values - by_definition(atoms)).max() > 1e-3


def test_sets() -> None:
    centres = [r for _, r in shifted_radial_set(4, 4.5)]
    assert centres == pytest.approx([0.5, 1.5, 2.5, 3.5])
    assert shifted_radial_set(4, 4.5)[0][0] == pytest.approx(0.5)
    assert len(angular_set(3, 5.0, (1, 2))) == 12


@pytest.mark.parametrize("bad", [{"envelope": "step"}, {"angular_cutoff": 9.0}])
def test_bad_arguments(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        SymmetryFunctions(n_elements=1, cutoff=4.0, radial=RADIAL, **bad)  # type: ignore[arg-type]
