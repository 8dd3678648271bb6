"""Label checks: planted errors are found, a clean set passes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet

from rikiba.core.record import Record
from rikiba.data.checks import CHECK_NAMES, check_dataset
from rikiba.data.dataset import Dataset, Labelled
from rikiba.data.formats import read

Change = Callable[[Labelled], Labelled]


@pytest.fixture(scope="module")
def clean() -> Dataset:
    """EMT copper: a volume scan of displaced crystals and a short trajectory of a molecule."""
    frames = []
    for k, scale in enumerate(np.linspace(0.97, 1.03, 13)):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += np.random.default_rng(0).normal(0, 0.03, (4, 3))
        atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
        atoms.calc = EMT()
        atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        atoms.info["group"] = "volume"
        frames.append(atoms)
        del k
    molecule_ = molecule("CH3CH2OH")
    molecule_.rattle(0.05, seed=1)
    molecule_.calc = EMT()
    motion = VelocityVerlet(molecule_, 0.5 * units.fs)
    for _ in range(20):
        motion.run(2)
        kept = molecule_.copy()
        kept.calc = EMT()
        kept.get_potential_energy(), kept.get_forces()
        kept.info["group"] = "trajectory"
        frames.append(kept)
    return Dataset.from_ase(frames, level_of_theory="EMT")


def changed(
    data: Dataset, which: list[int] | range, **labels: Callable[[torch.Tensor], torch.Tensor]
) -> Dataset:
    """Some frames with some labels changed."""
    frames = list(data)
    for k in which:
        results = frames[k].results
        new = {name: f(getattr(results, name).clone()) for name, f in labels.items()}
        frames[k] = replace(frames[k], results=results.replace(**new))
    return Dataset(frames)


def found(record: Record) -> set[str]:
    return {name for name in CHECK_NAMES if record[f"n_{name}"]}


VOLUME, TRAJECTORY = range(13), range(13, 33)


def test_a_clean_set_passes(clean: Dataset) -> None:
    record = check_dataset(clean)
    assert record.verdict == "pass" and found(record) == set(), record.tables[0].rows
    assert record["n_frames"] == 33
    assert Record.from_json(record.to_json()).verdict == "pass"


def test_missing_labels(clean: Dataset) -> None:
    frames = list(clean)
    frames[15] = replace(frames[15], results=frames[15].results.replace(forces=None))
    record = check_dataset(Dataset(frames))
    assert found(record) == {"missing"} and record.verdict == "undecided"
    assert record.tables[0].rows[0][3] == "1 of 33 frames have no forces"


@pytest.mark.parametrize("name", ["energy", "forces", "stress"])
def test_nan(clean: Dataset, name: str) -> None:
    record = check_dataset(changed(clean, [3], **{name: lambda t: t * float("nan")}))
    assert record.verdict == "fail" and "not_finite" in found(record)
    assert "frame 3" in record.tables[0].rows[0][2]


def test_duplicates_and_conflicting_duplicates(clean: Dataset) -> None:
    again = clean[20]
    record = check_dataset(Dataset([*clean, again]))
    assert found(record) == {"duplicate"} and record.verdict == "pass"
    # the same molecule turned, its atoms in another order, with another energy
    order = torch.arange(8, -1, -1)
    turn = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    system = again.system.replace(
        positions=again.system.positions[order] @ turn, numbers=again.system.numbers[order]
    )
    results = again.results.replace(
        energy=again.results.energy + 0.05, forces=again.results.forces[order] @ turn
    )
    planted = replace(again, system=system, results=results)
    record = check_dataset(Dataset([*clean, planted]))
    assert "conflicting_duplicate" in found(record) and record.verdict == "fail"
    assert "energies differ by 5.56 meV/atom" in record.tables[0].rows[0][3]
    results = again.results.replace(forces=again.results.forces[order] @ turn * 1.2)
    record = check_dataset(Dataset([*clean, replace(again, system=system, results=results)]))
    assert "conflicting_duplicate" in found(record)


def test_absurd_and_outlying_forces(clean: Dataset) -> None:
    assert "absurd_force" in found(check_dataset(changed(clean, [14], forces=lambda f: f * 1000)))
    push = torch.tensor([[40.0, 0, 0], [-40.0, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    record = check_dataset(changed(clean, [3], forces=lambda f: f + push))
    assert "force_outlier" in found(record) and record.verdict != "pass"


def test_net_force_and_torque(clean: Dataset) -> None:
    record = check_dataset(changed(clean, [14], forces=lambda f: f + torch.tensor([0.3, 0, 0])))
    assert found(record) == {"net_force"}

    def twist(f: torch.Tensor) -> torch.Tensor:
        r = clean[14].system.positions
        arm = r - r.mean(0)
        return f + 0.8 * torch.linalg.cross(
            torch.tensor([[0.0, 0, 1.0]], dtype=torch.float64).expand_as(arm), arm
        )

    record = check_dataset(changed(clean, [14], forces=twist))
    assert found(record) == {"net_force"} and "torque" in record.tables[0].rows[0][3]


@pytest.mark.parametrize(
    "factor, name",
    [
        (-1.0, "stress_sign"),
        (1 / units.GPa, "stress_unit"),
        (10 / units.GPa, "stress_unit"),
        (-1602.0, "stress_sign"),
    ],
)
def test_stress_sign_and_unit(clean: Dataset, factor: float, name: str) -> None:
    record = check_dataset(changed(clean, VOLUME, stress=lambda s: s * factor))
    assert name in found(record) and record.verdict == "fail"


def test_asymmetric_stress(clean: Dataset) -> None:
    def skew(s: torch.Tensor) -> torch.Tensor:
        s[0, 0, 1] += 0.01
        return s

    assert found(check_dataset(changed(clean, [2], stress=skew))) == {"stress_asymmetric"}


@pytest.mark.parametrize(
    "factor, name",
    [(-1.0, "force_sign"), (1 / 51.42208619, "force_unit"), (units.mol / units.kcal, "force_unit")],
    ids=["gradient", "Ha/bohr", "kcal/mol"],
)
def test_forces_that_are_not_the_slope_of_the_energy(clean: Dataset, factor: float, name: str) -> None:
    assert name in found(check_dataset(changed(clean, TRAJECTORY, forces=lambda f: f * factor)))


def test_energy_outlier(clean: Dataset) -> None:
    record = check_dataset(changed(clean, [25], energy=lambda e: e + 20.0))
    assert "energy_outlier" in found(record)
    rows = [r for r in record.tables[0].rows if r[0] == "energy_outlier"]
    assert len(rows) == 1 and "frame 25" in rows[0][2]


def test_mixed_levels_of_theory(clean: Dataset) -> None:
    frames = list(clean)
    frames[4] = replace(frames[4], level_of_theory="PBE")
    record = check_dataset(Dataset(frames))
    assert "mixed_level_of_theory" in found(record) and record.verdict == "fail"


def test_close_contact(clean: Dataset) -> None:
    frames = list(clean)
    positions = frames[15].system.positions.clone()
    positions[8] = positions[7] + 0.1
    frames[15] = replace(frames[15], system=frames[15].system.replace(positions=positions))
    assert "close_contact" in found(check_dataset(Dataset(frames)))


@pytest.mark.parametrize("name", ["rmd17/ethanol/train_01.xyz", "mlearn/Mo/train.xyz", "3bpa/train_300K.xyz"])
def test_published_sets_pass(data_dir: Path, name: str) -> None:
    stress = {"stress_key": "stress"} if "mlearn" in name else {}
    record = check_dataset(read(data_dir / name, level_of_theory="DFT", **stress))
    assert record.verdict == "pass", record.tables[0].rows[:5]


def test_a_published_set_with_turned_stress_fails(data_dir: Path) -> None:
    data = read(
        data_dir / "mlearn/Mo/train.xyz",
        level_of_theory="PBE",
        stress_key="stress",
        compression_positive=True,
    )
    record = check_dataset(data)
    assert record.verdict == "fail" and record["n_stress_sign"] >= 1
