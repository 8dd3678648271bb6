"""Harmonic frequencies from the Hessian."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float

from rikiba.calculators.base import Calculator
from rikiba.core import elements, units
from rikiba.core.record import Record, Table
from rikiba.core.system import System

from .batches import results_of
from .stationary import relax_ions


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Frequencies:
    """Harmonic frequencies of a molecule, or of a crystal at Γ, with its rigid motions projected out.

    ω² are the eigenvalues of P M^(−1/2) H M^(−1/2) P, with H_ab = ∂²E/∂r_a∂r_b and P the projector off
    translations and (isolated structures) rotations (Wilson, Decius & Cross, Molecular Vibrations; Miller,
    Handy & Adams, doi:10.1063/1.438959). An imaginary frequency is printed as a negative one.

    Args:
        method: 'differences' takes central differences of forces; 'autograd' differentiates twice and needs
            a calculator with `graph`.
        displacement: step of the differences, Å.
        relax: find the nearest minimum first; harmonic frequencies mean nothing elsewhere.
        force_tolerance: largest force component left by the relaxation, eV/Å.
        max_steps: relaxation steps before giving up.
    """

    method: Literal["differences", "autograd"] = "differences"
    displacement: float = 0.005
    relax: bool = True
    force_tolerance: float = 1e-4
    max_steps: int = 2000

    def compute(self, calculator: Calculator, atoms: Atoms) -> Record:
        """Vibrational frequencies (cm⁻¹), zero-point energy (eV) and all 3N unprojected ones."""
        if self.relax:
            atoms = relax_ions(calculator, atoms, self.force_tolerance, self.max_steps)
        raw = hessian(calculator, atoms, method=self.method, displacement=self.displacement)
        symmetric = 0.5 * (raw + raw.T)
        masses = elements.masses(torch.from_numpy(atoms.numbers)).numpy()
        vibrations, _ = normal_modes(symmetric, masses, rigid_motions(atoms))
        everything, _ = normal_modes(symmetric, masses, np.zeros((0, 3 * len(atoms))))
        forces = results_of(calculator, [atoms]).need("forces").numpy()
        residual = float(np.abs(forces).max())
        imaginary = int((vibrations < -1.0).sum())
        notes = [f"Largest force component at the structure: {residual:.2e} eV/Å."]
        if imaginary:
            notes.append(f"{imaginary} imaginary frequencies (negative here): not a minimum.")
        if atoms.pbc.any():
            notes.append("Periodic: frequencies at Γ of this cell; rotations were not projected out.")
        rows = tuple((k + 1, float(v)) for k, v in enumerate(vibrations))
        return Record(
            name="frequencies",
            title="Harmonic frequencies",
            values={
                "frequencies_cm1": vibrations.tolist(),
                "unprojected_cm1": everything.tolist(),
                "zero_point_energy_eV": float(
                    0.5 * vibrations[vibrations > 0].sum() * units.inverse_centimetre
                ),
                "n_imaginary": imaginary,
                "asymmetry_eV_per_A2": float(np.abs(raw - raw.T).max()),
                "max_force_eV_per_A": residual,
            },
            tables=(Table(title="Harmonic frequencies", columns=("mode", "frequency (cm⁻¹)"), rows=rows),),
            notes=tuple(notes),
            references=("10.1063/1.438959",),
        )


def hessian(
    calculator: Calculator, atoms: Atoms, *, method: str = "differences", displacement: float = 0.005
) -> Float[np.ndarray, "coordinates coordinates"]:
    """∂²E/∂r_a∂r_b in eV/Å², as computed: its asymmetry measures the error of the differences.

    Raises ValueError where 'autograd' is asked of a calculator without `graph`.
    """
    if method == "autograd":
        return _autograd_hessian(calculator, atoms)
    if method != "differences":
        raise ValueError(f"method is 'differences' or 'autograd'; given '{method}'.")
    frames = []
    for coordinate in range(3 * len(atoms)):
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions.flat[coordinate] += sign * displacement
            frames.append(moved)
    forces = results_of(calculator, frames).need("forces").numpy().reshape(3 * len(atoms), 2, -1)
    return (forces[:, 1] - forces[:, 0]) / (2.0 * displacement)


def _autograd_hessian(calculator: Calculator, atoms: Atoms) -> np.ndarray:
    graph = getattr(calculator, "graph", None)
    if graph is None:
        raise ValueError(
            f"{type(calculator).__name__} cannot be differentiated twice (it has no 'graph'); "
            f"use method='differences'."
        )
    system = System.from_ase(atoms)
    positions = system.positions.clone().requires_grad_()
    energy = graph(system.replace(positions=positions)).need("energy").sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    flat = gradient.reshape(-1)
    rows = [torch.autograd.grad(g, positions, retain_graph=True)[0].reshape(-1) for g in flat]
    return torch.stack(rows).detach().numpy()


def rigid_motions(atoms: Atoms) -> Float[np.ndarray, "motions coordinates"]:
    """Orthonormal mass-weighted translations and, where nothing is periodic, rotations; 3, 5 or 6 rows."""
    masses = elements.masses(torch.from_numpy(atoms.numbers)).numpy()
    root = np.sqrt(masses)
    motions = [np.outer(root, axis).ravel() for axis in np.eye(3)]
    if not atoms.pbc.any():
        x = atoms.positions - (masses[:, None] * atoms.positions).sum(0) / masses.sum()
        motions += [(root[:, None] * np.cross(axis, x)).ravel() for axis in np.linalg.svd(x)[2]]
    stacked = np.array(motions)
    lengths = np.linalg.norm(stacked, axis=1)
    # a rotation about the axis of a linear molecule moves nothing
    kept = stacked[lengths > 1e-4 * lengths.max()] / lengths[lengths > 1e-4 * lengths.max(), None]
    _, s, v = np.linalg.svd(kept, full_matrices=False)
    return v[s > 1e-6]


def normal_modes(
    hessian: Float[np.ndarray, "coordinates coordinates"],
    masses: Float[np.ndarray, "atoms"],
    excluded: Float[np.ndarray, "motions coordinates"],
) -> tuple[Float[np.ndarray, "modes"], Float[np.ndarray, "modes coordinates"]]:
    """(frequencies in cm⁻¹ ascending, mass-weighted eigenvectors) in the space orthogonal to `excluded`."""
    root = np.repeat(np.sqrt(masses), 3)
    dynamical = hessian / np.outer(root, root)
    basis = np.eye(len(root))
    if len(excluded):
        basis = np.linalg.svd(excluded)[2][len(excluded) :]
    values, vectors = np.linalg.eigh(basis @ dynamical @ basis.T)
    frequencies = np.sign(values) * np.sqrt(np.abs(values)) * units.angular_to_inverse_centimetre
    return frequencies, vectors.T @ basis
