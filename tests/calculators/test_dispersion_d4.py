"""DFT-D4: the library's own energies, the tail, charges, derivatives, periodicity."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.core import units
from rikiba.core.system import System
from rikiba.testing import check_calculator
from rikiba.testing.building import check_constructor

interface = pytest.importorskip("dftd4.interface", reason="pip install rikiba[dispersion]")

from rikiba.calculators.dispersion_d4 import DispersionD4  # noqa: E402


def energy(calculator: DispersionD4, atoms: Atoms) -> float:
    return float(calculator(System.from_ase(atoms), forces=False).need("energy"))


def test_gives_the_numbers_of_the_library() -> None:
    atoms = molecule("C6H6")
    model = interface.DispersionModel(atoms.numbers, atoms.positions / units.bohr)
    wanted = model.get_dispersion(interface.DampingParam(method="pbe"), grad=True)
    found = DispersionD4(functional="pbe")(System.from_ase(atoms))
    assert float(found.need("energy")) == pytest.approx(float(wanted["energy"]) * units.hartree, rel=1e-12)
    forces = -wanted["gradient"] * units.hartree / units.bohr
    np.testing.assert_allclose(found.need("forces"), forces, rtol=0, atol=1e-12)
    without = energy(DispersionD4(functional="pbe", three_body=False), atoms)
    assert abs(without - float(found.need("energy"))) > 1e-4
    assert (
        abs(energy(DispersionD4(functional="pbe", model="d4s"), atoms) - float(found.need("energy"))) > 1e-6
    )


def test_tail_is_that_of_c6_and_charges_count() -> None:
    """Argon: −C6/r⁶, C6 = 64.3 Hartree bohr⁶ from experiment."""
    pair = DispersionD4(parameters={"s8": 0.0, "s9": 0.0, "a1": 0.0, "a2": 1.0})
    far = [energy(pair, Atoms("Ar2", [[0, 0, 0], [0, 0, d]])) for d in (10.0, 20.0)]
    assert far[0] / far[1] == pytest.approx(2.0**6, rel=1e-4)
    assert 63.0 < -far[1] / units.hartree * (20.0 / units.bohr) ** 6 < 66.0
    with_r8 = DispersionD4(parameters={"s8": 1.0, "s9": 0.0, "a1": 0.0, "a2": 1.0})
    near = [energy(with_r8, Atoms("Ar2", [[0, 0, 0], [0, 0, d]])) for d in (4.0, 8.0)]
    assert near[0] / near[1] != pytest.approx(2.0**6, rel=1e-2)
    neutral, cation = molecule("H2O"), molecule("H2O")
    neutral.info["charge"], cation.info["charge"] = 0.0, 1.0
    d4 = DispersionD4(functional="pbe")
    assert energy(d4, cation) > 0.7 * energy(d4, neutral)
    again = pickle.loads(pickle.dumps(d4))
    assert energy(again, neutral) == energy(d4, neutral)


def test_physics_of_the_calculator() -> None:
    """Forces, stress and batches, on a molecule, a skewed crystal, a slab."""
    crystal = bulk("NaCl", "rocksalt", a=5.6)
    crystal.rattle(0.1, seed=0)
    calculator = DispersionD4(functional="pbe", cutoff=8.0, three_body_cutoff=6.0, coordination_cutoff=8.0)
    check_calculator(calculator, {"molecule": molecule("C2H6")})
    check_calculator(calculator, {"crystal": crystal})
    check_constructor(DispersionD4)


def test_wrong_arguments() -> None:
    for bad, message in (
        ({}, "either a functional"),
        ({"functional": "nosuch"}, "for 'nosuch'"),
        ({"functional": "pbe", "model": "d5"}, "allowed are d4"),
        ({"parameters": {"s8": 1.0}}, "Parameters of rational damping"),
        ({"functional": "pbe", "cutoff": 0.5}, "switch_width"),
    ):
        with pytest.raises(ValueError, match=message):
            DispersionD4(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="up to Lr"):
        DispersionD4(functional="pbe")(System.from_ase(Atoms("Rf")))
