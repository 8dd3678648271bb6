"""Side by side and in their place: answers that are there, and answers that are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write

from rikiba import config as tables
from rikiba.calculators.ase import FromASE
from rikiba.config import ConfigError
from rikiba.core.record import Record
from rikiba.execution.progress import silent
from rikiba.pipeline.answers import ask, error_table, independent, named, side_by_side
from rikiba.pipeline.dynamics import attempt
from rikiba.pipeline.plan import Plan, Published
from rikiba.pipeline.run import run_pipeline
from rikiba.properties.elastic import Elastic
from rikiba.properties.elastic import independent as independent_entries
from rikiba.properties.frequencies import Frequencies


def copper(n: int = 8) -> list[Atoms]:
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=k)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        atoms.info.update(energy=energy, group=f"g{k // 2}")
        atoms.arrays["forces"] = forces
        frames.append(atoms)
    return frames


def small(folder: Path, **change: Any) -> dict[str, Any]:
    write(folder / "cu.xyz", copper(), format="extxyz")
    (folder / "x.toml").write_text("")
    network = {"kind": "behler_parrinello", "cutoff": 4.0, "n_radial": 4, "n_angular": 2, "hidden": [8]}
    return {
        "data": {"training": "cu.xyz", "level_of_theory": "EMT"},
        "split": {"validation_fraction": 0.25, "test_fraction": 0.0},
        "model": {"small": {"potential": network, "training": {"max_epochs": 1}}},
        "validation": {"physics": False},
        "structure": {"kind": "crystal", "formula": "Cu", "lattice": "fcc"},
        **change,
    }


def test_a_property_without_an_answer_does_not_end_a_run(tmp_path: Path) -> None:
    config = small(tmp_path, property={"elastic": {"max_steps": 1, "stress_tolerance_GPa": 1e-12}, "eos": {}})
    records = run_pipeline(config, out=tmp_path / "out", source=tmp_path / "x.toml")
    found = {r.name: r for r in records}
    assert found["elastic_small"].verdict == "fail" and "raise max_steps" in found["elastic_small"].notes[0]
    # the question after it was still asked; without test frames there are no errors to show
    assert "eos_small" in found and "errors" not in found
    assert "Elastic" in " ".join(found["summary"].notes)
    assert (tmp_path / "out" / "report.html").is_file()


def test_one_property_fails_and_the_next_is_answered() -> None:
    water = molecule("H2O")
    questions = {"elastic": Elastic(), "frequencies": Frequencies()}
    found = ask(questions, [FromASE(EMT())], water, "emt", "EMT", silent)
    assert found["elastic"][0].verdict == "fail" and not found["elastic"][0].values
    assert len(found["frequencies"][0]["frequencies_cm1"]) == 3


def test_what_a_structure_cannot_be_asked_is_refused_before_work(tmp_path: Path) -> None:
    water = {"kind": "molecule", "name": "H2O"}
    for name, words in (("elastic", "periodic along three"), ("eos", "pbc"), ("torsion_profile", "H2O")):
        with pytest.raises(ConfigError, match=words):
            Plan.of(small(tmp_path, structure=water, property={name: {}}), tmp_path)
    with pytest.raises(ConfigError, match=r"\[property.vdos\] is asked of a trajectory"):
        Plan.of(small(tmp_path, property={"vdos": {}}), tmp_path)


def test_an_element_without_data_is_refused_before_training(tmp_path: Path) -> None:
    nickel = {"kind": "crystal", "formula": "Ni", "lattice": "fcc"}
    config = small(tmp_path, structure=nickel, property={"eos": {}})
    with pytest.raises(ConfigError, match="has Ni, but the training frames have not: they have Cu"):
        run_pipeline(config, out=tmp_path / "out", source=tmp_path / "x.toml")
    assert not (tmp_path / "out" / "models").exists()


def test_dynamics_that_cannot_go_on_are_a_record() -> None:
    def explodes(*_: Any, progress: Any) -> Any:
        raise ArithmeticError("the energy is not finite")

    found = attempt("wild", explodes, progress=silent)
    assert found.trajectories == () and found.records[0].verdict == "fail"
    assert "not finite" in found.records[0].notes[0]

    def mistaken(*_: Any, progress: Any) -> Any:
        raise ValueError("a user's mistake stays one")

    with pytest.raises(ValueError, match="mistake"):
        attempt("wrong", mistaken, progress=silent)


def test_rows_carry_units_and_repeat_nothing() -> None:
    def record(shift: float) -> Record:
        c = {"C11_GPa": 160.0, "C12_GPa": 60.0, "C22_GPa": 160.0, "C13_GPa": 60.0, "C44_GPa": 80.0}
        values = {k: v + shift for k, v in c.items()} | {"C45_GPa": 0.0, "n_symmetry_rotations": 24}
        return Record(name="elastic", title="Elastic constants", values=values)

    made = side_by_side("elastic", {"a": record(0.0), "b": record(2.0)}, reference=None)
    assert [row[0] for row in made.tables[0].rows] == ["C₁₁ (GPa)", "C₁₂ (GPa)", "C₄₄ (GPa)"]
    # a source that breaks the symmetry brings the row back
    broken = {"C11_GPa": [160.0, 160.0], "C22_GPa": [160.0, 130.0]}
    assert list(independent(broken)) == ["C11_GPa", "C22_GPa"]


def test_items_come_first_with_their_unit() -> None:
    values = {"zero_point_energy_eV": 0.5, "max_force_eV_per_A": 1e-5, "frequencies_cm1": [1.0, 2.0]}
    one = Record(name="f", title="Frequencies: a", values=values)
    rows = side_by_side("f", {"a": one, "b": one}, reference="b").tables[0].rows
    assert [r[0] for r in rows] == ["frequencies 1 (cm⁻¹)", "frequencies 2 (cm⁻¹)", "zero point energy (eV)"]


def test_independent_entries_of_cubic_and_triclinic_tensors() -> None:
    cubic = np.diag([160.0] * 3 + [80.0] * 3)
    cubic[:3, :3] += 60.0 * (1 - np.eye(3))
    assert independent_entries(cubic) == [(0, 0), (0, 1), (3, 3)]
    rng = np.random.default_rng(0)
    assert len(independent_entries(np.triu(rng.uniform(10.0, 1000.0, (6, 6))))) == 21


def test_titles_name_their_source_once() -> None:
    once = named(Record(name="p", title="Physics battery: mace"), "p_mace", "mace")
    assert once.title == "Physics battery: mace"
    assert named(Record(name="p", title="Errors"), "p_mace", "mace").title == "Errors: mace"


def test_sources_only_beside_published_numbers() -> None:
    ours = Record(name="errors_a", title="Errors: a", values={"forces_mae_meV_per_A": 50.0})
    assert "source" not in error_table([ours], ()).tables[0].columns
    theirs = Published(name="GAP", forces_mae_meV_per_A=80.0, source="doi")
    table = error_table([ours], (theirs,)).tables[0]
    assert [row[-1] for row in table.rows] == ["this run", "doi"]


def test_settings_from_the_example_still_make_a_plan() -> None:
    source = Path(__file__).resolve().parents[2] / "examples" / "silicon" / "silicon.toml"
    assert Plan.of(tables.read(source), source.parent).models


def test_a_run_that_left_its_bath_says_so() -> None:
    from types import SimpleNamespace

    import torch

    from rikiba.md.state import State
    from rikiba.pipeline.dynamics import _run_record
    from rikiba.pipeline.plan import MolecularDynamicsPlan

    atoms, settings = molecule("H2O"), MolecularDynamicsPlan(temperature_K=300.0)

    def record(kelvin: float) -> Record:
        class Kept(SimpleNamespace):
            def __len__(self) -> int:
                return 2

        kept = Kept(
            temperature_K=torch.full((2, 16), kelvin, dtype=torch.float64),
            time_ps=torch.zeros(2, 16),
            positions=torch.zeros(2, 48, 3),
        )
        run = SimpleNamespace(state=State.from_ase([atoms] * 16))
        return _run_record("net", settings, 10, 1.0, kept, run)  # type: ignore[arg-type]

    assert record(310.0).verdict is None and "finding" not in record(310.0).values
    assert record(980.0).verdict == "fail" and "980 K" in record(980.0)["finding"]
