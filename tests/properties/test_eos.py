"""Equation of state of analytic solids."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.eos import EquationOfState

from rikiba.calculators.ase import FromASE
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.properties.eos import Eos, birch_murnaghan, fit_birch_murnaghan


def test_fit_recovers_its_own_curve_and_its_noise() -> None:
    v = np.linspace(9.0, 13.0, 15)
    exact = [-3.5, 11.0, 0.9, 5.2]
    p, _, rms = fit_birch_murnaghan(v, birch_murnaghan(v, *exact))
    assert p == pytest.approx(exact, rel=1e-7)
    assert rms < 1e-9
    rng = np.random.default_rng(0)
    draws, errors = [], []
    for _ in range(200):
        p, e, _ = fit_birch_murnaghan(v, birch_murnaghan(v, *exact) + rng.normal(0.0, 1e-4, 15))
        draws.append(p)
        errors.append(e)
    assert np.std(draws, axis=0) == pytest.approx(np.sqrt(np.mean(np.square(errors), axis=0)), rel=0.2)


def test_lennard_jones_fcc_matches_lattice_sums() -> None:
    """fcc sums A6 = 14.45392, A12 = 12.13188 give a₀ = 1.54174 σ and E = −8.6102 ε; B from E(r) below."""
    a6, a12 = 14.45392, 12.13188
    epsilon, sigma = 0.0104, 3.40
    lj = LennardJones(epsilon_eV={"Ar": epsilon}, sigma={"Ar": sigma}, cutoff=8.0 * sigma, truncation="cut")
    record = Eos(relax=False, volume_range=0.03).compute(
        PotentialCalculator(lj), bulk("Ar", "fcc", a=1.57 * sigma)
    )
    # E(r) = 2ε[A12 (σ/r)^12 − A6 (σ/r)^6], V = r³/√2, B = V E''(V)
    r0 = (2.0 * a12 / a6) ** (1.0 / 6.0) * sigma
    energy = -epsilon * a6**2 / (2.0 * a12)
    volume = r0**3 / np.sqrt(2.0)
    second = 2.0 * epsilon * (156.0 * a12 * (sigma / r0) ** 12 - 42.0 * a6 * (sigma / r0) ** 6)
    bulk_modulus = second / (9.0 * volume) / units.gigapascal
    # the sum beyond 8 σ is −0.2 % of the energy
    assert record["V0_A3_per_atom"] == pytest.approx(volume, rel=2e-3)
    assert record["E0_eV_per_atom"] == pytest.approx(energy, rel=5e-3)
    assert record["B0_GPa"] == pytest.approx(bulk_modulus, rel=0.02)
    assert record["a_A"] == pytest.approx(1.54174 * sigma * np.sqrt(0.5), rel=1e-3)


def test_emt_copper_from_far_away_agrees_with_ase() -> None:
    calculator = FromASE(EMT())
    record = Eos(relax=False).compute(calculator, bulk("Cu", a=3.9))
    volumes, energies = [], []
    for a in np.linspace(3.53, 3.65, 9):
        atoms = bulk("Cu", a=a)
        atoms.calc = EMT()
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
    v0, _, b = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    assert record["V0_A3_per_atom"] == pytest.approx(v0, rel=1e-3)
    assert record["B0_GPa"] == pytest.approx(b / units.gigapascal, rel=0.03)


def test_internal_coordinates_are_relaxed() -> None:
    """A displaced atom in a two-atom cell comes back: the relaxed curve lies below the rigid one."""
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.positions[0] += [0.15, 0.05, 0.0]
    calculator = FromASE(EMT())
    relaxed = Eos(n_points=6).compute(calculator, atoms)
    rigid = Eos(n_points=6, relax=False).compute(calculator, atoms)
    perfect = Eos(n_points=6, relax=False).compute(calculator, bulk("Cu", "fcc", a=3.6))
    assert relaxed["E0_eV_per_atom"] == pytest.approx(perfect["E0_eV_per_atom"], abs=1e-5)
    assert rigid["E0_eV_per_atom"] > perfect["E0_eV_per_atom"] + 1e-3


def test_refusals() -> None:
    with pytest.raises(ValueError, match="periodic"):
        Eos().compute(FromASE(EMT()), molecule("H2O"))
    with pytest.raises(ValueError, match="n_points"):
        Eos(n_points=4)
    lj = LennardJones(epsilon_eV={"Ar": 0.01}, sigma={"Ar": 3.4}, cutoff=6.0)
    with pytest.raises(ValueError, match="No energy minimum"):
        Eos(relax=False, max_scans=2).compute(PotentialCalculator(lj), bulk("Ar", "fcc", a=8.0))
