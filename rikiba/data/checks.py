"""Label hygiene: what is wrong, or looks wrong, with a dataset's labels. Nothing is changed."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

import numpy as np

from rikiba.core import elements, units
from rikiba.core.pairs import find_pairs
from rikiba.core.record import Record, Table

from .dataset import Dataset, Labelled
from .fingerprints import composition, fingerprint, near_pairs
from .statistics import is_isolated_atom

Severity = Literal["error", "warning", "note"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found."""

    check: str
    severity: Severity
    where: str
    what: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a label is reported; energies eV, forces eV/Å, lengths Å, stresses eV/Å³."""

    same_structure: float = 1e-3
    """Fingerprints closer than this (RMS) are one structure."""
    same_energy_per_atom: float = 1e-3
    same_force: float = 0.02
    """Two labels of one structure whose sorted force lengths differ by more (maximum) are different."""
    max_force: float = 100.0
    outlier: float = 8.0
    """Robust standard deviations."""
    net_force_per_atom: float = 5e-3
    close_contact_ratio: float = 0.4
    """Closest pair over the sum of covalent radii."""
    max_stress: float = 1.0
    """Median over frames of the largest component; 1 eV/Å³ is 160 GPa."""
    bulk_modulus: tuple[float, float] = (1e-4, 10.0)
    """Believable slope of tension with ln V: 0.016 to 1600 GPa."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """What the checks need of one frame; structures themselves are not kept."""

    where: str
    level: str
    group: str
    key: tuple[object, ...]
    counts: dict[str, int]
    n: int
    isolated_atom: bool
    energy: float | None
    forces: np.ndarray | None
    stress: np.ndarray | None
    positions: np.ndarray
    cell: np.ndarray
    volume: float
    closest: float
    print: np.ndarray


def check_dataset(dataset: Dataset, thresholds: Thresholds | None = None) -> Record:
    """Look for labels that are wrong or look wrong.

    Missing and non-finite labels, duplicates, absurd forces and energies, net forces and torques, a stress of
    suspicious sign or unit, forces that are not the energy's slope, close contacts, mixed levels of theory.

    The verdict is 'fail' for an error (a label that cannot be right), 'undecided' where something only looks
    odd, 'pass' otherwise. Notes (a missing stress, a duplicate) leave the verdict alone.
    """
    limit = thresholds or Thresholds()
    frames = [_summary(f, k) for k, f in enumerate(dataset)]
    findings = [finding for check in _CHECKS for finding in check(frames, limit)]
    counts = Counter(f.check for f in findings)
    severities = Counter(f.severity for f in findings)
    order = {"error": 0, "warning": 1, "note": 2}
    shown = sorted(findings, key=lambda f: order[f.severity])[:200]
    notes = ["Findings are reported, never repaired: remove or relabel what is wrong."]
    if len(findings) > len(shown):
        notes.append(f"The table shows {len(shown)} of {len(findings)} findings.")
    return Record(
        name="label_checks",
        title="Checks of the labels",
        values={
            "n_frames": len(frames),
            "n_atoms": sum(f.n for f in frames),
            "n_errors": severities["error"],
            "n_warnings": severities["warning"],
            "n_notes": severities["note"],
            **{f"n_{name}": counts[name] for name in CHECK_NAMES},
            "levels_of_theory": list(dict.fromkeys(f.level for f in frames)),
        },
        tables=(
            Table(
                title="Findings",
                columns=("check", "severity", "where", "what"),
                rows=tuple((f.check, f.severity, f.where, f.what) for f in shown),
            ),
        ),
        notes=tuple(notes),
        verdict="fail" if severities["error"] else "undecided" if severities["warning"] else "pass",
    )


def _summary(frame: Labelled, k: int) -> _Frame:
    system, results = frame.system, frame.results
    numbers = system.numbers.numpy()
    zs, counts = np.unique(numbers, return_counts=True)
    radii = elements.covalent_radius(system.numbers).numpy()
    pairs = find_pairs(system, 1.6 * float(radii.max()) if len(radii) else 1.0)
    distance = np.linalg.norm(pairs.vectors(system).numpy(), axis=1)
    relative = distance / (radii[pairs.i.numpy()] + radii[pairs.j.numpy()])
    return _Frame(
        where=frame.source or f"frame {k}",
        level=frame.level_of_theory,
        group=frame.group,
        key=(composition(system), tuple(system.pbc[0].tolist()), _conditions(frame)),
        counts={elements.symbol(int(z)): int(n) for z, n in zip(zs, counts, strict=True)},
        n=system.n_atoms,
        isolated_atom=is_isolated_atom(frame),
        energy=None if results.energy is None else float(results.energy[0]),
        forces=None if results.forces is None else results.forces.double().numpy(),
        stress=None if results.stress is None else results.stress[0].double().numpy(),
        positions=system.positions.numpy(),
        cell=system.cell[0].numpy(),
        volume=float(system.volume[0]),
        closest=float(relative.min()) if len(relative) else np.inf,
        print=fingerprint(system),
    )


def _conditions(frame: Labelled) -> tuple[object, ...]:
    """Charge, spin and initial moments: structures that differ in them may have different labels."""
    s = frame.system
    moments = () if s.magmoms is None else tuple(np.sort(s.magmoms.numpy()).round(3).tolist())
    return (
        None if s.charge is None else float(s.charge[0]),
        None if s.spin is None else int(s.spin[0]),
        moments,
        frame.level_of_theory,
    )


def _missing(frames: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    for name in ("energy", "forces", "stress"):
        without = [
            f for f in frames if getattr(f, name) is None and not (name != "energy" and f.isolated_atom)
        ]
        if name == "stress":
            without = (
                [f for f in without if f.volume > 0] if any(f.stress is not None for f in frames) else []
            )
        if without:
            severity: Severity = "warning" if name != "stress" else "note"
            what = f"{len(without)} of {len(frames)} frames have no {name}"
            yield Finding(check="missing", severity=severity, where=without[0].where, what=what)


def _not_finite(frames: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    for f in frames:
        for name in ("energy", "forces", "stress"):
            value = getattr(f, name)
            if value is not None and not np.isfinite(value).all():
                yield Finding(
                    check="not_finite", severity="error", where=f.where, what=f"{name} is not finite"
                )


def _mixed_levels(frames: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    levels = Counter(f.level for f in frames)
    if len(levels) > 1:
        what = "; ".join(f"{level}: {n} frames" for level, n in levels.most_common())
        yield Finding(check="mixed_level_of_theory", severity="error", where="dataset", what=what)


def _duplicates(frames: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    by_key: dict[tuple[object, ...], list[_Frame]] = defaultdict(list)
    for f in frames:
        by_key[f.key].append(f)
    for same in by_key.values():
        if same[0].n == 1 and same[0].volume == 0:
            continue
        for a, b, _ in near_pairs([f.print for f in same], None, limit.same_structure):
            first, second = same[a], same[b]
            difference = _label_difference(first, second, limit)
            where = f"{first.where} and {second.where}"
            if difference:
                yield Finding(check="conflicting_duplicate", severity="error", where=where, what=difference)
            else:
                yield Finding(
                    check="duplicate", severity="note", where=where, what="same structure, same labels"
                )


def _label_difference(a: _Frame, b: _Frame, limit: Thresholds) -> str:
    if a.energy is not None and b.energy is not None:
        gap = abs(a.energy - b.energy) / a.n
        if gap > limit.same_energy_per_atom:
            return f"same structure, energies differ by {1000 * gap:.3g} meV/atom"
    if a.forces is not None and b.forces is not None:
        sizes = [np.sort(np.linalg.norm(forces, axis=1)) for forces in (a.forces, b.forces)]
        gap = float(np.abs(sizes[0] - sizes[1]).max())
        if gap > limit.same_force:
            return f"same structure, forces differ by {gap:.3g} eV/Å"
    return ""


def _forces(frames: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    """Absurd forces, and forces far above what frames of the same composition have."""
    largest: dict[tuple[object, ...], list[tuple[_Frame, float]]] = defaultdict(list)
    for f in frames:
        if f.forces is not None and np.isfinite(f.forces).all() and f.n > 1:
            largest[f.key].append((f, float(np.linalg.norm(f.forces, axis=1).max())))
    for same in largest.values():
        sizes = np.array([size for _, size in same if size > 1e-3])
        middle, ceiling = (float(np.median(sizes)), _ceiling(sizes, limit)) if len(sizes) else (0.0, np.inf)
        for f, size in same:
            if size > limit.max_force:
                what = f"a force of {size:.3g} eV/Å, above {limit.max_force:g}"
                yield Finding(check="absurd_force", severity="error", where=f.where, what=what)
            elif size > ceiling:
                what = f"a force of {size:.3g} eV/Å where the median of the largest is {middle:.3g}"
                yield Finding(check="force_outlier", severity="warning", where=f.where, what=what)


def _ceiling(sizes: np.ndarray, limit: Thresholds) -> float:
    """exp(median + outlier·spread) of the logarithms, for ten frames or more."""
    if len(sizes) < 10:
        return np.inf
    logs = np.log(sizes)
    spread = max(1.4826 * float(np.median(np.abs(logs - np.median(logs)))), 0.2)
    return float(np.exp(np.median(logs) + limit.outlier * spread))


def _net_force(frames: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    """Σ F = 0 in every isolated or periodic system; Σ r × F = 0 in an isolated one."""
    for f in frames:
        if f.forces is None or not np.isfinite(f.forces).all() or f.n < 2:
            continue
        net = float(np.linalg.norm(f.forces.sum(0))) / f.n
        size = float(np.sqrt((f.forces**2).mean()))
        if net > max(limit.net_force_per_atom, 0.02 * size):
            what = f"forces add up to {net * f.n:.3g} eV/Å over {f.n} atoms (zero without an outer field)"
            yield Finding(check="net_force", severity="warning", where=f.where, what=what)
        elif not f.key[1] or not any(f.key[1]):  # type: ignore[arg-type]
            arm = f.positions - f.positions.mean(0)
            torque = float(np.linalg.norm(np.cross(arm, f.forces).sum(0))) / f.n
            reach = float(np.sqrt((arm**2).sum(1).mean()))
            if torque > reach * max(4 * limit.net_force_per_atom, 0.05 * size):
                what = f"an isolated system feels a torque of {torque * f.n:.3g} eV"
                yield Finding(check="net_force", severity="warning", where=f.where, what=what)


def _energies(frames: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    """Outliers of the energy per atom after a robust least squares on the composition."""
    having = [f for f in frames if f.energy is not None and np.isfinite(f.energy) and not f.isolated_atom]
    symbols = sorted({s for f in having for s in f.counts})
    if len(having) < max(10, 3 * len(symbols)):
        return
    matrix = np.array([[f.counts.get(s, 0) / f.n for s in symbols] for f in having])
    target = np.array([f.energy / f.n for f in having])  # type: ignore[operator]
    weight = np.ones(len(having))
    for _ in range(10):  # iteratively reweighted towards least absolute residuals, so outliers do not pull
        solution = np.linalg.lstsq(matrix * weight[:, None], target * weight, rcond=1e-8)[0]
        residual = target - matrix @ solution
        spread = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
        weight = 1.0 / np.sqrt(np.maximum(np.abs(residual), max(spread, 1e-6)))
    # an energy offset scatters by the structure too: the scale is at least that of forces over a bond stretch
    sizes = [float(np.sqrt((f.forces**2).mean())) for f in having if f.forces is not None]
    scale = max(spread, 0.05 * float(np.median(sizes)) if sizes else 0.0, 1e-3)
    for f, r in zip(having, residual - np.median(residual), strict=True):
        if abs(r) > max(limit.outlier * scale, 0.1) and not _explained_by_forces(f, float(r)):
            what = f"{r:+.3g} eV/atom off what its composition suggests (typical {scale:.2g})"
            yield Finding(check="energy_outlier", severity="warning", where=f.where, what=what)


def _explained_by_forces(f: _Frame, residual: float) -> bool:
    """A strained or crowded structure is high in energy and shows it in forces or stress."""
    if residual < 0:
        return False
    work = 0.0 if f.forces is None else float(np.linalg.norm(f.forces, axis=1).mean()) * 1.0
    if f.stress is not None and f.volume > 0:
        work += abs(float(np.trace(f.stress))) / 3.0 * f.volume / f.n
    return work > residual


def _stress(frames: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    having = [f for f in frames if f.stress is not None and np.isfinite(f.stress).all() and f.volume > 0]
    having = [f for f in having if f.forces is None or np.isfinite(f.forces).all()]
    having = [f for f in having if f.energy is None or np.isfinite(f.energy)]
    for f in having:
        lopsided = float(np.abs(f.stress - f.stress.T).max())  # type: ignore[union-attr, operator]
        if lopsided > 1e-4 + 0.01 * float(np.abs(f.stress).max()):  # type: ignore[arg-type]
            what = f"not symmetric: off by {lopsided:.3g} eV/Å³"
            yield Finding(check="stress_asymmetric", severity="error", where=f.where, what=what)
    if len(having) >= 3:
        middle = float(np.median([np.abs(f.stress).max() for f in having]))  # type: ignore[arg-type]
        if middle > limit.max_stress:
            what = (
                f"the median of the largest components is {middle / units.gigapascal:.4g} GPa: GPa or kbar?"
            )
            yield Finding(check="stress_unit", severity="warning", where="dataset", what=what)
    yield from _stress_against_volume(having, limit)


def _stress_against_volume(having: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    """Two tests per set of frames of one composition: dσ/d ln V = B > 0, and ΔE = V σ:Δε."""
    sets: dict[tuple[object, ...], list[_Frame]] = defaultdict(list)
    for f in having:
        sets[(f.key, f.group)].append(f)
    for same in sets.values():
        where = f"{len(same)} frames with {same[0].where}"
        slope = _slope_with_volume(same)
        if slope is not None:
            yield from _judge_modulus(slope, where, limit)
        yield from _judge_work(same, where)


def _slope_with_volume(frames: list[_Frame]) -> float | None:
    """B of σ = a + B ln V + c ⟨F²⟩ within 15 % of the median volume; None where B is not clear (6 sigma).

    σ is the mean tension. The mean square force stands for the thermal pressure of hot frames. Farther out
    on the tension side the slope of a real solid changes sign.
    """
    log_volume = np.log([f.volume for f in frames])
    near = np.abs(log_volume - np.median(log_volume)) <= 0.15
    kept = [f for f, inside in zip(frames, near, strict=True) if inside]
    log_volume = log_volume[near]
    if len(kept) < 8 or np.ptp(log_volume) < 0.01:
        return None
    tension = np.array([np.trace(f.stress) / 3.0 for f in kept if f.stress is not None])
    heat = np.array([0.0 if f.forces is None else float((f.forces**2).mean()) for f in kept])
    design = np.stack([np.ones_like(tension), log_volume - log_volume.mean(), heat - heat.mean()], 1)
    if np.ptp(heat) < 1e-8:
        design = design[:, :2]
    solution, *_ = np.linalg.lstsq(design, tension, rcond=1e-10)
    rest = tension - design @ solution
    variance = float(rest @ rest) / (len(tension) - design.shape[1])
    error = np.sqrt(variance * np.linalg.pinv(design.T @ design)[1, 1])
    return float(solution[1]) if abs(solution[1]) > 6.0 * error else None


def _judge_modulus(modulus: float, where: str, limit: Thresholds) -> Iterator[Finding]:
    shown = f"tension changes with ln V by {modulus / units.gigapascal:+.4g} GPa"
    if modulus < 0:
        what = f"{shown}: the sign is suspected wrong (here tension is positive)"
        yield Finding(check="stress_sign", severity="error", where=where, what=what)
    elif not limit.bulk_modulus[0] <= modulus <= limit.bulk_modulus[1]:
        what = f"{shown}, no believable bulk modulus: a wrong unit is suspected"
        yield Finding(check="stress_unit", severity="error", where=where, what=what)


def _judge_work(same: list[_Frame], where: str) -> Iterator[Finding]:
    """Slope of ΔE against the work σ:Δε·V, over neighbours in volume that are scaled copies of each other."""
    pairs = []
    ordered = sorted((f for f in same if f.energy is not None), key=lambda f: f.volume)
    for a, b in pairwise(ordered):
        if abs(np.linalg.det(a.cell)) < 1e-9 or not 1e-3 < np.log(b.volume / a.volume) < 0.2:
            continue
        deformation = np.linalg.solve(a.cell, b.cell)
        moved = b.positions - a.positions @ deformation
        if np.abs(moved - moved.mean(0)).max() > 0.02 or np.abs(deformation - np.eye(3)).max() > 0.2:
            continue
        strain = 0.5 * (deformation + deformation.T) - np.eye(3)
        middle = 0.5 * (a.stress + b.stress) * 0.5 * (a.volume + b.volume)  # type: ignore[operator]
        pairs.append((float((middle * strain).sum()), b.energy - a.energy))  # type: ignore[operator]
    yield from _judge_slope(pairs, "stress", where)


def _judge_slope(pairs: list[tuple[float, float]], name: str, where: str) -> Iterator[Finding]:
    """Work against energy difference: the slope is 1 where the label is the energy's derivative."""
    if len(pairs) < 4:
        return
    work, gain = np.array(pairs).T
    if np.ptp(work) == 0 or np.ptp(gain) < 1e-4 or abs(np.corrcoef(work, gain)[0, 1]) < 0.95:
        return
    slope = float(work @ gain / (work @ work))
    if slope < 0:
        what = f"energies change by {slope:+.3g} times the work of the {name}: the sign is wrong"
        yield Finding(check=f"{name}_sign", severity="error", where=where, what=what)
    elif not 0.6 < slope < 1.6:
        what = f"energies change by {slope:.4g} times the work of the {name}: a wrong unit is suspected"
        yield Finding(check=f"{name}_unit", severity="error", where=where, what=what)


