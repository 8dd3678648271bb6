"""Ewald sums against lattice constants, NIST's water, their own freedom of choice, and their derivatives."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from charged_structures import LATTICES, random_salt, water
from hypothesis import given, settings
from hypothesis import strategies as st

from rikiba.calculators.autograd import evaluate
from rikiba.core import units
from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.electrostatics.ewald import Ewald, coulomb, excluded_energies
from rikiba.electrostatics.splitting import ChargedCellWarning, Terms
from rikiba.potentials.base import Potential


def summed(atoms: Atoms, charges: Any, ewald: Ewald) -> Terms:
    system = System.from_ase(atoms)
    return ewald(system, find_pairs(system, ewald.cutoff), torch.tensor(charges, dtype=torch.float64))


@pytest.mark.parametrize("name", LATTICES)
def test_madelung_constants(name: str) -> None:
    atoms, charges, constant, distance = LATTICES[name]
    found = float(summed(atoms, charges, Ewald(cutoff=9.0, tolerance=1e-13)).total().sum())
    assert found == pytest.approx(-units.coulomb_constant * constant / distance, rel=1e-11)
    rough = float(summed(atoms, charges, Ewald(cutoff=9.0, alpha=0.4, k_cutoff=1.7)).total().sum())
    assert rough != pytest.approx(found, rel=1e-6)  # sums that end early are noticed


CHARGED = {"sc": -1.4186487397403, "fcc": -2.2924310370569, "bcc": -1.8196167247543}
"""Energy of a point charge in a uniform background, q²/a with a of the conventional cell."""


@pytest.mark.parametrize("lattice", CHARGED)
def test_a_lone_charge_in_a_background(lattice: str) -> None:
    atoms = bulk("H", lattice, a=3.0, cubic=False)
    ewald = Ewald(cutoff=8.0, tolerance=1e-13, allow_charged=True)
    with pytest.warns(ChargedCellWarning, match="background"):
        found = float(summed(atoms, [1.0], ewald).total().sum())
    assert found == pytest.approx(units.coulomb_constant * CHARGED[lattice] / 3.0, rel=1e-10)
    with pytest.raises(ValueError, match="allow_charged"):
        summed(atoms, [1.0], Ewald(cutoff=8.0))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_nothing_depends_on_the_splitting_the_origin_or_the_cell_chosen(seed: int) -> None:
    atoms, charges = random_salt(seed)
    one = summed(atoms, charges, Ewald(cutoff=7.0, tolerance=1e-14))
    other = summed(atoms, charges, Ewald(cutoff=11.0, tolerance=1e-14))
    torch.testing.assert_close(one.total(), other.total(), rtol=0, atol=1e-9)
    assert not torch.allclose(one.real, other.real, atol=1e-6)
    moved = atoms.copy()
    moved.positions += [0.7, -9.0, 3.0]
    same_lattice = atoms.copy()
    same_lattice.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ atoms.cell.array)
    for changed in (moved, same_lattice):
        total = summed(changed, charges, Ewald(cutoff=7.0, tolerance=1e-14)).total()
        torch.testing.assert_close(total, one.total(), rtol=0, atol=1e-9)
    doubled = summed(atoms * (2, 1, 1), charges * 2, Ewald(cutoff=7.0, tolerance=1e-14)).total()
    torch.testing.assert_close(doubled[:4], one.total(), rtol=0, atol=1e-9)


def test_a_batch_is_its_systems() -> None:
    cases = [random_salt(k) for k in range(3)]
    ewald = Ewald(cutoff=6.0)
    system = System.from_ase([a for a, _ in cases])
    together = ewald(system, find_pairs(system, 6.0), torch.tensor([q for _, c in cases for q in c]).double())
    alone = torch.cat([summed(a, q, ewald).total() for a, q in cases])
    torch.testing.assert_close(together.total(), alone, rtol=0, atol=1e-12)


class Salt(Potential):
    """Fixed charges by element."""

    uses_positions = True

    def __init__(self, *, ewald: Ewald, wide: bool = False) -> None:
        super().__init__()
        self.elements, self.cutoff, self.ewald, self.wide = ("Na", "Cl"), ewald.cutoff, ewald, wide

    def forward(self, system: System, pairs: Pairs) -> Results:
        q = torch.where(system.numbers == 11, 0.9, -0.9).double()
        widths = torch.where(system.numbers == 11, 0.7, 1.1).double() if self.wide else None
        return Results(energies=self.ewald(system, pairs, q, widths).total())


@pytest.mark.parametrize("options", [{}, {"dielectric": 1.0}, {"wide": True}], ids=str)
def test_forces_and_stress_are_derivatives(options: dict[str, Any]) -> None:
    wide = options.pop("wide", False)
    model = Salt(ewald=Ewald(cutoff=6.0, tolerance=1e-10, **options), wide=wide)
    atoms = random_salt(3)[0]

    def energy(a: Atoms) -> float:
        s = System.from_ase(a)
        return float(evaluate(model, s, find_pairs(s, 6.0), forces=False).need("energy"))

    system = System.from_ase(atoms)
    found = evaluate(model, system, find_pairs(system, 6.0), stress=True)
    rng = np.random.default_rng(0)
    direction, strain = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    strain = 0.5 * (strain + strain.T)
    values = []
    for h in (1e-4, -1e-4):
        moved, strained = atoms.copy(), atoms.copy()
        moved.positions += h * direction
        strained.set_cell(atoms.cell.array @ (np.eye(3) + h * strain), scale_atoms=True)
        values.append((energy(moved), energy(strained)))
    along = (values[0][0] - values[1][0]) / 2e-4
    assert along == pytest.approx(-float((found.need("forces").numpy() * direction).sum()), rel=1e-6)
    virial = float((found.need("stress")[0].numpy() * strain).sum()) * atoms.get_volume()
    assert (values[0][1] - values[1][1]) / 2e-4 == pytest.approx(virial, rel=1e-6)
    if not options:
        # E ∝ 1/length for point charges: the trace of the virial is the energy with its sign turned
        trace = float(found.need("stress")[0].diagonal().sum()) * atoms.get_volume()
        assert (trace == pytest.approx(-energy(atoms), rel=1e-8)) != wide


def test_the_surface_term_is_the_energy_of_the_dipole() -> None:
    atoms, charges = random_salt(5)
    conductor = summed(atoms, charges, Ewald(cutoff=6.0)).total().sum()
    moment = np.array(charges) @ atoms.positions
    for epsilon in (1.0, 80.0):
        found = summed(atoms, charges, Ewald(cutoff=6.0, dielectric=epsilon)).total().sum()
        expected = 2 * np.pi / ((2 * epsilon + 1) * atoms.get_volume()) * (moment @ moment)
        assert float(found - conductor) == pytest.approx(units.coulomb_constant * expected, rel=1e-10)


def test_water_of_nist(data_dir: Path) -> None:
    """SPC/E sample 1 of the NIST Standard Reference Simulation Website (doi:10.18434/T4M88Q).

    α = 5.6/L, k² < 27 (2π/L)², r_c = 10 Å; energies over k_B in K.
    """
    atoms, charges, inside = water(data_dir, "spce_sample_config_periodic1.xyz", [20.0] * 3)
    ewald = Ewald(cutoff=10.0, alpha=5.6 / 20.0, k_cutoff=2 * math.pi / 20.0 * math.sqrt(26.5))
    system, q = System.from_ase(atoms), torch.from_numpy(charges)
    pairs = find_pairs(system, 10.0)
    molecule = torch.arange(len(atoms)) // 3
    apart = molecule[pairs.i] != molecule[pairs.j]
    kept = Pairs(
        i=pairs.i[apart], j=pairs.j[apart], shift=pairs.shift[apart], cutoff=10.0, n_atoms=len(atoms)
    )
    terms = ewald(system, kept, q)
    first, second = torch.tensor(inside).T
    intra = excluded_energies(
        system.positions[second] - system.positions[first], first, second, q, ewald.splitting
    )
    kelvin = 1.0 / units.boltzmann
    found = {
        "real": float(terms.real.sum()) * kelvin,
        "fourier": float(terms.reciprocal.sum()) * kelvin,
        "self": float(terms.self_interaction.sum()) * kelvin,
        "intra": -float(intra.sum()) * kelvin,
    }
    nist = {"real": -5.58889e5, "fourier": 6.27009e3, "self": -2.84469e6, "intra": 2.80999e6}
    for name, value in nist.items():
        assert abs(found[name]) == pytest.approx(abs(value), rel=2e-6), name
    assert found["real"] < 0 < found["fourier"] and found["self"] < 0


def test_molecules_and_what_is_refused() -> None:
    pair = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.5]])
    q = torch.tensor([1.0, -1.0]).double()
    found = coulomb(System.from_ase([pair, pair]), torch.cat([q, 2 * q]))
    expected = -units.coulomb_constant / 2.5
    torch.testing.assert_close(
        found, torch.tensor([0.5, 0.5, 2.0, 2.0]).double() * expected, rtol=1e-12, atol=0
    )
    wide = coulomb(System.from_ase(pair), q, torch.tensor([0.8, 0.6], dtype=torch.float64)).sum()
    assert float(wide) == pytest.approx(expected * math.erf(2.5 / math.sqrt(2.0)), rel=1e-12)
    slab = System.from_ase(Atoms("NaCl", [[0, 0, 0], [0, 0, 2.5]], cell=[5, 5, 9], pbc=[True, True, False]))
    with pytest.raises(ValueError, match="three axes"):
        Ewald()(slab, find_pairs(slab, 8.0), q)
    with pytest.raises(ValueError, match="Ewald"):
        coulomb(slab, q)
    salt = System.from_ase(bulk("NaCl", "rocksalt", a=5.6))
    with pytest.raises(ValueError, match=r"up to 8\.0"):
        Ewald()(salt, find_pairs(salt, 6.0), q)
    for wrong in ({"cutoff": 0.0}, {"tolerance": 0.5}, {"alpha": -1.0}, {"dielectric": 0.0}):
        with pytest.raises(ValueError, match="given"):
            Ewald(**wrong)
