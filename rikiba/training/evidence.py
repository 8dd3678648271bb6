"""Strengths of a regulariser found from the data themselves, by maximising the evidence.

All functions work on the triangular factor R of a matrix A with right-hand side b, [A | b] = Q R, so that
their cost does not depend on the number of rows.
"""

from typing import NamedTuple, final

import numpy as np


@final
class Evidence(NamedTuple):
    """The most probable coefficients and what they were found with."""

    solution: np.ndarray
    strength: np.ndarray
    """λ_k = α_k/β: |Az − b|² + Σ λ_k z_k² is minimal; inf for a coefficient that was left out."""
    noise_precision: float
    """β, 1/variance of a row."""
    effective: float
    """γ, number of coefficients that the data determine."""
    covariance: np.ndarray
    """Of the coefficients, given α and β."""
    condition_number: float
    """Of the matrix with its regulariser."""
    iterations: int


def bayesian_ridge(
    factor: np.ndarray, rows: int, *, max_iterations: int = 300, tolerance: float = 1e-6
) -> Evidence:
    """One strength for all coefficients.

    With z ~ N(0, 1/α) and b − Az ~ N(0, 1/β): γ = Σ_k β s_k²/(α + β s_k²), α = γ/|z|², β = (N − γ)/|Az − b|²,
    until they change by less than `tolerance`; s_k are the singular values of A.
    MacKay, doi:10.1162/neco.1992.4.3.415, section 4.

    Raises ValueError where there are no more rows than coefficients or the right-hand side is zero.
    """
    left, right, total = _split(factor, rows)
    u, s, vt = np.linalg.svd(left, full_matrices=False)
    along = u.T @ right
    alpha, beta = 1.0, rows / float(right @ right)
    step = 0
    for step in range(1, max_iterations + 1):  # noqa: B007
        weight = beta * s**2
        z = beta * s * along / (alpha + weight)
        gamma = float((weight / (alpha + weight)).sum())
        residual = float(np.sum((right - u @ (s * z)) ** 2))
        before = alpha, beta
        alpha, beta = gamma / max(float(z @ z), _TINY), (rows - gamma) / max(residual, _TINY * total)
        if abs(alpha - before[0]) < tolerance * alpha and abs(beta - before[1]) < tolerance * beta:
            break
    z = beta * s * along / (alpha + beta * s**2)
    covariance = (vt.T / (alpha + beta * s**2)) @ vt
    strength = np.full(len(s), alpha / beta)
    sizes = np.sqrt(s**2 + strength[0])
    return Evidence(vt.T @ z, strength, beta, gamma, covariance, float(sizes.max() / sizes.min()), step)


def automatic_relevance(
    factor: np.ndarray,
    rows: int,
    *,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
    largest_ratio: float = 1e12,
) -> Evidence:
    """One strength for each coefficient; those that the data do not call for are left out.

    γ_k = 1 − α_k Σ_kk, α_k = γ_k/z_k², β = (N − Σγ)/|Az − b|², Σ = (diag α + β AᵀA)⁻¹. A coefficient is left
    out once α_k exceeds `largest_ratio` times β|a_k|², a_k its column: then it is zero to rounding. Tipping,
    J. Mach. Learn. Res. 1, 211 (2001), eqs. 16 to 18; started from `bayesian_ridge`.

    Raises ValueError where there are no more rows than coefficients or the right-hand side is zero.
    """
    left, right, total = _split(factor, rows)
    start = bayesian_ridge(factor, rows)
    n = left.shape[1]
    beta = start.noise_precision
    norm = np.sum(left**2, 0)
    alpha = np.full(n, start.strength[0] * beta)
    kept = np.arange(n)
    z, covariance = start.solution, start.covariance
    step = 0
    for step in range(1, max_iterations + 1):  # noqa: B007
        z, covariance = _posterior(left[:, kept], right, alpha[kept], beta)
        gamma = np.clip(1.0 - alpha[kept] * np.diag(covariance), 0.0, 1.0)
        residual = float(np.sum((right - left[:, kept] @ z) ** 2))
        new = np.maximum(gamma, _TINY) / np.maximum(z**2, _TINY)
        change = float(np.abs(np.log(new / alpha[kept])).max(initial=0.0))
        alpha[kept] = new
        beta = (rows - float(gamma.sum())) / max(residual, _TINY * total)
        needed = alpha[kept] < largest_ratio * beta * norm[kept]
        if change < tolerance and needed.all():
            break
        kept = kept[needed]
    z, covariance = _posterior(left[:, kept], right, alpha[kept], beta)
    gamma = 1.0 - alpha[kept] * np.diag(covariance)
    solution, strength, whole = np.zeros(n), np.full(n, np.inf), np.zeros((n, n))
    solution[kept], strength[kept] = z, alpha[kept] / beta
    whole[np.ix_(kept, kept)] = covariance
    sizes = np.sqrt(np.linalg.eigvalsh(covariance))
    condition = float(sizes.max() / sizes.min()) if len(sizes) else 1.0
    return Evidence(solution, strength, beta, float(gamma.sum()), whole, condition, step)


_TINY = 1e-300


def _split(factor: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, float]:
    left, right = factor[:, :-1], factor[:, -1]
    if rows <= left.shape[1]:
        raise ValueError(
            f"{rows} equations for {left.shape[1]} coefficients leave nothing to tell noise from; "
            "give more data or a fixed ridge."
        )
    total = float(right @ right)
    if total == 0.0:
        raise ValueError("All labels are zero; there is nothing to fit.")
    return left, right, total


def _posterior(
    left: np.ndarray, right: np.ndarray, alpha: np.ndarray, beta: float
) -> tuple[np.ndarray, np.ndarray]:
    """(mean, covariance) from the triangular factor of the stacked matrix, not from its square."""
    n = len(alpha)
    b = np.sqrt(beta)
    stacked = np.concatenate([b * left, np.diag(np.sqrt(alpha))])
    q, r = np.linalg.qr(stacked)
    from scipy.linalg import solve_triangular

    inverse = solve_triangular(r, np.eye(n))
    return inverse @ (q[: len(left)].T @ (b * right)), inverse @ inverse.T
