"""Energy along the rotation about a bond."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from rikiba.calculators.base import Calculator
from rikiba.core.record import Curve, Figure, Record
from rikiba.core.results import Results
from rikiba.core.system import System

from .batches import results_of
from .bond_graph import bond_graph, is_open, reached
from .stationary import relax_all, relax_ions


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TorsionProfile:
    """Energy against a dihedral angle i–j–k–l, everything else relaxed or rigid.

    A relaxed point is the minimum of E + κ[1 − cos(φ − φ₀)]. That minimum is also the constrained minimum of
    E at the angle φ it ends at, so E(φ) is exact there; φ, not φ₀, is printed. Angles follow IUPAC: 0° is
    eclipsed (cis), positive is clockwise seen along j → k.

    Args:
        dihedral: the four atoms i, j, k, l, bonded in that order; if not given, the first found about a
            rotatable bond, heaviest end atoms preferred.
        n_points: equally spaced angles around the circle.
        relax: relax everything but the dihedral; otherwise rotate rigidly from the relaxed structure.
        restraint_eV: κ.
        force_tolerance: largest force component left by the relaxations, eV/Å.
        max_steps: relaxation steps before giving up.
    """

    dihedral: tuple[int, int, int, int] | None = None
    n_points: int = 24
    relax: bool = True
    restraint_eV: float = 30.0
    force_tolerance: float = 2e-3
    max_steps: int = 1000

    def compute(self, calculator: Calculator, atoms: Atoms) -> Record:
        """Energies relative to the lowest (meV) at each angle (°), and the barriers between minima.

        Raises ValueError where the four atoms are no open chain or the bond closes a ring.
        """
        chain, side = self._twist(atoms)
        start = relax_ions(calculator, atoms, self.force_tolerance, self.max_steps)
        here = np.degrees(dihedral_angle(start.positions, chain))
        targets = here + 360.0 / self.n_points * np.arange(self.n_points)
        frames = [rotated(start, chain, side, np.radians(target)) for target in targets]
        if self.relax:
            restrained = Restrained(calculator, chain, np.radians(targets), self.restraint_eV)
            frames = relax_all(restrained, frames, self.force_tolerance, self.max_steps)
        energies = results_of(calculator, frames, forces=False).need("energy").numpy()
        angles = np.degrees([dihedral_angle(f.positions, chain) for f in frames])
        return self._record(atoms, chain, angles, energies)

    def check(self, atoms: Atoms) -> None:
        """Raises ValueError where there is nothing to twist."""
        self._twist(atoms)

    def _twist(self, atoms: Atoms) -> tuple[tuple[int, ...], list[int]]:
        chain = find_dihedral(atoms) if self.dihedral is None else tuple(int(a) for a in self.dihedral)
        return chain, rotating_side(atoms, chain)

    def _record(
        self, atoms: Atoms, chain: tuple[int, ...], angles: np.ndarray, energies: np.ndarray
    ) -> Record:
        relative = 1e3 * (energies - energies.min())
        order = np.argsort(angles)
        x, y = angles[order], relative[order]
        maxima = (y > np.roll(y, 1)) & (y >= np.roll(y, -1))
        minima = (y < np.roll(y, 1)) & (y <= np.roll(y, -1))
        name = "-".join(f"{atoms.symbols[a]}{a}" for a in chain)
        return Record(
            name="torsion_profile",
            title=f"Torsion {name}",
            values={
                "dihedral": list(chain),
                "angles_degree": x.tolist(),
                "energies_meV": y.tolist(),
                "barrier_meV": float(relative.max()),
                "minima_degree": x[minima].tolist(),
                "minima_meV": y[minima].tolist(),
                "maxima_degree": x[maxima].tolist(),
                "maxima_meV": y[maxima].tolist(),
            },
            figures=(
                Figure(
                    title=f"Torsion {name}",
                    x_label="dihedral (°)",
                    y_label="energy (meV)",
                    curves=(Curve.of("relaxed" if self.relax else "rigid", x, y),),
                ),
            ),
            notes=(
                "Every point was relaxed from the rigid rotation of the minimum."
                if self.relax
                else "Rigid rotation from the relaxed structure.",
            ),
        )


class Restrained:
    """E + κ[1 − cos(φ − φ₀)], one φ₀ for each of a batch of copies of one molecule.

    Args:
        calculator: the energy to restrain.
        chain: the four atoms of φ.
        targets: φ₀ of each structure, radians.
        strength: κ, eV.
    """

    whole_batch = True
    """It answers for all of its structures at once, each with its own target."""

    def __init__(
        self, calculator: Calculator, chain: tuple[int, ...], targets: np.ndarray, strength: float
    ) -> None:
        self.calculator = calculator
        self.chain = chain
        self.targets = torch.from_numpy(np.array(targets, float))
        self.strength = strength

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        if system.n_systems != len(self.targets) or stress:
            raise ValueError(f"This restraint is for {len(self.targets)} structures, without stress.")
        bare = self.calculator(system, forces=forces)
        with torch.enable_grad():
            positions = system.positions.detach().requires_grad_()
            phi = dihedral_angles(positions.reshape(system.n_systems, -1, 3), self.chain)
            bias = self.strength * (1.0 - torch.cos(phi - self.targets))
            (gradient,) = torch.autograd.grad(bias.sum(), positions)
        energy = bare.need("energy") + bias.detach()
        return Results(energy=energy, forces=bare.need("forces") - gradient if forces else None)


def dihedral_angles(
    positions: Float[Tensor, "systems atoms 3"], chain: tuple[int, ...]
) -> Float[Tensor, "systems"]:
    """φ = atan2(|b₂| b₁·(b₂×b₃), (b₁×b₂)·(b₂×b₃)) in (−π, π], differentiable.

    Blondel & Karplus, doi:10.1002/(SICI)1096-987X(19960715)17:9<1132::AID-JCC5>3.0.CO;2-T.
    """
    i, j, k, last = (positions[:, a] for a in chain)
    b1, b2, b3 = j - i, k - j, last - k
    n1, n2 = torch.linalg.cross(b1, b2), torch.linalg.cross(b2, b3)
    return torch.atan2(b2.norm(dim=1) * (b1 * n2).sum(1), (n1 * n2).sum(1))


def dihedral_angle(positions: Float[np.ndarray, "atoms 3"], chain: tuple[int, ...]) -> float:
    """φ of one structure, radians; see `dihedral_angles`."""
    return float(dihedral_angles(torch.from_numpy(np.asarray(positions, float))[None], chain)[0])


def find_dihedral(atoms: Atoms) -> tuple[int, int, int, int]:
    """A chain about a rotatable bond, preferring heavy end atoms, then low indices; ValueError if none."""
    graph = bond_graph(atoms)
    z = atoms.numbers
    best: tuple[int, ...] | None = None
    for j in graph:
        for k in graph[j]:
            if j > k or not is_open(graph, j, k):
                continue
            for i in graph[j] - {k}:
                for last in graph[k] - {j, i}:
                    key = (-int(z[j] + z[k]), -int(z[i] + z[last]), i, j, k, last)
                    if best is None or key < best:
                        best = key
    if best is None:
        raise ValueError(
            f"No rotatable bond was found in {atoms.get_chemical_formula()}: a torsion needs four atoms "
            f"in an open chain. Leave the torsion profile out, or name four atoms as dihedral."
        )
    return best[2:]  # type: ignore[return-value]


def rotating_side(atoms: Atoms, chain: tuple[int, ...]) -> list[int]:
    """Atoms that turn with l when the bond j–k is twisted. Raises ValueError where that bond is in a ring."""
    if len(set(chain)) != 4 or not all(0 <= a < len(atoms) for a in chain):
        raise ValueError(f"A dihedral is four different atoms of 0…{len(atoms) - 1}; given {chain}.")
    graph, (_, j, k, _) = bond_graph(atoms), chain
    if k not in graph[j] or not is_open(graph, j, k):
        raise ValueError(f"Atoms {j} and {k} are not joined by a bond outside rings; twist another bond.")
    return sorted(reached(graph, k, j))


def rotated(atoms: Atoms, chain: tuple[int, ...], side: list[int], target: float) -> Atoms:
    """A copy with the atoms of `side` turned rigidly about j → k until the dihedral is `target` (radians)."""
    moved = atoms.copy()
    _, j, k, _ = chain
    axis = moved.positions[k] - moved.positions[j]
    axis /= np.linalg.norm(axis)
    turn = target - dihedral_angle(moved.positions, chain)
    x = moved.positions[side] - moved.positions[k]
    moved.positions[side] = (
        moved.positions[k]
        + x * np.cos(turn)
        + np.cross(axis, x) * np.sin(turn)
        + np.outer(x @ axis, axis) * (1.0 - np.cos(turn))
    )
    return moved
