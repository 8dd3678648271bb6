"""Any ASE calculator as a reference."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from rikiba.core import registry
from rikiba.reference.ase_any import AseAny
from rikiba.reference.base import Failure, Reference
from rikiba.reference.isolated_atoms import isolated_atoms


class Echo(Calculator):
    """Energy = charge + 10·multiplicity, zero forces; raises for helium."""

    implemented_properties = ["energy", "forces"]
    default_parameters = {"q": 0.0, "multiplicity": 1}

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if 2 in atoms.numbers:
            raise RuntimeError("no helium\nhere")
        self.results = {
            "energy": self.parameters["q"] + 10 * self.parameters["multiplicity"],
            "forces": np.zeros((len(atoms), 3))
            if 3 not in atoms.numbers
            else np.full((len(atoms), 3), np.nan),
        }


@pytest.mark.parametrize("calculator", ["ase.calculators.emt:EMT", EMT()])
def test_emt_by_name_and_as_an_object(calculator) -> None:
    reference = AseAny(calculator=calculator, level_of_theory="EMT")
    assert isinstance(reference, Reference) and registry.load("reference", "ase_any") is AseAny
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    answer = reference.label([atoms])[0]
    atoms.calc = EMT()
    assert answer.get_potential_energy() == atoms.get_potential_energy()
    assert np.array_equal(answer.get_forces(), atoms.get_forces())
    assert np.array_equal(answer.get_stress(), atoms.get_stress())
    assert answer.info["level_of_theory"] == "EMT"
    atoms.pbc = False
    assert "stress" not in reference.label([atoms])[0].calc.results


def test_errors_and_bad_numbers_are_failures() -> None:
    reference = AseAny(calculator=Echo(), level_of_theory="echo")
    helium, lithium, hydrogen = (Atoms(s, positions=[[0, 0, 0]]) for s in ("He", "Li", "H"))
    answers = reference.label(
        [helium, lithium, hydrogen, molecule("H2"), Atoms("H2", positions=[[0, 0, 0]] * 2)]
    )
    assert isinstance(answers[0], Failure) and answers[0].reason == "RuntimeError: no helium here"
    assert not answers[0].deterministic
    assert isinstance(answers[1], Failure) and "not finite" in answers[1].reason
    assert isinstance(answers[2], Atoms) and isinstance(answers[3], Atoms)
    assert isinstance(answers[4], Failure) and "0.00 Å apart" in answers[4].reason


def test_charge_and_spin_are_passed_or_refused() -> None:
    atoms = Atoms("H", positions=[[0, 0, 0]], info={"charge": -1, "spin": 3})
    told = AseAny(calculator=Echo(), level_of_theory="e", charge_argument="q", spin_argument="multiplicity")
    assert told.label([atoms])[0].get_potential_energy() == -1 + 30
    plain = AseAny(calculator=Echo(), level_of_theory="e")
    assert "charge -1" in plain.label([atoms])[0].reason
    atoms.info["charge"] = 0
    assert "multiplicity 3" in plain.label([atoms])[0].reason
    atoms.set_initial_magnetic_moments([2.0])
    assert isinstance(plain.label([atoms])[0], Atoms)


def test_isolated_atoms_of_emt() -> None:
    energies = isolated_atoms(
        AseAny(calculator="ase.calculators.emt:EMT", level_of_theory="EMT"), ["Cu", "Al"]
    )
    atoms = Atoms("Cu", calculator=EMT())
    assert energies["Cu"] == pytest.approx(atoms.get_potential_energy()) and set(energies) == {"Cu", "Al"}
    with pytest.raises(ValueError, match="isolated He atom has no echo energy: RuntimeError"):
        isolated_atoms(AseAny(calculator=Echo(), level_of_theory="echo"), ["He"])


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"package\.module:Class"):
        AseAny(calculator="EMT", level_of_theory="x")
    with pytest.raises(ValueError, match="cannot be imported"):
        AseAny(calculator="ase.calculators.emt:Nothing", level_of_theory="x")
    with pytest.raises(ValueError, match="level_of_theory is empty"):
        AseAny(calculator=EMT(), level_of_theory="")
    with pytest.raises(ValueError, match="object already"):
        AseAny(calculator=EMT(), arguments={"a": 1}, level_of_theory="x")
