"""Mean squared displacement and self-diffusion."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Any, final

import numpy as np
from jaxtyping import Float

from rikiba.core import units
from rikiba.core.record import Curve, Figure, Record

from .trajectories import Trajectory, as_replicas


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Msd:
    """Mean squared displacement of unwrapped atoms and the self-diffusion coefficient of each element.

    MSD(τ) = ⟨|r(t + τ) − r(t)|²⟩ over all time origins and atoms, after the drift of the centre of mass is
    removed frame by frame; D is the slope of c + 6Dτ by generalised least squares with the covariance of
    overlapping windows of Brownian motion (Michalet, doi:10.1103/PhysRevE.82.041914; the case for
    generalised over ordinary least squares: McCluskey, Coles & Morgan, doi:10.1021/acs.jctc.4c01249).

    Args:
        fit_from_ps: shortest lag of the fit; below it motion is ballistic or caged.
        fit_to_ps: longest lag of the fit; half the trajectory if not given.
        n_lags: number of lags in the fit.
        remove_drift: subtract the displacement of the centre of mass.
    """

    fit_from_ps: float = 1.0
    fit_to_ps: float | None = None
    n_lags: int = 30
    remove_drift: bool = True

    def analyse(self, trajectories: Trajectory | Sequence[Trajectory]) -> Record:
        """D (cm²/s) and its error of each element. Raises ValueError where the trajectory is too short."""
        replicas = as_replicas(trajectories)
        n_frames = min(t.n_frames for t in replicas)
        dt_ps = replicas[0].timestep_fs * 1e-3
        lags = self._lags(n_frames, dt_ps)
        per_replica = [self._displacements(t, n_frames) for t in replicas]
        values: dict[str, Any] = {"n_frames": n_frames, "n_replicas": len(replicas)}
        spread: dict[str, Any] = {}
        curves, notes = [], []
        for symbol in replicas[0].symbols:
            atoms = replicas[0].of(symbol)
            curve = np.array([msd[:, atoms].mean(1) for msd in per_replica])
            fit = fit_diffusion(curve, lags, n_frames, dt_ps, n_atoms=len(atoms))
            key = f"D_{symbol}_cm2_per_s"
            values[key], spread[key] = fit.D * 1e-4, fit.error * 1e-4
            values[f"exponent_{symbol}"] = fit.exponent
            curves.append(
                Curve.of(symbol, np.arange(1, lags[-1] + 1) * dt_ps, curve.mean(0)[1 : lags[-1] + 1])
            )
            curves.append(
                Curve.of(
                    f"{symbol} fit", lags * dt_ps, fit.intercept + 6.0 * fit.D * lags * dt_ps, style="line"
                )
            )
            if abs(fit.exponent - 1.0) > 0.1:
                notes.append(
                    f"{symbol}: MSD ∝ τ^{fit.exponent:.2f} in the fit window: not diffusive, D is nominal."
                )
            if fit.inflation > 1.5:
                notes.append(
                    f"{symbol}: residuals are {fit.inflation:.1f} times those of independent Brownian atoms; "
                    f"the error bar was widened by that."
                )
        if not any(replicas[0].pbc):
            notes.append("No periodic boundary: displacements are bounded by the molecule or the container.")
        notes.append("Not corrected for the finite cell; see finite_size_correction.")
        return Record(
            name="msd",
            title="Mean squared displacement",
            values=values,
            spread=spread,
            figures=(
                Figure(
                    title="Mean squared displacement",
                    x_label="τ (ps)",
                    y_label="MSD (Å²)",
                    curves=tuple(curves),
                ),
            ),
            notes=tuple(notes),
            references=("10.1103/PhysRevE.82.041914", "10.1021/acs.jctc.4c01249"),
        )

    def _lags(self, n_frames: int, dt_ps: float) -> np.ndarray:
        first = max(int(np.ceil(self.fit_from_ps / dt_ps - 1e-9)), 1)
        to_ps = 0.5 * (n_frames - 1) * dt_ps if self.fit_to_ps is None else self.fit_to_ps
        last = int(to_ps / dt_ps + 1e-9)
        if last >= n_frames or last - first < 2:
            raise ValueError(
                f"The fit from {self.fit_from_ps} ps to {to_ps:.4g} ps needs a longer trajectory: this has "
                f"{n_frames} frames of {dt_ps:.4g} ps. Lower fit_from_ps or simulate longer."
            )
        return np.unique(np.linspace(first, last, min(self.n_lags, last - first + 1)).round().astype(int))

    def _displacements(self, t: Trajectory, n_frames: int) -> np.ndarray:
        x = t.positions[:n_frames]
        if self.remove_drift:
            m = t.mass
            x = x - ((m[:, None] * x).sum(1) / m.sum())[:, None, :]
        return mean_squared_displacements(x)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionFit:
    """MSD = intercept + 6 D τ; D in Å²/ps."""

    D: float
    error: float
    intercept: float
    exponent: float
    """d ln MSD / d ln τ over the window; 1 where diffusive."""
    inflation: float
    """√(χ²/degrees of freedom) where above 1: how much wider than the Brownian error bar."""


def mean_squared_displacements(
    positions: Float[np.ndarray, "frames atoms 3"],
) -> Float[np.ndarray, "frames atoms"]:
    """Windowed MSD of each atom at every lag in O(F log F), equal to the double sum to rounding.

    MSD(m) = 1/(F−m) Σ_t |r_{t+m} − r_t|² = S1(m) − 2 S2(m), S2 by FFT (Calandrini et al.,
    doi:10.1051/sfn/201112010, §4.2).
    """
    x = positions - positions.mean(0)
    n = len(x)
    transform = np.fft.rfft(x, 2 * n, axis=0)
    s2 = np.fft.irfft(np.abs(transform) ** 2, 2 * n, axis=0)[:n].sum(-1)
    square = (x**2).sum(-1)
    total = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(square, axis=0)])
    m = np.arange(n)
    s1 = total[n - m] + (total[n] - total[m])
    return (s1 - 2.0 * s2) / (n - m)[:, None]


def brownian_covariance(lags: np.ndarray, n_frames: int) -> Float[np.ndarray, "lags lags"]:
    """Covariance of overlapping-window squared displacements of a one-dimensional unit random walk.

    Cov(m, n) = 2/(K_m K_n) Σ_{s,t} o(s, t)², o the overlap of [s, s+m] and [t, t+n], K_m = F − m.
    """
    out = np.empty((len(lags), len(lags)))
    for a, m in enumerate(lags):
        for b, n in enumerate(lags[: a + 1]):
            shift = np.arange(-n + 1, m)
            overlap = np.minimum(m, shift + n) - np.maximum(0, shift)
            k_m, k_n = n_frames - m, n_frames - n
            count = np.minimum(k_m, k_n - shift) - np.maximum(0, -shift)
            value = 2.0 * (np.maximum(count, 0) * overlap.astype(float) ** 2).sum() / (k_m * k_n)
            out[a, b] = out[b, a] = value
    return out


def fit_diffusion(
    msd: Float[np.ndarray, "replicas frames"], lags: np.ndarray, n_frames: int, dt_ps: float, *, n_atoms: int
) -> DiffusionFit:
    """Generalised least squares of MSD(τ) = c + 6Dτ over three dimensions and `n_atoms` per replica.

    With four or more replicas the error is at least their scatter, which also holds for correlated atoms.
    """
    tau = lags * dt_ps
    y = msd.mean(0)[lags]
    shape = brownian_covariance(lags, n_frames)
    design = np.stack([np.ones_like(tau), 6.0 * tau], 1)
    whitener = np.linalg.inv(np.linalg.cholesky(shape))
    a = whitener @ design
    solve = np.linalg.pinv(a) @ whitener
    c, D = solve @ y
    # variance of one step and one dimension is 2 D dt; 3 dimensions add, atoms and replicas average
    scale = 3.0 * (2.0 * max(D, 0.0) * dt_ps) ** 2 / (n_atoms * len(msd))
    residual = whitener @ (y - design @ np.array([c, D]))
    chi2 = float(residual @ residual) / scale / max(len(lags) - 2, 1) if scale > 0 else 1.0
    inflation = max(1.0, float(np.sqrt(chi2)))
    error = float(np.sqrt(scale * np.linalg.inv(a.T @ a)[1, 1])) * inflation
    if len(msd) >= 4:
        each = np.array([(solve @ row[lags])[1] for row in msd])
        error = max(error, float(each.std(ddof=1) / np.sqrt(len(msd))))
    positive = y > 0
    exponent = (
        float(np.polyfit(np.log(tau[positive]), np.log(y[positive]), 1)[0]) if positive.sum() > 2 else np.nan
    )
    return DiffusionFit(D=float(D), error=error, intercept=float(c), exponent=exponent, inflation=inflation)


def finite_size_correction(temperature_K: float, viscosity_mPa_s: float, length_A: float) -> float:
    """D_∞ − D_L = ξ k_B T / (6π η L) in cm²/s for a cubic cell, ξ = 2.837297.

    Yeh & Hummer, doi:10.1021/jp0477147. η is the shear viscosity of the same model.
    """
    if not (temperature_K > 0 and viscosity_mPa_s > 0 and length_A > 0):
        raise ValueError(
            f"temperature, viscosity and length must be positive; given {temperature_K} K, "
            f"{viscosity_mPa_s} mPa·s and {length_A} Å."
        )
    boltzmann_J = units.boltzmann / units.joule
    metre2_per_s = (
        2.837297 * boltzmann_J * temperature_K / (6.0 * pi * viscosity_mPa_s * 1e-3 * length_A * 1e-10)
    )
    return metre2_per_s * 1e4
