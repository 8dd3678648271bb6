"""How cost grows with the number of atoms, and how far the influence of one atom reaches."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from ase import Atoms
from ase.geometry import get_distances
from jaxtyping import Float, Int

from rikiba.calculators.base import Calculator
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System

from .checks import Subject

LINEAR = (0.9, 1.1)
"""Exponents that count as proportional to the number of atoms."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Exponent:
    """t = overhead + c N^value, fitted to logarithms of times."""

    value: float
    error: float
    """Standard error from the scatter about the fit; nan where there are no more points than parameters."""
    overhead_s: float
    """The part that does not grow, s; 0 where it cannot be told from nothing or was not fitted."""
    overhead_fitted: bool
    """Whether there were points enough to tell an overhead from slow growth."""

    @property
    def verdict(self) -> str:
        """'pass' within `LINEAR`, 'fail' where two standard errors do not reach it, else 'undecided'.

        Without a fitted overhead slow growth is undecided too: it may be an overhead.
        """
        low, high = LINEAR
        if low <= self.value <= high:
            return "pass"
        if self.value < low and not self.overhead_fitted:
            return "undecided"
        slack = 2.0 * self.error if np.isfinite(self.error) else 0.0
        return "undecided" if low - slack <= self.value <= high + slack else "fail"


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> Exponent:
    """Least squares of log t against log(overhead + c N^p); the overhead is fitted from five points on.

    Raises ValueError for fewer than two sizes, or sizes and times that are not positive.
    """
    from scipy.optimize import least_squares

    n, t = np.asarray(sizes, float), np.asarray(seconds, float)
    if n.shape != t.shape or len(set(n.tolist())) < 2 or not (np.all(n > 0) and np.all(t > 0)):
        raise ValueError(
            f"An exponent needs positive times of at least two sizes; given {sizes} and {seconds}."
        )
    x, y = np.log(n), np.log(t)
    slope, start = np.polyfit(x, y, 1)
    fitted = len(n) >= 5
    error = _error(np.stack([x, np.ones_like(x)], 1), y, slope, start)
    plain = Exponent(value=float(slope), error=error, overhead_s=0.0, overhead_fitted=fitted)
    if not fitted:
        return plain

    def residual(p: np.ndarray) -> np.ndarray:
        return np.log(p[2] * t.min() + np.exp(p[0] * x + p[1])) - y

    bounds = ([-np.inf, -np.inf, 0.0], [np.inf, np.inf, 1.0])
    # from two starts: all growth, and mostly overhead, where the growth is that of the last two sizes
    last = (y[-1] - y[-2]) / (x[-1] - x[-2])
    starts = ([slope, start, 0.05], [last, y[-1] - last * x[-1], 0.9])
    fit = min(
        (least_squares(residual, s, bounds=bounds, x_scale="jac") for s in starts), key=lambda f: f.cost
    )
    if fit.x[2] < 1e-3:
        return plain
    variance = np.linalg.pinv(fit.jac.T @ fit.jac) * 2.0 * fit.cost / (len(n) - 3)
    return Exponent(
        value=float(fit.x[0]),
        error=float(np.sqrt(variance[0, 0])),
        overhead_s=float(fit.x[2] * t.min()),
        overhead_fitted=True,
    )


def _error(columns: np.ndarray, y: np.ndarray, slope: float, start: float) -> float:
    free = len(y) - 2
    if free < 1:
        return float("nan")
    residual = columns @ np.array([slope, start]) - y
    return float(np.sqrt(np.linalg.inv(columns.T @ columns)[0, 0] * (residual @ residual) / free))


