"""Do atoms repel when pushed together?"""

from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms

from rikiba.core import elements
from rikiba.core.record import Curve, Figure

from .checks import Check, Subject


def dimer_scans(subject: Subject, symbols: list[str], *, n: int = 291) -> tuple[list[Check], Figure]:
    """E(r) of every pair of elements from 0.2 to 6 Å.

    Below 0.7 of the sum of covalent radii the energy must fall monotonically as r grows and lie above the
    separated atoms at its short end; a minimum there is a spurious well into which atoms fuse. Wells further
    out are counted and reported.
    """
    r = np.linspace(0.2, 6.0, n)
    checks, curves = [], []
    for a, b in combinations_with_replacement(symbols, 2):
        frames = [Atoms([a, b], [[0, 0, 0], [x, 0, 0]]) for x in r]
        energy = _finite_energies(subject, frames)
        name = f"repulsive core {a}-{b}"
        if energy is None:
            checks.append(Check.skipped(name, "the calculator gives no energy for close dimers"))
            continue
        energy = energy - energy[-1]
        curves.append(Curve.of(f"{a}-{b}", r, energy))
        checks.append(_core(name, r, energy, a, b))
    figure = Figure(title="Dimer scans", x_label="r (Å)", y_label="E − E(6 Å) (eV)", curves=tuple(curves))
    return checks, figure


def _core(name: str, r: np.ndarray, energy: np.ndarray, a: str, b: str) -> Check:
    radius = float(elements.covalent_radius(elements.numbers_of([a, b])).sum())
    inside = r < 0.7 * radius
    rises = np.diff(energy)[inside[1:]]
    climb = float(np.maximum(rises, 0.0).sum())
    wells = (np.diff(np.sign(np.diff(energy))) > 0).nonzero()[0] + 1
    deep = [k for k in wells if energy[k] < energy[-1] - 1e-3 or inside[k]]
    note = f"E(0.2 Å) = {energy[0]:.3g} eV; {len(deep)} minima"
    if len(deep):
        note += " at " + ", ".join(f"{r[k]:.2f}" for k in deep[:4]) + " Å"
    if energy[0] <= 0.0:
        climb = max(climb, float(-energy[0]), 1.0)
        note += "; attractive at contact: atoms can fuse"
    return Check.against(name, climb, 1e-3, "eV uphill as atoms part", note=note)


def _finite_energies(subject: Subject, frames: list[Atoms]) -> np.ndarray | None:
    """Energies of all frames, nan where the calculator refuses one; None where it refuses most."""
    try:
        return subject.energies(frames)
    except (ArithmeticError, RuntimeError, ValueError):
        pass
    out = np.full(len(frames), np.nan)
    for k, frame in enumerate(frames):
        try:
            out[k] = subject.energies([frame])[0]
        except (ArithmeticError, RuntimeError, ValueError):
            continue
    if np.isfinite(out).sum() < len(frames) // 2 or not np.isfinite(out[-1]):
        return None
    first = int(np.flatnonzero(np.isfinite(out))[0])
    out[:first] = np.inf if out[first] > out[-1] else out[first]
    return np.interp(np.arange(len(out)), np.flatnonzero(np.isfinite(out)), out[np.isfinite(out)])
