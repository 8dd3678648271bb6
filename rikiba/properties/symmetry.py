"""Rotations that leave a crystal unchanged, found by trying them."""

from itertools import product

import numpy as np
from ase import Atoms
from jaxtyping import Float

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def point_group(atoms: Atoms, tolerance: float = 1e-3) -> list[Float[np.ndarray, "3 3"]]:
    """Rotation parts Q (Cartesian, x → Q x) of the crystal's space group; at least the identity.

    Candidates are the integer matrices that keep the metric of the reduced lattice; each is kept where some
    translation maps every atom onto one of its kind within `tolerance` Å.
    """
    from ase.geometry import minkowski_reduce

    cell = minkowski_reduce(atoms.cell.array)[0]
    fractional = atoms.positions @ np.linalg.inv(cell)
    metric = cell @ cell.T
    scale = tolerance * np.sqrt(np.trace(metric))
    vectors = np.array(list(product((-1, 0, 1), repeat=3)))
    norms = np.einsum("vx,xy,vy->v", vectors, metric, vectors)
    rows = [vectors[np.abs(norms - metric[k, k]) < scale] for k in range(3)]
    found = []
    for a, b, c in product(*rows):
        w = np.array([a, b, c])
        if abs(round(np.linalg.det(w))) == 1 and np.abs(w @ metric @ w.T - metric).max() < scale:
            if _maps_atoms(fractional, atoms.numbers, w, cell, tolerance):
                # lattice rows transform as w·cell = cell·Qᵀ
                found.append((np.linalg.inv(cell) @ w @ cell).T)
    return found


def _maps_atoms(
    fractional: np.ndarray, numbers: np.ndarray, w: np.ndarray, cell: np.ndarray, tolerance: float
) -> bool:
    rotated = fractional @ w
    kind = min(set(numbers.tolist()), key=lambda z: int((numbers == z).sum()))
    same = np.flatnonzero(numbers == kind)
    for target in same:
        shifted = rotated + (fractional[target] - rotated[same[0]])
        d = shifted[:, None] - fractional[None]
        d -= np.rint(d)
        close = np.linalg.norm(d @ cell, axis=-1) < tolerance
        if (close & (numbers[:, None] == numbers[None])).any(1).all():
            return True
    return False


def symmetrise_elastic(
    stiffness: Float[np.ndarray, "6 6"], rotations: list[Float[np.ndarray, "3 3"]]
) -> Float[np.ndarray, "6 6"]:
    """Average of the rotated stiffness tensors C'_ijkl = Q_ia Q_jb Q_kc Q_ld C_abcd over a group."""
    full = np.zeros((3, 3, 3, 3))
    for a, (i, j) in enumerate(_VOIGT):
        for b, (k, m) in enumerate(_VOIGT):
            for p, q in ((i, j), (j, i)):
                full[p, q, k, m] = full[p, q, m, k] = stiffness[a, b]
    mean = sum(np.einsum("ia,jb,kc,ld,abcd->ijkl", q, q, q, q, full, optimize=True) for q in rotations)
    mean = mean / len(rotations)
    return np.array([[mean[i, j, k, m] for k, m in _VOIGT] for i, j in _VOIGT])
