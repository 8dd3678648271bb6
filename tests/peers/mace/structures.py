"""Structures on which a peer is evaluated: plain ASE objects, made from fixed seeds."""

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, molecule


def _rattled(atoms: Atoms, amplitude: float, seed: int) -> Atoms:
    atoms = atoms.copy()
    noise = np.random.default_rng(seed).normal(scale=amplitude, size=(len(atoms), 3))
    atoms.positions = np.round(atoms.positions + noise, 6)
    return atoms


def _strained(atoms: Atoms, strain: list[list[float]]) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(np.round(atoms.cell.array @ (np.eye(3) + np.array(strain)), 6), scale_atoms=True)
    return atoms


def ethanol() -> Atoms:
    """An isolated molecule: nine atoms, three elements, no cell."""
    return _rattled(molecule("CH3CH2OH"), 0.05, seed=1)


def silicon() -> Atoms:
    """Eight atoms of diamond silicon in a strained, triclinic cell."""
    strain = [[0.02, 0.03, -0.01], [0.0, -0.03, 0.04], [0.0, 0.0, 0.01]]
    return _rattled(_strained(bulk("Si", "diamond", a=5.43, cubic=True), strain), 0.08, seed=2)


def copper_small() -> Atoms:
    """Two atoms of body-centred tetragonal (fcc) copper: the cutoff passes half the cell several times."""
    a = 3.61
    cell = [a / np.sqrt(2), a / np.sqrt(2), a]
    atoms = Atoms("Cu2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=cell, pbc=True)
    strain = [[0.01, 0.02, 0.0], [0.0, 0.02, -0.03], [0.0, 0.0, -0.02]]
    return _rattled(_strained(atoms, strain), 0.06, seed=3)


def silica_hydrogen() -> Atoms:
    """Three elements in one periodic, triclinic cell."""
    generator = np.random.default_rng(4)
    cell = np.array([[5.2, 0.0, 0.0], [0.7, 5.0, 0.0], [-0.4, 0.6, 5.4]])
    atoms = Atoms("SiO2SiO2H", cell=cell, pbc=True)
    scaled: list[np.ndarray] = []
    while len(scaled) < len(atoms):
        trial = generator.random(3)
        shifts = [(np.array(s) - 1) for s in np.ndindex(3, 3, 3)]
        near = [np.linalg.norm((trial - other + s) @ cell) for other in scaled for s in shifts]
        if not near or min(near) > 1.5:
            scaled.append(trial)
    atoms.set_scaled_positions(np.array(scaled))
    atoms.positions = np.round(atoms.positions, 6)
    return atoms


def isolated_atom() -> Atoms:
    """One silicon atom without neighbours."""
    return Atoms("Si", positions=[[0.3, -0.2, 0.1]])


def slab() -> Atoms:
    """A copper slab, periodic along two vectors only, with an oxygen atom on it."""
    atoms = fcc111("Cu", size=(1, 2, 2), a=3.61, vacuum=6.0, orthogonal=True)
    atoms += Atoms("O", positions=[atoms.positions[-1] + [0.4, 0.3, 1.7]])
    atoms = _rattled(atoms, 0.05, seed=5)
    atoms.pbc = (True, True, False)
    return atoms


def close_pair() -> Atoms:
    """Three atoms well inside the sum of covalent radii, where a short-range repulsion acts."""
    return Atoms("SiOH", positions=[[0.0, 0.0, 0.0], [0.9, 0.3, -0.2], [0.5, 1.0, 0.3]])


def all_structures() -> dict[str, Atoms]:
    """Every structure by name."""
    makers = (ethanol, silicon, copper_small, silica_hydrogen, isolated_atom, slab, close_pair)
    return {maker.__name__: maker() for maker in makers}
