"""Is the conserved quantity conserved? A drift with its confidence interval, told apart from oscillation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float

from rikiba.core.record import Curve, Figure, Record, Table

Finding = Literal["drifts", "diverges", "no drift", "too short to tell"]
Behaviour = Literal["divergence", "monotonic drift", "bounded oscillation", "undecided"]

_MIN_BLOCKS, _MAX_BLOCKS = 8, 64


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A straight line through one series: slope ± standard error with its degrees of freedom."""

    slope: float
    error: float
    """Standard error with the autocorrelation of the residuals accounted for; NaN where undetermined."""
    degrees: int
    """Degrees of freedom of Student's t for the interval; 0 where undetermined."""
    block: int
    """Frames averaged into one nearly independent block; 0 where the series is too short for any."""
    amplitude: float
    """Half the range between the 2.5 and 97.5 percentiles of what remains after the line."""
    local_rates: tuple[float, float] | None = None
    """Least and greatest rate along a series that only rises or only falls but on no straight line."""

    def interval(self, confidence: float) -> tuple[float, float]:
        """Confidence interval of the slope, or the range of local rates; infinite where undetermined."""
        if self.degrees < 1:
            return self.local_rates or (-np.inf, np.inf)
        from scipy.stats import t

        half = float(t.ppf(0.5 + confidence / 2, self.degrees)) * self.error
        return self.slope - half, self.slope + half


def correlation_frames(residual: Float[np.ndarray, "frames"]) -> tuple[float, int]:
    """Integrated correlation time (at least ½) and the first lag without positive correlation, in frames.

    The sum over lags is cut at five correlation times (Sokal's window).
    """
    x = residual - residual.mean()
    n = len(x)
    power = np.abs(np.fft.rfft(x, 2 * n)) ** 2
    rho = np.fft.irfft(power)[:n]
    if rho[0] <= 0:
        return 0.5, 1
    rho = rho / rho[0]
    crossing = int(np.argmax(rho <= 0)) if (rho <= 0).any() else n
    tau = 0.5 + np.cumsum(rho[1:])
    inside = np.arange(1, n) < 5 * tau
    cut = int(np.argmin(inside)) if not inside.all() else n - 2
    return max(0.5, float(tau[cut])), crossing


