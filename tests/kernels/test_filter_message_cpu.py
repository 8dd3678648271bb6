"""Compiled messages of filters against their sums written out, and against torch's derivatives."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rikiba.kernels.filter_message_cpu import (
    scalar_messages,
    scalar_messages_reverse,
    vector_messages,
    vector_messages_reverse,
)
from rikiba.kernels.pair_geometry_cpu import direction_reverse, pair_sums, spline_rows
from rikiba.kernels.spline_table import spline_table

CHANNELS = 48
START, SPACING, ROWS = 0.5, 0.25, 21


class Case(NamedTuple):
    """Centres with 0, 1, 2, 3 and 5 neighbours."""

    start: np.ndarray
    sender: np.ndarray
    r: np.ndarray
    unit: np.ndarray
    row: np.ndarray
    weights: np.ndarray


def case(seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    start = np.cumsum([0, 0, 1, 2, 3, 5])
    n = int(start[-1])
    vectors, r = rng.normal(size=(n, 3)), rng.uniform(START, START + 16 * SPACING, n)
    row, weights = np.empty(n, np.int64), np.empty((n, 12))
    spline_rows(r, np.zeros(n, np.int64), START, SPACING, 0.0, ROWS, row, weights)
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    return Case(start, rng.integers(0, 5, n), r, unit, row, weights.reshape(-1))


def read(table: Tensor, r: Tensor, p: Case) -> Tensor:
    """W of every pair, differentiable in r: linear around its value."""
    kind, at = torch.zeros(len(r)).long(), torch.from_numpy(p.r)
    value, slope = (spline_table(table[None], START, SPACING, at, kind, order) for order in range(2))
    return value + slope * (r - r.detach())[:, None]


def centres(p: Case) -> Tensor:
    return torch.from_numpy(np.repeat(np.arange(len(p.start) - 1), np.diff(p.start)))


def test_scalar_messages() -> None:
    p, rng = case(), np.random.default_rng(1)
    n = len(p.start) - 1
    table, g = rng.normal(size=(ROWS, CHANNELS)), torch.from_numpy(rng.normal(size=(n, CHANNELS)))
    h = torch.from_numpy(rng.normal(size=(n, CHANNELS))).requires_grad_()
    r = torch.from_numpy(p.r).requires_grad_()
    terms = read(torch.from_numpy(table), r, p) * h[torch.from_numpy(p.sender)]
    right = torch.zeros(n, CHANNELS, dtype=torch.float64).index_add(0, centres(p), terms)
    r_slope, h_slope = torch.autograd.grad(right, (r, h), g)
    out, features = np.empty(n * CHANNELS), h.detach().numpy().reshape(-1)
    given = (0, n, p.start, p.sender, p.row, p.weights, table.reshape(-1), 0, features, 0, CHANNELS)
    scalar_messages(*given, out)
    slope, back = np.zeros(len(p.r)), np.zeros(n * CHANNELS)
    scalar_messages_reverse(*given, g.numpy().reshape(-1), slope, back)
    np.testing.assert_allclose(out.reshape(n, -1), right.detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(slope, r_slope, rtol=0, atol=1e-11)
    np.testing.assert_allclose(back.reshape(n, -1), h_slope, rtol=0, atol=1e-11)
    assert not out[:CHANNELS].any() and np.abs(out).max() > 1.0  # the first has no neighbours


def vector_sums(filters: Tensor, features: Tensor, unit: Tensor, p: Case) -> tuple[Tensor, Tensor]:
    """s and v written out; features are [atoms, parts, channels]."""
    n = len(p.start) - 1
    h = features[torch.from_numpy(p.sender)]
    w = filters.unflatten(1, (-1, CHANNELS))
    vectors = (w[:, 1] * h[:, 1])[:, None] * unit[:, :, None]
    if w.shape[1] == 3:
        vectors = vectors + w[:, 2:3] * h[:, 2:]
    zero = torch.zeros(n, CHANNELS, dtype=torch.float64)
    scalars = zero.index_add(0, centres(p), w[:, 0] * h[:, 0])
    return scalars, zero[:, None].repeat(1, 3, 1).index_add(0, centres(p), vectors)


def test_vector_messages() -> None:
    for parts, filters in ((2, 2), (5, 3)):
        p, rng = case(parts), np.random.default_rng(parts)
        n = len(p.start) - 1
        table = rng.normal(size=(ROWS, filters * CHANNELS))
        h = torch.from_numpy(rng.normal(size=(n, parts, CHANNELS))).requires_grad_()
        r, u = torch.from_numpy(p.r).requires_grad_(), torch.from_numpy(p.unit).requires_grad_()
        right = vector_sums(read(torch.from_numpy(table), r, p), h, u, p)
        g = [torch.from_numpy(rng.normal(size=x.shape)) for x in right]
        r_slope, u_slope, h_slope = torch.autograd.grad(right, (r, u, h), g)
        s, v = np.zeros(n * CHANNELS), np.zeros(3 * n * CHANNELS)
        features = h.detach().numpy().reshape(-1)
        given = (0, n, p.start, p.sender, p.row, p.weights, table.reshape(-1), 0, features, 0, parts)
        vector_messages(*given, p.unit.reshape(-1), CHANNELS, s, v)
        slope, unit_slope = np.zeros(len(p.r)), np.zeros(3 * len(p.r))
        back = np.zeros(len(features) if parts == 5 else 0)
        cotangents = [x.numpy().reshape(-1) for x in g]
        vector_messages_reverse(*given, p.unit.reshape(-1), CHANNELS, *cotangents, slope, unit_slope, back)
        np.testing.assert_allclose(s, right[0].detach().flatten(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(v, right[1].detach().flatten(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(slope, r_slope, rtol=0, atol=1e-11)
        np.testing.assert_allclose(unit_slope, u_slope.flatten(), rtol=0, atol=1e-11)
        if parts == 5:
            np.testing.assert_allclose(back, h_slope.flatten(), rtol=0, atol=1e-11)
        assert float(right[1].detach().abs().max()) > 1.0 and float(r_slope.abs().max()) > 1.0


def test_derivatives_of_vectors_and_sums_over_pairs() -> None:
    rng = np.random.default_rng(2)
    vectors = torch.from_numpy(rng.normal(size=(7, 3))).requires_grad_()
    a, b = (torch.from_numpy(rng.normal(size=s)) for s in ((7,), (7, 3)))
    r = torch.linalg.vector_norm(vectors, dim=1)
    unit = vectors / r[:, None]
    for with_directions in (True, False):
        value = (a * r).sum() + ((b * unit).sum() if with_directions else 0.0)
        (right,) = torch.autograd.grad(value, vectors, retain_graph=True)
        out, parent = np.empty((7, 3)), rng.permutation(7)
        u_slope = b.numpy()[parent].reshape(-1) if with_directions else np.empty(0)
        lengths, directions = r.detach().numpy()[parent], unit.detach().numpy()[parent]
        direction_reverse(directions, lengths, parent, a.numpy()[parent], u_slope, out)
        np.testing.assert_allclose(out, right, rtol=0, atol=1e-13)
    i, j, system = np.array([0, 0, 1, 2, 3, 3, 3]), np.array([1, 2, 0, 0, 3, 4, 4]), np.array([0, 0, 0, 1, 1])
    forces, virial, v = np.zeros((5, 3)), np.zeros((2, 3, 3)), vectors.detach().numpy()
    pair_sums(i, j, system, v, out, forces, virial)
    for k in range(5):
        np.testing.assert_allclose(forces[k], out[i == k].sum(0) - out[j == k].sum(0), atol=1e-13)
    for k in range(2):
        outer = np.einsum("pa,pb->ab", out[system[i] == k], v[system[i] == k])
        np.testing.assert_allclose(virial[k], 0.5 * (outer + outer.T), atol=1e-13)
    assert np.abs(forces).max() > 0.1 and np.abs(virial).max() > 0.1
