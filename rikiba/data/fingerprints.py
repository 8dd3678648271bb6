"""When are two structures the same? A fingerprint invariant to rotation, permutation and translation.

For each centre element a and neighbour element b, and k = 1 … K, the list of distances from each atom a to
its k-th nearest neighbour b, sorted over the atoms and capped at `cutoff`. Every entry moves by at most
twice the largest displacement of an atom, so near structures have near fingerprints. Mirror images are
equal, as are their energies.
"""

from collections.abc import Sequence

import numpy as np

from rikiba.core.pairs import find_pairs
from rikiba.core.system import System


def composition(system: System) -> tuple[tuple[int, int], ...]:
    """((Z, number of atoms), …) of a single structure, ordered by Z."""
    zs, counts = np.unique(system.numbers.numpy(), return_counts=True)
    return tuple((int(z), int(n)) for z, n in zip(zs, counts, strict=True))


def fingerprint(system: System, *, neighbours: int | None = None, cutoff: float = 6.0) -> np.ndarray:
    """The fingerprint of one structure, Å, float32; its length follows from the composition alone.

    `neighbours` (K) is 8, and more for structures of less than 12 atoms: 96 in all, since few atoms must tell
    a whole cell.
    """
    if neighbours is None:
        neighbours = max(8, 96 // max(1, system.n_atoms))
    pairs = find_pairs(system, cutoff)
    i, j = pairs.i.numpy(), pairs.j.numpy()
    distance = np.linalg.norm(pairs.vectors(system).numpy(), axis=1)
    numbers = system.numbers.numpy()
    parts = []
    for b in np.unique(numbers):
        kept = numbers[j] == b
        order = np.lexsort((distance[kept], i[kept]))
        centre, near = i[kept][order], distance[kept][order]
        counts = np.bincount(centre, minlength=len(numbers))
        rank = np.arange(len(centre)) - np.repeat(np.cumsum(counts) - counts, counts)
        table = np.full((len(numbers), neighbours), cutoff)
        first = rank < neighbours
        table[centre[first], rank[first]] = near[first]
        parts += [np.sort(table[numbers == a], axis=0).ravel() for a in np.unique(numbers)]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def near_pairs(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray] | None, threshold: float
) -> list[tuple[int, int, float]]:
    """(index in first, index in second, RMS difference in Å) of fingerprints closer than the threshold.

    With `second` None: pairs i < j within `first`. Exact: candidates come from a projection on few
    directions, which never increases a distance.
    """
    from scipy.spatial import cKDTree

    a = np.asarray(first, dtype=np.float64)
    b = a if second is None else np.asarray(second, dtype=np.float64)
    if len(a) == 0 or len(b) == 0 or a.shape[1] == 0:
        return []
    both = np.concatenate([a, b])
    sample = both[:: max(1, len(both) // 500)]
    directions = np.linalg.svd(sample - sample.mean(0), full_matrices=False)[2][:8]
    radius = threshold * np.sqrt(a.shape[1])
    low_a, low_b = cKDTree(a @ directions.T), cKDTree(b @ directions.T)
    found = []
    for k, candidates in enumerate(low_a.query_ball_tree(low_b, radius * (1 + 1e-9) + 1e-9)):
        rows = np.array([c for c in candidates if second is not None or c > k], dtype=np.int64)
        if len(rows) == 0:
            continue
        rms = np.sqrt(((b[rows] - a[k]) ** 2).mean(1))
        found += [(k, int(c), float(r)) for c, r in zip(rows, rms, strict=True) if r < threshold]
    return found
