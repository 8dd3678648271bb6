"""SHAKE, RATTLE and SETTLE: kernels against definitions, and against each other."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rikiba.kernels.dispatch import only_reference
from rikiba.kernels.distance_constraints import distance_positions, distance_velocities
from rikiba.kernels.settle import settle_positions, settle_velocities

LEG, BASE = 0.9572, 1.5139
NONE = torch.zeros(0, 3, 3, dtype=torch.float64)


def waters(n: int, seed: int, off: float = 0.06) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Turned molecules, the same a step later without constraints, velocities, and what holds them."""
    rng = np.random.default_rng(seed)
    half = 0.5 * BASE
    shape = np.array([[0, 0, 0], [half, (LEG**2 - half**2) ** 0.5, 0], [-half, (LEG**2 - half**2) ** 0.5, 0]])
    turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(n)]
    old = np.concatenate([shape @ q.T + rng.normal(size=3) * 5 for q in turns])
    new = old + rng.uniform(-off, off, old.shape)
    first = 3 * torch.arange(n)[:, None]
    held = {
        "molecules": first + torch.tensor([[0, 1, 2]]),
        "shapes": torch.tensor([[LEG, BASE]]).double().repeat(n, 1),
        "pairs": (first[:, :, None] + torch.tensor([[0, 1], [0, 2], [1, 2]])).reshape(-1, 2),
        "lengths": torch.tensor([LEG, LEG, BASE]).double().repeat(n),
        "starts": 3 * torch.arange(n + 1),
        "masses": torch.tensor([15.999, 1.008, 1.008]).double().repeat(n),
    }
    return torch.from_numpy(old), torch.from_numpy(new), torch.from_numpy(rng.normal(size=old.shape)), held


def shaken(which: Any, rows: Tensor, reference: Tensor, held: dict[str, Tensor], tolerance: float) -> Tensor:
    out, failed = which(
        rows, reference, 1 / held["masses"], NONE, held["pairs"], held["lengths"], held["starts"],
        tolerance, 1000,
    )  # fmt: skip
    assert failed == -1
    return out


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_settle_is_what_shake_converges_to(seed: int) -> None:
    old, new, v, held = waters(4, seed)
    settled, failed = settle_positions(new, old, held["masses"], held["molecules"], held["shapes"])
    assert failed == -1
    close = {"rtol": 0, "atol": 1e-10}
    torch.testing.assert_close(settled, shaken(distance_positions, new, old, held, 1e-13), **close)
    flat, failed = settle_velocities(v, settled, held["masses"], held["molecules"])
    assert failed == -1
    torch.testing.assert_close(flat, shaken(distance_velocities, v, settled, held, 1e-13), **close)
    loose = shaken(distance_positions, new, old, held, 1e-4)
    assert float((settled - loose).abs().max()) > 1e-8  # a tolerance that is felt


