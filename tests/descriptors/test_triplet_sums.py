"""Compiled sums over pairs of neighbours against their definition by torch, to second derivatives."""

from collections.abc import Iterator

import pytest
import torch
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.system import System
from rikiba.descriptors.acsf import ENVELOPES, SymmetryFunctions, _Triplets
from rikiba.descriptors.triplet_sums import Neighbours, triplet_sums

FUNCTIONS = [
    (0.3, 0.0, 1.0, 1.0), (0.3, 0.0, 4.0, -1.0), (0.1, 1.2, 2.5, -1.0), (0.1, 1.2, 2.5, 1.0, 2.9),
    (0.0, 0.0, 3.0, -1.0), (0.3, 0.0, 0.5, 1.0, 3.3),
]  # fmt: skip


def made(envelope: str, narrow: bool) -> tuple[SymmetryFunctions, _Triplets]:
    start = 0.2 if envelope.startswith(("cosine", "mollifier", "smoothstep")) else 0.0
    given = {"narrow": FUNCTIONS} if narrow else {"wide": [f for f in FUNCTIONS if f[2] % 1.0]}
    functions = SymmetryFunctions(
        n_elements=3,
        cutoff=3.8,
        radial=[],
        envelope=envelope,  # type: ignore[arg-type]
        envelope_start=start,
        **given,  # type: ignore[arg-type]
    )
    return functions, functions.narrow if narrow else functions.wide_direct


def case(seed: int, n: int = 9) -> tuple[System, Pairs, torch.Tensor]:
    """Atoms in a small skewed cell, one of them far from all others, and their types."""
    g = torch.Generator().manual_seed(seed)
    positions = torch.rand((n, 3), generator=g, dtype=torch.float64) * 4.0
    positions[-1, 2] = 20.0
    atoms = Atoms(f"H{n}", positions.numpy(), cell=[[4.4, 0, 0], [0.7, 4.1, 0], [0.2, -0.5, 40.0]], pbc=True)
    system = System.from_ase(atoms)
    return system, find_pairs(system, 3.8), torch.randint(3, (n,), generator=g)


def both(envelope: str, narrow: bool, seed: int) -> tuple[torch.Tensor, Iterator[torch.Tensor]]:
    """Vectors, and the sums by the kernel and by the definition."""
    functions, part = made(envelope, narrow)
    system, pairs, types = case(seed)
    kind = types[pairs.j]
    around = Neighbours(pairs.row_start, kind, functions.pair_index, len(functions.element_pairs))
    v = pairs.vectors(system).detach().requires_grad_()

    def definition(x: torch.Tensor) -> torch.Tensor:
        return functions._defined(part, x, x.norm(dim=-1), pairs, kind)

    return v, iter((triplet_sums(v, around, part.tables, definition), definition(v)))


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("envelope", ENVELOPES)
def test_sums_and_first_derivatives_are_those_of_the_definition(envelope: str, narrow: bool) -> None:
    for seed in range(3):
        v, (found, expected) = both(envelope, narrow, seed)
        assert float(expected.detach().abs().max()) > 1e-3
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
        weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9), dtype=v.dtype)
        slopes = [
            torch.autograd.grad((weights * x).sum(), v, retain_graph=True)[0] for x in (found, expected)
        ]
        torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-10, atol=1e-12)
        # negative control: other weights of the functions have other derivatives
        other = torch.autograd.grad((weights.roll(1, -1) * found).sum(), v)[0]
        assert float((other - slopes[1]).abs().max()) > 0.1 * float(slopes[1].abs().max())


@pytest.mark.parametrize("narrow", [True, False])
def test_derivatives_can_be_differentiated_again(narrow: bool) -> None:
    v, (found, expected) = both("smoothstep3", narrow, 5)
    seconds = []
    for x in (found, expected):
        (slope,) = torch.autograd.grad((x * x).sum(), v, create_graph=True)
        seconds.append(torch.autograd.grad((slope**2).sum(), v, retain_graph=True)[0])
    assert float(seconds[1].abs().max()) > 1e-3
    torch.testing.assert_close(*seconds, rtol=1e-10, atol=1e-11)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_turned_mirrored_and_renumbered(seed: int) -> None:
    functions, _ = made("polynomial", True)
    g = torch.Generator().manual_seed(seed)
    positions = torch.rand((8, 3), generator=g, dtype=torch.float64) * 3.0
    turn, _ = torch.linalg.qr(torch.randn((3, 3), generator=g, dtype=torch.float64))
    order = torch.randperm(8, generator=g)
    types = torch.randint(3, (8,), generator=g)

    def features(x: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        system = System.from_ase(Atoms("H8", x.numpy()))
        return functions(system, find_pairs(system, 3.8), kind, torch.float64)

    before = features(positions, types)
    after = features((positions @ turn.T)[order], types[order])
    torch.testing.assert_close(after, before[order], rtol=1e-9, atol=1e-11)


def test_single_precision_goes_by_the_definition() -> None:
    functions, _ = made("cosine", True)
    system, pairs, types = case(1)
    double, single = (functions(system, pairs, types, d) for d in (torch.float64, torch.float32))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)
