"""Real spherical harmonics, Clebsch–Gordan coefficients and rotation matrices of O(3).

Convention, shared with e3nn ≥ 0.5 so that published weights can be read: the components of degree l are the
real harmonics of order m = −l … l, without Condon–Shortley phase, about the y axis. In the coordinates
(X, Y, Z) = (z, x, y) they are the textbook ones about Z; degree 1 is √3·(x, y, z). "Component"
normalisation: Σ_m Y_lm(r̂)² = 2l + 1. Degrees are concatenated: the entry (l, m) is at l² + l + m.
"""

from functools import cache
from math import factorial, sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def degrees(l_max: int) -> tuple[slice, ...]:
    """Where each degree l = 0 … l_max stands along an axis of length (l_max + 1)²."""
    return tuple(slice(l * l, (l + 1) * (l + 1)) for l in range(l_max + 1))


def spherical_harmonics(unit_vectors: Float[Tensor, "*n 3"], l_max: int) -> Float[Tensor, "*n lm"]:
    """Component-normalised real spherical harmonics of degrees 0 … l_max, (l_max + 1)² columns.

    Y_{l+1} ∝ (Y_l ⊗ Y_1) coupled to l + 1: polynomials in x, y, z, smooth and exact at any degree. The
    input must have unit length; of a longer vector the degree-l block is |r|^l times larger.
    """
    if l_max < 0:
        raise ValueError(f"l_max must be at least 0; given {l_max}.")
    first = unit_vectors * sqrt(3.0)
    blocks = [torch.ones_like(unit_vectors[..., :1]), first]
    for l in range(1, l_max):
        step = _raise_degree(l).to(unit_vectors)
        product = (blocks[l].unsqueeze(-1) * unit_vectors.unsqueeze(-2)).flatten(-2)
        blocks.append(product @ step)
    return torch.cat(blocks[: l_max + 1], -1)


@cache
def _raise_degree(l: int) -> Tensor:
    """Matrix [(2l+1)·3, 2l+3] that takes Y_l ⊗ r̂ to Y_{l+1}; scaled at the pole, where Y_l0 = √(2l+1)."""
    c = clebsch_gordan(l, 1, l + 1)
    scale = sqrt(2 * l + 3) / (float(c[l, 1, l + 1]) * sqrt(2 * l + 1))
    return (scale * c).reshape(-1, 2 * l + 3)


def raising_terms(l_max: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Degrees 2 … l_max of `spherical_harmonics` term by term: Y[out] += c·Y[in]·r̂[axis].

    Returns (out, in, axis, c) in an order in which every Y[in] is complete when it is read.
    """
    terms = []
    for l in range(1, l_max):
        step = _raise_degree(l).unflatten(0, (2 * l + 1, 3))
        for m, axis, n in step.nonzero().tolist():
            terms.append(((l + 1) ** 2 + n, l * l + m, axis, float(step[m, axis, n])))
    columns = list(zip(*terms, strict=True)) or [(), (), (), ()]
    kinds = (np.int64, np.int64, np.int64, np.float64)
    out, source, axis, c = (np.array(x, k) for x, k in zip(columns, kinds, strict=True))
    return out, source, axis, c


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> Float[Tensor, "d1 d2 d3"]:
    """Real coupling coefficients C of l1 ⊗ l2 → l3, float64, Σ C² = 1 (so Σ_{m1 m2} C² = 1/(2·l3+1)).

    Invariant: Σ C_abc D1_aa' D2_bb' D3_cc' = C_a'b'c'. Do not write into the result: it is cached.
    Raises ValueError unless |l1 − l2| ≤ l3 ≤ l1 + l2.
    """
    if min(l1, l2, l3) < 0 or not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"({l1}, {l2}, {l3}) is not a triangle; need |l1 − l2| ≤ l3 ≤ l1 + l2.")
    c = np.einsum(
        "am,bn,ck,mnk->abc", _to_real(l1), _to_real(l2), _to_real(l3).conj(), complex_coupling(l1, l2, l3)
    )
    c = c * 1j ** (l1 + l2 - l3)
    real = c.real / sqrt(2 * l3 + 1)
    real[np.abs(real) < 1e-14] = 0.0
    return torch.from_numpy(np.ascontiguousarray(real))


def _to_real(l: int) -> np.ndarray:
    """Rows: real harmonics m = −l … l in terms of the complex ones."""
    u = np.zeros((2 * l + 1, 2 * l + 1), complex)
    u[l, l] = 1.0
    for m in range(1, l + 1):
        sign = (-1) ** m
        u[l + m, l - m], u[l + m, l + m] = 1 / sqrt(2), sign / sqrt(2)
        u[l - m, l - m], u[l - m, l + m] = 1j / sqrt(2), -1j * sign / sqrt(2)
    return u


def complex_coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """⟨l1 m1 l2 m2 | l3 m3⟩ at [l1 + m1, l2 + m2, l3 + m3], Condon–Shortley phase.

    By Racah's sum, in exact integers up to one square root.
    """
    c = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            c[l1 + m1, l2 + m2, l3 + m1 + m2] = _coefficient(l1, m1, l2, m2, l3)
    return c


def _coefficient(l1: int, m1: int, l2: int, m2: int, l3: int) -> float:
    f, m3 = factorial, m1 + m2
    first = max(0, l2 - l3 - m1, l1 - l3 + m2)
    last = min(l1 + l2 - l3, l1 - m1, l2 + m2)
    common = f(l1 + l2 + l3)
    total = 0
    for k in range(first, last + 1):
        # the six arguments add up to l1 + l2 + l3, so each quotient is a multinomial coefficient: an integer
        total += (-1) ** k * common // (
            f(k) * f(l1 + l2 - l3 - k) * f(l1 - m1 - k) * f(l2 + m2 - k) * f(l3 - l2 + m1 + k)
            * f(l3 - l1 - m2 + k)
        )  # fmt: skip
    inside = (
        (2 * l3 + 1) * f(l3 + l1 - l2) * f(l3 - l1 + l2) * f(l1 + l2 - l3)
        * f(l3 + m3) * f(l3 - m3) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    )  # fmt: skip
    size = sqrt(inside * total * total / (common * common * f(l1 + l2 + l3 + 1)))
    return size if total >= 0 else -size


def rotation_matrix(
    l_max: int, rotation: Float[Tensor, "3 3"], *, parity: int = -1
) -> tuple[Float[Tensor, "d d"], ...]:
    """Matrices D_l of degrees 0 … l_max for an element of O(3), float64: Y_l(R r) = D_l(R) Y_l(r).

    For an improper R the degree-l matrix is D_l(−R) times its behaviour under inversion: parity^l, that is
    (−1)^l for the harmonics themselves (parity = −1, the default) and +1 for pseudo-tensors of natural sign
    flipped (parity = +1). Raises ValueError unless R is orthogonal.
    """
    r = rotation.to(torch.float64)
    if not torch.allclose(r @ r.T, torch.eye(3, dtype=r.dtype), atol=1e-8):
        raise ValueError("The matrix is not orthogonal; give an element of O(3).")
    improper = bool(torch.linalg.det(r) < 0)
    proper = -r if improper else r
    out = [torch.ones(1, 1, dtype=r.dtype), proper]
    for l in range(1, l_max):
        c = clebsch_gordan(l, 1, l + 1)
        out.append((2 * l + 3) * torch.einsum("abm,ax,by,xyn->mn", c, out[l], proper, c))
    sign = parity if improper else 1
    return tuple(d * float(sign**l) for l, d in enumerate(out[: l_max + 1]))
