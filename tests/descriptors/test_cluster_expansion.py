"""The atomic cluster expansion: explicit many-body sums, independence, invariance, numbers of functions."""

from itertools import combinations_with_replacement, product
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rikiba.descriptors.cluster_expansion import ClusterExpansion
from rikiba.nn.coupling import channel_couplings

Channel = tuple[int, int, int]


def expansion(**options) -> ClusterExpansion:
    defaults = {"elements": ("O", "Si"), "cutoff": 4.5, "order": 4, "total_degree": (8, 8, 7.5, 7)}
    return ClusterExpansion(**defaults | options)


def neighbours(seed: int, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors at 1 to 4 Å and types of n neighbours of one atom."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(n, 3))
    v *= rng.uniform(1.0, 4.0, (n, 1)) / np.linalg.norm(v, axis=1, keepdims=True)
    return torch.from_numpy(v), torch.from_numpy(rng.integers(0, 2, n))


def components(d: ClusterExpansion, vectors: torch.Tensor, types: torch.Tensor) -> np.ndarray:
    """B of an atom of the first element."""
    i = torch.zeros(len(vectors), dtype=torch.int64)
    return d(vectors, i, types, torch.zeros(1, dtype=torch.int64))[0].detach().numpy()


def explicit(d: ClusterExpansion, channels: tuple[Channel, ...], vectors, types) -> np.ndarray:
    """All couplings L of the factors, each as a sum over the tuples of neighbours, without the sums A.

    Σ_{j1 … jν} Π_t R(r_jt) Σ_m ⟨l1 m1 l2 m2|L M⟩ … Y_l1m1(j1) Y_l2m2(j2) …, with complex harmonics of scipy
    and coefficients of sympy; real and imaginary parts.
    """
    from scipy.special import sph_harm_y
    from sympy.physics.wigner import clebsch_gordan

    v, z = vectors.numpy(), types.numpy()
    r = np.linalg.norm(v, axis=1)
    centre = torch.zeros(len(v), dtype=torch.int64)
    g = d.radial(torch.from_numpy(r), centre, types).numpy()
    polar, azimuth = np.arccos(v[:, 2] / r), np.arctan2(v[:, 1], v[:, 0])
    phi = []
    for kind, n, l in channels:
        y = np.array([sph_harm_y(l, m, polar, azimuth) for m in range(-l, l + 1)])
        phi.append(y * g[:, n - 1] * (z == kind))

    def cg(l1: int, l2: int, l3: int) -> np.ndarray:
        c = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
        for m1, m2 in product(range(-l1, l1 + 1), range(-l2, l2 + 1)):
            if abs(m1 + m2) <= l3:
                c[m1 + l1, m2 + l2, m1 + m2 + l3] = float(clebsch_gordan(l1, l2, l3, m1, m2, m1 + m2))
        return c

    ls = [l for _, _, l in channels]
    out: list[float] = []
    if len(ls) == 1:
        return np.array([phi[0].real.sum()])
    if len(ls) == 2:
        tensors = [np.einsum("mnk,ma,nb->ab", cg(*ls, 0), *phi)]
    elif len(ls) == 3:
        tensors = [
            np.einsum("mnk,kop,ma,nb,oc->abc", cg(ls[0], ls[1], ls[2]), cg(ls[2], ls[2], 0), *phi)
            if abs(ls[0] - ls[1]) <= ls[2] <= ls[0] + ls[1]
            else np.zeros(1)
        ]
    else:
        low, high = max(abs(ls[0] - ls[1]), abs(ls[2] - ls[3])), min(ls[0] + ls[1], ls[2] + ls[3])
        tensors = [
            np.einsum(
                "mnk,opq,kqx,ma,nb,oc,pd->abcd", cg(ls[0], ls[1], k), cg(ls[2], ls[3], k), cg(k, k, 0), *phi,
                optimize=True,
            )
            for k in range(low, high + 1)
        ]  # fmt: skip
    for t in tensors:
        total = sum(t[index] for index in np.ndindex(t.shape))
        out += [total.real, total.imag]
    return np.array(out)


CASES: list[tuple[Channel, ...]] = [
    ((1, 3, 0),),
    ((0, 1, 2), (1, 2, 2)),
    ((0, 1, 1), (0, 2, 1), (1, 1, 2)),
    ((0, 1, 2), (0, 1, 2), (0, 1, 2)),
    ((0, 1, 1), (0, 1, 1), (1, 1, 1), (1, 1, 1)),
    ((0, 1, 1), (0, 2, 1), (1, 1, 1), (1, 2, 1)),
    ((0, 1, 0), (0, 1, 1), (0, 2, 1), (1, 1, 2)),
    ((0, 1, 2), (0, 1, 2), (1, 1, 2), (1, 1, 2)),
]


@pytest.mark.parametrize("channels", CASES)
def test_functions_span_the_explicit_many_body_sums(channels: tuple[Channel, ...]) -> None:
    """Both span one space, of the dimension that we count: neither more nor less can be coupled."""
    d = _SMALL
    wanted = [k for k, c in enumerate(d.channels) if sorted(c) == sorted(channels)]
    assert wanted
    ours, theirs = [], []
    for seed in range(12):
        vectors, types = neighbours(seed, 5)
        ours.append(components(d, vectors, types)[wanted])
        theirs.append(explicit(d, channels, vectors, types))
    a, b = np.array(ours), np.array(theirs)
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    for matrix in (a, b, np.concatenate([a, b], 1)):
        assert np.linalg.matrix_rank(matrix, tol=1e-9) == len(wanted)
    # negative control: the sum over one neighbour's own tuples less is outside the space
    spoilt = np.concatenate([a, b[:, :1] ** 2], 1)
    assert np.linalg.matrix_rank(spoilt, tol=1e-9) == len(wanted) + 1


_SMALL = expansion(total_degree=None, n_max=(3, 2, 2, 2), l_max=(0, 2, 2, 2))


def weights(channels: list[Channel]) -> int:
    """Number of invariants of distinct products: ways to reach total m = 0 minus those to reach m = 1."""
    ways = {0: 1}
    for channel in set(channels):
        l, k = channel[2], channels.count(channel)
        new: dict[int, int] = {}
        for chosen in combinations_with_replacement(range(-l, l + 1), k):
            for m, number in ways.items():
                new[m + sum(chosen)] = new.get(m + sum(chosen), 0) + number
        ways = new
    return ways.get(0, 0) - ways.get(1, 0)


def test_number_of_functions_of_each_product_is_the_dimension_of_its_space() -> None:
    """By counting weights of SO(3), as Dusson et al., doi:10.1016/j.jcp.2022.110946."""
    limits = {"n_max": (3, 3, 2, 2), "l_max": (0, 2, 2, 1)}
    d = expansion(total_degree=None, **limits)
    found: dict[tuple[Channel, ...], int] = {}
    for c in d.channels:
        found[tuple(sorted(c))] = found.get(tuple(sorted(c)), 0) + 1
    assert max(found.values()) == 3 and found[((0, 1, 1), (0, 1, 1), (1, 1, 1), (1, 1, 1))] == 2
    for nu in range(1, 5):
        states = [
            (z, n, l)
            for z in range(2)
            for n in range(1, limits["n_max"][nu - 1] + 1)
            for l in range(limits["l_max"][nu - 1] + 1)
        ]
        for chosen in combinations_with_replacement(states, nu):
            expected = 0 if sum(l for _, _, l in chosen) % 2 else weights(list(chosen))
            assert found.pop(tuple(sorted(chosen)), 0) == expected, chosen
    assert not found


def test_known_numbers_of_functions() -> None:
    """Power spectrum n(n + 1)/2·(l + 1) and bispectrum of Bartók et al., doi:10.1103/PhysRevB.87.184115."""
    one = {"elements": ("Si",), "total_degree": None}
    d = expansion(**one, order=2, n_max=(5, 4), l_max=(0, 3))
    assert d.n_functions == 5 + 4 * 5 // 2 * 4
    d = expansion(**one, order=3, n_max=(1, 1, 1), l_max=(0, 0, 4))
    triples = [t for t in combinations_with_replacement(range(5), 3) if t[2] <= t[0] + t[1]]
    assert d.n_functions == 1 + 1 + sum(sum(t) % 2 == 0 for t in triples)
    # four vectors: (a·b)(c·d) in three ways, one where all are the same
    assert channel_couplings(((0, 1), (1, 1), (2, 1), (3, 1)))[1].shape[1] == 3
    assert channel_couplings(((0, 1),) * 4)[1].shape[1] == 1
    assert channel_couplings(((0, 1), (1, 2)))[1].shape[1] == 0


def test_second_order_is_the_legendre_polynomial_of_the_angle() -> None:
    """Σ_m Y_lm Y_lm = (2l + 1)/4π P_l: B_(n l)(n l) is ± √(2l + 1)/4π Σ_jk g_j g_k P_l(cos θ_jk)."""
    from scipy.special import eval_legendre

    d = _SMALL
    vectors, types = neighbours(3, 5)
    r = vectors.norm(dim=1)
    g = d.radial(r, torch.zeros_like(types), types).numpy()
    cosine = ((vectors @ vectors.T) / (r[:, None] * r)).numpy()
    b = components(d, vectors, types)
    for l in range(3):
        k = next(k for k, c in enumerate(d.channels) if c == ((0, 2, l), (0, 2, l)))
        x = g[:, 1] * (types == 0).numpy()
        expected = sqrt(2 * l + 1) / (4 * np.pi) * x @ eval_legendre(l, cosine) @ x
        assert abs(b[k]) == pytest.approx(abs(expected), rel=1e-10)


@pytest.mark.parametrize("elements", [("Si",), ("O", "Si")])
def test_numerical_rank_is_the_number_of_functions(elements: tuple[str, ...]) -> None:
    degree = (8, 9, 9, 9) if len(elements) == 1 else (5, 6, 6, 6)
    d = expansion(elements=elements, total_degree=degree, l_weight=1.0)
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(2 * d.n_functions):
        vectors, types = neighbours(seed, int(rng.integers(1, 9)))
        rows.append(components(d, vectors, types % len(elements)))
    a = np.array(rows)
    a /= np.linalg.norm(a, axis=0)
    assert {len(c) for c in d.channels} == {1, 2, 3, 4}
    assert np.linalg.matrix_rank(a, tol=1e-11) == d.n_functions
    twice = np.concatenate([a, a[:, -1:] - a[:, -2:-1]], 1)
    assert np.linalg.matrix_rank(twice, tol=1e-11) == d.n_functions


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), improper=st.booleans())
def test_rotation_inversion_and_permutation_change_nothing(seed: int, improper: bool) -> None:
    vectors, types = neighbours(seed, 7)
    d = _SMALL
    q = Rotation.random(random_state=seed).as_matrix() * (-1 if improper else 1)
    shuffled = np.random.default_rng(seed).permutation(len(vectors))
    turned = (vectors @ torch.from_numpy(q).T)[shuffled]
    a, b = components(d, vectors, types), components(d, turned, types[shuffled])
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-11 * np.abs(a).max())
    # negative control: a stretched environment
    assert np.abs(components(d, 1.01 * turned, types[shuffled]) - a).max() > 1e-6 * np.abs(a).max()


