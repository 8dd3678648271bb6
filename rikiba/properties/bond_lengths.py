"""Bond lengths: at rest, and their thermal distribution."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from ase import Atoms
from jaxtyping import Float, Int

from rikiba.calculators.base import Calculator
from rikiba.core import elements
from rikiba.core.pairs import find_pairs
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.core.system import System

from .error_bars import statistical_inefficiency
from .rdf import replica_error
from .stationary import relax_ions
from .trajectories import Trajectory, as_replicas


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bonds:
    """Bonded pairs of a structure, each once; r = |r_j + shift·cell − r_i|."""

    i: Int[np.ndarray, "bonds"]
    j: Int[np.ndarray, "bonds"]
    shift: Int[np.ndarray, "bonds 3"]
    kinds: tuple[str, ...]
    """'C-H' and the like, lighter element first."""

    def __len__(self) -> int:
        return len(self.i)

    def lengths(self, t: Trajectory) -> Float[np.ndarray, "frames bonds"]:
        """Å, along a trajectory."""
        d = t.positions[:, self.j] - t.positions[:, self.i]
        if t.cell is not None:
            d = d + np.einsum("bx,txy->tby", self.shift.astype(float), np.asarray(t.cell))
        return np.linalg.norm(d, axis=-1)


def find_bonds(system: System, tolerance: float = 1.25) -> Bonds:
    """Pairs closer than tolerance × the sum of covalent radii (Cordero et al., doi:10.1039/b801115j)."""
    radii = elements.covalent_radius(system.numbers)
    pairs = find_pairs(system, float(2.0 * tolerance * radii.max()))
    r = pairs.vectors(system).norm(dim=-1)
    bonded = (r < tolerance * (radii[pairs.i] + radii[pairs.j])).numpy()
    i, j, shift = (x.numpy()[bonded] for x in (pairs.i, pairs.j, pairs.shift))
    first = shift[np.arange(len(shift)), np.argmax(shift != 0, axis=1)] if len(shift) else shift.sum(1)
    once = (i < j) | ((i == j) & (first > 0))
    i, j, shift = i[once], j[once], shift[once]
    z = system.numbers.numpy()
    kinds = tuple(
        "-".join(elements.symbol(int(v)) for v in sorted((z[a], z[b]))) for a, b in zip(i, j, strict=True)
    )
    return Bonds(i=i, j=j, shift=shift, kinds=kinds)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BondLengths:
    """Relaxed bond lengths (`compute`), thermal distributions (`analyse`) and their difference (`compare`).

    The bonds are those of the first frame and are followed through the trajectory, so a broken bond shows
    as a long one.

    Args:
        tolerance: atoms are bonded below this factor times the sum of their covalent radii.
        bin_width: width of a histogram bin, Å.
        relax: find the nearest minimum before measuring in `compute`.
        force_tolerance: largest force component left by the relaxation, eV/Å.
        max_steps: relaxation steps before giving up.
    """

    tolerance: float = 1.25
    bin_width: float = 0.005
    relax: bool = True
    force_tolerance: float = 1e-3
    max_steps: int = 1000

    def compute(self, calculator: Calculator, atoms: Atoms) -> Record:
        """Length of every bond at the minimum, Å."""
        if self.relax:
            atoms = relax_ions(calculator, atoms, self.force_tolerance, self.max_steps)
        bonds = find_bonds(System.from_ase(atoms), self.tolerance)
        lengths = bonds.lengths(Trajectory.from_ase([atoms], timestep_fs=1.0))[0]
        names = [
            f"{atoms.symbols[a]}{a}-{atoms.symbols[b]}{b}" for a, b in zip(bonds.i, bonds.j, strict=True)
        ]
        values: dict[str, Any] = {
            f"mean_{kind.replace('-', '_')}_A": float(lengths[[k == kind for k in bonds.kinds]].mean())
            for kind in dict.fromkeys(bonds.kinds)
        }
        rows = tuple((n, float(r)) for n, r in zip(names, lengths, strict=True))
        return Record(
            name="bond_lengths",
            title="Bond lengths at the minimum" if self.relax else "Bond lengths as given",
            values={**values, "bonds": names, "lengths_A": lengths.tolist()},
            tables=(Table(title="Bond lengths", columns=("bond", "length (Å)"), rows=rows),),
            references=("10.1039/b801115j",),
        )

    def analyse(self, trajectories: Trajectory | Sequence[Trajectory]) -> Record:
        """Mean, width and histogram of each kind of bond, with errors that include time correlation."""
        replicas = as_replicas(trajectories)
        by_kind = self._by_kind(replicas)
        values: dict[str, Any] = {"n_frames": sum(t.n_frames for t in replicas)}
        spread: dict[str, Any] = {}
        curves, rows = [], []
        for kind, lengths in by_kind.items():
            key = kind.replace("-", "_")
            mean = float(np.concatenate(lengths).mean())
            width = float(np.concatenate(lengths).std())
            mean_error = float(replica_error([x.mean(1) for x in lengths]))
            square_error = float(replica_error([((x - mean) ** 2).mean(1) for x in lengths]))
            width_error = square_error / (2.0 * width) if width > 0 else 0.0
            values[f"mean_{key}_A"], spread[f"mean_{key}_A"] = mean, mean_error
            values[f"width_{key}_A"], spread[f"width_{key}_A"] = width, width_error
            longest = float(max(x.max() for x in lengths))
            values[f"longest_{key}_A"] = longest
            curves.append(self._histogram(kind, lengths))
            rows.append((kind, lengths[0].shape[1], mean, mean_error, width, width_error, longest))
        return Record(
            name="bond_lengths",
            title="Thermal distribution of bond lengths",
            values=values,
            spread=spread,
            tables=(
                Table(
                    title="Thermal bond lengths",
                    columns=("bond", "number", "mean (Å)", "±", "width (Å)", "±", "longest (Å)"),
                    rows=tuple(rows),
                ),
            ),
            figures=(
                Figure(
                    title="Bond lengths", x_label="length (Å)", y_label="density (1/Å)", curves=tuple(curves)
                ),
            ),
            references=("10.1039/b801115j",),
        )

    def compare(
        self,
        a: Trajectory | Sequence[Trajectory],
        b: Trajectory | Sequence[Trajectory],
        *,
        labels: tuple[str, str] = ("a", "b"),
        significance: float = 0.01,
        tolerance: float = 0.01,
    ) -> Record:
        """Wasserstein distance and Kolmogorov–Smirnov test of each kind of bond, with effective sample sizes.

        D = sup|F_a − F_b|; its p-value uses n_a n_b/(n_a + n_b) with n the number of independent samples
        (Press et al., Numerical Recipes). The verdict is 'fail' where p, multiplied by the number of
        kinds (Bonferroni), is below `significance`. Raises ValueError for different atoms.
        """
        first, second = as_replicas(a), as_replicas(b)
        if not np.array_equal(first[0].numbers, second[0].numbers):
            raise ValueError("Bond lengths of different structures cannot be compared.")
        own, other = self._by_kind(first), self._by_kind(second)
        if set(own) != set(other):
            raise ValueError(f"The first frames have different bonds: {sorted(own)} and {sorted(other)}.")
        rows, curves, p_values = [], [], []
        values: dict[str, Any] = {}
        for kind, x in own.items():
            y = other[kind]
            w, d, p = distances(x, y)
            mean_difference = float(np.concatenate(y).mean() - np.concatenate(x).mean())
            values[f"wasserstein_{kind.replace('-', '_')}_A"] = w
            values[f"p_{kind.replace('-', '_')}"] = p
            p_values.append(p)
            rows.append((kind, mean_difference, w, d, p))
            curves += [self._histogram(f"{kind} {s}", z) for s, z in zip(labels, (x, y), strict=True)]
        significant = [p * len(p_values) < significance for p in p_values]
        beyond = [row[2] > tolerance for row in rows]
        different = sum(a and b for a, b in zip(significant, beyond, strict=True))
        values["finding"] = f"{different} of {len(rows)} kinds of bonds differ"
        return Record(
            name="bond_length_comparison",
            title=f"Bond lengths: {labels[0]} and {labels[1]}",
            values=values,
            tables=(
                Table(
                    title="Difference of the distributions",
                    columns=(
                        "bond",
                        "difference of means (Å)",
                        "Wasserstein (Å)",
                        "Kolmogorov–Smirnov D",
                        "p",
                    ),
                    rows=tuple(rows),
                ),
            ),
            figures=(
                Figure(
                    title="Bond lengths", x_label="length (Å)", y_label="density (1/Å)", curves=tuple(curves)
                ),
            ),
            notes=(
                "p is the chance of a difference this large between two samples of one distribution.",
                f"Fails where p·{len(p_values)} < {significance:g} and the Wasserstein distance exceeds "
                f"{tolerance:g} Å; {sum(significant)} of {len(p_values)} kinds differ significantly.",
            ),
            verdict="fail" if different else "pass",
        )

    def _by_kind(self, replicas: list[Trajectory]) -> dict[str, list[np.ndarray]]:
        """Lengths of each kind of bond: one array [frames, bonds] per replica."""
        bonds = find_bonds(replicas[0].system(0), self.tolerance)
        if len(bonds) == 0:
            raise ValueError(f"No atoms are closer than {self.tolerance} × the sum of their covalent radii.")
        lengths = [bonds.lengths(t) for t in replicas]
        kinds = np.array(bonds.kinds)
        return {str(k): [x[:, kinds == k] for x in lengths] for k in dict.fromkeys(bonds.kinds)}

    def _histogram(self, label: str, lengths: list[np.ndarray]) -> Curve:
        low = np.floor(min(x.min() for x in lengths) / self.bin_width) * self.bin_width
        n = int(np.ceil((max(x.max() for x in lengths) - low) / self.bin_width + 1e-9)) or 1
        edges = low + self.bin_width * np.arange(n + 1)
        per_frame = [
            np.stack([np.histogram(frame, edges)[0] / (len(frame) * self.bin_width) for frame in x])
            for x in lengths
        ]
        density = np.concatenate(per_frame).mean(0)
        return Curve.of(label, 0.5 * (edges[1:] + edges[:-1]), density, replica_error(per_frame))


def distances(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """(Wasserstein-1 distance, Kolmogorov–Smirnov D, p) of two sets of series [frames, bonds]."""
    from scipy.stats import ks_2samp, kstwobign, wasserstein_distance

    a, b = np.concatenate([v.ravel() for v in x]), np.concatenate([v.ravel() for v in y])
    d = float(ks_2samp(a, b, method="asymp").statistic)
    n, m = independent_samples(x), independent_samples(y)
    n_effective = n * m / (n + m)
    # small-sample factor of Stephens, as in Numerical Recipes
    argument = (np.sqrt(n_effective) + 0.12 + 0.11 / np.sqrt(n_effective)) * d
    return float(wasserstein_distance(a, b)), d, float(kstwobign.sf(argument))


def independent_samples(lengths: Sequence[np.ndarray]) -> float:
    """Number of independent samples in series [frames, bonds]: the slower of length and squared deviation.

    A length oscillates and forgets its phase quickly; its amplitude is remembered much longer, often beyond
    the end of a trajectory, which then does not show it. With four or more trajectories the scatter between
    their averages bounds the number too: R·σ²/σ_R² for R of them, with σ² the variance of all values and
    σ_R² that of the averages.
    """
    total = np.zeros(lengths[0].shape[1])
    for x in lengths:
        if len(x) < 8:
            total += 1.0
            continue
        g = np.maximum(statistical_inefficiency(x), statistical_inefficiency((x - x.mean(0)) ** 2))
        total += len(x) / g
    if len(lengths) >= 4:
        total = np.minimum(total, _samples_by_scatter(lengths))
        mean = np.concatenate(lengths).mean(0)
        total = np.minimum(total, _samples_by_scatter([(x - mean) ** 2 for x in lengths]))
    return float(total.sum())


def _samples_by_scatter(series: Sequence[np.ndarray]) -> np.ndarray:
    between = np.var([x.mean(0) for x in series], axis=0, ddof=1)
    whole = np.concatenate(series).var(0)
    shown = between > 0
    return np.divide(len(series) * whole, between, out=np.full(len(whole), np.inf), where=shown)
