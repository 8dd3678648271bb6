"""Bispectrum components: the coupling coefficients, the matrices, invariance."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rikiba.descriptors.bispectrum import Bispectrum, clebsch_gordan, triples


def test_clebsch_gordan_against_sympy() -> None:
    from sympy import Rational
    from sympy.physics.wigner import clebsch_gordan as exact

    rng = np.random.default_rng(1)
    for j1, j2, j in ((1, 1, 2), (2, 1, 3), (3, 2, 3), (4, 3, 1), (5, 4, 7), (8, 6, 4)):
        found = clebsch_gordan(j1, j2, j)
        for _ in range(6):
            a, b = int(rng.integers(j1 + 1)), int(rng.integers(j2 + 1))
            m1, m2 = a - Rational(j1, 2), b - Rational(j2, 2)
            for c in range(j + 1):
                m = c - Rational(j, 2)
                value = exact(Rational(j1, 2), Rational(j2, 2), Rational(j, 2), m1, m2, m)
                assert found[a, b, c] == pytest.approx(float(value), abs=1e-13)


@pytest.mark.parametrize(("twojmax", "n"), [(0, 1), (2, 5), (4, 14), (6, 30), (8, 55), (10, 91)])
def test_published_numbers_of_components(twojmax: int, n: int) -> None:
    assert len(triples(twojmax)) == n


def descriptor(**options) -> Bispectrum:
    return Bispectrum(**{"elements": ("O", "Si"), "cutoff": 4.0, "twojmax": 5, **options})


def neighbours(seed: int, n: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors at 1 to 3.9 Å and types of n neighbours of one atom."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(n, 3))
    v *= rng.uniform(1.0, 3.9, n)[:, None] / np.linalg.norm(v, axis=1, keepdims=True)
    return torch.from_numpy(v), torch.from_numpy(rng.integers(0, 2, n))


def of_one(d: Bispectrum, vectors: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
    return d(vectors, torch.zeros(len(vectors), dtype=torch.int64), types, torch.tensor([1]))[0]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), explicit=st.booleans(), envelope=st.sampled_from(["polynomial", "cosine"]))
def test_components_are_invariant(seed: int, explicit: bool, envelope: str) -> None:
    d = descriptor(explicit_elements=explicit, envelope=envelope, twojmax=3 if explicit else 5)
    v, types = neighbours(seed)
    b = of_one(d, v, types)
    turned = v @ torch.from_numpy(Rotation.random(random_state=seed).as_matrix().T)
    scale = float(b.abs().max())
    torch.testing.assert_close(of_one(d, turned, types), b, rtol=0, atol=1e-12 * scale)
    order = torch.randperm(len(v), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(of_one(d, v[order], types[order]), b, rtol=0, atol=1e-12 * scale)
    # negative control: turning one neighbour only is seen
    v[0] = turned[0]
    assert float((of_one(d, v, types) - b).abs().max()) > 1e-8 * scale


def test_matrices_are_unitary_representations() -> None:
    """One neighbour without envelope: U^j of a point on the 3-sphere is unitary, so its bispectrum is known.

    U ⊗ U couples to U, so that B_{j1 j2 j} = Σ |U^j|² = j + 1 in doubled notation.
    """
    d = descriptor(envelope="none", subtract_isolated=False, twojmax=6)
    v, _ = neighbours(3, 1)
    levels = d._summed(v, torch.tensor([0]), torch.tensor([4.0]), torch.tensor([0]), 1)
    for j, u in enumerate(levels):
        eye = torch.eye(j + 1, dtype=u.dtype)
        torch.testing.assert_close(u[0] @ u[0].mH, eye, rtol=0, atol=1e-13)
    for t in triples(6):
        value = float(d._component([u[:, None] for u in levels], *t))
        assert value == pytest.approx(t[2] + 1.0, abs=1e-11)


def test_an_isolated_atom_has_no_components() -> None:
    nothing = torch.zeros((0, 3), dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    for options in ({}, {"normalised": True}, {"explicit_elements": True, "all_self": True}):
        b = of_one(descriptor(twojmax=3, **options), *nothing)
        assert float(b.abs().max()) < 1e-12
        kept = of_one(descriptor(twojmax=3, subtract_isolated=False, **options), *nothing)
        assert float(kept.abs().max()) >= 1.0


def test_weight_zero_hides_an_element_and_radii_set_cutoffs() -> None:
    v, types = neighbours(5)
    hidden = descriptor(weights={"O": 0.0, "Si": 1.0})
    torch.testing.assert_close(of_one(hidden, v, types), of_one(hidden, v[types == 1], types[types == 1]))
    assert not torch.allclose(of_one(descriptor(), v, types), of_one(hidden, v, types))
    d = descriptor(radii={"O": 0.25, "Si": 0.5})
    assert d.reach.tolist() == [[2.0, 3.0], [3.0, 4.0]]
    far = torch.tensor([[3.1, 0.0, 0.0]], dtype=torch.float64)
    assert float(of_one(d, far, torch.tensor([0])).abs().max()) < 1e-12
    assert float(of_one(d, far, torch.tensor([1])).abs().max()) > 1e-8


@pytest.mark.parametrize(
    "options",
    [
        {"twojmax": -1},
        {"envelope": "gaussian"},
        {"envelope_power": 1},
        {"angle_fraction": 0.0},
        {"r_min": 4.0},
        {"radii": {"O": 0.5}},
        {"radii": {"O": 0.5, "Si": 0.0}},
        {"weights": {"O": 0.5, "Si": 1.0, "C": 1.0}},
    ],
)
def test_bad_settings_are_refused(options: dict) -> None:
    with pytest.raises(ValueError):
        descriptor(**options)