@pytest.mark.parametrize(
    "options",
    [
        {"radial": "agnesi"},
        {"radial": "chebyshev_exponential"},
        {"radial": "chebyshev_power"},
        {"radial": "bessel"},
    ],
)
def test_radial_functions_end_with_two_derivatives(options: dict) -> None:
    """(r_c − r)³ at least: half the distance, an eighth of the value."""
    radial = expansion(total_degree=None, n_max=6, l_max=0, **options).radial
    r = 4.5 - torch.tensor([0.02, 0.01, 0.0, -0.1], dtype=torch.float64)
    zero = torch.zeros(4, dtype=torch.int64)
    g = radial(r, zero, zero).abs()
    assert float(g[2:].max()) < 1e-14
    assert bool((g[1] < g[0] / 6.0).all())
    assert float(radial(r[:1] - 1.5, zero[:1], zero[:1]).abs().max()) > 0.01
    cosine = expansion(total_degree=None, n_max=6, l_max=0, envelope="cosine").radial(r, zero, zero).abs()
    assert bool((cosine[1] > cosine[0] / 6.0).all())


@pytest.mark.parametrize(
    "options",
    [
        {"order": 0},
        {"total_degree": (4, 5)},
        {"total_degree": None},
        {"l_weight": 0.0},
        {"total_degree": 0.5},
        {"radial": "sine"},
        {"radial": "chebyshev_power", "radial_scale": 1.0},
    ],
)
def test_bad_arguments_are_refused(options: dict) -> None:
    with pytest.raises(ValueError):
        expansion(**options)
