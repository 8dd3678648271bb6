"""Do atoms repel when pushed together?"""

from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms

from rikiba.core import elements
from rikiba.core.record import Curve, Figure
from rikiba.core.system import System
from rikiba.md.ensembles.nve import NVE
from rikiba.md.limits import SimulationError
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann

from .checks import Check, Subject
from .stability import closest_contact


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


def hot_dynamics(
    subject: Subject,
    atoms: Atoms,
    *,
    temperature_K: float = 5000.0,
    timestep_fs: float = 0.25,
    steps: int = 400,
    replicas: int = 4,
    contact: float = 0.4,
) -> Check:
    """Very hot dynamics at constant energy must not fuse atoms: no pair nearer than `contact`.

    A structure that is not periodic is put in a periodic box 3 Å wider than it is, so that atoms that fly off
    meet others. A number that is not finite fails.

    Args:
        subject: what is tested.
        atoms: the start.
        temperature_K: of the initial velocities.
        timestep_fs: integration step.
        steps: length of the run.
        replicas: copies with their own velocities.
        contact: distance, relative to the sum of covalent radii, below which a pair counts as fused.
    """
    name = f"atoms do not fuse at {temperature_K:g} K"
    start = maxwell_boltzmann(System.from_ase([boxed(atoms)] * replicas), temperature_K, seed=0)
    kept = InMemory(interval=2)
    run = Simulation(subject.calculator, NVE(), start, timestep_fs=timestep_fs, reporters=[kept])
    stopped = ""
    try:
        run.run(steps)
    except SimulationError as error:
        stopped = str(error)
    frames = [start.system.replace(positions=x) for x in kept.positions]
    ratio, i, j = min((closest_contact(frame) for frame in frames), default=(np.nan, 0, 0))
    pair = "-".join(elements.symbol(int(start.system.numbers[k])) for k in (i, j))
    near = f"closest: {pair} at {ratio:.2f} of the sum of their covalent radii"
    note = stopped or (near if ratio < 1.0 else "no pair came within the sum of its covalent radii")
    value = np.nan if stopped else 1.0 - min(ratio, 1.0)
    return Check.against(name, value, 1.0 - contact, "overlap, of the covalent distance", note=note)


def boxed(atoms: Atoms, margin: float = 3.0) -> Atoms:
    """The structure where it is periodic; otherwise in a periodic box `margin` (Å) wider than its extent."""
    if atoms.pbc.any():
        return atoms
    box = atoms.copy()
    box.set_cell(np.ptp(atoms.positions, axis=0) + margin)
    box.pbc = True
    return box
