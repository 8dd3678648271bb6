"""The physics battery: sound models pass, and every planted error is caught by the check that is for it."""

import controls
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from rikiba.core.record import Record
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.validation.battery import DEFAULT, physics_battery, run_checks
from rikiba.validation.checks import Subject, default_structures
from rikiba.validation.derivatives import ridders
from rikiba.validation.symmetries import random_orthogonal

# what an untrained or deliberately odd model cannot promise
SOUND = tuple(n for n in DEFAULT if n != "short_range")


def failures(record: Record) -> set[str]:
    return set(record["failed"])


def test_a_sound_potential_passes_everything() -> None:
    record = physics_battery(controls.Toy(), checks=SOUND)
    assert record.verdict == "pass", record.tables[0].rows
    assert record["n_passed"] > 35
    made = {row[0] for row in record.tables[0].rows}
    assert {"forces are −∂E/∂r", "stress is (1/V) ∂E/∂ε", "rotation and inversion", "Hessian"} <= made


def test_it_may_be_a_seed_away() -> None:
    """Nothing in the verdict hangs on one draw of structures."""
    for seed in range(1, 4):
        structures = default_structures(("C", "O"), controls.CUTOFF, seed)
        assert physics_battery(controls.Toy(), structures, checks=SOUND).verdict == "pass"


@pytest.mark.parametrize(
    ("model", "caught_by"),
    [
        (
            controls.DirectForces(),
            {"forces are −∂E/∂r", "no work on a closed path", "net force is zero", "Hessian"},
        ),
        (controls.Ordered(), {"permutation"}),
        (controls.Oriented(), {"rotation and inversion", "net torque is zero"}),
        (controls.Handed(), {"rotation and inversion"}),
        (controls.HardCutoff(), {"continuous at the cutoff"}),
        (controls.OnlyC1(), {"continuous at the cutoff"}),
        (controls.HiddenKink(), {"smooth as an atom leaves"}),
        (controls.ReLUNetwork(), {"smooth along a random motion"}),
        (controls.Placed(), {"translation", "net force is zero"}),
        (controls.Wrapping(), {"wrapped and unwrapped"}),
        (controls.MeanField(), {"energies of distant fragments add"}),
        (controls.Understated(), {"ε_i is unchanged by what it cannot see"}),
        (controls.ForgetsBatch(), {"permutation"}),
        (controls.WrongStress("sign"), {"stress is (1/V) ∂E/∂ε"}),
        (controls.WrongStress("scale"), {"stress is (1/V) ∂E/∂ε"}),
        (controls.WrongStress("asymmetric"), {"stress is symmetric"}),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, set) else "",
)
def test_planted_errors_are_caught(model: object, caught_by: set[str]) -> None:
    record = physics_battery(model, checks=SOUND, elements=("C", "O"), cutoff=controls.CUTOFF)
    assert record.verdict == "fail"
    assert caught_by <= failures(record), failures(record)


def test_a_mirror_image_is_told_from_a_rotation() -> None:
    """The handed model turns with proper rotations: only the inverted half of the matrices catches it."""
    subject = Subject.of(controls.Handed())
    atoms = default_structures(("C", "O"), controls.CUTOFF)["cluster"]
    energy = subject.energies([atoms])[0]
    for q in random_orthogonal(10, np.random.default_rng(0)):
        turned = Atoms(atoms.symbols, atoms.positions @ q.T)
        difference = abs(subject.energies([turned])[0] - energy)
        assert (difference < 1e-10) == (np.linalg.det(q) > 0)


def test_reversed_stress_is_named() -> None:
    record = physics_battery(
        controls.WrongStress("sign"), checks=["stress_consistency"], elements=("C", "O"), cutoff=4.0
    )
    assert any("sign is reversed" in row[-1] for row in record.tables[0].rows)


@pytest.mark.parametrize("truncation", ["cut", "shift", "force_shift"])
def test_truncations_of_lennard_jones(truncation: str) -> None:
    arguments = {"epsilon_eV": {"Ar": 0.0104}, "sigma": {"Ar": 3.4}, "cutoff": 6.0}
    smooth = physics_battery(LennardJones(**arguments), checks=["at_cutoff"])
    assert smooth.verdict == "pass"
    cut = physics_battery(LennardJones(**arguments, truncation=truncation), checks=["at_cutoff"])
    assert cut.verdict == "fail"


def test_short_range() -> None:
    good = physics_battery(
        LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=8.0), checks=["short_range"]
    )
    assert good.verdict == "pass"
    bad = physics_battery(controls.Attractive(), checks=["short_range"])
    assert bad["n_failed"] == 3
    assert "fuse" in bad.tables[0].rows[0][-1]
    assert len(good.figures) == 1


def test_single_precision_has_its_own_thresholds() -> None:
    example = BehlerParrinello.examples()[0].float()
    record = physics_battery(example, checks=SOUND)
    assert record["precision"] == "float32"
    wrong = failures(record) - {"a single atom has its stated E0"}
    assert not wrong, record.tables[0].rows
    # held to the standard of float64 it fails, so the thresholds are not idle
    strict = physics_battery(example, checks=["force_consistency", "rotation"], precision="float64")
    assert strict.verdict == "fail"
    precision = [r for r in record.tables[0].rows if r[0] == "float32 against float64"]
    assert precision[0][2] == "pass"
    assert precision[0][3] > 0.0


def test_an_ase_calculator_and_structures_of_ones_own() -> None:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.rattle(0.05, seed=1)
    checks = ["force_consistency", "closed_path", "stress_consistency", "rotation", "permutation"]
    record = physics_battery(EMT(), {"copper": atoms}, checks=checks)
    assert record.title == "Physics battery: EMT"
    assert record.verdict == "pass", record.tables[0].rows
    skipped = physics_battery(EMT(), [molecule("H2O")], checks=["at_cutoff", "local_energies", "precision"])
    assert skipped["n_not_applicable"] >= 2


def test_cost_slope() -> None:
    record = physics_battery(
        LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=6.0),
        [bulk("Ar", "fcc", a=5.26, cubic=True).repeat(2)],
        checks=["cost"],
    )
    row = record.tables[0].rows[0]
    assert "slope" in row[-1]
    # a shared machine's clock is no reason to fail the suite; a quadratic cost is
    assert row[3] < 0.5


def test_a_model_that_breaks_is_a_failure_with_its_message() -> None:
    def broken(system: object, *, forces: bool = True, stress: bool = False) -> None:
        raise RuntimeError("out of order")

    record = physics_battery(broken, [molecule("H2O")], checks=["force_consistency"])  # type: ignore[arg-type]
    assert record.verdict == "fail"
    assert "out of order" in record.tables[0].rows[0][-1]


def test_unknown_check_and_missing_elements() -> None:
    with pytest.raises(ValueError, match="no check 'rotations'"):
        run_checks(Subject.of(EMT()), {"x": molecule("H2O")}, ["rotations"])
    with pytest.raises(ValueError, match="elements"):
        physics_battery(EMT())


def test_ridders_beats_a_plain_difference() -> None:
    slope, error = ridders(lambda s: np.exp(1.0 + s), 0.05)
    assert abs(slope - np.e) < 1e-11
    assert error < 1e-9
    assert abs((np.exp(1.05) - np.exp(0.95)) / 0.1 - np.e) > 1e-4


def test_record_survives_json() -> None:
    record = physics_battery(controls.Toy(), checks=["force_consistency", "precision"])
    again = Record.from_json(record.to_json())
    assert again.verdict == record.verdict
    assert again["n_passed"] == record["n_passed"]
    assert torch.get_default_dtype() == torch.float32