def seconds_per_call(
    calculator: Calculator,
    atoms: Atoms,
    *,
    at_least: float = 0.0,
    patience: float = np.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Times of single calls for energy and forces, s, after one to settle.

    Three calls, or more until they have taken `at_least`; where the first takes longer than `patience` that
    one alone is given.
    """
    system = System.from_ase(atoms)
    start = clock()
    calculator(system)
    first = clock() - start
    if first > patience:
        return [first]
    found: list[float] = []
    while len(found) < 3 or sum(found) < at_least:
        start = clock()
        calculator(system)
        found.append(clock() - start)
    return found


def times_by_size(
    calculator: Calculator,
    crystal: Atoms,
    sizes: Sequence[int],
    *,
    limit: float = 20.0,
    at_least: float = 0.3,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """([(atoms, least s per call)], [(atoms, s expected)] of what would take over `limit` and is left out).

    What to expect follows from the growth between the last two sizes, taken as proportional at least.
    """
    done: list[tuple[int, float]] = []
    left: list[tuple[int, float]] = []
    calculator(System.from_ase(near_size(crystal, min(sizes))))  # compiles what is not compiled yet
    for size in sorted(sizes):
        atoms = near_size(crystal, size)
        expected = _expected(done, len(atoms))
        if expected > limit:
            left.append((len(atoms), expected))
            continue
        found = seconds_per_call(calculator, atoms, at_least=at_least, patience=0.2 * limit, clock=clock)
        done.append((len(atoms), min(found)))
    return done, left


def _expected(done: list[tuple[int, float]], size: int) -> float:
    if not done:
        return 0.0
    power = 1.0
    if len(done) > 1:
        (n0, t0), (n1, t1) = done[-2:]
        power = max(1.0, float(np.log(t1 / t0) / np.log(n1 / n0)))
    return done[-1][1] * (size / done[-1][0]) ** power


def near_size(crystal: Atoms, size: int, *, rattle: float = 0.05, seed: int = 0) -> Atoms:
    """The crystal repeated to about `size` atoms, near a cube, displaced at random by `rattle` Å."""
    lengths = crystal.cell.lengths()
    edge = (size / len(crystal) * lengths.prod()) ** (1.0 / 3.0)
    x = max(1, round(edge / lengths[0]))
    y = max(1, round(np.sqrt(size / len(crystal) / x * lengths[2] / lengths[1])))
    z = max(1, round(size / len(crystal) / (x * y)))
    out = crystal.repeat((x, y, z))
    out.rattle(rattle, seed=seed)
    return out


def atoms_within(atoms: Atoms, radius: float) -> float:
    """Mean number of atoms in a sphere about an atom of a periodic structure, itself and images counted."""
    return 1.0 + len(find_pairs(System.from_ase(atoms), radius).i) / len(atoms)


def halo_atoms(atoms: Atoms, radius: float, *, domain: int = 1000) -> float:
    """Atoms that a cubic domain of `domain` atoms needs from its neighbours, by the mean density."""
    density = len(atoms) / atoms.get_volume()
    edge = (domain / density) ** (1.0 / 3.0)
    return density * ((edge + 2.0 * radius) ** 3 - edge**3)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """What the move of one atom changed at the others."""

    distance: Float[np.ndarray, "others"]
    """From where the atom was or from where it went, whichever is nearer, Å."""
    hops: Int[np.ndarray, "others"]
    """Least number of steps from neighbour to neighbour within the cutoff; -1 where there is no way."""
    energies: Float[np.ndarray, "others"]
    """|Δε|, eV."""
    forces: Float[np.ndarray, "others"]
    """Largest component of |ΔF|, eV/Å."""

    def beyond(self, radius: float) -> tuple[float, float]:
        """Largest |Δε| beyond the radius and |ΔF| beyond twice the radius.

        ε_i sees as far as the radius; F_k = −Σ_i ∂ε_i/∂r_k, so what changes ε_i changes the forces on all
        that i sees. Raises ValueError where no atom is that far.
        """
        far = self.distance > 2.0 * radius
        if not far.any():
            raise ValueError(f"No atom is farther than {2.0 * radius:.1f} Å; give a longer structure.")
        return float(self.energies[self.distance > radius].max()), float(self.forces[far].max())

    def reach(self, *, above: float = 0.0) -> tuple[float, float]:
        """Largest distance at which an energy changed by more than `above` eV, and a force (eV/Å); in Å."""
        found = [float(self.distance[x > above].max(initial=0.0)) for x in (self.energies, self.forces)]
        return found[0], found[1]

    def hops_reached(self, *, above: float = 0.0) -> int:
        """Most steps at which an energy changed by more than `above` eV."""
        return int(self.hops[self.energies > above].max(initial=0))


def influence(subject: Subject, atoms: Atoms, atom: int, displacement: Sequence[float]) -> Influence:
    """Moves one atom and compares energies and forces of all others bit by bit.

    Raises ValueError where the calculator gives no energies per atom.
    """
    moved = atoms.copy()
    moved.positions[atom] += displacement
    before, after = subject.one(atoms), subject.one(moved)
    if before.energies is None or after.energies is None:
        raise ValueError(f"{subject.name} gives no energies per atom.")
    others = np.delete(np.arange(len(atoms)), atom)
    ends = np.stack([atoms.positions[atom], moved.positions[atom]])
    distance = get_distances(ends, atoms.positions[others], cell=atoms.cell, pbc=atoms.pbc)[1].min(0)
    e = np.abs((after.energies - before.energies).detach().cpu().numpy())[others]
    f = np.abs((after.need("forces") - before.need("forces")).detach().cpu().numpy()).max(1)[others]
    steps = np.minimum(*(_hops(a, atom, subject.cutoff) for a in (atoms, moved)))[others]
    hops = np.where(np.isfinite(steps), steps, -1).astype(int)
    return Influence(distance=distance, hops=hops, energies=e, forces=f)


def _hops(atoms: Atoms, atom: int, cutoff: float | None) -> Float[np.ndarray, "atoms"]:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import shortest_path

    if cutoff is None:
        return np.full(len(atoms), np.inf)
    pairs = find_pairs(System.from_ase(atoms), cutoff)
    edges = (np.ones(len(pairs.i)), (pairs.i.numpy(), pairs.j.numpy()))
    graph = coo_matrix(edges, shape=(len(atoms), len(atoms))).tocsr()
    return shortest_path(graph, unweighted=True, indices=atom)


def rod(crystal: Atoms, length: float, *, rattle: float = 0.05, seed: int = 0) -> Atoms:
    """The crystal repeated along its third vector to at least `length` Å, not periodic along it, rattled."""
    n = int(np.ceil(length / crystal.cell.lengths()[2])) + 1
    out = crystal.repeat((1, 1, n))
    out.pbc = (True, True, False)
    out.rattle(rattle, seed=seed)
    return out