def _force_work(frames: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    """ΔE = −½(F₁ + F₂)·Δr between neighbouring frames in which atoms moved little (a trajectory)."""
    pairs, first = [], None
    for a, b in pairwise(frames):
        if a.key != b.key or a.group != b.group or a.forces is None or b.forces is None:
            continue
        if a.energy is None or b.energy is None or not np.allclose(a.cell, b.cell, atol=1e-9):
            continue
        moved = b.positions - a.positions
        if not 1e-4 < np.abs(moved).max() < 0.15 or not np.isfinite(a.forces + b.forces).all():
            continue
        first = first or a
        pairs.append((float((0.5 * (a.forces + b.forces) * moved).sum()), -(b.energy - a.energy)))
    if first is not None:
        yield from _judge_slope(pairs, "force", f"{len(pairs)} steps from {first.where}")


def _contacts(frames: list[_Frame], limit: Thresholds) -> Iterator[Finding]:
    for f in frames:
        if f.closest < limit.close_contact_ratio:
            what = f"two atoms are {f.closest:.2f} of the sum of their covalent radii apart"
            yield Finding(check="close_contact", severity="warning", where=f.where, what=what)


_CHECKS: tuple[Callable[[list[_Frame], Thresholds], Iterator[Finding]], ...] = (
    _missing,
    _not_finite,
    _mixed_levels,
    _duplicates,
    _forces,
    _net_force,
    _energies,
    _stress,
    _force_work,
    _contacts,
)
CHECK_NAMES = (
    "missing",
    "not_finite",
    "mixed_level_of_theory",
    "duplicate",
    "conflicting_duplicate",
    "absurd_force",
    "force_outlier",
    "net_force",
    "energy_outlier",
    "stress_asymmetric",
    "stress_sign",
    "stress_unit",
    "force_sign",
    "force_unit",
    "close_contact",
)
