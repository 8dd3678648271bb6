"""Vibrational density of states from velocities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float

from rikiba.core import units
from rikiba.core.record import Curve, Figure, Record

from .trajectories import Trajectory, as_replicas

REFERENCES = ("10.1103/PhysRev.188.1407", "10.1063/1.1624057")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectrum:
    """S(ν) in modes per cm⁻¹; its integral is the number of degrees of freedom."""

    wavenumber_cm1: Float[np.ndarray, "points"]
    total: Float[np.ndarray, "points"]
    error: Float[np.ndarray, "points"] | None
    by_element: dict[str, Float[np.ndarray, "points"]]
    temperature_K: float
    resolution_cm1: float
    dof: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Vdos:
    """Mass-weighted velocity autocorrelation spectrum.

    S(ν) = 4/(k_B T) ∫₀^τ Σ_i m_i ⟨v_i(0)·v_i(t)⟩ w(t) cos(2πνt) dt with a Hann lag window w, so that
    ∫ S dν = Σ m⟨v²⟩/(k_B T) (Dickey & Paskin, doi:10.1103/PhysRev.188.1407; Lin, Blanco & Goddard,
    doi:10.1063/1.1624057). Two lines closer than the resolution 1/(cτ) are not told apart.

    Args:
        window_fs: longest lag τ; a quarter of the trajectory if not given.
        remove_drift: take out the velocity of the centre of mass.
        remove_rotation: take out rigid rotation about the centre of mass; for isolated molecules.
        max_wavenumber_cm1: end of the printed spectrum.
        peak_height: a peak is listed where it exceeds this fraction of the highest.
    """

    window_fs: float | None = None
    remove_drift: bool = True
    remove_rotation: bool = False
    max_wavenumber_cm1: float = 4500.0
    peak_height: float = 0.05

    def analyse(self, trajectories: Trajectory | Sequence[Trajectory]) -> Record:
        """Spectrum with peaks, temperature and resolution. Raises ValueError without velocities."""
        replicas = as_replicas(trajectories)
        s = self.spectrum(replicas)
        keep = s.wavenumber_cm1 <= self.max_wavenumber_cm1
        x = s.wavenumber_cm1[keep]
        curves = [Curve.of("total", x, s.total[keep], None if s.error is None else s.error[keep])]
        curves += [Curve.of(e, x, y[keep]) for e, y in s.by_element.items()]
        step_fs = replicas[0].timestep_fs
        nyquist = 0.5 / (step_fs * 1e-15) / 2.99792458e10
        notes = [
            f"Resolution {s.resolution_cm1:.1f} cm⁻¹, Hann window {self._window(replicas) * step_fs:.0f} fs; "
            f"frames every {step_fs:g} fs see up to {nyquist:.0f} cm⁻¹.",
            "Frequencies carry the integrator's own shift, about (ω·timestep)²/24.",
        ]
        if s.error is None:
            notes.append("Too short for an error bar: fewer than two independent windows.")
        values: dict[str, Any] = {
            "peaks_cm1": peaks(s, self.peak_height, self.max_wavenumber_cm1),
            "resolution_cm1": s.resolution_cm1,
            "temperature_K": s.temperature_K,
            "dof": s.dof,
            "wavenumber_cm1": x.tolist(),
            "vdos_per_cm1": s.total[keep].tolist(),
        }
        return Record(
            name="vdos",
            title="Vibrational density of states",
            values=values,
            spread={} if s.error is None else {"vdos_per_cm1": s.error[keep].tolist()},
            figures=(
                Figure(
                    title="Vibrational density of states",
                    x_label="wavenumber (cm⁻¹)",
                    y_label="modes per cm⁻¹",
                    curves=tuple(curves),
                ),
            ),
            notes=tuple(notes),
            references=REFERENCES,
        )

    def compare(
        self,
        a: Trajectory | Sequence[Trajectory],
        b: Trajectory | Sequence[Trajectory],
        *,
        labels: tuple[str, str] = ("a", "b"),
    ) -> Record:
        """Two spectra at one window, both scaled to unit area, and their overlap ∫ min(S_a, S_b) dν.

        The window is the shorter of the two. Raises ValueError for different atoms or sampling.
        """
        first, second = as_replicas(a), as_replicas(b)
        if not np.array_equal(first[0].numbers, second[0].numbers):
            raise ValueError("Spectra of different structures cannot be compared.")
        window = min(self._window(r) * r[0].timestep_fs for r in (first, second))
        same = Vdos(
            window_fs=window,
            remove_drift=self.remove_drift,
            remove_rotation=self.remove_rotation,
            max_wavenumber_cm1=self.max_wavenumber_cm1,
            peak_height=self.peak_height,
        )
        s, t = same.spectrum(first), same.spectrum(second)
        top = min(self.max_wavenumber_cm1, s.wavenumber_cm1[-1], t.wavenumber_cm1[-1])
        x = np.linspace(0.0, top, max(int(top / s.resolution_cm1 * 8), 64))
        y, z = (np.interp(x, q.wavenumber_cm1, np.maximum(q.total, 0.0)) for q in (s, t))
        y, z = y / _area(y, x), z / _area(z, x)
        return Record(
            name="vdos_comparison",
            title=f"Vibrational spectra: {labels[0]} and {labels[1]}",
            values={
                "overlap": float(_area(np.minimum(y, z), x)),
                "resolution_cm1": s.resolution_cm1,
                f"peaks_{labels[0]}_cm1": peaks(s, self.peak_height, top),
                f"peaks_{labels[1]}_cm1": peaks(t, self.peak_height, top),
            },
            figures=(
                Figure(
                    title="Vibrational density of states, unit area",
                    x_label="wavenumber (cm⁻¹)",
                    y_label="density (cm)",
                    curves=(Curve.of(labels[0], x, y), Curve.of(labels[1], x, z)),
                ),
            ),
            notes=(f"Window {window:.0f} fs: lines closer than {s.resolution_cm1:.0f} cm⁻¹ merge.",),
            references=REFERENCES,
        )

    def spectrum(self, trajectories: Trajectory | Sequence[Trajectory]) -> Spectrum:
        """The spectrum as arrays, up to the Nyquist wavenumber."""
        replicas = as_replicas(trajectories)
        window = self._window(replicas)
        dt = replicas[0].timestep_fs * units.femtosecond
        symbols = replicas[0].symbols
        # replicas, or blocks of one, are the independent samples behind the error bar
        weighted = [part for t in replicas for part in _blocks(self._weighted(t), window, len(replicas))]
        frames = np.array([len(w) for w in weighted], float)
        share = frames / frames.sum()
        each = np.array(
            [[_transform(w[:, replicas[0].of(s)], window, dt) for s in symbols] for w in weighted]
        )
        kinetic = sum(p * (w**2).sum((1, 2)).mean() for p, w in zip(share, weighted, strict=True))
        dof = 3.0 * len(replicas[0].numbers) - 3.0 * self.remove_drift - self._rotations(replicas[0])
        temperature = float(kinetic / dof / units.boltzmann)
        wavenumber = np.arange(each.shape[-1]) * _grid_step(window, dt)
        each = each / (units.boltzmann * temperature)
        by_element = np.einsum("r,rep->ep", share, each)
        error = None
        if len(weighted) > 1:
            totals = each.sum(1)
            error = totals.std(0, ddof=1) * np.sqrt((share**2).sum())
        return Spectrum(
            wavenumber_cm1=wavenumber,
            total=by_element.sum(0),
            error=error,
            by_element=dict(zip(symbols, by_element, strict=True)),
            temperature_K=temperature,
            resolution_cm1=float(2.0 * np.pi / (window * dt) * units.angular_to_inverse_centimetre),
            dof=float(dof),
        )

    def _window(self, replicas: list[Trajectory]) -> int:
        n = min(t.n_frames for t in replicas)
        frames = n // 4 if self.window_fs is None else round(self.window_fs / replicas[0].timestep_fs)
        if not 4 <= frames <= n:
            raise ValueError(
                f"A window of {frames} frames does not fit: the trajectory has {n} frames of "
                f"{replicas[0].timestep_fs} fs and the window needs at least 4. Change window_fs."
            )
        return frames

    def _rotations(self, t: Trajectory) -> int:
        if not self.remove_rotation:
            return 0
        x = t.positions[0] - t.positions[0].mean(0)
        return 2 if len(t.numbers) == 2 or np.linalg.matrix_rank(x, tol=1e-3) < 2 else 3

    def _weighted(self, t: Trajectory) -> np.ndarray:
        """√m v with rigid motion removed, [frames, atoms, 3]."""
        if t.velocities is None:
            raise ValueError("A vibrational spectrum needs velocities; this trajectory has positions only.")
        m = t.mass[:, None]
        v = t.velocities
        if self.remove_drift or self.remove_rotation:
            v = v - ((m * v).sum(1) / m.sum())[:, None]
        if self.remove_rotation:
            x = t.positions - ((m * t.positions).sum(1) / m.sum())[:, None]
            momentum = (m * np.cross(x, v)).sum(1)
            square = (m[None] * x**2).sum((1, 2))
            inertia = square[:, None, None] * np.eye(3) - np.einsum("tax,tay->txy", m * x, x)
            omega = np.einsum("txy,ty->tx", np.linalg.pinv(inertia, rcond=1e-9), momentum)
            v = v - np.cross(omega[:, None, :], x)
        return np.sqrt(m) * v


def peaks(s: Spectrum, height: float, top_cm1: float) -> list[float]:
    """Wavenumbers of local maxima above `height` × the highest, refined by a parabola, cm⁻¹."""
    from scipy.signal import find_peaks

    keep = s.wavenumber_cm1 <= top_cm1
    y = s.total[keep]
    found = find_peaks(y, height=height * y.max(), prominence=0.5 * height * y.max())[0]
    step = s.wavenumber_cm1[1]
    left, mid, right = y[found - 1], y[found], y[found + 1]
    return (step * (found + 0.5 * (left - right) / (left - 2.0 * mid + right))).tolist()


def _blocks(x: np.ndarray, window: int, n_replicas: int) -> list[np.ndarray]:
    """One trajectory cut into parts of at least two windows, where there are no replicas to compare."""
    n = min(len(x) // (2 * window), 10) if n_replicas == 1 else 1
    return np.array_split(x, max(n, 1))


def _area(y: np.ndarray, x: np.ndarray) -> float:
    return float(0.5 * ((y[1:] + y[:-1]) * np.diff(x)).sum())


def _padded(window: int) -> int:
    return 8 * window


def _grid_step(window: int, dt: float) -> float:
    return 2.0 * np.pi / (_padded(window) * dt) * units.angular_to_inverse_centimetre


def _transform(x: np.ndarray, window: int, dt: float) -> np.ndarray:
    """Spectrum per cm⁻¹ of √m v; its trapezoid sum over the grid is ⟨Σ m v²⟩ exactly."""
    n = len(x)
    f = np.fft.rfft(x, 2 * n, axis=0)
    c = np.fft.irfft((np.abs(f) ** 2).sum((1, 2)), 2 * n)[:window] / (n - np.arange(window))
    c *= 0.5 * (1.0 + np.cos(np.pi * np.arange(window) / window))
    c[0] *= 0.5
    length = _padded(window)
    cosine = np.fft.rfft(c, length).real
    return 4.0 / length * cosine / _grid_step(window, dt)
