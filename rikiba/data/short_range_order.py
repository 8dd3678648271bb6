"""Which elements prefer which neighbours: Warren–Cowley parameters, and alloys made to have given ones."""

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from rikiba.core.pairs import find_pairs
from rikiba.core.system import System


def neighbour_shells(atoms: Atoms, number: int, *, within: float = 12.0) -> list[np.ndarray]:
    """For each of the nearest `number` shells of a crystal, its pairs (i, j), each in both directions.

    Distances that differ by less than 0.05 Å are one shell. Raises ValueError where fewer shells are found
    within `within` Å.
    """
    system = System.from_ase(atoms)
    cutoff = 3.5
    while True:
        pairs = find_pairs(system, cutoff)
        distance = np.linalg.norm(pairs.vectors(system).numpy(), axis=1)
        ordered = np.sort(distance)
        edges = ordered[1:][np.diff(ordered) > 0.05] if len(ordered) else np.zeros(0)
        if len(edges) >= number:
            break
        if cutoff >= within:
            raise ValueError(f"There are no {number} neighbour shells within {within} Å.")
        cutoff = min(1.3 * cutoff, within)
    shell = np.searchsorted(edges, distance + 0.025, side="right")
    ij = np.stack([pairs.i.numpy(), pairs.j.numpy()], 1)
    return [ij[shell == k] for k in range(number)]


def warren_cowley(numbers: np.ndarray, shell: np.ndarray) -> dict[tuple[int, int], float]:
    """α_ab = 1 − P(b | neighbour of a)/c_b for each pair of elements (Z_a ≤ Z_b) in one shell of pairs.

    0 for a random alloy, negative where a prefers b. With a = b it measures clustering likewise. (Cowley,
    doi:10.1103/PhysRev.77.669, for a ≠ b.)
    """
    zs, counts = np.unique(numbers, return_counts=True)
    share = dict(zip(zs.tolist(), (counts / len(numbers)).tolist(), strict=True))
    centre, neighbour = numbers[shell[:, 0]], numbers[shell[:, 1]]
    found = {}
    for k, a in enumerate(zs.tolist()):
        of_a = neighbour[centre == a]
        for b in zs.tolist()[k:]:
            found[(a, b)] = float(1.0 - (of_a == b).mean() / share[b]) if len(of_a) else 0.0
    return found


def order_error(
    numbers: np.ndarray, shells: Sequence[np.ndarray], target: Mapping[tuple[int, int], float] | None = None
) -> float:
    """Σ over shells (weight 1, 1/2, 1/3 …) and pairs of |α − α_target|, the target 0 if not given.

    With `target`, it holds for the first shell alone.
    """
    total = 0.0
    for k, shell in enumerate(shells):
        for pair, alpha in warren_cowley(numbers, shell).items():
            wanted = target.get(pair, 0.0) if target is not None and k == 0 else 0.0
            total += abs(alpha - wanted) / (k + 1)
    return total
