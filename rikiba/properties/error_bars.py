"""Error bars of averages: autocorrelation time, block averages, bootstrap over replicas."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float

REFERENCES = ("10.1063/1.457480", "10.1007/978-1-4899-0319-8_6", "10.1103/PhysRevE.83.066706")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with one standard error."""

    mean: float
    standard_error: float
    n_effective: float
    """Number of independent samples that would give the same standard error."""
    converged: bool
    """False where the series is too short for its own correlation time, so the error is a lower bound."""


def autocorrelation(series: Float[np.ndarray, "frames *rest"]) -> Float[np.ndarray, "frames *rest"]:
    """Normalised autocorrelation ρ_k = Σ_t δx_t δx_{t+k} / Σ_t δx_t² of each column, by FFT.

    δx = x − ⟨x⟩. A column that never changes gives ρ_0 = 1 and zeros.
    """
    x = np.asarray(series, float)
    if x.shape[0] < 2:
        raise ValueError(f"An autocorrelation needs at least 2 frames; given {x.shape[0]}.")
    n = x.shape[0]
    delta = x - x.mean(0)
    scale = np.abs(x).max(0) if n else 0.0
    delta = np.where(np.abs(delta).max(0) <= 1e-13 * scale, 0.0, delta)
    transform = np.fft.rfft(delta, 2 * n, axis=0)
    c = np.fft.irfft(np.abs(transform) ** 2, 2 * n, axis=0)[:n]
    rho = np.divide(c, c[:1], out=np.zeros_like(c), where=c[:1] > 0)
    rho[0] = 1.0
    return rho


def statistical_inefficiency(
    series: Float[np.ndarray, "frames *rest"], *, window: float = 5.0
) -> Float[np.ndarray, "*rest"]:
    """g = 1 + 2 Σ_{k=1}^{M} ρ_k, the number of frames per independent sample; never below 1.

    M is the smallest lag with M ≥ window · g/2 (automatic windowing; Sokal, in Functional Integration (1997),
    doi:10.1007/978-1-4899-0319-8_6). The integrated autocorrelation time is τ_int = g/2 frames.
    Anticorrelated series have g < 1; the error bar then uses g = 1, which is the safe side.
    """
    rho = autocorrelation(series)
    running = 2.0 * np.cumsum(rho, axis=0) - 1.0
    lags = np.arange(len(rho)).reshape(-1, *([1] * (rho.ndim - 1)))
    enough = lags >= window * 0.5 * running
    enough[-1] = True
    first = np.argmax(enough, axis=0)
    g = np.take_along_axis(running, first[None], axis=0)[0]
    return np.asarray(np.maximum(g, 1.0))


def integrated_autocorrelation_time(series: Float[np.ndarray, "frames"], timestep: float = 1.0) -> float:
    """τ_int = (1/2 + Σ ρ_k) · timestep, in the unit of the timestep; see `statistical_inefficiency`."""
    return 0.5 * float(statistical_inefficiency(np.asarray(series, float))) * timestep


def mean_with_error(series: Float[np.ndarray, "frames"]) -> Estimate:
    """⟨x⟩ ± √(g s²/n) from the autocorrelation of one series; converged where n ≥ 50 τ_int."""
    x = np.asarray(series, float).ravel()
    g = float(statistical_inefficiency(x))
    n_effective = len(x) / g
    error = float(np.sqrt(x.var(ddof=1) / n_effective))
    return Estimate(
        mean=float(x.mean()), standard_error=error, n_effective=n_effective, converged=n_effective >= 25
    )


def standard_errors(series: Float[np.ndarray, "frames *rest"]) -> Float[np.ndarray, "*rest"]:
    """Standard error of the time average of every column, correlation included."""
    x = np.asarray(series, float)
    return np.asarray(np.sqrt(x.var(0, ddof=1) * statistical_inefficiency(x) / len(x)))


def blocking(series: Float[np.ndarray, "frames"]) -> list[tuple[int, float, float]]:
    """(block length, standard error, its own uncertainty) at every halving of the series.

    σ_B² = s_B²/(n_B − 1) with n_B blocks; relative uncertainty 1/√(2(n_B − 1)) (Flyvbjerg & Petersen,
    doi:10.1063/1.457480). Stops at 4 blocks.
    """
    x = np.asarray(series, float).ravel()
    if len(x) < 8:
        raise ValueError(f"Block averaging needs at least 8 frames; given {len(x)}.")
    levels, length = [], 1
    while len(x) >= 4:
        n = len(x)
        error = float(np.sqrt(x.var() / (n - 1)))
        levels.append((length, error, error / np.sqrt(2.0 * (n - 1))))
        x = 0.5 * (x[: n - n % 2 : 2] + x[1 : n - n % 2 + 1 : 2])
        length *= 2
    return levels


def block_average(series: Float[np.ndarray, "frames"]) -> Estimate:
    """⟨x⟩ with the blocked standard error at the smallest block length B with B³ > 2 n (σ_B/σ_1)⁴.

    The criterion balances bias and noise (Lee et al., doi:10.1103/PhysRevE.83.066706). Where no block length
    meets it, the largest error seen is given and `converged` is False.
    """
    x = np.asarray(series, float).ravel()
    levels = blocking(x)
    naive = levels[0][1]
    if naive == 0.0:
        return Estimate(mean=float(x.mean()), standard_error=0.0, n_effective=float(len(x)), converged=True)
    for length, error, _ in levels:
        if length**3 > 2 * len(x) * (error / naive) ** 4:
            return Estimate(
                mean=float(x.mean()),
                standard_error=error,
                n_effective=len(x) * (naive / error) ** 2,
                converged=True,
            )
    error = max(e for _, e, _ in levels)
    return Estimate(
        mean=float(x.mean()),
        standard_error=error,
        n_effective=len(x) * (naive / error) ** 2,
        converged=False,
    )


def bootstrap(
    replicas: Sequence[Any] | np.ndarray,
    statistic: Callable[[np.ndarray], Any] | None = None,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[Any, Any, tuple[Any, Any]]:
    """(statistic, standard error, 95 % percentile interval) by resampling independent replicas.

    `statistic` maps an array [replicas, …] to a number or an array; the mean over replicas if not given.
    The interval is the plain percentile one (Efron & Tibshirani, doi:10.1201/9780429246593); with few
    replicas it is too narrow by about √((n−1)/n), which the standard error corrects for.
    """
    x = np.asarray(replicas, float)
    n = len(x)
    if n < 2:
        raise ValueError(f"A bootstrap over replicas needs at least 2 of them; given {n}.")
    f = statistic if statistic is not None else (lambda a: a.mean(0))
    rng = np.random.default_rng(seed)
    draws = np.array([f(x[rng.integers(0, n, n)]) for _ in range(n_resamples)])
    error = draws.std(0, ddof=1) * np.sqrt(n / (n - 1))
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return f(x), error, (low, high)
