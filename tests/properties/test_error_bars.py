"""Error bars against processes whose correlation is known exactly."""

import numpy as np
import pytest

from rikiba.properties.error_bars import (
    autocorrelation,
    block_average,
    bootstrap,
    integrated_autocorrelation_time,
    mean_with_error,
    statistical_inefficiency,
)


def ar1(phi: float, n: int, rng: np.random.Generator, columns: int = 1) -> np.ndarray:
    """x_t = φ x_{t−1} + noise of unit variance, started in its stationary state."""
    x = np.empty((n, columns))
    x[0] = rng.normal(size=columns) / np.sqrt(1.0 - phi**2)
    noise = rng.normal(size=(n, columns))
    for t in range(1, n):
        x[t] = phi * x[t - 1] + noise[t]
    return x


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_autocorrelation_time_of_ar1_is_exact(phi: float) -> None:
    series = ar1(phi, 200_000, np.random.default_rng(1))[:, 0]
    exact = 0.5 * (1.0 + phi) / (1.0 - phi)
    assert integrated_autocorrelation_time(series) == pytest.approx(exact, rel=0.08)
    assert autocorrelation(series)[:4] == pytest.approx(phi ** np.arange(4), abs=0.03)


def test_autocorrelation_is_the_plain_sum() -> None:
    x = np.random.default_rng(2).normal(size=50)
    d = x - x.mean()
    direct = [float((d[: 50 - k] * d[k:]).sum() / (d * d).sum()) for k in range(50)]
    assert autocorrelation(x) == pytest.approx(direct, abs=1e-12)


def test_error_bars_cover_the_truth_and_the_naive_one_does_not() -> None:
    phi, n, runs = 0.8, 2000, 300
    x = ar1(phi, n, np.random.default_rng(3), runs)
    means = x.mean(0)
    correlated = np.sqrt(x.var(0, ddof=1) * statistical_inefficiency(x) / n)
    naive = np.sqrt(x.var(0, ddof=1) / n)
    blocked = np.array([block_average(x[:, k]).standard_error for k in range(runs)])
    # 95 % intervals; binomial error of the coverage is 1.3 %
    assert 0.91 < (np.abs(means) < 1.96 * correlated).mean() < 0.99
    assert 0.89 < (np.abs(means) < 1.96 * blocked).mean() < 0.99
    assert (np.abs(means) < 1.96 * naive).mean() < 0.6


def test_short_series_says_so() -> None:
    x = ar1(0.999, 500, np.random.default_rng(4))[:, 0]
    assert not mean_with_error(x).converged
    assert not block_average(x).converged
    assert mean_with_error(ar1(0.5, 20_000, np.random.default_rng(5))[:, 0]).converged


def test_constant_series_has_no_error() -> None:
    assert mean_with_error(np.full(100, 3.7)).standard_error == pytest.approx(0.0, abs=1e-14)
    assert block_average(np.full(100, 3.7)).standard_error == pytest.approx(0.0, abs=1e-14)


def test_bootstrap_matches_the_known_error() -> None:
    x = np.random.default_rng(6).normal(2.0, 0.5, size=40)
    mean, error, (low, high) = bootstrap(x, n_resamples=4000)
    assert mean == pytest.approx(x.mean())
    assert error == pytest.approx(x.std(ddof=1) / np.sqrt(40), rel=0.05)
    assert low < mean < high
    with pytest.raises(ValueError, match="at least 2"):
        bootstrap([1.0])
