"""Harmonics, couplings and rotation matrices against e3nn, sphericart and closed forms."""

import warnings
from math import pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rikiba.nn.so3 import clebsch_gordan, degrees, rotation_matrix, spherical_harmonics


def directions(n: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=g, dtype=torch.float64), dim=1)


def rotation(seed: int, improper: bool = False) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))
    q = q * torch.sign(torch.diagonal(r))
    return q * torch.linalg.det(q).sign() * (-1.0 if improper else 1.0)


def test_harmonics_equal_e3nn() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    v = directions(50)
    found = spherical_harmonics(v, 10)
    for l, rows in enumerate(degrees(10)):
        expected = o3.spherical_harmonics(l, v, normalize=True, normalization="component")
        torch.testing.assert_close(found[:, rows], expected, rtol=1e-12, atol=1e-12)


def test_harmonics_equal_sphericart() -> None:
    sphericart = pytest.importorskip("sphericart")
    v = directions(50, 1)
    expected = sphericart.SphericalHarmonics(8).compute(np.ascontiguousarray(v[:, [2, 0, 1]].numpy()))
    found = spherical_harmonics(v, 8).numpy() / sqrt(4 * pi)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_harmonics_equal_scipy() -> None:
    """Real combinations of scipy's complex harmonics about the y axis, Condon–Shortley phase taken out."""
    sph_harm_y = pytest.importorskip("scipy.special").sph_harm_y
    v = directions(30, 2).numpy()
    theta, phi = np.arccos(v[:, 1]), np.arctan2(v[:, 0], v[:, 2])
    found = spherical_harmonics(torch.from_numpy(v), 5).numpy() / sqrt(4 * pi)
    for l in range(6):
        for m in range(-l, l + 1):
            y = sph_harm_y(l, abs(m), theta, phi) * (-1) ** m
            expected = y.real if m == 0 else sqrt(2) * (y.real if m > 0 else y.imag)
            np.testing.assert_allclose(found[:, l * l + l + m], expected, atol=1e-12)


def test_component_normalisation_and_addition_theorem() -> None:
    a, b = directions(20, 3), directions(20, 4)
    ya, yb = spherical_harmonics(a, 7), spherical_harmonics(b, 7)
    cosine = (a * b).sum(1)
    for l, rows in enumerate(degrees(7)):
        torch.testing.assert_close(
            (ya[:, rows] ** 2).sum(1), torch.full((20,), 2.0 * l + 1, dtype=torch.float64)
        )
        legendre = torch.special.legendre_polynomial_p(cosine, l)
        torch.testing.assert_close((ya[:, rows] * yb[:, rows]).sum(1), (2 * l + 1) * legendre)


def test_harmonics_are_differentiable() -> None:
    v = directions(3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: spherical_harmonics(x, 4), (v,))
    assert torch.autograd.gradgradcheck(lambda x: spherical_harmonics(x, 4), (v,), fast_mode=True)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), improper=st.booleans())
def test_harmonics_rotate_with_their_matrices(seed: int, improper: bool) -> None:
    v, r = directions(6, seed), rotation(seed + 1, improper)
    turned, still = spherical_harmonics(v @ r.T, 6), spherical_harmonics(v, 6)
    for d, rows in zip(rotation_matrix(6, r), degrees(6), strict=True):
        torch.testing.assert_close(turned[:, rows], still[:, rows] @ d.T, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(d @ d.T, torch.eye(len(d), dtype=torch.float64))
    assert not torch.allclose(turned[:, 1:4], still[:, 1:4])


def test_rotation_matrices_compose_and_equal_e3nn() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    a, b = rotation(1), rotation(2)
    both = zip(rotation_matrix(5, a @ b), rotation_matrix(5, a), rotation_matrix(5, b), strict=True)
    for l, (product, first, second) in enumerate(both):
        torch.testing.assert_close(product, first @ second)
        expected = o3.Irrep(l, (-1) ** l).D_from_matrix(a)  # through Euler angles: seven digits
        torch.testing.assert_close(first, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="orthogonal"):
        rotation_matrix(1, torch.diag(torch.tensor([1.0, 2.0, 1.0])))


def test_pseudo_tensors_keep_their_sign_under_inversion() -> None:
    minus = -torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(rotation_matrix(1, minus)[1], minus)
    torch.testing.assert_close(rotation_matrix(1, minus, parity=1)[1], -minus)


def triangles(l_max: int) -> list[tuple[int, int, int]]:
    return [
        (a, b, c)
        for a in range(l_max + 1)
        for b in range(l_max + 1)
        for c in range(abs(a - b), min(a + b, l_max) + 1)
    ]


def test_couplings_equal_e3nn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        o3 = pytest.importorskip("e3nn.o3")
    for a, b, c in triangles(5):
        torch.testing.assert_close(
            clebsch_gordan(a, b, c), o3.wigner_3j(a, b, c, dtype=torch.float64), rtol=0, atol=1e-12
        )


def test_couplings_equal_closed_forms() -> None:
    """1⊗1→0 is the dot product /√3, 1⊗1→1 the cross product /√6, and l⊗l→0 the identity /√(2l+1)."""
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(clebsch_gordan(1, 1, 0)[..., 0], eye / sqrt(3))
    u, v = directions(1, 6)[0], directions(1, 7)[0]
    cross = torch.einsum("abc,a,b->c", clebsch_gordan(1, 1, 1), u, v)
    torch.testing.assert_close(cross, torch.linalg.cross(u, v) / sqrt(6))
    for l in range(8):
        identity = torch.eye(2 * l + 1, dtype=torch.float64) / sqrt(2 * l + 1)
        torch.testing.assert_close(clebsch_gordan(l, l, 0)[..., 0], identity)


def test_couplings_are_invariant_and_complete() -> None:
    r = rotation(11)
    d = rotation_matrix(6, r)
    for a, b, c in triangles(4):
        w = clebsch_gordan(a, b, c)
        turned = torch.einsum("abc,ax,by,cz->xyz", w, d[a], d[b], d[c])
        torch.testing.assert_close(turned, w, rtol=1e-10, atol=1e-10)
    for a, b in ((1, 2), (3, 3), (4, 2)):
        blocks = [sqrt(2 * c + 1) * clebsch_gordan(a, b, c) for c in range(abs(a - b), a + b + 1)]
        basis = torch.cat(blocks, 2).flatten(0, 1)
        torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64))
    wrong = clebsch_gordan(2, 2, 2).transpose(0, 2).flip(1)
    turned = torch.einsum("abc,ax,by,cz->xyz", wrong, d[2], d[2], d[2])
    assert not torch.allclose(turned, wrong, atol=1e-3)


def test_impossible_couplings_are_refused() -> None:
    with pytest.raises(ValueError, match="triangle"):
        clebsch_gordan(1, 1, 3)
    with pytest.raises(ValueError, match="l_max"):
        spherical_harmonics(directions(1), -1)
