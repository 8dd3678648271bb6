"""The fastest vibration of a structure, and the timestep that follows from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
import torch

from rikiba.calculators.base import Calculator
from rikiba.core import units
from rikiba.core.system import System

if TYPE_CHECKING:
    from ase import Atoms

STEPS_A_PERIOD = 20
"""Timesteps in a period of the fastest vibration: ωΔt = 0.31, where velocity Verlet's frequencies are off by
(ωΔt)²/24 = 0.4 % and the energy ripples by (ωΔt)²/8 = 1.2 % of a mode's; instability begins at ωΔt = 2."""
LEAST_WIDTH = 6.0
"""Å; narrower crystals are repeated so that vibrations of neighbouring cells against each other are seen."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FastestVibration:
    """The largest harmonic frequency of a structure as it stands."""

    angular_frequency: float
    """ω, internal units; 0 where nothing vibrates."""
    participation: tuple[str, ...]
    """Elements of the atoms that move most in it."""

    @property
    def wavenumber_cm1(self) -> float:
        return self.angular_frequency * units.angular_to_inverse_centimetre

    @property
    def period_fs(self) -> float:
        return (
            2.0 * math.pi / self.angular_frequency / units.femtosecond if self.angular_frequency else math.inf
        )

    @property
    def recommended_timestep_fs(self) -> float:
        """A twentieth of the period, fs."""
        return self.period_fs / STEPS_A_PERIOD

    @property
    def limit_timestep_fs(self) -> float:
        """Where velocity Verlet becomes unstable, ωΔt = 2, fs."""
        return self.period_fs / math.pi


def fastest_vibration(
    calculator: Calculator, atoms: "Atoms", *, displacement: float = 0.01, tolerance: float = 0.01
) -> FastestVibration:
    """ω_max = √λ_max of M^(−1/2) H M^(−1/2), H = ∂²E/∂r∂r at the given positions.

    λ_max is found by Lanczos' method, each product H v from forces at r ± h v (two evaluations; some ten to
    forty products). A periodic structure narrower than 6 Å along an axis is repeated there. What is rigid in
    the simulation (constrained bonds) is not known here and counts as vibrating.

    Args:
        calculator: gives the forces.
        atoms: the structure, best near a minimum.
        displacement: largest displacement of an atom in the differences, Å.
        tolerance: relative accuracy of λ.

    Raises ValueError for a structure without atoms or with non-finite forces.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    if len(atoms) == 0:
        raise ValueError("A structure without atoms has no vibrations.")
    wide = widened(atoms)
    n = 3 * len(wide)
    root = np.repeat(np.sqrt(wide.get_masses()), 3)

    def product(v: np.ndarray) -> np.ndarray:
        direction = (v.ravel() / root).reshape(-1, 3)
        longest = float(np.linalg.norm(direction, axis=1).max())
        if longest == 0.0:
            return np.zeros(n)
        h = displacement / longest
        ends = []
        for sign in (1.0, -1.0):
            moved = wide.copy()
            moved.positions += sign * h * direction
            ends.append(moved)
        forces = calculator(System.from_ase(ends), forces=True).need("forces").double().cpu()
        plus, minus = forces.reshape(2, -1).numpy()
        result: np.ndarray = -(plus - minus) / (2.0 * h) / root
        if not np.isfinite(result).all():
            raise ValueError("The forces beside the given structure are not finite; relax it first.")
        return result

    start = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).numpy()
    if n <= 6:
        matrix = np.stack([product(e) for e in np.eye(n)])
        values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
        value, vector = values[-1], vectors[:, -1]
    else:
        operator = LinearOperator((n, n), matvec=product, dtype=float)
        values, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=tolerance)
        value, vector = values[0], vectors[:, 0]
    share = (vector.reshape(-1, 3) ** 2).sum(1)
    movers = [wide[int(k)].symbol for k in np.argsort(-share)[:2]]
    omega = math.sqrt(value) if value > 1e-12 else 0.0
    return FastestVibration(angular_frequency=omega, participation=tuple(dict.fromkeys(movers)))


def widened(atoms: "Atoms") -> "Atoms":
    """A periodic structure repeated to at least 6 Å along each periodic axis; others as they are."""
    wide: Atoms = atoms.repeat(_repeats(atoms)) if atoms.pbc.any() else atoms.copy()
    return wide


def _repeats(atoms: "Atoms") -> tuple[int, ...]:
    lengths = atoms.cell.lengths()
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    if volume == 0.0:
        return tuple(max(1, math.ceil(LEAST_WIDTH / lengths[k])) if atoms.pbc[k] else 1 for k in range(3))
    widths = volume / np.array(
        [np.linalg.norm(np.cross(atoms.cell[(k + 1) % 3], atoms.cell[(k + 2) % 3])) for k in range(3)]
    )
    return tuple(max(1, math.ceil(LEAST_WIDTH / widths[k])) if atoms.pbc[k] else 1 for k in range(3))


def timestep_warning(calculator: Calculator, structures: "Sequence[Atoms]", timestep_fs: float) -> str | None:
    """What to say of a timestep that is longer than the fastest vibration allows; None where it is not."""
    found = [fastest_vibration(calculator, atoms) for atoms in structures]
    fastest = max(found, key=lambda v: v.angular_frequency)
    if timestep_fs <= fastest.recommended_timestep_fs:
        return None
    who = "–".join(fastest.participation)
    text = (
        f"timestep_fs = {timestep_fs:g} is long for the fastest vibration, {fastest.wavenumber_cm1:.0f} cm⁻¹ "
        f"({who}, period {fastest.period_fs:.1f} fs): take {_rounded(fastest.recommended_timestep_fs):g} fs "
        f"or less, heavier hydrogen, or rigid bonds."
    )
    if timestep_fs >= fastest.limit_timestep_fs:
        text += f" Above {fastest.limit_timestep_fs:.2g} fs it is unstable."
    return text


def _rounded(value: float) -> float:
    """Down to one digit, or two below two of it."""
    scale = 10.0 ** math.floor(math.log10(value))
    fine = scale / 10.0 if value < 2.0 * scale else scale / 4.0
    return math.floor(value / fine + 1e-9) * fine
