"""SOAP: its functions against their definitions, its symmetries, its derivatives."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.special import ive

from rikiba.descriptors.soap import Soap, bessel_ranges, scaled_bessel
from rikiba.kernels import soap_cpu


def around(seed: int, n: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Neighbours of two centres: vectors, centres, elements."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 3))
    vectors *= (rng.uniform(0.8, 4.2, n) / np.linalg.norm(vectors, axis=1))[:, None]
    return torch.from_numpy(vectors), torch.arange(n) % 2, torch.from_numpy(rng.integers(0, 2, n))


def soap(**more) -> Soap:
    return Soap(**{"elements": ("O", "Si"), "cutoff": 4.0, "n_max": 4, "l_max": 5} | more)


@pytest.mark.parametrize("l_max", [0, 1, 6, 12])
def test_bessel_functions(l_max: int) -> None:
    x = torch.tensor([0.0, 1e-12, 1e-7, 1e-3, 0.3, 1.0, 2.0, 5.9, 6.1, 11.0, 24.1, 90.0, 400.0]).double()
    found = scaled_bessel(x, l_max, *bessel_ranges(l_max)).numpy()
    # e^{−x} i_l = √(π/2x) e^{−x} I_{l+½}
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.sqrt(np.pi / (2 * x.numpy()[:, None])) * ive(
            np.arange(l_max + 1) + 0.5, x.numpy()[:, None]
        )
    expected[0] = np.arange(l_max + 1) == 0
    assert np.allclose(found, expected, rtol=2e-12, atol=1e-15)
    compiled = np.empty(l_max + 1)
    for value, row in zip(x.tolist(), found, strict=True):
        soap_cpu.bessel(value, l_max, *bessel_ranges(l_max), compiled)
        assert np.allclose(compiled, row, rtol=1e-11, atol=1e-300)
    if l_max == 12:
        # negative control: upwards alone
        wrong = scaled_bessel(x[3:6], l_max, 1e-4, l_max).numpy()
        assert np.abs(wrong - expected[3:6]).max() > 1e-6


def test_expansion_is_the_projection_of_the_density() -> None:
    """c_n00 of one neighbour from a quadrature over the sphere, and the functions' orthonormality."""
    d = soap(l_max=2, n_max=5)
    r = torch.linspace(0.0, 14.0, 8001, dtype=torch.float64)
    gaussians = torch.exp(-d.alpha * (r[:, None] - d.centres) ** 2)
    # the overlap of the Gaussians is C T Tᵀ C
    overlap = torch.trapezoid(
        gaussians[:, :, None] * gaussians[:, None, :] * (r * r)[:, None, None], r, dim=0
    )
    covariance = torch.exp(-d.alpha * (d.centres[:, None] - d.centres) ** 2)
    factor = covariance @ d.transform
    assert torch.allclose(factor @ factor.T, overlap, rtol=1e-9, atol=1e-12)
    # a Gaussian at distance s, averaged over directions at distance r_b
    s, cosines = 2.3, torch.linspace(-1.0, 1.0, 4001, dtype=torch.float64)
    square = d.centres[:, None] ** 2 + s**2 - 2.0 * d.centres[:, None] * s * cosines
    averaged = 0.5 * torch.trapezoid(torch.exp(-d.alpha * square), cosines, dim=1)
    found = d.radial(torch.tensor([s], dtype=torch.float64))[0, :, 0]
    assert torch.allclose(found, averaged @ d.transform, rtol=1e-4, atol=1e-9)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_rotations_and_permutations(seed: int) -> None:
    vectors, centre, kinds = around(seed)
    own, d = torch.tensor([0, 1]), soap()
    p = d(vectors, centre, kinds, own)
    assert torch.allclose(p.norm(dim=1), torch.ones(2).double())
    turn = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(vectors)))
    moved = d((vectors @ turn.T)[order], centre[order], kinds[order], own)
    mirrored = d(-vectors, centre, kinds, own)
    assert float((moved - p).abs().max()) < 1e-10 and float((mirrored - p).abs().max()) < 1e-10
    # negative control: one neighbour turned alone
    one = vectors.clone()
    nearest = int(vectors.norm(dim=1).argmin())
    one[nearest] = one[nearest] @ torch.from_numpy(Rotation.from_rotvec([0.3, 0.2, 0.1]).as_matrix())
    assert float((d(one, centre, kinds, own) - p).abs().max()) > 1e-6


@pytest.mark.parametrize("envelope", ["polynomial", "cosine"])
def test_compiled_radial_functions(envelope: str) -> None:
    d = soap(envelope=envelope, n_max=6, transition_width=0.7)
    r = torch.linspace(0.05, 4.1, 60, dtype=torch.float64, requires_grad=True)
    expected = d.radial(r) * d.fade(r)[:, None, None]
    settings_ = soap_cpu.Radial(
        d.alpha, d.centres.numpy(), d.transform.numpy(), d.l_max, d.switch, d.start, d.cutoff,
        d.transition_width, soap_cpu.COSINE if envelope == "cosine" else soap_cpu.POLYNOMIAL,
    )  # fmt: skip
    values, slopes = np.empty((2, 60, 6 * (d.l_max + 1)))
    soap_cpu.radial_functions(r.detach().numpy(), settings_, values, slopes)
    assert np.allclose(values, expected.detach().flatten(1).numpy(), rtol=0, atol=1e-12)
    for column in (0, 7, 20):
        (slope,) = torch.autograd.grad(expected.flatten(1)[:, column].sum(), r, retain_graph=True)
        assert np.allclose(slopes[:, column], slope.numpy(), rtol=0, atol=1e-11)


def test_an_atom_alone_and_a_density_without_its_centre() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    p = soap()(torch.zeros((0, 3), dtype=torch.float64), none, none, torch.tensor([0, 1]))
    assert float((p[0] @ p[1]).abs()) < 1e-12
    assert math.isclose(float(p[0].norm()), 1.0)
    with pytest.raises(ValueError, match="central_weight"):
        soap(central_weight=0.0)
    bare = soap(central_weight=0.0, normalised=False)
    assert (
        float(bare(torch.zeros((0, 3), dtype=torch.float64), none, none, torch.tensor([0])).abs().max())
        == 0.0
    )


@pytest.mark.parametrize("wrong", [{"cutoff": 0.0}, {"n_max": 0}, {"l_max": 40}, {"envelope": "sharp"}])
def test_settings_out_of_range(wrong: dict) -> None:
    with pytest.raises(ValueError, match="given"):
        soap(**wrong)
