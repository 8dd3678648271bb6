"""Harmonic frequencies against closed forms."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from stillinger_weber import StillingerWeberSilicon

from rikiba.calculators.ase import FromASE
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import elements, units
from rikiba.core.system import System
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.morse import Morse
from rikiba.properties.frequencies import Frequencies, hessian, rigid_motions


def test_morse_diatomic_is_analytic_both_ways() -> None:
    """ω = α √(2D/μ) at r₀."""
    depth, alpha, r0 = 4.7, 1.9, 0.74
    morse = Morse(
        depth_eV={"H-H": depth}, alpha_per_A={"H-H": alpha}, distance={"H-H": r0}, cutoff=6.0, switch_from=5.0
    )
    mass = float(elements.masses(torch.tensor([1]))[0])
    exact = alpha * np.sqrt(2.0 * depth / (0.5 * mass)) * units.angular_to_inverse_centimetre
    atoms = Atoms("H2", [[0, 0, 0], [0.3, 0.5, 0.5]])
    for method in ("differences", "autograd"):
        record = Frequencies(method=method).compute(PotentialCalculator(morse), atoms)
        assert record["frequencies_cm1"] == pytest.approx([exact], rel=2e-4)
        assert len(record["unprojected_cm1"]) == 6
        # rotations keep a little curvature from the force that is left: ω² = F/(μ r)
        assert np.abs(record["unprojected_cm1"][:5]).max() < 40.0
        assert record["zero_point_energy_eV"] == pytest.approx(
            0.5 * exact * units.inverse_centimetre, rel=2e-4
        )


def test_rigid_motions_are_counted() -> None:
    assert len(rigid_motions(molecule("H2O"))) == 6
    assert len(rigid_motions(molecule("CO2"))) == 5
    assert len(rigid_motions(Atoms("Ar"))) == 3
    assert len(rigid_motions(bulk("Cu"))) == 3
    rows = rigid_motions(molecule("CH3CH2OH"))
    assert rows @ rows.T == pytest.approx(np.eye(6), abs=1e-12)


def test_hessians_agree_and_are_symmetric() -> None:
    lj = LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.0)
    rng = np.random.default_rng(0)
    atoms = Atoms("Ar5", rng.normal(size=(5, 3)) * 3.0)
    calculator = PotentialCalculator(lj)
    exact = hessian(calculator, atoms, method="autograd")
    assert np.abs(exact - exact.T).max() < 1e-12 * np.abs(exact).max()
    assert hessian(calculator, atoms, displacement=1e-3) == pytest.approx(
        exact, abs=1e-4 * np.abs(exact).max()
    )


def test_water_has_three_vibrations_and_a_saddle_says_so() -> None:
    calculator = FromASE(EMT())
    water = Frequencies().compute(calculator, molecule("H2O"))
    assert len(water["frequencies_cm1"]) == 3
    assert water["n_imaginary"] == 0
    # the collinear midpoint of three equal atoms with repulsive ends is no minimum for a Lennard-Jones trimer
    lj = PotentialCalculator(LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=9.0))
    chain = Frequencies(relax=False).compute(lj, Atoms("Ar3", [[0, 0, 0], [3.8, 0, 0], [7.6, 0, 0]]))
    assert chain["n_imaginary"] == 2
    assert min(chain["frequencies_cm1"]) < 0


def test_silicon_at_gamma() -> None:
    """The optical mode is triply degenerate, and its frequency is that of the frozen phonon's energy."""
    calculator = PotentialCalculator(StillingerWeberSilicon())
    atoms = bulk("Si", a=5.431)
    record = Frequencies().compute(calculator, atoms)
    assert len(record["frequencies_cm1"]) == 3
    assert np.ptp(record["frequencies_cm1"]) < 0.1
    energies = []
    for shift in (-0.01, 0.0, 0.01):
        frozen = atoms.copy()
        frozen.positions[1, 0] += shift
        energies.append(float(calculator(System.from_ase(frozen)).need("energy")))
    curvature = (energies[0] + energies[2] - 2.0 * energies[1]) / 1e-4
    reduced = 0.5 * float(elements.masses(torch.tensor([14]))[0])
    exact = np.sqrt(curvature / reduced) * units.angular_to_inverse_centimetre
    assert record["frequencies_cm1"][0] == pytest.approx(exact, rel=1e-3)


def test_a_black_box_has_no_second_derivatives() -> None:
    with pytest.raises(ValueError, match="differences"):
        hessian(FromASE(EMT()), molecule("H2O"), method="autograd")
