"""Is the energy blind to place, orientation, handedness, labels and the choice of cell?"""

import numpy as np
import torch
from ase import Atoms

from rikiba.core.results import QUANTITIES, Results

from .checks import Check, Subject


def translation(subject: Subject, atoms: Atoms, *, n: int = 5, seed: int = 0) -> Check:
    """E and F after random shifts, some across the boundary and wrapped back."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        moved = atoms.copy()
        moved.positions += rng.uniform(-8.0, 8.0, 3)
        if k % 2 and atoms.pbc.any():
            moved.wrap()
        frames.append(moved)
    return _invariance(subject, "translation", atoms, frames, [np.eye(3)] * n)


def rotation(subject: Subject, atoms: Atoms, *, n: int = 50, seed: int = 0) -> list[Check]:
    """E invariant, forces and stress covariant under random rotations; every second is also inverted.

    Equal energies under inversion are equal energies of enantiomers. Other vectors and tensors that the
    calculator gives (dipole …) follow their declared law.
    """
    matrices = random_orthogonal(n, np.random.default_rng(seed))
    frames = []
    for q in matrices:
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ q.T)
        turned.positions = atoms.positions @ q.T
        frames.append(turned)
    checks = [_invariance(subject, "rotation and inversion", atoms, frames, matrices)]
    if atoms.pbc.all():
        stress = subject.stress([atoms, *frames])
        if stress is not None:
            expected = np.stack([q @ stress[0] @ q.T for q in matrices])
            scale = max(float(np.abs(stress[0]).max()), 1e-3)
            error = float(np.abs(stress[1:] - expected).max()) / scale
            checks.append(
                Check.against("stress turns with the cell", error, subject.tolerance.force, "relative")
            )
    return [*checks, *_other_quantities(subject, atoms, frames[:4], matrices[:4])]


def permutation(subject: Subject, atoms: Atoms, *, n: int = 5, seed: int = 0) -> Check:
    """E unchanged and F permuted when atoms are listed in another order, in a batch beside others."""
    rng = np.random.default_rng(seed)
    forces, energy = subject.forces([atoms])[0], subject.energies([atoms])[0]
    other = atoms.copy()
    other.positions += 0.05 * rng.normal(size=other.positions.shape)
    worst_energy = worst_force = 0.0
    for k in range(n):
        order = rng.permutation(len(atoms))
        place = k % 3
        frames = [other, other, other]
        frames[place] = atoms[order]
        batch = subject.results(frames)
        f = batch.need("forces").detach().cpu().numpy()[place * len(atoms) : (place + 1) * len(atoms)]
        worst_energy = max(worst_energy, abs(float(batch.need("energy")[place]) - energy))
        worst_force = max(worst_force, float(np.abs(f - forces[order]).max()))
    return _judge(subject, "permutation", len(atoms), worst_energy, worst_force, forces)


def periodicity(subject: Subject, atoms: Atoms, *, seed: int = 0) -> list[Check]:
    """The same crystal in other words: wrapped, repeated, and with other lattice vectors."""
    if not atoms.pbc.any():
        return [Check.skipped("periodic images", "not periodic")]
    rng = np.random.default_rng(seed)
    cell, pbc = atoms.cell.array, atoms.pbc.astype(int)
    unwrapped = atoms.copy()
    unwrapped.positions += (rng.integers(-2, 3, (len(atoms), 3)) * pbc) @ cell
    eye = [np.eye(3)]
    checks = [_invariance(subject, "wrapped and unwrapped", atoms, [unwrapped], eye)]
    if pbc.sum() >= 2:
        a, b = np.flatnonzero(pbc)[:2]
        mix = np.eye(3)
        mix[b, a] = 2.0
        skewed = atoms.copy()
        skewed.set_cell(mix @ cell, scale_atoms=False)
        checks.append(_invariance(subject, "another choice of lattice vectors", atoms, [skewed], eye))
    axis = int(np.flatnonzero(pbc)[0])
    times = np.where(np.arange(3) == axis, 3, 1)
    large = atoms.repeat([int(t) for t in times])
    forces = subject.forces([atoms])[0]
    error_e = abs(subject.energies([large])[0] - 3.0 * subject.energies([atoms])[0])
    error_f = float(np.abs(subject.forces([large])[0] - np.tile(forces, (3, 1))).max())
    checks.append(_judge(subject, "supercell", len(large), error_e, error_f, forces))
    return checks


def random_orthogonal(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Haar-random O(3) matrices, determinant +1 and −1 in turn; the second is the bare inversion."""
    out = []
    for k in range(n):
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        q = q * np.sign(np.diag(r))
        sign = 1.0 if k % 2 == 0 else -1.0
        out.append(q * sign * np.sign(np.linalg.det(q)))
    if n > 1:
        out[1] = -np.eye(3)
    return out


def _invariance(
    subject: Subject, name: str, atoms: Atoms, frames: list[Atoms], matrices: list[np.ndarray]
) -> Check:
    energy, forces = subject.energies([atoms])[0], subject.forces([atoms])[0]
    worst_e = float(np.abs(subject.energies(frames) - energy).max())
    expected = np.stack([forces @ q.T for q in matrices])
    worst_f = float(np.abs(subject.forces(frames) - expected).max())
    return _judge(subject, name, len(atoms), worst_e, worst_f, forces)


def _judge(subject: Subject, name: str, n: int, error_e: float, error_f: float, forces: np.ndarray) -> Check:
    """One number for energy and forces: the larger of error/threshold, printed as a force error."""
    t = subject.tolerance
    scale = max(float(np.abs(forces).max()), 1.0)
    ratio = max(error_e / n / t.energy, error_f / scale / t.force)
    note = f"ΔE {error_e / n:.1e} eV/atom, ΔF {error_f:.1e} eV/Å"
    return Check.against(name, ratio, 1.0, "of the allowed error", note=note)


def _other_quantities(
    subject: Subject, atoms: Atoms, frames: list[Atoms], matrices: list[np.ndarray]
) -> list[Check]:
    """Charges, dipoles and whatever else the calculator gives for one structure, by their declared law."""
    before = subject.one(atoms)
    names = [q.name for q in before.present() if q.name not in ("energy", "forces", "stress")]
    worst = dict.fromkeys(names, 0.0)
    for frame, q in zip(frames, matrices, strict=True):
        after = subject.one(frame)
        for name in names:
            expected = transformed(before, name, torch.from_numpy(q))
            scale = max(float(expected.abs().max()), 1.0)
            error = float((getattr(after, name).double() - expected).abs().max()) / scale
            worst[name] = max(worst[name], error)
    limit = max(subject.tolerance.force, subject.tolerance.energy)
    return [Check.against(f"{name} under rotation", worst[name], limit, "relative") for name in names]


def transformed(results: Results, name: str, q: torch.Tensor) -> torch.Tensor:
    """A quantity of `results` after the structure was mapped by x → Q x, by its declared law."""
    value, law = getattr(results, name).double(), QUANTITIES[name].law
    if law == "scalar":
        return value
    if law == "pseudoscalar":
        return value * torch.linalg.det(q)
    if law == "vector":
        return value @ q.T
    return q @ value @ q.T
