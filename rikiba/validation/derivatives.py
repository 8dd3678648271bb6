"""Are forces and stress the derivatives of the energy?"""

from collections.abc import Callable

import numpy as np
from ase import Atoms
from jaxtyping import Float

from rikiba.core.system import System
from rikiba.properties.elastic import strained, voigt_strain
from rikiba.properties.frequencies import hessian

from .checks import Check, Subject

_FLOOR_FORCE = 1e-3
_FLOOR_STRESS = 1e-5


def ridders(values: Callable[[np.ndarray], np.ndarray], step: float, levels: int = 6) -> tuple[float, float]:
    """(derivative at 0, error estimate) by central differences extrapolated to zero step.

    Steps step·2⁻ᵏ, Neville table in h² (Ridders, doi:10.1016/S0141-1195(82)80057-0). `values` maps an array
    of displacements to function values, all in one call.
    """
    h = step * 0.5 ** np.arange(levels)
    v = values(np.concatenate([h, -h]))
    table = [list((v[:levels] - v[levels:]) / (2.0 * h))]
    best, error = table[0][0], np.inf
    for order in range(1, levels):
        factor = 4.0**order
        previous = table[-1]
        row = [(factor * previous[k + 1] - previous[k]) / (factor - 1.0) for k in range(len(previous) - 1)]
        for k, value in enumerate(row):
            e = max(abs(value - previous[k + 1]), abs(value - previous[k]))
            if e < error:
                best, error = value, e
        table.append(row)
    return float(best), float(error)


def force_consistency(subject: Subject, atoms: Atoms, *, n_directions: int = 6, seed: int = 0) -> Check:
    """F·d = −dE/ds along random unit directions d of all atoms at once, relative to the size of F."""
    rng = np.random.default_rng(seed)
    forces = subject.forces([atoms])[0]
    scale = max(float(np.linalg.norm(forces) / np.sqrt(forces.size)), _FLOOR_FORCE)
    worst = 0.0
    for _ in range(n_directions):
        d = rng.normal(size=forces.shape)
        d /= np.linalg.norm(d)
        slope, _ = ridders(_energies_along(subject, atoms, d), subject.tolerance.step)
        worst = max(worst, abs(float((forces * d).sum()) + slope) / scale)
    note = "no forces here" if scale == _FLOOR_FORCE else ""
    return Check.against("forces are −∂E/∂r", worst, subject.tolerance.derivative, "relative", note=note)


def closed_path(subject: Subject, atoms: Atoms, *, radius: float = 0.05, n: int = 48, seed: int = 0) -> Check:
    """∮F·dl on a circle through configuration space, relative to ∮|F·dl|; zero for a conservative force."""
    rng = np.random.default_rng(seed)
    plane = np.linalg.qr(rng.normal(size=(3 * len(atoms), 2)))[0].T.reshape(2, -1, 3)
    angle = 2.0 * np.pi * np.arange(n) / n
    size = radius * np.sqrt(len(atoms))
    frames = [_moved(atoms, size * (np.cos(t) * plane[0] + np.sin(t) * plane[1])) for t in angle]
    tangent = size * (np.cos(angle)[:, None, None] * plane[1] - np.sin(angle)[:, None, None] * plane[0])
    power = (subject.forces(frames) * tangent).sum((1, 2)) * 2.0 * np.pi / n
    scale = max(float(np.abs(power).sum()), _FLOOR_FORCE * size)
    return Check.against(
        "no work on a closed path", abs(power.sum()) / scale, subject.tolerance.path, "relative"
    )


def stress_consistency(subject: Subject, atoms: Atoms) -> list[Check]:
    """σ = (1/V) ∂E/∂ε for all six components, its symmetry and its sign."""
    name = "stress is (1/V) ∂E/∂ε"
    if not atoms.pbc.all():
        return [Check.skipped(name, "not periodic along three axes")]
    found = subject.stress([atoms])
    if found is None:
        return [Check.skipped(name, "this calculator has no stress")]
    stress, volume = found[0], atoms.get_volume()
    step = subject.tolerance.step / volume ** (1.0 / 3.0)
    exact = np.zeros((3, 3))
    for c in range(6):
        unit = voigt_strain(c, 1.0)
        slope, _ = ridders(_energies_under(subject, atoms, unit), step)
        exact += slope / volume * (unit if c < 3 else 2.0 * unit)
    scale = max(float(np.abs(exact).max()), _FLOOR_STRESS)
    error = float(np.abs(stress - exact).max()) / scale
    note = ""
    if error > 0.5 and np.abs(stress + exact).max() / scale < 1e-2:
        note = "the sign is reversed: tension must be positive"
    asymmetry = float(np.abs(stress - stress.T).max()) / scale
    tight = 1e-10 if subject.precision == "float64" else subject.tolerance.force
    return [
        Check.against(name, error, subject.tolerance.derivative, "relative", note=note),
        Check.against("stress is symmetric", asymmetry, tight, "relative"),
    ]


def hessian_consistency(subject: Subject, atoms: Atoms) -> Check:
    """∂F_a/∂r_b = ∂F_b/∂r_a, and equal to the automatic second derivative where there is one."""
    step = {"float64": 5e-4, "float32": 0.02, "iterative": 0.02}[subject.precision]
    found = hessian(subject.calculator, atoms, displacement=step)
    scale = max(float(np.abs(found).max()), _FLOOR_FORCE)
    error = float(np.abs(found - found.T).max()) / scale
    note = "asymmetry of differences of forces"
    if subject.potential is not None and not subject.potential.uses_positions:
        exact = hessian(subject.calculator, atoms, method="autograd")
        error = max(error, float(np.abs(found - exact).max()) / scale)
        note = "differences of forces against automatic differentiation, and symmetry"
    return Check.against("Hessian", error, subject.tolerance.hessian, "relative", note=note)


def net_force_and_torque(subject: Subject, atoms: Atoms) -> list[Check]:
    """ΣF = 0, and Σ r × F = 0 where nothing is periodic, relative to Σ|F| (and its lever arms)."""
    forces = subject.forces([atoms])[0]
    size = np.linalg.norm(forces, axis=1)
    scale = max(float(size.sum()), _FLOOR_FORCE)
    limit = subject.tolerance.force
    checks = [
        Check.against("net force is zero", float(np.linalg.norm(forces.sum(0))) / scale, limit, "relative")
    ]
    if not atoms.pbc.any():
        arm = atoms.positions - atoms.positions.mean(0)
        lever = max(float((np.linalg.norm(arm, axis=1) * size).sum()), _FLOOR_FORCE)
        torque = float(np.linalg.norm(np.cross(arm, forces).sum(0))) / lever
        checks.append(Check.against("net torque is zero", torque, limit, "relative"))
    return checks


def _energies_along(subject: Subject, atoms: Atoms, d: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda s: subject.energies([_moved(atoms, x * d) for x in s])


def _energies_under(subject: Subject, atoms: Atoms, e: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda s: subject.energies([strained(atoms, x * e) for x in s])


def _moved(atoms: Atoms, displacement: Float[np.ndarray, "atoms 3"]) -> Atoms:
    out = atoms.copy()
    out.positions += displacement
    return out


def energy_of(subject: Subject, atoms: Atoms) -> float:
    """Energy of one structure, eV."""
    return float(subject.calculator(System.from_ase(atoms), forces=False).need("energy")[0])