def ring(n: int, seed: int, restricted: bool) -> tuple[Any, ...]:
    """A ring of atoms with a tail, and a pair apart; some atoms in planes, on lines, and fixed."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(n) / n
    places = np.stack([n / 4 * np.cos(angle), n / 4 * np.sin(angle), rng.normal(0, 0.2, n)], 1)
    places = np.concatenate([places, places[:1] + np.array([1.2, 0.3, 0]), [[20.0, 0, 0], [21.0, 0.1, 0]]])
    pairs = [(k, (k + 1) % n) for k in range(n)] + [(0, n), (n + 1, n + 2)]
    i, j = np.array(pairs).T
    r = torch.from_numpy(places)
    lengths = (r[j] - r[i]).norm(dim=1)
    projectors = torch.zeros(0, 3, 3, dtype=torch.float64)
    if restricted:
        projectors = torch.eye(3, dtype=torch.float64).repeat(n + 3, 1, 1)
        normal = torch.from_numpy(np.linalg.qr(rng.normal(size=(3, 3)))[0][:, :1])
        projectors[0] -= normal @ normal.T
        projectors[n + 1] = 0.0
    inverse = torch.from_numpy(1 / rng.uniform(1, 30, n + 3))
    push = torch.from_numpy(rng.normal(0, 0.04, places.shape))
    if restricted:
        push = torch.einsum("kab,kb->ka", projectors, push)
    starts = torch.tensor([0, n + 1, n + 2])
    return r, r + push, push, (inverse, projectors, torch.tensor(pairs), lengths, starts)


@pytest.mark.parametrize("restricted", [False, True])
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 7))
@settings(max_examples=10, deadline=None)
def test_kernels_are_their_definitions(restricted: bool, n: int, seed: int) -> None:
    """Gauss–Seidel in the kernel, Newton in the definition: the same point, and on the constraints."""
    old, new, v, held = ring(n, seed, restricted)
    inverse, _, pairs, lengths, _ = held
    found, bad = distance_positions(new, old, *held, 1e-13, 5000)
    flat, worse = distance_velocities(v, found, *held, 1e-13, 5000)
    with only_reference():
        expected, no = distance_positions(new, old, *held, 1e-13, 50)
        level, none = distance_velocities(v, found, *held, 1e-13, 50)
    assert (bad, worse, no, none) == (-1, -1, -1, -1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(flat, level, rtol=0, atol=1e-10)
    between = found[pairs[:, 1]] - found[pairs[:, 0]]
    torch.testing.assert_close(between.norm(dim=1), lengths, rtol=1e-12, atol=0)
    rate = (between * (flat[pairs[:, 1]] - flat[pairs[:, 0]])).sum(1)
    assert float(rate.abs().max()) < 1e-10
    if restricted:
        assert torch.equal(found[n + 1], old[n + 1])
    # the correction is M⁻¹ times forces along the old pairs: it gives no momentum to a free set
    if not restricted:
        given = ((found - new) / inverse[:, None]).sum(0)
        assert float(given.abs().max()) < 1e-10
    wrong, _ = distance_positions(new, new, *held, 1e-13, 5000)  # pulled along the new pairs instead
    assert float((wrong - expected).abs().max()) > 1e-6


@pytest.mark.parametrize("context", [only_reference, nullcontext])
def test_what_cannot_converge_is_named(context: Any) -> None:
    old, new, v, held = waters(3, 5)
    twisted = new.clone()
    twisted[3:6] += torch.tensor([[0.0, 0, 0], [30.0, 0, 0], [0, -9.0, 0]])
    arguments = (1 / held["masses"], NONE, held["pairs"], held["lengths"], held["starts"])
    shapes = (held["masses"], held["molecules"], held["shapes"])
    with context():
        assert distance_positions(new, old, *arguments, 1e-12, 500)[1] == -1
        assert distance_positions(twisted, old, *arguments, 1e-12, 500)[1] in (3, 4, 5)
        assert distance_positions(new, old, *arguments, 1e-12, 1)[1] >= 0
        assert distance_positions(new * torch.nan, old, *arguments, 1e-12, 5)[1] >= 0
        assert distance_velocities(v * torch.nan, old, *arguments, 1e-12, 5)[1] >= 0
        assert settle_positions(new, old, *shapes)[1] == -1
        assert settle_positions(twisted, old, *shapes)[1] == 1


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_settle_kernels_are_their_definitions(seed: int) -> None:
    old, new, v, held = waters(5, seed)
    arguments = (held["masses"], held["molecules"])
    found = settle_positions(new, old, *arguments, held["shapes"])[0]
    flat = settle_velocities(v, found, *arguments)[0]
    with only_reference():
        torch.testing.assert_close(
            found, settle_positions(new, old, *arguments, held["shapes"])[0], rtol=0, atol=1e-12
        )
        torch.testing.assert_close(flat, settle_velocities(v, found, *arguments)[0], rtol=0, atol=1e-12)
