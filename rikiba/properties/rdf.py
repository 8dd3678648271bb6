"""Radial distribution functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import final

import numpy as np
from jaxtyping import Float

from rikiba.core import elements
from rikiba.core.pairs import find_pairs
from rikiba.core.record import Curve, Figure, Record

from .error_bars import standard_errors
from .trajectories import Trajectory, as_replicas


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rdf:
    """Partial radial distribution functions g_ab(r) of a periodic system, with error bars.

    g_ab(r) = V ⟨n_ab(r)⟩ / (N_a (N_b − δ_ab) · 4π/3 (r₊³ − r₋³)), with n_ab the ordered pairs in a bin.
    The N(N − 1) makes g = 1 exact for an ideal gas. An atom's own images are not counted.
    (Allen & Tildesley, doi:10.1093/oso/9780198803195.001.0001.)

    Args:
        r_max: largest distance, Å; half the least perpendicular width of the cell if not given.
        bin_width: width of a bin, Å.
        every: use every n-th frame.
    """

    r_max: float | None = None
    bin_width: float = 0.05
    every: int = 1

    def analyse(self, trajectories: Trajectory | Sequence[Trajectory]) -> Record:
        """g(r), first peak and running coordination of each pair of elements.

        Raises ValueError for structures that are not periodic along three axes.
        """
        replicas = [t[:: self.every] for t in as_replicas(trajectories)]
        first = replicas[0]
        if not all(first.pbc) or first.cell is None:
            raise ValueError(
                "g(r) is normalised by a density and needs three periodic axes; molecules have BondLengths."
            )
        half = min(half_width(c) for t in replicas for c in np.asarray(t.cell))
        r_max = half if self.r_max is None else self.r_max
        n_bins = max(int(r_max / self.bin_width + 1e-9), 1)
        edges = self.bin_width * np.arange(n_bins + 1)
        kinds = list(combinations_with_replacement(first.symbols, 2))
        per_frame = [_histograms(t, edges, kinds) for t in replicas]
        return self._record(replicas, edges, kinds, per_frame, half)

    def _record(
        self,
        replicas: list[Trajectory],
        edges: np.ndarray,
        kinds: list[tuple[str, str]],
        per_frame: list[np.ndarray],
        half: float,
    ) -> Record:
        g = np.concatenate(per_frame).mean(0)
        error = replica_error(per_frame)
        middle = 0.5 * (edges[1:] + edges[:-1])
        density = float(np.mean([1.0 / np.abs(np.linalg.det(np.asarray(t.cell))).mean() for t in replicas]))
        shell = 4.0 / 3.0 * np.pi * (edges[1:] ** 3 - edges[:-1] ** 3)
        curves, running, values = [], [], {}
        for k, (a, b) in enumerate(kinds):
            label = f"{a}-{b}"
            n_b = len(replicas[0].of(b)) - (a == b)
            coordination = np.cumsum(g[k] * shell) * n_b * density
            curves.append(Curve.of(label, middle, g[k], error[k]))
            running.append(Curve.of(label, edges[1:], coordination))
            if g[k].any():
                peak = int(np.argmax(g[k]))
                values[f"peak_{a}_{b}_A"] = float(middle[peak])
                values[f"peak_height_{a}_{b}"] = float(g[k][peak])
        notes = []
        if edges[-1] > half + 1e-9:
            notes.append(
                f"Beyond {half:.3f} Å (half the cell) periodic images of the same atoms are counted."
            )
        n_frames = sum(t.n_frames for t in replicas)
        notes.append(f"{n_frames} frames of {len(replicas)} trajectories; errors include time correlation.")
        return Record(
            name="rdf",
            title="Radial distribution functions",
            values={"n_frames": n_frames, "r_max_A": float(edges[-1]), **values},
            figures=(
                Figure(title="Radial distribution", x_label="r (Å)", y_label="g(r)", curves=tuple(curves)),
                Figure(
                    title="Running coordination number",
                    x_label="r (Å)",
                    y_label="n(r)",
                    curves=tuple(running),
                ),
            ),
            notes=tuple(notes),
            references=("10.1093/oso/9780198803195.001.0001",),
        )


def half_width(cell: Float[np.ndarray, "3 3"]) -> float:
    """Half the least distance between opposite faces of a cell, Å."""
    return 0.5 / float(np.linalg.norm(np.linalg.inv(cell), axis=0).max())


def replica_error(per_frame: Sequence[Float[np.ndarray, "frames *rest"]]) -> Float[np.ndarray, "*rest"]:
    """Standard error of the mean over frames of independent trajectories, each with its time correlation.

    Per trajectory from the autocorrelation; with four or more, at least the scatter between them.
    NaN where there is one frame in all.
    """
    weights = np.array([len(x) for x in per_frame], float)
    weights /= weights.sum()
    if max(len(x) for x in per_frame) < 2:
        means = np.array([x.mean(0) for x in per_frame])
        if len(means) < 2:
            return np.full(means.shape[1:], np.nan)
        return np.asarray(means.std(0, ddof=1) / np.sqrt(len(means)))
    own = [standard_errors(x) if len(x) > 1 else np.zeros(x.shape[1:]) for x in per_frame]
    within = np.asarray(np.sqrt(sum((w * e) ** 2 for w, e in zip(weights, own, strict=True))))
    if len(per_frame) < 4:
        return within
    means = np.array([x.mean(0) for x in per_frame])
    between = means.std(0, ddof=1) * np.sqrt((weights**2).sum())
    return np.asarray(np.maximum(within, between))


def _histograms(t: Trajectory, edges: np.ndarray, kinds: list[tuple[str, str]]) -> np.ndarray:
    """g of each frame and pair of elements, [frames, kinds, bins]."""
    shell = 4.0 / 3.0 * np.pi * (edges[1:] ** 3 - edges[:-1] ** 3)
    numbers = t.numbers
    codes = [(elements.number(a), elements.number(b)) for a, b in kinds]
    out = np.zeros((t.n_frames, len(kinds), len(edges) - 1))
    for f in range(t.n_frames):
        system = t.system(f)
        pairs = find_pairs(system, float(edges[-1]))
        others = (pairs.i != pairs.j).numpy()
        r = pairs.vectors(system).norm(dim=-1).numpy()[others]
        zi, zj = numbers[pairs.i.numpy()[others]], numbers[pairs.j.numpy()[others]]
        for k, (a, b) in enumerate(codes):
            n_a, n_b = int((numbers == a).sum()), int((numbers == b).sum()) - (a == b)
            counts = np.histogram(r[(zi == a) & (zj == b)], edges)[0]
            out[f, k] = counts * float(system.volume[0]) / (max(n_a * n_b, 1) * shell)
    return out
