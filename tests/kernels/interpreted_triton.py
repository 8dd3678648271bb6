"""The Triton kernels against their definitions, run by Triton's interpreter; started by test_triton.py.

The interpreter is chosen when a kernel is defined, so these run in a process of their own.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ase import Atoms
from test_pair_convolution import inputs as pair_inputs
from test_pair_convolution import plan as pair_plan
from test_symmetric_contraction import inputs as product_inputs
from test_symmetric_contraction import plan as product_plan
from torch import Tensor

from rikiba.calculators.autograd import evaluate as energy_and_forces
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.kernels import (
    dispatch,
    grouping,
    launching_triton,
    pair_convolution,
    radial_table,
    symmetric_contraction,
)
from rikiba.kernels import pair_convolution_triton as pair_kernels
from rikiba.kernels.grouping import group_by_type, segment_sum
from rikiba.potentials.base import Potential
from rikiba.potentials.mace import MACE
from rikiba.potentials.nequip import NequIP
from rikiba.potentials.painn import PaiNN
from rikiba.potentials.schnet import SchNet

assert os.environ["TRITON_INTERPRET"] == "1"

OPERATIONS = ("pair_convolution", "symmetric_contraction", "radial_table", "segment_sum")
CLOSE = {torch.float64: 1e-12, torch.float32: 2e-5}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take tensors of the CPU for those of a CUDA device."""
    for operation in OPERATIONS:
        faster = dispatch._FASTER[operation, "cuda"]
        monkeypatch.setitem(dispatch._FASTER, (operation, "cpu"), faster)
    monkeypatch.delitem(dispatch._FASTER, ("pair_convolution_second", "cpu"), raising=False)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    scale = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    bound = CLOSE[found.dtype] * scale
    torch.testing.assert_close(found, expected, rtol=0.0, atol=bound)


def slots() -> Iterator[tuple[int, ...]]:
    yield from [(0,), (1,), (2,), (3,), (0, 2), (1, 2, 3)]


def derivatives(b: Tensor, leaves: tuple[Tensor, ...]) -> list[Tensor]:
    """The value, and first, second and third derivatives of functions of it."""
    first = torch.autograd.grad((b * b.cos()).sum(), leaves, create_graph=True)
    mixed = sum((x * x.cos()).sum() for x in first)
    second = torch.autograd.grad(mixed, leaves, retain_graph=True)
    again = torch.autograd.grad(first[0].sin().sum(), leaves, create_graph=True)
    third = torch.autograd.grad(sum(x.sin().sum() for x in again), leaves)
    return [b, *first, *second, *again, *third]


@pytest.mark.parametrize(
    ("degrees", "channels", "dtype"),
    [((3, 0, 3), 5, torch.float32), ((2, 1, 2), 3, torch.float64), ((1, 2, 1), 1, torch.float64)],
)
def test_pair_convolution(degrees: tuple[int, int, int], channels: int, dtype: torch.dtype) -> None:
    p = pair_plan(*degrees)
    p = p.to(torch.zeros(1, dtype=dtype))
    i, j, *rest = pair_inputs(p, 11, 5, channels, dtype)
    g = torch.randn((6, p.n_rows, channels), generator=torch.Generator().manual_seed(1)).to(dtype)
    args = (g, *(x.detach() for x in rest))
    shape = pair_convolution._Shape(6, 5)  # the last centre has no pairs
    for targets in slots():
        given = [None if targets == (k,) else x for k, x in enumerate(args)]
        expected = pair_convolution.evaluate(targets, p, shape, i, j, *given)
        found = pair_kernels.evaluate(targets, p, shape, i, j, *given)
        for a, b in zip(found, expected, strict=True):
            assert_equal(a, b)


def test_pair_convolution_of_unsorted_and_no_pairs_and_many_channels() -> None:
    p = pair_plan(1, 1, 1)
    i, j, *rest = pair_inputs(p, 9, 4, 150)
    args = [torch.ones((4, p.n_rows, 150), dtype=torch.float64), *(x.detach() for x in rest)]
    shape = pair_convolution._Shape(4, 4)
    for a, b, given in [(j, i, args), (i[:0], j[:0], [args[0], args[1][:0], args[2][:0], args[3]])]:
        expected = pair_convolution.evaluate((0, 1, 2, 3), p, shape, a, b, *given)
        for x, y in zip(pair_kernels.evaluate((0, 1, 2, 3), p, shape, a, b, *given), expected, strict=True):
            assert_equal(x, y)


