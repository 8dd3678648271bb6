"""Equation of state: energy against volume."""

from dataclasses import dataclass
from typing import final

import numpy as np
from ase import Atoms
from jaxtyping import Float

from rikiba.calculators.base import Calculator
from rikiba.core import units
from rikiba.core.record import Curve, Figure, Record

from .base import need_bulk
from .batches import results_of
from .stationary import relax_all


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Eos:
    """Equilibrium volume, bulk modulus and its pressure derivative from a third-order Birch–Murnaghan fit.

    E(V) = E0 + 9 V0 B0/16 { [(V0/V)^(2/3) − 1]³ B0' + [(V0/V)^(2/3) − 1]² [6 − 4 (V0/V)^(2/3)] }
    (Birch, doi:10.1103/PhysRev.71.809). The cell is scaled uniformly, so its shape stays as given. A scan
    whose minimum is off centre is repeated around the minimum.

    Args:
        volume_range: volumes run from 1 − this to 1 + this times the central one.
        n_points: number of volumes, at least 6.
        relax: relax the atoms in each fixed cell.
        force_tolerance: largest force component left by the relaxation, eV/Å.
        max_steps: relaxation steps before giving up.
        max_scans: repeats allowed to centre the scan.
    """

    volume_range: float = 0.06
    n_points: int = 9
    relax: bool = True
    force_tolerance: float = 1e-3
    max_steps: int = 500
    max_scans: int = 8

    def __post_init__(self) -> None:
        if self.n_points < 6:
            raise ValueError(
                f"A four-parameter fit with an error bar needs n_points ≥ 6; given {self.n_points}."
            )
        if not 0 < self.volume_range < 0.5:
            raise ValueError(f"volume_range must lie between 0 and 0.5; given {self.volume_range}.")

    def check(self, atoms: Atoms) -> None:
        """Raises ValueError for a structure without three periodic axes."""
        need_bulk("The equation of state", atoms)

    def compute(self, calculator: Calculator, atoms: Atoms) -> Record:
        """V0, E0 (per atom), B0 (GPa), B0' and the scaled cell lengths.

        Raises ValueError for a structure without three periodic axes or without a minimum in reach.
        """
        self.check(atoms)
        centre = atoms.get_volume()
        for _ in range(self.max_scans):
            volumes = centre * (1.0 + np.linspace(-self.volume_range, self.volume_range, self.n_points))
            energies = self._energies(calculator, atoms, volumes)
            guess = polynomial_minimum(volumes, energies)
            if abs(guess / centre - 1.0) < 0.25 * self.volume_range:
                break
            centre *= float(np.clip(guess / centre, 1.0 - self.volume_range, 1.0 + self.volume_range))
        else:
            raise ValueError(
                f"No energy minimum was reached in {self.max_scans} scans; the last was around "
                f"{centre / len(atoms):.3f} Å³ per atom. Start closer to the minimum or raise max_scans."
            )
        return self._record(atoms, volumes, energies)

    def _energies(self, calculator: Calculator, atoms: Atoms, volumes: np.ndarray) -> np.ndarray:
        frames = []
        for v in volumes:
            scaled = atoms.copy()
            scaled.set_cell(atoms.cell * (v / atoms.get_volume()) ** (1.0 / 3.0), scale_atoms=True)
            frames.append(scaled)
        if self.relax:
            frames = relax_all(calculator, frames, self.force_tolerance, self.max_steps)
        return results_of(calculator, frames, forces=False).need("energy").numpy()

    def _record(self, atoms: Atoms, volumes: np.ndarray, energies: np.ndarray) -> Record:
        n = len(atoms)
        p, error, residual = fit_birch_murnaghan(volumes / n, energies / n)
        lengths = (atoms.cell.lengths() * (p[1] * n / atoms.get_volume()) ** (1.0 / 3.0)).tolist()
        third = (lengths[0] / 3.0) * error[1] / p[1]
        fine = np.linspace(volumes[0], volumes[-1], 100) / n
        notes = ["Errors are the misfit of the curve; they do not know about errors of the potential."]
        if not atoms.cell.orthorhombic or np.ptp(lengths) > 1e-6 * lengths[0]:
            notes.append("The cell was scaled uniformly: its shape is the one given.")
        return Record(
            name="eos",
            title="Equation of state",
            values={
                "E0_eV_per_atom": p[0],
                "V0_A3_per_atom": p[1],
                "B0_GPa": p[2] / units.gigapascal,
                "B0_prime": p[3],
                "a_A": lengths[0],
                "cell_lengths_A": lengths,
                "fit_rms_meV_per_atom": 1e3 * residual,
            },
            spread={
                "E0_eV_per_atom": error[0],
                "V0_A3_per_atom": error[1],
                "B0_GPa": error[2] / units.gigapascal,
                "B0_prime": error[3],
                "a_A": third,
            },
            figures=(
                Figure(
                    title="Equation of state",
                    x_label="volume (Å³/atom)",
                    y_label="energy (eV/atom)",
                    curves=(
                        Curve.of("computed", volumes / n, energies / n, style="points"),
                        Curve.of("Birch–Murnaghan", fine, birch_murnaghan(fine, *p)),
                    ),
                ),
            ),
            notes=tuple(notes),
            references=("10.1103/PhysRev.71.809",),
        )


