"""Elastic constants from stress against strain."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from ase import Atoms
from jaxtyping import Float

from rikiba.calculators.base import Calculator
from rikiba.core import units
from rikiba.core.record import Record

from .base import need_bulk
from .batches import results_of
from .stationary import relax_all, relax_cell
from .symmetry import point_group, symmetrise_elastic

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_REFERENCES = ("10.1088/0370-1298/65/5/307", "10.1103/PhysRevB.90.224104")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Elastic:
    """The full tensor C_ij = dσ_i/dη_j of relaxed-ion elastic constants, and what follows from it.

    Each of six strains is applied at ±h and ±2h, the atoms are relaxed in the strained cell, and the fourth-
    order difference is taken; the spread is its distance from the second-order one. Averages of Voigt,
    Reuss and Hill (doi:10.1088/0370-1298/65/5/307); the crystal is stable where every eigenvalue of C is
    positive (Mouhat & Coudert, doi:10.1103/PhysRevB.90.224104).

    Args:
        strain: h, dimensionless.
        relax: relax the atoms in each strained cell; without it the result is the clamped-ion tensor.
        relax_cell: relax the cell to zero stress first.
        symmetrise: average over the rotations that leave the crystal unchanged.
        force_tolerance: largest force component left by the relaxation, eV/Å.
        stress_tolerance_GPa: largest stress component left by the relaxation of the cell.
        max_steps: relaxation steps before giving up.
    """

    strain: float = 0.004
    relax: bool = True
    relax_cell: bool = True
    symmetrise: bool = True
    force_tolerance: float = 1e-4
    stress_tolerance_GPa: float = 0.01
    max_steps: int = 1000

    def check(self, atoms: Atoms) -> None:
        """Raises ValueError for a structure without three periodic axes."""
        need_bulk("Elastic constants", atoms)

    def compute(self, calculator: Calculator, atoms: Atoms) -> Record:
        """C_ij and moduli in GPa. Raises ValueError for a structure without three periodic axes."""
        self.check(atoms)
        if self.relax_cell:
            atoms = relax_cell(
                calculator,
                atoms,
                self.force_tolerance,
                self.stress_tolerance_GPa * units.gigapascal,
                self.max_steps,
            )
        residual = self._stress(calculator, [atoms])[0]
        steps = np.array([-2.0, -1.0, 1.0, 2.0]) * self.strain
        frames = [strained(atoms, voigt_strain(j, h)) for j in range(6) for h in steps]
        if self.relax:
            frames = relax_all(calculator, frames, self.force_tolerance, self.max_steps)
        sigma = self._stress(calculator, frames).reshape(6, 4, 6)
        h = self.strain
        second = (sigma[:, 2] - sigma[:, 1]) / (2.0 * h)
        fourth = (8.0 * (sigma[:, 2] - sigma[:, 1]) - (sigma[:, 3] - sigma[:, 0])) / (12.0 * h)
        return self._record(atoms, second.T, fourth.T, residual)

    @staticmethod
    def _stress(calculator: Calculator, frames: list[Atoms]) -> np.ndarray:
        full = results_of(calculator, frames, stress=True).need("stress").detach().cpu().numpy()
        return np.array([[s[i, j] for i, j in _VOIGT] for s in full]) / units.gigapascal

    def _record(self, atoms: Atoms, second: np.ndarray, fourth: np.ndarray, residual: np.ndarray) -> Record:
        asymmetry = float(np.abs(fourth - fourth.T).max())
        c, low = 0.5 * (fourth + fourth.T), 0.5 * (second + second.T)
        n_rotations = 1
        if self.symmetrise:
            rotations = point_group(atoms)
            n_rotations = len(rotations)
            c, low = symmetrise_elastic(c, rotations), symmetrise_elastic(low, rotations)
        error = np.abs(c - low)
        values: dict[str, Any] = {"C_GPa": c.tolist()}
        spread: dict[str, Any] = {"C_GPa": error.tolist()}
        entries = {f"C{i + 1}{j + 1}_GPa": (i, j) for i in range(6) for j in range(i, 6)}
        first = independent(c)
        values |= {k: float(c[ij]) for k, ij in entries.items() if ij in first}
        values |= moduli(c)
        values |= {k: float(c[ij]) for k, ij in entries.items() if ij not in first}
        spread |= {k: float(error[ij]) for k, ij in entries.items()}
        eigenvalues = np.linalg.eigvalsh(c)
        stable = bool((eigenvalues > 0).all())
        values |= {
            "mechanically_stable": stable,
            "lowest_eigenvalue_GPa": float(eigenvalues[0]),
            "asymmetry_GPa": asymmetry,
            "residual_stress_GPa": residual.tolist(),
            "n_symmetry_rotations": n_rotations,
        }
        notes = ["Spread is the difference between second- and fourth-order strain derivatives."]
        if np.abs(residual).max() > max(2.0 * self.stress_tolerance_GPa, 1e-3 * abs(c[0, 0])):
            notes.append(
                f"The unstrained crystal is under up to {np.abs(residual).max():.3g} GPa: these are "
                f"stress–strain coefficients at that stress, not elastic constants of the free crystal."
            )
        if not stable:
            notes.append("C is not positive definite: the crystal is unstable under some strain.")
        if not self.relax:
            notes.append("Clamped ions: atoms follow the strain and do not relax.")
        return Record(
            name="elastic",
            title="Elastic constants",
            values=values,
            spread=spread,
            notes=tuple(notes),
            references=_REFERENCES,
        )


def strained(atoms: Atoms, strain: Float[np.ndarray, "3 3"]) -> Atoms:
    """A copy whose cell and atoms follow r → r (1 + ε)."""
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return moved


def voigt_strain(component: int, size: float) -> Float[np.ndarray, "3 3"]:
    """Symmetric strain matrix of one Voigt component; shears are engineering strains (2 ε_ij = size)."""
    i, j = _VOIGT[component]
    strain = np.zeros((3, 3))
    strain[i, j] += 0.5 * size
    strain[j, i] += 0.5 * size
    return strain


def independent(stiffness: Float[np.ndarray, "6 6"]) -> list[tuple[int, int]]:
    """Entries (i ≤ j) that are neither zero nor equal in size to an earlier one, to 1e-6 of the largest."""
    c = np.abs(np.asarray(stiffness, float))
    close = 1e-6 * c.max()
    found: list[tuple[int, int]] = []
    for i in range(6):
        for j in range(i, 6):
            if all(abs(c[i, j] - other) > close for other in (0.0, *(c[k] for k in found))):
                found.append((i, j))
    return found


def moduli(stiffness: Float[np.ndarray, "6 6"]) -> dict[str, float]:
    """Polycrystal bulk and shear moduli (Voigt, Reuss, Hill), Young's modulus and Poisson's ratio; GPa.

    Hill, doi:10.1088/0370-1298/65/5/307. NaN where C cannot be inverted.
    """
    c = np.asarray(stiffness, float)
    singular = np.linalg.matrix_rank(c) < 6
    s = np.full((6, 6), np.nan) if singular else np.linalg.inv(c)
    k_v = (np.trace(c[:3, :3]) + 2.0 * (c[0, 1] + c[0, 2] + c[1, 2])) / 9.0
    g_v = (np.trace(c[:3, :3]) - (c[0, 1] + c[0, 2] + c[1, 2]) + 3.0 * np.trace(c[3:, 3:])) / 15.0
    k_r = 1.0 / (np.trace(s[:3, :3]) + 2.0 * (s[0, 1] + s[0, 2] + s[1, 2]))
    g_r = 15.0 / (4.0 * np.trace(s[:3, :3]) - 4.0 * (s[0, 1] + s[0, 2] + s[1, 2]) + 3.0 * np.trace(s[3:, 3:]))
    k, g = 0.5 * (k_v + k_r), 0.5 * (g_v + g_r)
    return {
        "bulk_Voigt_GPa": float(k_v),
        "bulk_Reuss_GPa": float(k_r),
        "bulk_Hill_GPa": float(k),
        "shear_Voigt_GPa": float(g_v),
        "shear_Reuss_GPa": float(g_r),
        "shear_Hill_GPa": float(g),
        "Young_Hill_GPa": float(9.0 * k * g / (3.0 * k + g)),
        "Poisson_Hill": float((3.0 * k - 2.0 * g) / (2.0 * (3.0 * k + g))),
    }
