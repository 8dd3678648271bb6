"""Radial bases against their formulas."""

from math import pi, sqrt

import pytest
import torch
from torch import nn

from rikiba.nn.radial import Bessel, Chebyshev, ExpNormal, Gaussian, SmoothBessel

R = torch.linspace(0.1, 4.9, 60, dtype=torch.float64)


def test_bessel() -> None:
    found = Bessel(n=8, cutoff=5.0)(R)
    expected = torch.stack([sqrt(2 / 5) * torch.sin(n * pi * R / 5) / R for n in range(1, 9)], 1)
    torch.testing.assert_close(found, expected)
    at_zero = Bessel(n=3, cutoff=5.0)(torch.zeros(1, dtype=torch.float64))[0]
    torch.testing.assert_close(at_zero, sqrt(2 / 5) * pi / 5 * torch.arange(1, 4, dtype=torch.float64))
    bare = Bessel(n=8, cutoff=5.0, normalised=False)(R)
    torch.testing.assert_close(bare * sqrt(2 / 5), found)


def test_bessel_functions_are_orthonormal_with_weight_r_squared() -> None:
    r = torch.linspace(0, 5, 20001, dtype=torch.float64)
    b = Bessel(n=4, cutoff=5.0)(r)
    gram = torch.trapezoid(b[:, :, None] * b[:, None, :] * (r**2)[:, None, None], r, dim=0)
    torch.testing.assert_close(gram, torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0)


def test_smooth_bessel_is_orthonormal_and_c2_at_the_cutoff() -> None:
    r = torch.linspace(0, 5, 20001, dtype=torch.float64)
    basis = SmoothBessel(n=6, cutoff=5.0)
    b = basis(r)
    gram = torch.trapezoid(b[:, :, None] * b[:, None, :] * (r**2)[:, None, None], r, dim=0)
    torch.testing.assert_close(gram, torch.eye(6, dtype=torch.float64), atol=1e-6, rtol=0)
    at = torch.tensor([5.0 - 1e-7], dtype=torch.float64, requires_grad=True)
    value, sizes = basis(at)[0, 2], []
    for _ in range(4):
        sizes.append(abs(float(value.detach())))
        (value,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    assert max(sizes[:3]) < 1e-5 and sizes[3] > 1e-2
    assert basis(torch.tensor([5.0, 6.0])).eq(0).all()


def test_gaussian() -> None:
    """SchNet's: γ = 10 Å⁻² on a 0.1 Å grid; otherwise the width is the spacing."""
    schnet = Gaussian(n=51, cutoff=5.0, gamma=10.0)(R)
    centres = torch.arange(51, dtype=torch.float64) * 0.1
    torch.testing.assert_close(schnet, torch.exp(-10 * (R[:, None] - centres) ** 2))
    spaced = Gaussian(n=6, cutoff=5.0)(R)
    torch.testing.assert_close(spaced[:, 2], torch.exp(-0.5 * (R - 2.0) ** 2))


def test_exp_normal() -> None:
    """TorchMD-Net's constants for 50 functions up to 5 Å."""
    found = ExpNormal(n=50, cutoff=5.0)(R)
    start = torch.exp(torch.tensor(-5.0, dtype=torch.float64))
    centres = torch.linspace(float(start), 1.0, 50, dtype=torch.float64)
    beta = (2 / 50 * (1 - start)) ** -2
    torch.testing.assert_close(found, torch.exp(-beta * (torch.exp(-R)[:, None] - centres) ** 2))


def test_chebyshev() -> None:
    found = Chebyshev(n=6, cutoff=5.0, start=0.5)(R)
    angle = torch.arccos((2 * (R - 0.5) / 4.5 - 1).clamp(-1, 1))
    inside = R > 0.5
    for k in range(6):
        torch.testing.assert_close(found[inside, k], torch.cos(k * angle)[inside])


@pytest.mark.parametrize("basis", [Bessel, Gaussian, ExpNormal])
def test_training_is_optional(basis: type[nn.Module]) -> None:
    assert not list(basis(n=4, cutoff=5.0).parameters())
    trained = basis(n=4, cutoff=5.0, trainable=True).double()
    trained(R).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.parameters())


@pytest.mark.parametrize("basis", [Bessel, Gaussian, ExpNormal, Chebyshev, SmoothBessel])
def test_derivatives_and_bad_sizes(basis: type[nn.Module]) -> None:
    b = basis(n=4, cutoff=5.0)
    r = torch.tensor([0.7, 2.3, 4.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(b, (r,))
    assert torch.autograd.gradgradcheck(b, (r,))
    assert b(r.detach().to(torch.float32)).dtype == torch.float32
    with pytest.raises(ValueError, match="basis needs"):
        basis(n=4, cutoff=0.0)
