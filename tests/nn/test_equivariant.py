"""Equivariant layers: rotation, normalisation, equality with e3nn."""

from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rikiba.kernels.grouping import group_by_type
from rikiba.nn.equivariant import (
    Convolution,
    DegreeLinear,
    ProductBasis,
    TypedDegreeLinear,
    gate,
    natural_paths,
    norm_activation,
)
from rikiba.nn.so3 import rotation_matrix, spherical_harmonics


def rotation(seed: int) -> Tensor:
    """A random element of O(3), improper half of the time."""
    q, _ = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    )
    return q


def turn(l_max: int, r: Tensor) -> Tensor:
    return torch.block_diag(*rotation_matrix(l_max, r))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_convolution_and_product_rotate(seed: int) -> None:
    torch.manual_seed(seed)
    convolution = Convolution(channels=3, l_harmonics=3, l_features=1, l_out=2).double()
    product = ProductBasis(types=2, channels=3, l_features=2, l_out=1, correlation=3).double()
    i, j = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 0, 1])
    vectors = torch.nn.functional.normalize(torch.randn(4, 3, dtype=torch.float64), dim=1)
    radial = torch.randn(4, convolution.n_couplings, 3, dtype=torch.float64)
    h = torch.randn(3, 4, 3, dtype=torch.float64)
    groups = group_by_type(torch.tensor([0, 1, 0]), 2)

    def run(v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        a = convolution(i, j, radial, spherical_harmonics(v, 3), x)
        return a, product(a, groups)

    r = rotation(seed)
    a, b = run(vectors, h)
    a_turned, b_turned = run(vectors @ r.T, turn(1, r) @ h)
    torch.testing.assert_close(a_turned, turn(2, r) @ a, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(b_turned, turn(1, r) @ b, rtol=1e-9, atol=1e-9)
    wrong, _ = run(vectors @ r.T, h)  # negative control: features left behind
    assert not torch.allclose(wrong, turn(2, r) @ a, atol=1e-6)


def test_convolution_equals_e3nn() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    channels, paths = 4, natural_paths(2, 1, 2)
    ours = Convolution(channels=channels, l_harmonics=2, l_features=1, l_out=2).double()
    features, harmonics = o3.Irreps("4x0e + 4x1o"), o3.Irreps.spherical_harmonics(2)
    middle = o3.Irreps([(channels, (l3, (-1) ** l3)) for _, _, l3 in paths])
    instructions = [(l2, l1, k, "uvu", True) for k, (l1, l2, _) in enumerate(paths)]
    product = o3.TensorProduct(
        features, harmonics, middle, instructions, shared_weights=False, internal_weights=False
    ).double()
    torch.manual_seed(0)
    radial = torch.randn(5, len(paths), channels, dtype=torch.float64)
    h = torch.randn(5, 4, channels, dtype=torch.float64)
    y = spherical_harmonics(torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1), 2)
    theirs = product(torch.cat([h[:, 0], h[:, 1:].transpose(1, 2).flatten(1)], 1), y, radial.flatten(1))
    index = torch.arange(5)
    found = ours(index, index, radial, y, h)
    at, expected = 0, [torch.zeros(5, 2 * l + 1, channels, dtype=torch.float64) for l in range(3)]
    used = [0, 0, 0]
    for _, _, l3 in paths:
        d = 2 * l3 + 1
        block = theirs[:, at : at + channels * d].unflatten(1, (channels, d)).transpose(1, 2)
        weight = ours.mix[l3]
        rows = slice(used[l3] * channels, (used[l3] + 1) * channels)
        expected[l3] = expected[l3] + block @ weight[rows] / sqrt(weight.shape[0])
        used[l3] += 1
        at += channels * d
    torch.testing.assert_close(found, torch.cat(expected, 1))


def test_linear_layers_keep_variance_and_degrees() -> None:
    torch.manual_seed(1)
    x = torch.randn(3000, 9, 32)
    plain = DegreeLinear(channels_in=32, channels_out=24, l_max=1)(x)
    assert plain.shape == (3000, 4, 24)
    assert float(plain.detach().square().mean()) == pytest.approx(1.0, abs=0.15)
    types = torch.randint(0, 3, (3000,))
    typed_layer = TypedDegreeLinear(types=3, channels_in=32, channels_out=24, l_max=2)
    typed = typed_layer(x, group_by_type(types, 3))
    assert typed.shape == (3000, 9, 24)
    weight = typed_layer.weight[1, types] / sqrt(32 * 3)
    torch.testing.assert_close(
        typed[:, 1:4], torch.einsum("nda,nab->ndb", x[:, 1:4], weight), rtol=1e-4, atol=1e-4
    )


def test_product_weights_can_be_shared() -> None:
    torch.manual_seed(2)
    shared = ProductBasis(types=1, channels=2, l_features=1, l_out=0, correlation=2)
    a = torch.randn(4, 4, 2)
    groups = group_by_type(torch.tensor([0, 1, 1, 0]), 2)
    swapped = group_by_type(torch.tensor([1, 0, 0, 1]), 2)
    torch.testing.assert_close(shared(a, groups), shared(a, swapped))
    own = ProductBasis(types=2, channels=2, l_features=1, l_out=0, correlation=2)
    assert not torch.allclose(own(a, groups), own(a, swapped))
    with pytest.raises(ValueError, match="out of reach"):
        ProductBasis(types=1, channels=2, l_features=0, l_out=1, correlation=2)


def test_gate_and_norm_activation_rotate() -> None:
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    r = rotation(3)
    s, g = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    f = torch.nn.functional.silu
    _, gated = gate(s, g, x, scalar_function=f, gate_function=torch.sigmoid)
    _, turned = gate(s, g, r @ x, scalar_function=f, gate_function=torch.sigmoid)
    torch.testing.assert_close(turned, r @ gated)
    bias = torch.randn(4, dtype=torch.float64)
    torch.testing.assert_close(norm_activation(r @ x, bias, f), r @ norm_activation(x, bias, f))
    assert not torch.allclose(f(r @ x), r @ f(x))  # a component-wise function does not rotate
    assert norm_activation(torch.zeros_like(x), bias, f).eq(0).all()
