"""The compiled neighbour search against vesin's, order included."""

import numpy as np
import pytest

from rikiba.core.pairs import _by_vesin, _completed
from rikiba.kernels.neighbour_search_cpu import neighbours

Listed = tuple[np.ndarray, np.ndarray, np.ndarray]


def equal(a: Listed, b: Listed) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def structures(spread: float) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    """Few and many atoms, any periodicity, skewed cells smaller and larger than the radius, not wrapped."""
    rng = np.random.default_rng(int(spread))
    found = []
    while len(found) < 40:
        n, pbc = int(rng.integers(1, 90)), rng.random(3) < 0.6
        box = np.diag(rng.uniform(2.0, 14.0, 3)) + rng.normal(size=(3, 3))
        if abs(np.linalg.det(box)) < 8.0 or (n == 1 and not pbc.any()):
            continue
        points = rng.normal(scale=spread, size=(n, 3))
        box = _completed(box, pbc, points) if pbc.any() else np.eye(3)
        found.append((points, np.ascontiguousarray(box), pbc, float(rng.uniform(1.0, 7.0))))
    return found


@pytest.mark.parametrize("spread", [3.0, 30.0])
def test_the_same_pairs_in_the_same_order(spread: float) -> None:
    for given in structures(spread):
        assert equal(neighbours(*given), _by_vesin(*given))


def test_another_radius_is_noticed() -> None:
    """Negative control."""
    noticed = 0
    for points, box, pbc, radius in structures(3.0):
        noticed += not equal(neighbours(points, box, pbc, 0.97 * radius), _by_vesin(points, box, pbc, radius))
    assert noticed > 30


def test_atoms_in_one_place_and_on_one_line() -> None:
    """No extent along an axis that is not periodic."""
    nowhere, pbc = np.zeros((3, 3)), np.zeros(3, bool)
    assert len(neighbours(nowhere, np.eye(3), pbc, 1.0)[0]) == 6
    line = np.arange(200.0)[:, None] * np.array([[0.0, 0.0, 1.0]])
    i, j, _ = neighbours(line, np.eye(3), pbc, 1.5)
    assert len(i) == 398 and (np.abs(i - j) == 1).all()
