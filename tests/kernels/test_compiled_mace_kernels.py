"""Compiled messages, contractions and pair geometry against plain torch, values and derivatives."""

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.contraction_cpu import contraction_forward, contraction_reverse
from rikiba.kernels.grouping import group_by_type
from rikiba.kernels.lanes import LANES, load, multiply_add, spread, store, total
from rikiba.kernels.message_cpu import message_forward, message_reverse
from rikiba.nn.equivariant import Convolution, ProductBasis
from rikiba.nn.so3 import raising_terms, spherical_harmonics
from rikiba.potentials.mace_weights import _paths, _product, packed_rows

CHANNELS = 32
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-13}
DTYPES = [torch.float32, torch.float64]


def random(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def packed(x: Tensor) -> Tensor:
    """[atoms, lm, channels] degree by degree."""
    degrees = round(x.shape[1] ** 0.5)
    return torch.cat([x[:, l * l : (l + 1) ** 2].reshape(-1) for l in range(degrees)])


def unpacked(flat: Tensor, atoms: int, degrees: int) -> Tensor:
    parts = flat.split([atoms * (2 * l + 1) * CHANNELS for l in range(degrees)])
    return torch.cat([p.view(atoms, 2 * l + 1, CHANNELS) for l, p in enumerate(parts)], 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lanes(dtype: type) -> None:
    @njit
    def run(a, b, out):  # type: ignore[no-untyped-def]
        x = multiply_add(load(a, 3), spread(b, 1), load(b, 2))
        store(out, 1, x)
        return total(x)

    a, b = (np.random.default_rng(s).normal(size=40).astype(dtype) for s in (0, 1))
    out = np.zeros(LANES + 2, dtype)
    found = run(a, b, out)
    expected = a[3 : 3 + LANES] * b[1] + b[2 : 2 + LANES]
    np.testing.assert_allclose(out[1:-1], expected, rtol=3 * np.finfo(dtype).eps, atol=1e-7)
    assert out[0] == out[-1] == 0.0  # nothing beside
    assert found == pytest.approx(expected.sum(), rel=1e-5)


class Messages:
    """A random graph of 9 centres (one without neighbours) with R and R′ given per pair."""

    def __init__(self, l_features: int, l_max: int, dtype: torch.dtype) -> None:
        self.dtype, self.l_max, self.l_features, self.n = dtype, l_max, l_features, 9
        self.layer = Convolution(channels=CHANNELS, l_harmonics=l_max, l_features=l_features, l_out=l_max)
        counts = torch.tensor([5, 0, 1, 4, 3, 8, 2, 6, 7])
        self.i = torch.repeat_interleave(torch.arange(self.n), counts)
        self.start = np.concatenate([[0], np.cumsum(counts.numpy())])
        pairs = len(self.i)
        self.j = torch.randint(0, self.n, (pairs,), generator=torch.Generator().manual_seed(5))
        self.radial = random(pairs, self.layer.n_couplings, CHANNELS, dtype=dtype, seed=1)
        self.slope = random(pairs, self.layer.n_couplings, CHANNELS, dtype=dtype, seed=2)
        self.y = random(pairs, (l_max + 1) ** 2, dtype=dtype, seed=3)
        self.h = random(self.n, (l_features + 1) ** 2, CHANNELS, dtype=dtype, seed=4)
        self.norm = random(self.n, dtype=dtype, seed=6)

    def compiled(self, cotangent: Tensor | None = None) -> tuple[Tensor, ...]:
        """A in the order of the plain operation; with a cotangent, also the derivatives."""
        paths, coupling, rows = _paths(self.layer)
        table = torch.zeros(2 * len(self.i) + 4, self.layer.n_couplings * CHANNELS, dtype=self.dtype)
        table[0:-4:2], table[1:-4:2] = self.radial.flatten(1), self.slope.flatten(1)
        weights = np.zeros((len(self.i), 12), table.numpy().dtype)
        weights[:, 0] = weights[:, 7] = 1.0
        angular = self.y if coupling is None else self.y @ coupling.to(self.y)
        shapes = self.layer.plan.master.output_shapes
        sizes = [self.n * d * n * CHANNELS for d, n in shapes]
        out = torch.zeros(sum(sizes), dtype=self.dtype)
        shared = (
            0, self.n, self.start, self.j.numpy(), 2 * np.arange(len(self.i)), weights.reshape(-1),
            table.flatten().numpy(), packed(self.h).numpy(), self.n, angular.flatten().numpy(), 0,
            paths, rows, CHANNELS, self.norm.numpy(),
        )  # fmt: skip
        message_forward(*shared, out.numpy())
        blocks = [b.view(self.n, -1, CHANNELS) for b in out.split(sizes)]
        if cotangent is None:
            return (torch.cat(blocks, 1),)
        given = torch.cat([c.reshape(-1) for c in cotangent.split([d * n for d, n in shapes], 1)])
        slope, angular_slope = np.zeros(len(self.i)), torch.zeros_like(angular)
        feature_slope = torch.zeros_like(packed(self.h))
        message_reverse(*shared, given.numpy(), slope, angular_slope.view(-1).numpy(), feature_slope.numpy())
        y_slope = angular_slope if coupling is None else angular_slope @ coupling.to(self.y).T
        return (
            torch.cat(blocks, 1),
            torch.from_numpy(slope).to(self.dtype),
            y_slope,
            unpacked(feature_slope, self.n, self.l_features + 1),
        )

    def plain(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        from rikiba.kernels.pair_convolution import pair_convolution

        r = torch.zeros(len(self.i), dtype=self.dtype, requires_grad=True)
        y, h = self.y.clone().requires_grad_(), self.h.clone().requires_grad_()
        radial = self.radial + r[:, None, None] * self.slope
        plan = self.layer.plan.like(radial)
        out = pair_convolution(plan, self.i, self.j, radial, y, h, self.n) * self.norm[:, None, None]
        return out.detach(), *torch.autograd.grad((out * cotangent).sum(), (r, y, h))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("l_features", "l_max"), [(0, 3), (1, 3), (2, 2), (0, 0)])
def test_messages_and_their_reverse_are_those_of_the_plain_convolution(
    l_features: int, l_max: int, dtype: torch.dtype
) -> None:
    case = Messages(l_features, l_max, dtype)
    cotangent = random(*case.compiled()[0].shape, dtype=dtype, seed=7)
    found, expected = case.compiled(cotangent), case.plain(cotangent)
    for a, b in zip(found, expected, strict=True):
        scale = float(b.abs().max())
        torch.testing.assert_close(a, b, rtol=0, atol=TOLERANCE[dtype] * scale)
    assert float(found[0][1].abs().max()) == 0.0  # no neighbours
    case.radial[0, 0, 0] += 0.1  # the comparison sees a change of one weight
    assert float((case.compiled()[0] - expected[0]).abs().max()) > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("l_features", "l_out", "order"), [(3, 0, 3), (3, 1, 3), (2, 2, 3), (2, 1, 4), (1, 0, 1)]
)
def test_contraction_and_its_reverse_are_those_of_the_plain_one(
    l_features: int, l_out: int, order: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    product = ProductBasis(
        types=2, channels=CHANNELS, l_features=l_features, l_out=l_out, correlation=order
    ).to(dtype)
    weights, tree = _product(product)
    atoms, types = 7, torch.tensor([0, 0, 0, 1, 1, 1, 1])
    a = random(atoms, (l_features + 1) ** 2, CHANNELS, dtype=dtype).requires_grad_()
    expected = product(a, group_by_type(types, 2))
    cotangent = random(*expected.shape, dtype=dtype, seed=1)
    (slope,) = torch.autograd.grad((expected * cotangent).sum(), a)
    rows, out_rows = (packed_rows([(2 * l + 1, 1) for l in range(n + 1)]) for n in (l_features, l_out))
    flat, out, found = (
        packed(a.detach()),
        torch.zeros_like(packed(cotangent)),
        torch.zeros_like(packed(slope)),
    )
    for kind, first, last in ((0, 0, 3), (1, 3, 7)):
        w = weights[kind].detach().numpy()
        contraction_forward(
            tree, w, flat.numpy(), rows, 0, atoms, out.numpy(), out_rows, 0, atoms, first, last, CHANNELS
        )
        contraction_reverse(
            tree, w, flat.numpy(), rows, 0, atoms, packed(cotangent).numpy(), out_rows, 0, atoms,
            first, last, CHANNELS, found.numpy(), 0, atoms,
        )  # fmt: skip
    for a_, b, degrees in ((out, expected.detach(), l_out), (found, slope, l_features)):
        scale = float(b.abs().max())
        torch.testing.assert_close(unpacked(a_, atoms, degrees + 1), b, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("l_max", [0, 1, 3, 5])
def test_pair_geometry_and_its_reverse(l_max: int) -> None:
    vectors = (random(12, 3, dtype=torch.float64) + 0.5).requires_grad_()
    r = vectors.norm(dim=1)
    y = spherical_harmonics(vectors / r[:, None], l_max)
    y_slope, slope = random(*y.shape, dtype=torch.float64, seed=1), random(12, dtype=torch.float64, seed=2)
    (expected,) = torch.autograd.grad((y * y_slope).sum() + (r * slope).sum(), vectors)
    i, j = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    given = vectors.detach().numpy()
    lengths, shortest = geometry.lengths(given)
    assert shortest == pytest.approx(float(r.detach().min()), rel=1e-15)
    types = np.array([1, 0, 1, 0])
    order, place, spans, start, parent, sender = geometry.arrange(types, 2, i, j, lengths)
    assert (
        order.tolist() == [1, 3, 0, 2] and spans.tolist() == [0, 2, 4] and start.tolist() == [0, 3, 6, 9, 12]
    )
    assert (i[parent] == order[np.repeat(np.arange(4), 3)]).all() and (order[sender] == j[parent]).all()
    assert all((np.diff(lengths[parent[k : k + 3]]) >= 0).all() for k in (0, 3, 6, 9))
    assert (place[order] == np.arange(4)).all()
    unit, length = np.empty((12, 3)), np.empty(12)
    geometry.unit_vectors(given, lengths, parent, unit, length)
    found_y, found = np.empty(y.shape), np.empty((12, 3))
    terms = raising_terms(l_max)
    geometry.harmonics(unit, *terms, found_y)
    np.testing.assert_allclose(found_y, y.detach().numpy()[parent], rtol=0, atol=1e-13)
    backward = y_slope.numpy()[parent].copy()
    geometry.geometry_reverse(unit, length, found_y, *terms, parent, slope.numpy()[parent], backward, found)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-12)
