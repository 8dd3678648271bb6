"""Is the energy smooth, at the cutoff and everywhere else?"""

from collections.abc import Callable

import numpy as np
from ase import Atoms

from rikiba.core import elements

from .checks import Check, Subject

Path = Callable[[np.ndarray], list[Atoms]]


def at_cutoff(subject: Subject, atoms: Atoms) -> Check:
    """An atom of a cluster is pulled through the cutoff of another in steps of 1e-6 Å (float64).

    Energy, force and dF/dr are extrapolated to the cutoff from both sides by parabolas and compared; the
    value is the largest jump relative to its threshold.
    """
    name = "continuous at the cutoff"
    if subject.cutoff is None:
        return Check.skipped(name, "the cutoff is not known; give cutoff=")
    if subject.cutoff == 0.0:
        return Check.skipped(name, "no pair within a cutoff is asked for")
    cluster = isolated(atoms, 6)
    if len(cluster) < 2:
        cluster = _pair(cluster, subject.cutoff)
    worst, notes = 0.0, ("", "", "")
    for pulled in range(1, min(len(cluster), 4)):
        ratio, found = _jump_at(subject, cluster, pulled)
        if ratio >= worst:
            worst, notes = ratio, found
    return Check.against(name, worst, 1.0, "of the allowed jump", note=", ".join(n for n in notes if n))


def _jump_at(subject: Subject, cluster: Atoms, pulled: int) -> tuple[float, tuple[str, str, str]]:
    """(largest jump relative to its threshold, numbers) as atom `pulled` leaves atom 0's sphere."""
    t = subject.tolerance
    assert subject.cutoff is not None
    away = cluster.positions[pulled] - cluster.positions[0]
    direction = away / np.linalg.norm(away)
    steps = t.scan * np.arange(1, 5)
    frames = []
    for s in np.concatenate([-steps, steps]):
        moved = cluster.copy()
        moved.positions[pulled] = cluster.positions[0] + (subject.cutoff + s) * direction
        frames.append(moved)
    energy, force = subject.energies(frames), subject.forces(frames)
    low, high = slice(0, 4), slice(4, 8)
    jump_e = abs(_limit(energy[high]) - _limit(energy[low]))
    jump_f = float(np.abs(_limit(force[high]) - _limit(force[low])).max())
    slope = lambda f: (f[1] - f[0]) / t.scan  # noqa: E731
    jump_c = float(np.abs(slope(force[high]) + slope(force[low])).max())
    allowed_e = max(t.energy, t.force_jump * t.scan) * len(cluster)
    ratio = max(jump_e / allowed_e, jump_f / t.force_jump, jump_c / t.curvature_jump)
    curvature = f"dF/dr {jump_c:.1e} eV/Å²" if np.isfinite(t.curvature_jump) else ""
    return ratio, (f"jumps: E {jump_e:.1e} eV", f"F {jump_f:.1e} eV/Å", curvature)


def along_path(subject: Subject, atoms: Atoms, *, n: int = 160, seed: int = 0) -> list[Check]:
    """Hidden jumps of force or curvature anywhere on two paths, found by zooming in on the roughest places.

    The second difference of a C¹ force shrinks as h²; that of a kink (Hessian jump) as h; a jump stays. The
    paths: one atom pulled out of the cluster beyond the cutoff, and a random motion of all atoms.
    """
    cluster = isolated(atoms, 6)
    rng = np.random.default_rng(seed)
    reach = (subject.cutoff or 6.0) + 0.5
    checks = []
    if len(cluster) > 1:
        pull = np.zeros_like(cluster.positions)
        pull[1] = _way_out(cluster, 1, rng)
        length = reach + float(np.linalg.norm(cluster.positions[1] - cluster.positions[0]))
        checks.append(_roughness(subject, "smooth as an atom leaves", _line(cluster, pull), length, n))
        d = rng.normal(size=cluster.positions.shape)
        d /= np.abs(d).max()
        checks.append(_roughness(subject, "smooth along a random motion", _line(cluster, d), 0.4, n))
    return checks