def test_pair_convolution_differs_where_a_table_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    p = pair_plan(1, 1, 1)
    i, j, *rest = pair_inputs(p, 9, 4, 2)
    args = (None, *(x.detach() for x in rest))
    shape = pair_convolution._Shape(4, 4)
    (expected,) = pair_convolution.evaluate((0,), p, shape, i, j, *args)
    right = pair_kernels._tables(p)
    wrong = tuple(t._replace(place=t.place.flip(0)) for t in right)
    monkeypatch.setattr(pair_kernels, "_tables", lambda _: wrong)
    (found,) = pair_kernels.evaluate((0,), p, shape, i, j, *args)
    assert (found - expected).abs().max() > 0.1


def test_pair_convolution_to_third_order() -> None:
    p = pair_plan(1, 1, 1)
    i, j, *leaves = pair_inputs(p, 3, 2, 1)
    found = derivatives(pair_convolution.pair_convolution(p, i, j, *leaves, 3), tuple(leaves))
    with dispatch.only_reference():
        expected = derivatives(pair_convolution.pair_convolution(p, i, j, *leaves, 3), tuple(leaves))
    for x, y in zip(found, expected, strict=True):
        assert_equal(x, y)


def test_pairs_are_sorted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair list is put in order once for a step, forward and reverse."""
    made = []
    sort = launching_triton._segments
    monkeypatch.setattr(launching_triton, "_segments", lambda *a: made.append(a) or sort(*a))
    p = pair_plan(1, 1, 1)
    i, j, *leaves = pair_inputs(p, 5, 3, 2)
    for _ in range(2):
        out = pair_convolution.pair_convolution(p, i, j, *leaves, 3)
        first = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
        torch.autograd.grad(sum(x.square().sum() for x in first), leaves)
    assert len(made) == 2  # by centre and by sender
    pair_convolution.pair_convolution(p, i.clone(), j, *leaves, 3)
    assert len(made) == 3  # negative control: another tensor


def test_pair_convolution_under_vmap() -> None:
    p = pair_plan(1, 1, 1)
    i, j, r, y, h = (x.detach() for x in pair_inputs(p, 7, 3, 2))
    batch = torch.stack([r, -2.0 * r])
    found = torch.vmap(lambda r: pair_convolution.pair_convolution(p, i, j, r, y, h, 3))(batch)
    expected = torch.stack([pair_convolution.pair_convolution(p, i, j, r, y, h, 3) for r in batch])
    assert_equal(found, expected)


@pytest.mark.parametrize(
    ("l_max", "order", "degrees", "dtype"),
    [
        (1, 4, (0,), torch.float64),
        (2, 2, (0, 1), torch.float64),
        (1, 3, (0, 1), torch.float32),
        (1, 1, (0, 1), torch.float64),
    ],
)
def test_symmetric_contraction(l_max: int, order: int, degrees: tuple[int, ...], dtype: torch.dtype) -> None:
    p = product_plan(l_max, order, degrees)
    p = p.to(torch.zeros(1, dtype=dtype))
    types, a, w = product_inputs(p, 5, 2, 3)
    types[types == 1] = 2  # a type that is absent
    groups = group_by_type(types, 3)
    leaves = tuple((0.4 * x.detach()).to(dtype).requires_grad_() for x in (a, *w))
    found = symmetric_contraction.symmetric_contraction(p, leaves[0], leaves[1:], groups)
    expected = symmetric_contraction.evaluate(p, leaves[0], leaves[1:], groups)
    pairs = zip(derivatives(found, leaves), derivatives(expected, leaves), strict=True)
    for x, y in pairs:
        torch.testing.assert_close(x, y, rtol=10 * CLOSE[dtype], atol=10 * CLOSE[dtype])
    other = symmetric_contraction.evaluate(p, leaves[0], [v.flip(0) for v in leaves[1:]], groups)
    assert not torch.allclose(found, other)  # negative control: the check tells types apart


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_radial_table(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(2)
    coefficients = torch.randn((3, 7, 6, 11), generator=g).to(dtype)
    r = torch.linspace(0.5, 4.0, 23).to(dtype)
    kind = torch.randint(0, 3, (23,), generator=g)
    for order in range(6):
        found = dispatch.choose("radial_table", radial_table.evaluate, r)(
            order, coefficients, 0.5, 0.5, r, kind
        )
        assert_equal(found, radial_table.evaluate(order, coefficients, 0.5, 0.5, r, kind))
    shifted = radial_table.evaluate(0, coefficients, 0.5, 0.5, r, (kind + 1) % 3)
    assert not torch.allclose(found, shifted)
    x = r.double()[1:-1].requires_grad_()
    table = radial_table.radial_table(coefficients.double(), 0.5, 0.5, x, kind[1:-1])
    (slope,) = torch.autograd.grad(table.sin().sum(), x, create_graph=True)
    with dispatch.only_reference():
        plain = radial_table.radial_table(coefficients.double(), 0.5, 0.5, x, kind[1:-1])
        (expected,) = torch.autograd.grad(plain.sin().sum(), x, create_graph=True)
        second = torch.autograd.grad(expected.sum(), x)[0]
    assert_equal(slope, expected)
    assert_equal(torch.autograd.grad(slope.sum(), x)[0], second)


@pytest.mark.parametrize("rest", [(), (3,), (2, 5), (0,)])
def test_segment_sum(rest: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(4)
    for index in (torch.tensor([2, 0, 0, 4, 2, 2]), torch.tensor([0, 0, 1, 1, 4, 4])):
        values = torch.randn((6, *rest), generator=g, dtype=torch.float64).requires_grad_()
        found = segment_sum(values, index, 6)
        assert_equal(found, grouping.sum_rows(values, index, 6))
    with torch.inference_mode():
        frozen = torch.tensor([2, 0, 0, 4, 2, 2])
        assert_equal(segment_sum(values.detach(), frozen, 6), grouping.sum_rows(values, frozen, 6))
    if rest == (3,):
        assert torch.autograd.gradcheck(lambda v: segment_sum(v, index, 6), values)
        assert torch.autograd.gradgradcheck(lambda v: segment_sum(v, index, 6).sin(), values)
        index[0] = 3  # written to: what is known of it no longer holds
        assert_equal(segment_sum(values, index, 6), grouping.sum_rows(values, index, 6))


def quartz(seed: int) -> System:
    """Two atoms in a triclinic cell smaller than the cutoff, and an isolated one."""
    g = torch.Generator().manual_seed(seed)
    cell = [[3.3, 0.0, 0.0], [0.7, 3.1, 0.0], [0.3, -0.5, 3.4]]
    scaled = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]) + 0.03 * torch.randn((2, 3), generator=g)
    crystal = Atoms("SiO", scaled_positions=scaled.numpy(), cell=cell, pbc=True)
    return System.from_ase([crystal, Atoms("O", positions=[[0.0, 0.0, 0.0]], cell=[9.0] * 3)])


@pytest.mark.parametrize(
    "kind", [MACE, *(pytest.param(k, marks=pytest.mark.slow) for k in (NequIP, SchNet, PaiNN))]
)
def test_potentials(kind: Any) -> None:
    """Energies, forces, stress and the gradient of a loss on forces by the weights."""
    potential: Potential = kind.examples()[0].double()
    system = quartz(6)
    pairs = find_pairs(system, potential.cutoff)

    def run() -> list[Tensor]:
        found = energy_and_forces(potential, system, pairs, stress=True, create_graph=True)
        energy, forces, stress = (found.need(k) for k in ("energy", "forces", "stress"))
        loss = energy.square().sum() + forces.square().sum() + stress[:1].square().sum()
        weights = [p for p in potential.parameters() if p.requires_grad]
        slopes = torch.autograd.grad(loss, weights, allow_unused=True)
        return [energy, forces, stress[0], *(s for s in slopes if s is not None)]

    found = run()
    with dispatch.only_reference():
        expected = run()
    assert len(found) == len(expected) > 4
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-10)
    assert found[1].abs().max() > 1e-3
