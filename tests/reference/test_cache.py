"""The label cache and labelling in several processes."""

import os
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.reference.ase_any import AseAny
from rikiba.reference.base import Failure
from rikiba.reference.cache import Cached, content_key
from rikiba.reference.processes import Parallel


class Counting:
    """EMT that counts; fails on gold (deterministic) and on silver (not)."""

    def __init__(self, level: str = "EMT") -> None:
        self.inner = AseAny(calculator="ase.calculators.emt:EMT", level_of_theory=level)
        self.level_of_theory = level
        self.n = 0

    def label(self, frames):
        self.n += len(frames)
        out = []
        for atoms in frames:
            if 79 in atoms.numbers or 47 in atoms.numbers:
                out.append(Failure(atoms=atoms, reason="noble", deterministic=79 in atoms.numbers))
            else:
                out += self.inner.label([atoms])
        return out


class Deadly:
    """Kills its process on gold; otherwise EMT."""

    level_of_theory = "EMT"

    def label(self, frames):
        if any(79 in a.numbers for a in frames):
            os._exit(3)
        return AseAny(calculator="ase.calculators.emt:EMT", level_of_theory="EMT").label(frames)


def crystals(n: int, symbol: str = "Cu") -> list[Atoms]:
    out = []
    for k in range(n):
        atoms = bulk(symbol, cubic=True)
        atoms.rattle(0.05, seed=k)
        atoms.info["k"] = k
        out.append(atoms)
    return out


def test_same_structure_twice_is_a_hit_with_equal_numbers(tmp_path) -> None:
    frames = crystals(4)
    reference = Counting()
    first = Cached(reference=reference, folder=tmp_path).label(frames)
    again = Cached(reference=reference, folder=tmp_path)
    renamed = [a.copy() for a in frames]
    renamed[0].info = {"name": "other"}
    second = again.label(renamed)
    assert reference.n == 4 and (again.n_hits, again.n_misses, len(again)) == (4, 0, 4)
    assert second[0].info == {"name": "other", "level_of_theory": "EMT"}
    for a, b in zip(first, second, strict=True):
        assert a.get_potential_energy() == b.get_potential_energy()
        assert np.array_equal(a.get_forces(), b.get_forces())
        assert np.array_equal(a.get_stress(), b.get_stress())
    direct = reference.inner.label(frames)[2]
    assert np.array_equal(second[2].get_forces(), direct.get_forces())


def test_repeats_within_one_call_are_labelled_once(tmp_path) -> None:
    frames = crystals(2)
    reference = Counting()
    answers = Cached(reference=reference, folder=tmp_path).label([*frames, frames[0].copy(), *frames])
    assert reference.n == 2 and len(answers) == 5
    assert answers[2].get_potential_energy() == answers[0].get_potential_energy()


def test_everything_that_matters_is_in_the_key() -> None:
    base = bulk("Cu", cubic=True)
    base.positions[0] = 0.0
    keys = {content_key(base, "EMT")}
    for change in range(8):
        atoms = base.copy()
        if change == 0:
            atoms.positions[1, 0] = np.nextafter(atoms.positions[1, 0], 9)
        elif change == 1:
            atoms.numbers[0] = 28
        elif change == 2:
            atoms.cell[0, 0] += 1e-12
        elif change == 3:
            atoms.pbc = [True, True, False]
        elif change == 4:
            atoms.info["charge"] = 1
        elif change == 5:
            atoms.info["spin"] = 1
        elif change == 6:
            atoms.set_initial_magnetic_moments([1, 0, 0, 0])
        keys.add(content_key(atoms, "EMT" if change < 7 else "PBE"))
    assert len(keys) == 9
    same = base.copy()
    same.positions[0] = -0.0
    same.info["comment"] = "irrelevant"
    assert content_key(same, "EMT") in keys


def test_only_deterministic_failures_are_kept(tmp_path) -> None:
    gold, silver = crystals(1, "Au")[0], crystals(1, "Ag")[0]
    reference = Counting()
    for _ in range(2):
        answers = Cached(reference=reference, folder=tmp_path).label([gold, silver])
        assert all(isinstance(a, Failure) and a.reason == "noble" for a in answers)
        assert answers[0].atoms is gold
    assert reference.n == 3  # gold once, silver twice


def test_a_killed_job_resumes(tmp_path) -> None:
    class Stops(Counting):
        def label(self, frames):
            if self.n == 3:
                raise KeyboardInterrupt
            return super().label(frames)

    with pytest.raises(KeyboardInterrupt):
        Cached(reference=Stops(), folder=tmp_path).label(crystals(6))
    reference = Counting()
    assert len(Cached(reference=reference, folder=tmp_path).label(crystals(6))) == 6
    assert reference.n == 3
    with sqlite3.connect(tmp_path / "labels.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_processes_keep_the_order_and_survive_a_death(tmp_path) -> None:
    frames = crystals(9)
    frames[4] = crystals(1, "Au")[0]
    direct = Counting().label(frames)
    answers = Parallel(reference=Deadly(), workers=2).label(frames)
    assert [isinstance(a, Failure) for a in answers] == [k == 4 for k in range(9)]
    assert "died" in answers[4].reason and not answers[4].deterministic
    for k in set(range(9)) - {4}:
        assert answers[k].info["k"] == k
        assert answers[k].get_potential_energy() == pytest.approx(direct[k].get_potential_energy(), abs=1e-10)


def test_cache_over_processes(tmp_path) -> None:
    reference = Parallel(
        reference=AseAny(calculator="ase.calculators.emt:EMT", level_of_theory="EMT"), workers=2
    )
    water = reference.reference.label([molecule("H2O")])[0].get_potential_energy()
    cached = Cached(reference=reference, folder=tmp_path)
    answers = cached.label([*crystals(3), molecule("H2O")])
    assert len(cached) == 4 and answers[3].get_potential_energy() == pytest.approx(water)
    cached.label(crystals(3))
    assert cached.n_hits == 3


def test_a_death_while_answers_are_being_used_is_survived(monkeypatch) -> None:
    """The pool breaks between two answers: what was not handed in yet is labelled in another one."""
    submitted = []

    class Breaks(ProcessPoolExecutor):
        def submit(self, *arguments, **keywords):
            submitted.append(arguments)
            if len(submitted) == 3:
                raise BrokenProcessPool("a process died")
            return super().submit(*arguments, **keywords)

    monkeypatch.setattr("rikiba.reference.processes.ProcessPoolExecutor", Breaks)
    for workers in (1, 2):
        submitted.clear()
        answers = Parallel(reference=Deadly(), workers=workers).label(crystals(5))
        assert [a.info["k"] for a in answers] == [0, 1, 2, 3, 4]
