"""Charges of least energy against LAMMPS's fix qeq/point; lammps/README.md says how its values were made.

LAMMPS solves η_i q_i + Σ_j q_j/r_ij + χ_i = μ at Σ q = 0, with χ and η in units of e/(4πε₀ Å) and 1/(4πε₀ Å).
Times k_e they are those of our Σ χ q + ½ Σ η q² + E_Coulomb of point charges, whose least value is sought.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.electrostatics.charge_equilibration import coulomb_matrices, equilibrate, matrix_energies

REFERENCE = json.loads((Path(__file__).parent / "lammps/reference/charges.json").read_text())
CLUSTERS = REFERENCE["clusters"]
TOLERANCE = 1e-13  # LAMMPS's residual of 1e-14 |χ|, over the least curvature, and its last digits


def of(symbols: list[str], table: dict[str, float]) -> torch.Tensor:
    return units.coulomb_constant * torch.tensor([table[s] for s in symbols], dtype=torch.float64)


def solved(
    case: dict[str, Any],
    atoms: slice = slice(None),
    charge: float = 0.0,
    hardness: dict[str, float] | None = None,
) -> dict[str, np.ndarray]:
    """Charges; E_Coulomb in e²/(4πε₀ Å); −dE/dR of the whole energy, through the charges."""
    symbols = case["symbols"][atoms]
    system = System.from_ase(Atoms(symbols, case["positions"][atoms]))
    system = system.replace(positions=system.positions.clone().requires_grad_())
    chi, eta = of(symbols, REFERENCE["electronegativity"]), of(symbols, hardness or REFERENCE["hardness"])
    pairs, total = find_pairs(system, 3.0), torch.tensor([charge], dtype=torch.float64)
    q = equilibrate(system, pairs, chi, eta, total_charge=total)
    coulomb = matrix_energies(system, coulomb_matrices(system, pairs, None, None), q).sum()
    energy = coulomb + (chi * q + 0.5 * eta * q * q).sum()
    (slope,) = torch.autograd.grad(energy, system.positions)
    found = {
        "charges": q,
        "energy": coulomb / units.coulomb_constant,
        "forces": -slope / units.coulomb_constant,
    }
    return {k: v.detach().numpy() for k, v in found.items()}


def deviation(found: dict[str, np.ndarray], case: dict[str, Any], atoms: slice = slice(None)) -> float:
    wanted = {k: np.array(case[k])[atoms] for k in ("charges", "forces")}
    return max(float(np.abs(found[k] - wanted[k]).max()) for k in wanted)


@pytest.mark.parametrize("name", ["neutral", "harder_oxygen"])
def test_neutral_cluster(name: str) -> None:
    """Charges, energy and forces; the forces of LAMMPS are those at fixed charges, ours go through them."""
    case, oxygen = CLUSTERS[name], REFERENCE["hardness"]["O"]
    hardness = REFERENCE["hardness"] | {"O": oxygen * (1.01 if name == "harder_oxygen" else 1.0)}
    found = solved(case, hardness=hardness)
    assert abs(found["charges"].sum()) < 1e-14
    assert deviation(found, case) < TOLERANCE
    assert float(found["energy"]) == pytest.approx(case["energy"], abs=TOLERANCE)
    # negative control: a hardness wrong by one part in 10⁸ is seen
    wrong = solved(case, hardness=hardness | {"O": hardness["O"] * (1.0 + 1e-8)})
    assert deviation(wrong, case) > 10.0 * TOLERANCE


def test_charged_cluster() -> None:
    """An atom beyond LAMMPS's cutoff takes charge from the cluster, which is left with Q."""
    case, cluster = CLUSTERS["with_reservoir"], slice(0, -1)
    assert abs(sum(case["charges"])) < 1e-14
    total = -case["charges"][-1]
    assert total < -0.1
    found = solved(case, cluster, charge=total)
    assert found["charges"].sum() == pytest.approx(total, abs=1e-14)
    assert deviation(found, case, cluster) < TOLERANCE
    # negative control: the neutral cluster has other charges
    assert deviation(solved(case, cluster), case, cluster) > 1e-3
