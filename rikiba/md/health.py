"""Is a run still physics? Tests of one window of a series, with the rate at which they err."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from .drift import correlation_frames, fit_trend

FALSE_ALARM = 1e-6
"""Chance that a test of one window of a healthy stationary run gives an alarm, were the samples Gaussian and
their correlation time known. That time is estimated, which is what MARGIN allows for."""
MARGIN = 2.0
"""Factor that a ratio of variances must go beyond its quantile."""
LEAST_SAMPLES = 12.0
"""Independent samples a window must hold to be judged."""


@final
@dataclass(frozen=True, slots=True)
class Window:
    """One window of a series: mean, variance about its straight line, independent samples."""

    mean: float
    variance: float
    samples: float

    @staticmethod
    def of(values: Float[np.ndarray, "frames"]) -> "Window":
        """A slow change (a ramp, an equilibration) is taken out as a line and is no fluctuation."""
        x = np.arange(len(values)) - 0.5 * (len(values) - 1)
        left = values - values.mean() - x * float((x * values).sum() / (x * x).sum())
        tau, _ = correlation_frames(left)
        return Window(float(values.mean()), float(left.var()), len(values) / (2.0 * tau))


def variance_alarm(window: Window, expected: float, *, lower: bool = False) -> float | None:
    """Variance over the expected one where it is too large (or, with `lower`, too small); None otherwise.

    Too large is beyond the 1 − 10⁻⁶ quantile of χ²/ν times two.
    """
    from scipy.stats import chi2

    if window.samples < LEAST_SAMPLES or expected <= 0:
        return None
    ratio, nu = window.variance / expected, window.samples - 1.0
    if ratio > MARGIN * chi2.isf(FALSE_ALARM, nu) / nu:
        return ratio
    if lower and ratio < chi2.ppf(FALSE_ALARM, nu) / nu / MARGIN:
        return ratio
    return None


def growth_alarm(window: Window, earlier: list[Window]) -> float | None:
    """Variance over that of the earlier windows where it grew beyond the F quantile times two; else None."""
    from scipy.stats import f

    before = sum(w.samples for w in earlier)
    if window.samples < LEAST_SAMPLES or before < LEAST_SAMPLES:
        return None
    pooled = sum(w.variance * w.samples for w in earlier) / before
    if pooled <= 0:
        return None
    ratio = window.variance / pooled
    return ratio if ratio > MARGIN * f.isf(FALSE_ALARM, window.samples - 1, before - 1) else None


def mean_alarm(window: Window, target: float, expected: float) -> float | None:
    """Difference from the target where it is beyond five standard errors and 2 %; None otherwise.

    `expected` is the variance of one sample.
    """
    if window.samples < LEAST_SAMPLES:
        return None
    off = window.mean - target
    error = (max(expected, window.variance) / window.samples) ** 0.5
    return off if abs(off) > 5.0 * error + 0.02 * abs(target) else None


def drift_alarm(
    times_ps: Float[np.ndarray, "windows"], means: Float[np.ndarray, "windows"], tolerance: float
) -> float | None:
    """Slope of window means where its interval lies beyond ±tolerance with confidence 1 − 10⁻⁶; else None."""
    if len(means) < 16:
        return None
    trend = fit_trend(times_ps, means)
    if trend.degrees < 1:
        return None
    low, high = trend.interval(1.0 - FALSE_ALARM)
    return trend.slope if low > tolerance or high < -tolerance else None