def birch_murnaghan(
    volume: Float[np.ndarray, "points"], E0: float, V0: float, B0: float, B0_prime: float
) -> Float[np.ndarray, "points"]:
    """Energy in eV for volumes in Å³ and B0 in eV/Å³; see `Eos`."""
    x = (V0 / volume) ** (2.0 / 3.0)
    return E0 + 9.0 / 16.0 * V0 * B0 * ((x - 1.0) ** 3 * B0_prime + (x - 1.0) ** 2 * (6.0 - 4.0 * x))


def polynomial_minimum(volumes: np.ndarray, energies: np.ndarray) -> float:
    """Volume of the minimum of a cubic in V^(−2/3), which Birch–Murnaghan is; the lowest point if none."""
    c = np.polynomial.Polynomial.fit(volumes ** (-2.0 / 3.0), energies, 3)
    roots = c.deriv().roots()
    real = roots[np.abs(roots.imag) < 1e-12].real
    minima = [x for x in real if x > 0 and c.deriv(2)(x) > 0]
    lowest = float(volumes[np.argmin(energies)])
    if not minima:
        return lowest
    found = np.array(minima) ** -1.5
    nearest = float(found[np.argmin(np.abs(found - lowest))])
    return nearest if 0.3 * lowest < nearest < 3.0 * lowest else lowest


def fit_birch_murnaghan(
    volumes: Float[np.ndarray, "points"], energies: Float[np.ndarray, "points"]
) -> tuple[list[float], list[float], float]:
    """((E0, V0, B0, B0'), standard errors, root-mean-square misfit); eV, Å³, eV/Å³."""
    from scipy.optimize import least_squares

    v0 = polynomial_minimum(volumes, energies)
    curvature = np.polyfit(volumes - v0, energies, 2)[0] * 2.0
    scale = max(float(np.ptp(energies)), 1e-12)
    unit = np.array([scale, v0, max(curvature * v0, 1e-6), 4.0])
    lowest = float(energies.min())
    start = np.array([0.0, 1.0, 1.0, 1.0])

    def misfit(p: np.ndarray) -> np.ndarray:
        return (birch_murnaghan(volumes, *(p * unit)) - (energies - lowest)) / scale

    fit = least_squares(misfit, start, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac) * 2.0 * fit.cost / (len(volumes) - 4)
    errors = np.sqrt(np.diag(covariance)) * unit
    best = fit.x * unit + np.array([lowest, 0.0, 0.0, 0.0])
    return best.tolist(), errors.tolist(), scale * float(np.sqrt(2.0 * fit.cost / len(volumes)))
