"""Advice follows the numbers of a table, and says which."""

import math
from dataclasses import replace

import pytest

from rikiba.core.record import Record
from rikiba.validation.recommendation import MEASURED, Task, as_record, recommend

SLAB = Task(atoms=200, reactive=True, steps=200_000, hours=24)
"""A reactive slab: 432 ms a step."""
LIQUID = Task(atoms=750, steps=10_000_000, hours=72)
"""Nanoseconds of a liquid: 26 ms a step."""

NAMES = ("linear", "local", "filter", "many_body", "tensor")
COSTS = (10.0, 20.0, 30.0, 300.0, 900.0)


def measured(**changes: list[float]) -> Record:
    """A table in which accuracy costs time; the two best cannot be told apart."""
    values = {
        "forces_mae_meV_per_A": [120.0, 110.0, 112.0, 40.0, 39.0],
        "forces_rmse_meV_per_A": [180.0, 160.0, 165.0, 60.0, 59.0],
        "energy_mae_meV_per_atom": [3.0, 5.0, 9.0, 4.0, 6.0],
        "energy_rmse_meV_per_atom": [4.0, 6.0, 11.0, 5.0, 8.0],
        "cost_us_per_atom_step": list(COSTS),
        "training_processor_s": [2.0, 20.0, 20.0, 20.0, 20.0],
    } | changes
    spread = {k: [math.nan, 3.0, 4.0, 2.0, 2.0] for k in values if k.endswith(("_A", "_atom"))}
    spread = {k: [None if math.isnan(v) else v for v in column] for k, column in spread.items()}
    facts = {
        "models": list(NAMES),
        "elements": ["Si"],
        "n_training": 214,
        "n_test": 25,
        "n_atoms_timed": 64,
        "level_of_theory": "PBE",
        "receptive_field_A": [5.0, 5.0, 15.0, 10.0, 10.0],
        "long_range": [False] * 5,
    }
    return Record(name="comparison", title="", values=facts | values, spread=spread)


def first(task: Task, table: Record) -> str:
    return recommend(task, table)[0].name


def test_reactive_slab_gets_the_accurate_family_and_the_faster_of_two_alike() -> None:
    advice = recommend(SLAB, measured())
    assert [a.name for a in advice[:2]] == ["many_body", "tensor"] and all(a.fits for a in advice)
    text = "; ".join(advice[0].reasons)
    assert "root-mean-square error of forces 60 ± 2 meV/Å, place 2 of 5" in text
    assert "300 µs per atom and step: 60 ms a step of 200 atoms, 3.33 h in all" in text
    assert "trained in 20 s" in text
    assert "no more accurate than many_body within the spread, and slower" in "; ".join(advice[1].reasons)
    assert "bonds that break" in " ".join(as_record(SLAB, measured(), advice).notes)


def test_control_a_family_that_is_better_beyond_the_spread_comes_first() -> None:
    better = measured(forces_rmse_meV_per_A=[180.0, 160.0, 165.0, 60.0, 40.0])
    assert first(SLAB, better) == "tensor"
    assert first(replace(SLAB, reactive=False), better) == "many_body"  # the mean errors are alike


@pytest.mark.parametrize("atoms", [500, 1000])
def test_a_long_run_of_a_liquid_gets_a_fast_family(atoms: int) -> None:
    task = replace(LIQUID, atoms=atoms)
    advice = recommend(task, measured())
    fits = {a.name: a.cost * atoms / 1e3 <= task.ms_per_step for a in advice}
    assert {a.name: a.fits for a in advice} == fits and not fits["many_body"] and fits["local"]
    assert advice[0].name == "local"
    assert [a.name for a in advice if not a.fits][-2:] == ["many_body", "tensor"]
    assert f"not the {task.hours:g} h given" in "; ".join(advice[-1].reasons)


def test_control_faster_hardware_or_fewer_steps_change_the_advice() -> None:
    assert first(replace(LIQUID, speed=100.0), measured()) == "many_body"
    assert first(replace(LIQUID, steps=10_000), measured()) == "many_body"
    assert first(LIQUID, measured(cost_us_per_atom_step=[900.0, 900.0, 900.0, 900.0, 9.0])) == "tensor"


def test_purpose_says_which_error_counts() -> None:
    task = replace(SLAB, reactive=False, purpose="energies")
    assert first(task, measured()) == "linear"
    assert "mean error of energies 3 meV/atom, place 1 of 5" in recommend(task, measured())[0].reasons


def test_what_is_beaten_in_both_is_told_so() -> None:
    slow = measured(cost_us_per_atom_step=[400.0, *COSTS[1:]])
    reasons = {a.name: "; ".join(a.reasons) for a in recommend(SLAB, slow)}
    assert "many_body is faster (300 µs) and more accurate (60 meV/Å)" in reasons["linear"]
    assert "more accurate" not in reasons["many_body"].replace("no more accurate", "")


def test_charges_put_long_range_first_and_say_so_where_there_is_none() -> None:
    task = replace(SLAB, charges=True)
    none = recommend(task, measured())
    assert none[0].name == "many_body" and "beyond 10 Å: charges need an Ewald sum" in "; ".join(
        none[0].reasons
    )
    assert "no family of this table has long-range" in " ".join(as_record(task, measured(), none).notes)
    assert first(task, measured(long_range=[False, True, False, False, False])) == "local"
    molecule = recommend(replace(task, periodic=False), measured())
    assert "a Coulomb sum" in "; ".join(molecule[0].reasons)


def test_large_systems_are_told_of_the_reach() -> None:
    big = recommend(replace(LIQUID, atoms=100_000), measured())
    assert any("exchange those within 15 Å" in r for a in big if a.name == "filter" for r in a.reasons)


def test_no_number_comes_last() -> None:
    advice = recommend(SLAB, measured(cost_us_per_atom_step=[10.0, 20.0, math.nan, 300.0, 900.0]))
    assert advice[-1].name == "filter" and advice[-1].reasons == ("The table has no number for it.",)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no comparison of families"):
        recommend(SLAB, Record(name="errors", title=""))
    with pytest.raises(ValueError, match="atoms and steps must be at least 1"):
        Task(atoms=0)


@pytest.mark.parametrize("task", [SLAB, replace(LIQUID, atoms=500), replace(LIQUID, atoms=1000)])
def test_our_own_table_gives_reasons_for_all_its_families(task: Task) -> None:
    """The shipped table says how it was made; nothing before the first that fits is better than it."""
    table = Record.load(MEASURED)
    assert "compare_families.toml" in table.provenance["command"] and table.provenance["versions"]["rikiba"]
    advice = recommend(task, table)
    assert {a.name for a in advice} == set(table["models"]) and len(advice) > 12
    assert all(a.reasons for a in advice)
    best = min((a.error for a in advice if a.fits), default=None)
    assert best is not None and advice[0].fits
    assert advice[0].error - best <= 2 * advice[0].deviation + 0.2 * best