def _way_out(atoms: Atoms, leaving: int, rng: np.random.Generator) -> np.ndarray:
    """Direction in which an atom keeps farthest from the others; a path through one shows its core only."""
    others = np.delete(atoms.positions, leaving, axis=0) - atoms.positions[leaving]
    directions = rng.normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    along = np.maximum(directions @ others.T, 0.0)
    nearest = np.linalg.norm(others[None] - along[..., None] * directions[:, None], axis=-1).min(1)
    return directions[int(np.argmax(nearest))]


def _line(atoms: Atoms, direction: np.ndarray) -> Path:
    def frames(s: np.ndarray) -> list[Atoms]:
        out = []
        for x in s:
            moved = atoms.copy()
            moved.positions += x * direction
            out.append(moved)
        return out

    return frames


def _roughness(subject: Subject, name: str, path: Path, length: float, n: int) -> Check:
    t = subject.tolerance
    grid = np.linspace(0.0, length, n + 1)
    force = subject.forces(path(grid))
    h = length / n
    bend = np.abs(np.diff(force, 2, axis=0)).max((1, 2))
    # fourth differences shrink as h⁴ where smooth and as h at a kink: the largest, absolutely and relative to
    # their surroundings, are the places to look at
    fourth = np.abs(np.diff(force, 4, axis=0)).max((1, 2))
    around = np.convolve(np.pad(fourth, 4, mode="edge"), np.ones(9) / 9.0, "valid") + 1e-12
    candidates = {int(k) + 1 for k in [*np.argsort(fourth)[-2:], *np.argsort(fourth / around)[-3:]]}
    worst, text = 0.0, ""
    for c in sorted(candidates):
        jump, kink, at = _zoom(subject, path, float(grid[c + 1]), h)
        # a smooth force of third derivative F'' leaves kink = h·F'', so a kink counts above ten times that
        expected = 10.0 * t.scan * float(bend[c]) / h**2
        excess = max(kink - expected, 0.0)
        ratio = max(jump / t.force_jump, excess / t.curvature_jump)
        if ratio >= worst:
            worst, text = ratio, f"at {at:.4f} Å: F jumps {jump:.1e} eV/Å, dF/dr {kink:.1e} eV/Å²"
    return Check.against(name, worst, 1.0, "of the allowed jump", note=text)


def _zoom(subject: Subject, path: Path, centre: float, h: float) -> tuple[float, float, float]:
    """(jump of F, jump of dF/ds, place) at the roughest point within h of `centre`, at the finest step."""
    finest = subject.tolerance.scan
    while True:
        half = max(0.5 * h, finest)
        s = centre + half * np.arange(-3, 4)
        f = subject.forces(path(s))
        bend = np.abs(f[2:] - 2.0 * f[1:-1] + f[:-2]).max((1, 2))
        centre = float(s[1 + int(np.argmax(bend))])
        if half == finest:
            kink = float(bend.max()) / half
            # a kink K bends by K·h at this step; only what is far above that is a jump
            jump = float(bend.max())
            smooth = np.abs(f[1:] - f[:-1]).max((1, 2))
            return max(jump - 3.0 * float(np.median(smooth)), 0.0), kink, centre
        h = half


def _limit(values: np.ndarray) -> np.ndarray:
    """Parabola through values at 1, 2, 3 steps, taken at 0."""
    return 3.0 * values[0] - 3.0 * values[1] + values[2]


def isolated(atoms: Atoms, n: int) -> Atoms:
    """Up to n atoms nearest the first, without cell."""
    order = np.argsort(np.linalg.norm(atoms.positions - atoms.positions[0], axis=1), kind="stable")[:n]
    return Atoms(numbers=atoms.numbers[order], positions=atoms.positions[order], info=dict(atoms.info))


def _pair(atom: Atoms, cutoff: float) -> Atoms:
    radius = float(elements.covalent_radius(elements.numbers_of(atom.get_chemical_symbols()))[0])
    second = atom.copy()
    second.positions += [min(2.0 * radius, 0.5 * cutoff), 0.0, 0.0]
    return atom + second
