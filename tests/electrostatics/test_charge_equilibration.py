"""Equilibrated charges: closed forms, the least energy, derivatives through the solution, refusals."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.electrostatics.charge_equilibration import coulomb_matrix, equilibrate
from rikiba.electrostatics.ewald import Ewald, coulomb

CHI = {1: 4.5, 8: 8.7, 11: 2.8, 17: 8.3}
HARD = {1: 13.9, 8: 13.4, 11: 4.6, 17: 9.9}


def of(system: System, table: dict[int, float]) -> torch.Tensor:
    return torch.tensor([table[z] for z in system.numbers.tolist()], dtype=torch.float64)


def solved(
    atoms: Atoms, *, charge: float = 0.0, ewald: Ewald | None = None, wide: bool = True
) -> torch.Tensor:
    system = System.from_ase(atoms)
    widths = torch.full((len(atoms),), 0.7, dtype=torch.float64) if wide else None
    pairs = find_pairs(system, ewald.cutoff if ewald else 5.0)
    q = torch.tensor([charge], dtype=torch.float64)
    return equilibrate(system, pairs, of(system, CHI), of(system, HARD), widths, q, ewald)


@pytest.mark.parametrize("charge", [0.0, 1.0, -0.5])
def test_two_atoms(charge: float) -> None:
    """q₁ = [χ₂ − χ₁ + Q(A₂₂ − A₁₂)]/(A₁₁ + A₂₂ − 2A₁₂), from setting the derivative to zero by hand."""
    r = 2.1
    q = solved(Atoms("NaCl", [[0, 0, 0], [0, 0, r]]), charge=charge)
    own = units.coulomb_constant / (math.sqrt(math.pi) * 0.7)
    a11, a22 = HARD[11] + own, HARD[17] + own
    a12 = units.coulomb_constant * math.erf(r / (math.sqrt(2) * math.sqrt(0.98))) / r
    first = (CHI[17] - CHI[11] + charge * (a22 - a12)) / (a11 + a22 - 2 * a12)
    torch.testing.assert_close(
        q, torch.tensor([first, charge - first], dtype=torch.float64), rtol=1e-12, atol=1e-12
    )


def salt(seed: int = 0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms(
        "NaClNaClHO", rng.random((6, 3)) * 6.0, cell=[[6, 0, 0], [0.5, 6.2, 0], [0, 0.4, 6.4]], pbc=True
    )
    while atoms.get_all_distances(mic=True)[np.triu_indices(6, 1)].min() < 1.6:
        atoms.positions = rng.random((6, 3)) * 6.0
    return atoms


def test_the_periodic_matrix_is_the_energy_and_the_charges_its_minimum() -> None:
    ewald = Ewald(cutoff=8.0, tolerance=1e-12, allow_charged=True)
    atoms = salt()
    system = System.from_ase(atoms)
    pairs, widths = find_pairs(system, 8.0), torch.full((6,), 0.7, dtype=torch.float64)
    matrix = coulomb_matrix(system, pairs, 0, widths, ewald)
    q = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.warns(UserWarning, match="net charge"):
        energy = ewald(system, pairs, q, widths).total().sum()
    assert float(0.5 * q @ matrix @ q) == pytest.approx(float(energy), rel=1e-10)
    best = solved(atoms, ewald=ewald)
    assert float(best.sum()) == pytest.approx(0.0, abs=1e-12)

    def total(x: torch.Tensor) -> float:
        own = units.coulomb_constant / (2 * math.sqrt(math.pi) * 0.7)
        return float(0.5 * x @ matrix @ x + of(system, CHI) @ x + (0.5 * of(system, HARD) + own) @ (x * x))

    for k in range(5):
        step = torch.randn(6, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        assert total(best + 1e-3 * (step - step.mean())) > total(best)
    # another splitting, the same charges
    other = solved(atoms, ewald=Ewald(cutoff=10.0, tolerance=1e-13))
    torch.testing.assert_close(other, best, rtol=0, atol=1e-9)


def test_a_large_box_is_a_molecule() -> None:
    atoms = Atoms("NaClH", [[0, 0, 0], [0, 0, 2.2], [1.5, 0.4, 0.3]])
    free = solved(atoms)
    boxed = atoms.copy()
    boxed.set_cell([60.0] * 3)
    boxed.pbc = True
    torch.testing.assert_close(solved(boxed, ewald=Ewald(cutoff=12.0)), free, rtol=0, atol=2e-4)
    assert not torch.allclose(solved(boxed * (1, 1, 1), ewald=Ewald(cutoff=12.0)), free, atol=1e-9)


@pytest.mark.parametrize("periodic", [False, True])
def test_derivatives_go_through_the_solution(periodic: bool) -> None:
    atoms = salt(1)
    atoms.pbc = periodic
    ewald = Ewald(cutoff=7.0, tolerance=1e-10) if periodic else None
    first = System.from_ase(atoms)
    pairs = find_pairs(first, 7.0)
    widths = torch.full((6,), 0.7, dtype=torch.float64)

    def charges(positions: torch.Tensor) -> torch.Tensor:
        system = first.replace(positions=positions)
        return equilibrate(system, pairs, of(system, CHI), of(system, HARD), widths, None, ewald)

    start = first.positions.clone().requires_grad_()
    assert torch.autograd.gradcheck(charges, (start,), eps=1e-5, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradgradcheck(lambda x: charges(x)[:2], (start,), eps=1e-5, atol=1e-5, rtol=1e-4)


def test_what_cannot_be_is_refused() -> None:
    near = Atoms("NaCl", [[0, 0, 0], [0, 0, 0.4]])
    with pytest.raises(ValueError, match="run away"):
        solved(near, wide=False)
    slab = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]], cell=[5, 5, 9], pbc=[True, True, False])
    with pytest.raises(ValueError, match="three"):
        solved(slab, ewald=Ewald())
    with pytest.raises(ValueError, match="three"):
        solved(salt())
    molecule = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])
    q = solved(molecule)
    assert float(coulomb(System.from_ase(molecule), q).sum()) < 0
