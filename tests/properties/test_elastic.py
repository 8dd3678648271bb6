"""Elastic constants against published, analytic and energy-derived values."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from stillinger_weber import StillingerWeberSilicon

from rikiba.calculators.ase import FromASE
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.system import System
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.properties.elastic import Elastic, moduli, voigt_strain
from rikiba.properties.eos import Eos
from rikiba.properties.stationary import relax_ions
from rikiba.properties.symmetry import point_group


def test_stillinger_weber_silicon_has_its_published_constants() -> None:
    """C11, C12, C44 = 151.4, 76.4, 56.4 GPa with relaxed ions (Cowley 1988; LAMMPS examples/ELASTIC)."""
    calculator = PotentialCalculator(StillingerWeberSilicon())
    atoms = bulk("Si", a=5.431)
    record = Elastic().compute(calculator, atoms)
    assert record["C11_GPa"] == pytest.approx(151.4, abs=0.15)
    assert record["C12_GPa"] == pytest.approx(76.4, abs=0.15)
    assert record["C44_GPa"] == pytest.approx(56.4, abs=0.15)
    assert record["mechanically_stable"] is True
    assert record["n_symmetry_rotations"] == 48
    # negative control: with clamped ions the shear constant is the unrelaxed energy's curvature, far higher
    clamped = Elastic(relax=False, relax_cell=False).compute(calculator, atoms)
    frames = [atoms.copy() for _ in range(3)]
    for frame, h in zip(frames, (-1e-3, 0.0, 1e-3), strict=True):
        frame.set_cell(atoms.cell.array @ (np.eye(3) + voigt_strain(3, h)), scale_atoms=True)
    low, middle, high = calculator(System.from_ase(frames)).need("energy").tolist()
    curvature = (low + high - 2.0 * middle) / 1e-6 / atoms.get_volume() / units.gigapascal
    assert clamped["C44_GPa"] == pytest.approx(curvature, rel=1e-3)
    assert clamped["C44_GPa"] > 1.5 * record["C44_GPa"]


def test_tensor_is_the_second_derivative_of_the_energy() -> None:
    """hcp, whose atoms shift under strain: C_ij V = ∂²E/∂η_i∂η_j of relaxed energies."""
    lj = LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.5, switch_from=6.0)
    calculator = PotentialCalculator(lj)
    elastic = Elastic(symmetrise=False, force_tolerance=1e-6, stress_tolerance_GPa=1e-5)
    from rikiba.properties.stationary import relax_cell

    atoms = relax_cell(calculator, bulk("Ar", "hcp", a=3.76), 1e-6, 1e-8, 500)
    c = np.array(elastic.compute(calculator, atoms)["C_GPa"])

    def energy(strain: np.ndarray) -> float:
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        moved = relax_ions(calculator, moved, 1e-6, 500)
        return float(calculator(System.from_ase(moved)).need("energy"))

    h, e0 = 2e-3, energy(np.zeros((3, 3)))
    for j in (0, 2, 3, 5):
        curvature = energy(voigt_strain(j, h)) + energy(voigt_strain(j, -h)) - 2.0 * e0
        assert c[j, j] == pytest.approx(curvature / h**2 / atoms.get_volume() / units.gigapascal, rel=5e-3)
    assert c[5, 5] == pytest.approx(0.5 * (c[0, 0] - c[0, 1]), rel=1e-3)
    assert c[3, 3] == pytest.approx(c[4, 4], rel=1e-4)
    assert np.abs(c - c.T).max() < 1e-3
    symmetric = Elastic(force_tolerance=1e-6, stress_tolerance_GPa=1e-5).compute(calculator, atoms)
    assert symmetric["n_symmetry_rotations"] == 24
    assert np.array(symmetric["C_GPa"]) == pytest.approx(c, abs=2e-3)


def test_cubic_copper_agrees_with_the_equation_of_state() -> None:
    calculator = FromASE(EMT())
    atoms = bulk("Cu", a=3.6)
    elastic = Elastic(relax=False).compute(calculator, atoms)
    eos = Eos(relax=False, volume_range=0.02).compute(calculator, atoms)
    assert elastic["bulk_Hill_GPa"] == pytest.approx(eos["B0_GPa"], rel=5e-3)
    assert elastic["bulk_Voigt_GPa"] == pytest.approx((elastic["C11_GPa"] + 2.0 * elastic["C12_GPa"]) / 3.0)


def test_moduli_of_an_isotropic_solid() -> None:
    k, g = 100.0, 40.0
    c = np.zeros((6, 6))
    c[:3, :3] = k - 2.0 * g / 3.0
    c += np.diag([2.0 * g] * 3 + [g] * 3)
    m = moduli(c)
    assert (m["bulk_Voigt_GPa"], m["bulk_Reuss_GPa"], m["shear_Hill_GPa"]) == pytest.approx((k, k, g))
    assert m["Poisson_Hill"] == pytest.approx((3 * k - 2 * g) / (2 * (3 * k + g)))


def test_point_groups() -> None:
    assert len(point_group(bulk("Cu", a=3.6))) == 48
    assert len(point_group(bulk("Cu", a=3.6, cubic=True))) == 48
    assert len(point_group(bulk("GaAs", "zincblende", a=5.6))) == 24
    assert len(point_group(bulk("Mg", "hcp", a=3.2, c=5.2))) == 24
    assert len(point_group(bulk("GaN", "wurtzite", a=3.2, c=5.2))) == 12
    tetragonal = bulk("Cu", a=3.6, cubic=True)
    tetragonal.set_cell(tetragonal.cell * [1, 1, 1.1], scale_atoms=True)
    assert len(point_group(tetragonal)) == 16
    broken = bulk("Cu", a=3.6, cubic=True)
    broken.rattle(0.1, seed=0)
    assert len(point_group(broken)) == 1
    for q in point_group(bulk("GaN", "wurtzite", a=3.2, c=5.2)):
        assert q @ q.T == pytest.approx(np.eye(3), abs=1e-12)


def test_stress_of_the_start_is_said() -> None:
    record = Elastic(relax=False, relax_cell=False).compute(FromASE(EMT()), bulk("Cu", a=3.4))
    assert any("under" in n and "GPa" in n for n in record.notes)