def fit_trend(time: Float[np.ndarray, "frames"], values: Float[np.ndarray, "frames"]) -> Trend:
    """Least-squares line through block means, with its error from their scatter.

    Blocks are long enough to be nearly independent: at least ten integrated correlation times and one period
    of an oscillation (four times the first zero of the correlation) each, longer still while neighbouring
    block residuals are significantly correlated; what correlation remains inflates the error by
    √((1+ρ)/(1−ρ)). With fewer than eight blocks the error is undetermined, unless the means of eight equal
    blocks rise or fall without exception: then the rate changes along the series, and the interval is the
    range of the rates between them. Method of batch means: Flegal & Jones, doi:10.1214/09-AOS735;
    correlation time: Sokal, doi:10.1007/978-1-4899-0319-8_6.

    Raises ValueError for non-finite values and times that do not increase.
    """
    t, y = np.asarray(time, float), np.asarray(values, float)
    if t.ndim != 1 or t.shape != y.shape:
        raise ValueError(f"time and values must be series of equal length; given {t.shape} and {y.shape}.")
    if not np.isfinite(y).all() or not np.isfinite(t).all() or not (np.diff(t) > 0).all():
        raise ValueError("A drift is fitted to finite values at strictly increasing times.")
    n = len(t)
    if n < 3:
        return Trend(slope=np.nan, error=np.nan, degrees=0, block=0, amplitude=np.nan)
    slope, _ = _line(t, y)
    residual = y - y.mean() - slope * (t - t.mean())
    amplitude = float(np.subtract(*np.percentile(residual, [97.5, 2.5]))) / 2
    tau, crossing = correlation_frames(residual)
    block = max(1, int(np.ceil(10 * tau)), 4 * crossing if crossing > 1 else 1, -(-n // _MAX_BLOCKS))
    while n // block >= _MIN_BLOCKS:
        count = n // block
        used = slice(n - count * block, n)
        means_t, means_y = (v[used].reshape(count, block).mean(1) for v in (t, y))
        block_slope, left = _line(means_t, means_y)
        rho = float((left[1:] * left[:-1]).sum() / (left**2).sum()) if (left**2).sum() > 0 else 0.0
        if rho < 2 / np.sqrt(count):
            spread = np.sqrt((left**2).sum() / (count - 2) / ((means_t - means_t.mean()) ** 2).sum())
            inflation = np.sqrt((1 + max(rho, 0.0)) / (1 - max(rho, 0.0)))
            return Trend(
                slope=block_slope,
                error=float(spread * inflation),
                degrees=count - 2,
                block=block,
                amplitude=amplitude,
            )
        block *= 2
    return Trend(
        slope=slope, error=np.nan, degrees=0, block=0, amplitude=amplitude, local_rates=_monotonic_rates(t, y)
    )


def _monotonic_rates(t: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Least and greatest rate between eight block means that only rise or only fall; None if they do not."""
    if len(y) < 8 * _MIN_BLOCKS:
        return None
    means_t, means_y = (np.array([p.mean() for p in np.array_split(v, _MIN_BLOCKS)]) for v in (t, y))
    rates = np.diff(means_y) / np.diff(means_t)
    return (float(rates.min()), float(rates.max())) if abs(np.sign(rates).sum()) == len(rates) else None


def _line(t: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Least-squares slope and residuals."""
    x = t - t.mean()
    slope = float((x * y).sum() / (x * x).sum())
    return slope, y - y.mean() - slope * x


def pooled_trend(trends: Sequence[Trend]) -> Trend:
    """Mean slope of independent replicas.

    From four replicas on, the error is that of their scatter, which needs no model of correlation; with fewer
    it is propagated from theirs.
    """
    slopes = np.array([t.slope for t in trends])
    amplitude = float(np.mean([t.amplitude for t in trends]))
    n = len(slopes)
    if n >= 4:
        error, degrees = float(slopes.std(ddof=1) / np.sqrt(n)), n - 1
    else:
        error = float(np.sqrt(sum(t.error**2 for t in trends)) / n)
        degrees = min(t.degrees for t in trends)
    if not np.isfinite(slopes).all() or not np.isfinite(error):
        degrees = 0
    return Trend(slope=float(slopes.mean()), error=error, degrees=degrees, block=0, amplitude=amplitude)


def finding(trend: Trend, confidence: float, tolerance: float) -> Finding:
    """What the interval of the slope says.

    "no drift" where the whole interval lies within ±tolerance; otherwise "drifts" where it excludes zero;
    otherwise "too short to tell".
    """
    low, high = trend.interval(confidence)
    if -tolerance <= low and high <= tolerance:
        return "no drift"
    return "drifts" if low > 0 or high < 0 else "too short to tell"


def diverges(time: Float[np.ndarray, "frames"], values: Float[np.ndarray, "frames"]) -> bool:
    """True where a series leaves at a growing rate: exponentially, or like the cube of time or faster.

    The last eighth must change more than eight times as fast as the first half did on average (a line scores
    1, a parabola 3.8, a cube 11), and by more than five times the half-range of the first half about its
    line, which noise and oscillation do not.
    """
    t, y = np.asarray(time, float), np.asarray(values, float)
    n = len(y)
    if n < 8 * _MIN_BLOCKS:
        return False
    parts = [slice(k * n // 8, (k + 1) * n // 8) for k in range(8)]
    means = np.array([[t[p].mean(), y[p].mean()] for p in parts])
    late = (means[7, 1] - means[6, 1]) / (means[7, 0] - means[6, 0])
    early = (means[3, 1] - means[0, 1]) / (means[3, 0] - means[0, 0])
    _, left = _line(t[: n // 2], y[: n // 2])
    return bool(abs(late) > 8.0 * abs(early) and abs(means[7, 1] - means[6, 1]) > 5.0 * np.abs(left).max())


def behaviour(found: Finding) -> Behaviour:
    """What kind of series it is, in words of its own."""
    kinds: dict[Finding, Behaviour] = {
        "diverges": "divergence",
        "drifts": "monotonic drift",
        "no drift": "bounded oscillation",
        "too short to tell": "undecided",
    }
    return kinds[found]


def hints(
    time: Float[np.ndarray, "frames"],
    values: Float[np.ndarray, "frames"],
    found: Finding,
    kinetic_width: float | None,
) -> list[str]:
    """What the shape of a series that does not conserve points at, the likeliest first.

    Steps that are rare and large against the usual ones (excess kurtosis of the third differences above 5;
    noise has 0, oscillation less) come from energy or forces that jump: a cutoff without a switch, a
    neighbour list that is updated too late. An oscillation beyond a tenth of the kinetic energy's own
    fluctuation comes from the timestep: velocity Verlet's is about (ωΔt)²/8 of it. A drift without either is
    that of forces which are not quite the derivative of the energy: single precision, tables, loose
    convergence.
    """
    said = []
    jerk = np.diff(values, 3)
    spread = jerk.std()
    if len(jerk) > 100 and spread > 0 and float(((jerk / spread) ** 4).mean()) - 3.0 > 5.0:
        said.append(
            "jumps: the energy or the forces are discontinuous, as at a cutoff that is not smooth or with "
            "neighbours found too late"
        )
    _, left = _line(time, values)
    if found == "diverges" or (not said and kinetic_width and left.std() > 0.1 * kinetic_width):
        said.append("timestep: the step is too long for the fastest motion")
    if not said and found == "drifts":
        said.append(
            "forces: they are not quite the derivative of the energy, as in single precision, from tables, "
            "or from a reference calculation that is loosely converged"
        )
    return said


def drift(
    time_ps: Any,
    conserved_eV: Any,
    n_atoms: int | Sequence[int],
    *,
    kinetic_energy_eV: Any = None,
    tolerance_meV_per_atom_per_ns: float = 10.0,
    confidence: float = 0.95,
) -> Record:
    """Drift of the conserved quantity of one or many replicas, told apart from its bounded oscillation.

    Args:
        time_ps: [frames], or [frames replicas].
        conserved_eV: [frames], or [frames replicas]; total energy in NVE, minus the heat under a thermostat.
        n_atoms: atoms in each replica.
        kinetic_energy_eV: of the same shape, for the drift in units of its standard deviation.
        tolerance_meV_per_atom_per_ns: the drift below which a run counts as conserving.
        confidence: of the intervals.

    The Record's verdict is "pass" for no drift within the tolerance, "fail" for a drift or a divergence,
    "undecided" where the run is too short to tell; its `finding` says it in words, its `behaviour` whether
    what is seen is a divergence, a monotonic drift or a bounded oscillation, and its `suspects` what the
    shape of a bad series points at: jumps, timestep, forces. Raises ValueError as `fit_trend` does.
    """
    y = _two_dimensional(conserved_eV)
    t = np.broadcast_to(_two_dimensional(time_ps), y.shape)
    atoms = np.broadcast_to(np.asarray(n_atoms, float), y.shape[1])
    per_atom = 1000.0 * (y - y[:1]) / atoms  # meV/atom
    trends = [fit_trend(t[:, k], per_atom[:, k]) for k in range(y.shape[1])]
    pooled = trends[0] if len(trends) == 1 else pooled_trend(trends)
    tolerance = tolerance_meV_per_atom_per_ns / 1000.0
    away = [diverges(t[:, k], per_atom[:, k]) for k in range(y.shape[1])]
    found: Finding = "diverges" if any(away) else finding(pooled, confidence, tolerance)
    each: list[Finding] = [
        "diverges" if a else finding(x, confidence, tolerance) for x, a in zip(trends, away, strict=True)
    ]
    width = None if kinetic_energy_eV is None else _two_dimensional(kinetic_energy_eV).std(0)
    suspects = dict.fromkeys(
        h
        for k, f in enumerate(each)
        if f != "no drift"
        for h in hints(t[:, k], y[:, k], f, None if width is None else float(width[k]))
    )
    low, high = (1000.0 * v for v in pooled.interval(confidence))
    values: dict[str, Any] = {
        "drift_meV_per_atom_per_ps": pooled.slope,
        "drift_meV_per_atom_per_ns": 1000.0 * pooled.slope,
        "drift_low_meV_per_atom_per_ns": low,
        "drift_high_meV_per_atom_per_ns": high,
        "confidence": confidence,
        "oscillation_amplitude_meV_per_atom": pooled.amplitude,
        "length_ps": float((t[-1] - t[0]).mean()),
        "replicas": y.shape[1],
        "tolerance_meV_per_atom_per_ns": tolerance_meV_per_atom_per_ns,
        "finding": f"no drift within {tolerance_meV_per_atom_per_ns:g} meV/atom/ns"
        if found == "no drift"
        else found,
        "behaviour": behaviour(found),
        "suspects": [h.split(":")[0] for h in suspects],
        "replica_drift_meV_per_atom_per_ns": [1000.0 * x.slope for x in trends],
        "replica_finding": list(each),
    }
    spread: dict[str, Any] = {"drift_meV_per_atom_per_ns": 1000.0 * pooled.error}
    if width is not None:
        values["drift_per_kinetic_width_per_ns"] = float(
            np.mean([1000.0 * x.slope * a / 1000.0 / w for x, a, w in zip(trends, atoms, width, strict=True)])
        )
    return Record(
        name="drift",
        title="Drift of the conserved quantity",
        values=values,
        spread=spread,
        tables=(_table(trends, each, confidence),) if len(trends) > 1 else (),
        figures=(_figure(t, per_atom, pooled),),
        notes=_notes(trends, found, tuple(suspects), tolerance_meV_per_atom_per_ns, confidence),
        verdict={"no drift": "pass", "drifts": "fail", "diverges": "fail", "too short to tell": "undecided"}[
            found
        ],  # type: ignore[arg-type]
        references=("10.1214/09-AOS735",),
    )


def _two_dimensional(values: Any) -> np.ndarray:
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, float)
    return array[:, None] if array.ndim == 1 else array


def _table(trends: Sequence[Trend], each: Sequence[str], confidence: float) -> Table:
    rows = []
    for k, (x, said) in enumerate(zip(trends, each, strict=True)):
        low, high = x.interval(confidence)
        rows.append((k, 1000 * x.slope, 1000 * low, 1000 * high, x.amplitude, said))
    columns = ("replica", "drift (meV/atom/ns)", "low", "high", "oscillation (meV/atom)", "finding")
    return Table(
        title=f"Drift of each replica, {100 * confidence:g} % interval", columns=columns, rows=tuple(rows)
    )


def _figure(t: np.ndarray, per_atom: np.ndarray, pooled: Trend) -> Figure:
    every = max(1, len(t) // 500)
    curves = [
        Curve.of(
            f"replica {k}" if per_atom.shape[1] > 1 else "conserved quantity",
            t[::every, k],
            per_atom[::every, k],
        )
        for k in range(min(per_atom.shape[1], 16))
    ]
    if np.isfinite(pooled.slope):
        ends = np.array([t[0].mean(), t[-1].mean()])
        middle = per_atom.mean() - pooled.slope * t.mean()
        curves.append(Curve.of("fitted line", ends, middle + pooled.slope * ends))
    return Figure(
        title="Conserved quantity", x_label="time (ps)", y_label="change (meV/atom)", curves=tuple(curves)
    )


def _notes(
    trends: Sequence[Trend], found: Finding, suspects: Sequence[str], tolerance: float, confidence: float
) -> tuple[str, ...]:
    rule = (
        f"Rule: 'no drift' where the whole {100 * confidence:g} % interval lies within ±{tolerance:g} "
        f"meV/atom/ns; otherwise 'drifts' where it excludes zero; otherwise 'too short to tell'."
    )
    notes = [rule]
    short = sum(x.degrees == 0 for x in trends)
    if short:
        notes.append(
            f"{short} of {len(trends)} replicas hold fewer than {_MIN_BLOCKS} independent blocks, so their "
            f"own interval is undetermined."
        )
    if len(trends) >= 4:
        notes.append("The pooled interval comes from the scatter of the replicas' slopes.")
    if found in ("drifts", "diverges"):
        notes += [f"The series points at: {hint}." for hint in suspects]
    if found == "diverges":
        notes.append("The rate of change grows along the series: it diverges rather than drifts.")
    return tuple(notes)
