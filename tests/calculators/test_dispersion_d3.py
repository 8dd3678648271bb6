"""DFT-D3: the library's own energies, the tail, derivatives, periodicity, sums."""

import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.sum import SumCalculator
from rikiba.cli import sources
from rikiba.core import units
from rikiba.core.system import System
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.testing import check_calculator
from rikiba.testing.building import check_constructor

interface = pytest.importorskip("dftd3.interface", reason="pip install rikiba[dispersion]")

from rikiba.calculators.dispersion_d3 import DispersionD3  # noqa: E402


def energy(calculator: DispersionD3, atoms: Atoms) -> float:
    return float(calculator(System.from_ase(atoms), forces=False).need("energy"))


@pytest.mark.parametrize(("damping", "name"), [("rational", "Rational"), ("zero", "Zero")])
def test_gives_the_numbers_of_the_library(damping: str, name: str) -> None:
    atoms = molecule("C6H6")
    parameters = getattr(interface, f"{name}DampingParam")(method="pbe", atm=True)
    model = interface.DispersionModel(atoms.numbers, atoms.positions / units.bohr)
    wanted = model.get_dispersion(parameters, grad=True)
    found = DispersionD3(functional="pbe", damping=damping, three_body=True)(System.from_ase(atoms))  # type: ignore[arg-type]
    assert float(found.need("energy")) == pytest.approx(float(wanted["energy"]) * units.hartree, rel=1e-12)
    forces = -wanted["gradient"] * units.hartree / units.bohr
    np.testing.assert_allclose(found.need("forces"), forces, rtol=0, atol=1e-12)
    assert abs(energy(DispersionD3(functional="b3lyp"), atoms) - float(found.need("energy"))) > 1e-2


def test_tail_is_that_of_c6() -> None:
    """Argon, C6 = 64.6 Hartree bohr⁶ in DFT-D3's own tables (64.3 from experiment); and a smooth end."""
    pair = DispersionD3(parameters={"s8": 0.0, "s9": 0.0, "a1": 0.0, "a2": 1.0})
    far = [energy(pair, Atoms("Ar2", [[0, 0, 0], [0, 0, d]])) for d in (10.0, 20.0)]
    assert far[0] / far[1] == pytest.approx(2.0**6, rel=1e-4)
    c6 = -far[1] / units.hartree * (20.0 / units.bohr) ** 6
    assert 63.0 < c6 < 66.0
    short = DispersionD3(functional="pbe", cutoff=8.0, switch_width=1.0)
    at = np.arange(6.9, 8.1, 0.01)
    values = np.array([energy(short, Atoms("Ar2", [[0, 0, 0], [0, 0, d]])) for d in at])
    cut = DispersionD3(functional="pbe", cutoff=8.0, switch_width=0.0)
    jumps = np.array([energy(cut, Atoms("Ar2", [[0, 0, 0], [0, 0, d]])) for d in at])
    assert np.abs(np.diff(values)).max() < 0.1 * np.abs(np.diff(jumps)).max()
    assert values[-1] == jumps[-1] == 0.0


def test_physics_of_the_calculator() -> None:
    """Forces, stress and batches, on a molecule, a skewed crystal, a slab."""
    crystal = bulk("NaCl", "rocksalt", a=5.6)
    crystal.rattle(0.1, seed=0)
    calculator = DispersionD3(functional="pbe", cutoff=8.0, three_body_cutoff=6.0, coordination_cutoff=8.0)
    check_calculator(calculator, {"molecule": molecule("C2H6")})
    check_calculator(calculator, {"crystal": crystal})
    check_constructor(DispersionD3)
    slab = Atoms(
        "C2", [[0, 0, 0], [0, 1.42, 0]], cell=[[2.46, 0, 0], [1.23, 2.13, 0], [0, 0, 40.0]], pbc=True
    )
    flat = slab.copy()
    flat.pbc = (True, True, False)
    bare = flat.copy()
    bare.cell[2] = 0.0
    wanted = energy(calculator, slab)
    assert energy(calculator, flat) == pytest.approx(wanted, rel=1e-12)
    assert energy(calculator, bare) == pytest.approx(wanted, rel=1e-12)
    flat.pbc = False
    assert abs(energy(calculator, flat) - wanted) > 1e-3
    assert DispersionD3(functional="pbe")(System.from_ase([])).need("energy").shape == (0,)


def test_sums_configuration_and_copies(tmp_path: object) -> None:
    argon = PotentialCalculator(LennardJones(epsilon_eV={"Ar": 0.01}, sigma={"Ar": 3.4}, cutoff=7.0))
    d3 = sources.calculator({"calculator": {"kind": "dispersion_d3", "functional": "pbe"}}, tmp_path)  # type: ignore[arg-type]
    system = System.from_ase([bulk("Ar", a=5.2), bulk("Ar", a=5.4)])
    both = SumCalculator(argon, d3)(system, stress=True)
    alone = argon(system, stress=True), pickle.loads(pickle.dumps(d3))(system, stress=True)
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(
            both.need(name), alone[0].need(name) + alone[1].need(name), rtol=0, atol=1e-14
        )


def test_wrong_arguments() -> None:
    for bad, message in (
        ({}, "either a functional"),
        ({"functional": "nosuch"}, "for 'nosuch'"),
        ({"functional": "pbe", "damping": "none"}, "allowed are rational"),
        ({"parameters": {"s8": 1.0}}, "Parameters of rational damping"),
        ({"functional": "pbe", "cutoff": 0.5}, "switch_width"),
    ):
        with pytest.raises(ValueError, match=message):
            DispersionD3(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="up to Pu"):
        DispersionD3(functional="pbe")(System.from_ase(Atoms("Am")))
