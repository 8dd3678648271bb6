"""Checks that let atoms move: very hot dynamics, and constant energy in single and double precision."""

import controls
import pytest
import torch
from ase.build import bulk, molecule

from rikiba.calculators.base import NonFiniteError
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.zbl import Zbl
from rikiba.validation.battery import ASKED_FOR, DEFAULT, chosen, physics_battery
from rikiba.validation.checks import Subject, default_structures
from rikiba.validation.precision import constant_energy
from rikiba.validation.short_range import boxed, hot_dynamics

CLUSTER = default_structures(("C", "O"), controls.CUTOFF)["cluster"]


def argon() -> LennardJones:
    return LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=8.0)


def test_a_repulsive_core_keeps_hot_atoms_apart() -> None:
    crystal = bulk("Ar", "fcc", a=5.3, cubic=True)
    check = hot_dynamics(Subject.of(argon()), crystal)
    assert check.passed and check.value == 0.0 and "no pair" in check.note
    zbl = hot_dynamics(Subject.of(Zbl(elements=("C", "H", "O"))), molecule("CH3CH2OH"), steps=200)
    assert zbl.passed and 0.0 < zbl.value < zbl.threshold and "closest" in zbl.note


def test_an_attractive_core_fuses_atoms() -> None:
    check = hot_dynamics(Subject.of(controls.Attractive()), CLUSTER)
    assert check.passed is False
    assert "closest" in check.note or "finite" in check.note


def test_cold_atoms_without_a_core_need_not_meet() -> None:
    """The temperature is what makes the test: the same soft atoms at 1 K stay where they are."""
    crystal = default_structures(("C", "O"), controls.CUTOFF)["triclinic crystal"]
    cold = hot_dynamics(Subject.of(controls.Toy()), crystal, temperature_K=1.0, steps=40)
    assert cold.passed and cold.value < 0.2


def test_numbers_that_are_not_finite_fail() -> None:
    class Breaks:
        calls = 0

        def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
            self.calls += 1
            if self.calls > 5:
                raise NonFiniteError("the force on atom 0 is not finite.")
            zero = torch.zeros_like(system.positions)
            return Results(energy=zero.new_zeros(system.n_systems), forces=zero)

    check = hot_dynamics(Subject.of(Breaks(), elements=("C", "O")), CLUSTER, steps=20)
    assert check.passed is False and "not finite" in check.note


def test_molecules_are_boxed_and_crystals_left() -> None:
    ethanol, crystal = molecule("CH3CH2OH"), bulk("Cu")
    box = boxed(ethanol)
    assert box.pbc.all() and not ethanol.pbc.any()
    extent = ethanol.positions.max(0) - ethanol.positions.min(0)
    assert box.cell.lengths() == pytest.approx(extent + 3.0)
    assert boxed(crystal) is crystal


def test_hot_dynamics_is_made_where_asked_for() -> None:
    assert set(ASKED_FOR) & set(DEFAULT) == set()
    record = physics_battery(controls.Attractive(), {"cluster": CLUSTER}, checks=["hot_dynamics"])
    assert record.verdict == "fail" and record["failed"] == ["atoms do not fuse at 5000 K"]
    assert set(ASKED_FOR) | set(DEFAULT) == set(chosen(["all"]))


class LargeOffset(controls.Toy):
    """A sum held beside a large number: in float32 the forces are right, the energy is rounded to 1 meV."""

    def forward(self, system: System, pairs: Pairs) -> Results:
        energies = super().forward(system, pairs.with_vectors(pairs.vectors(system).to(self.dtype)))
        offset = torch.tensor(1e4, dtype=self.dtype)
        return Results(energies=(energies.need("energies") + offset) - offset)


def both(potential: controls.Toy) -> tuple[Subject, Subject]:
    subject = Subject.of(potential)
    return subject.at_precision(torch.float32), subject.at_precision(torch.float64)


def test_the_battery_reports_drift_in_both_precisions() -> None:
    record = physics_battery(BehlerParrinello.examples()[0], checks=["precision"])
    rows = {row[0]: row for row in record.tables[0].rows}
    assert rows["float32 against float64"][2] == "pass"
    row = rows["energy is conserved in float32 as in float64"]
    assert row[2] == "pass" and 0 < row[3] < row[4]
    assert "in float32" in row[-1] and "in float64" in row[-1] and "drift" in row[-1]


def test_energy_lost_to_rounding_is_noticed() -> None:
    """Forces agree between the precisions; only the energy along a trajectory shows what is lost."""
    record = physics_battery(LargeOffset(), {"cluster": CLUSTER}, checks=["precision"])
    assert record["failed"] == ["energy is conserved in float32 as in float64"], record.tables[0].rows
    assert constant_energy(*both(controls.Toy()), CLUSTER).passed
