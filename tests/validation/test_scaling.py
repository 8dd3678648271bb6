"""Exponents and reaches: planted ones are found, wrong ones flagged; the benchmark makes its rows."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import controls
import numpy as np
import pytest
from ase.build import bulk

from rikiba.core import registry
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.validation.checks import Subject
from rikiba.validation.locality import excess_of_two
from rikiba.validation.scaling import (
    atoms_within,
    exponent,
    halo_atoms,
    influence,
    near_size,
    rod,
    times_by_size,
)

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SIZES = np.array([96, 288, 864, 3000, 9408])


def script(file: str, name: str) -> Any:
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))  # where tables.py finds its parts
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / file)
    assert spec is not None and spec.loader is not None
    found: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def noisy(seconds: np.ndarray, relative: float = 0.02, seed: int = 0) -> list[float]:
    return list(seconds * np.exp(relative * np.random.default_rng(seed).normal(size=len(seconds))))


@pytest.mark.parametrize(
    ("power", "overhead", "verdict"),
    [(1.0, 0.0, "pass"), (1.0, 1e-3, "pass"), (2.0, 0.0, "fail"), (2.0, 1e-2, "fail"), (1.3, 1e-3, "fail")],
)
def test_planted_exponents_are_found(power: float, overhead: float, verdict: str) -> None:
    """A quadratic cost is flagged, with an overhead before it or without."""
    for seed in range(5):
        fit = exponent(SIZES, noisy(overhead + 5e-6 * SIZES**power, seed=seed))
        assert fit.verdict == verdict, (seed, fit)
        assert abs(fit.value - power) < max(4.0 * fit.error, 0.02)
    clean = exponent(SIZES, list(overhead + 5e-6 * SIZES**power))
    assert clean.value == pytest.approx(power, abs=1e-4)
    assert clean.overhead_s == pytest.approx(overhead, rel=1e-2, abs=1e-9)


def test_an_overhead_would_be_taken_for_sublinear_growth() -> None:
    """Negative control of the fit's third parameter."""
    seconds = 1e-3 + 5e-6 * SIZES
    slope = np.polyfit(np.log(SIZES), np.log(seconds), 1)[0]
    assert slope < 0.8
    assert exponent(SIZES, list(seconds)).value == pytest.approx(1.0, abs=1e-4)
    assert exponent(SIZES[:3], list(seconds[:3])).verdict == "undecided"
    assert exponent(SIZES[:3], list(1e-6 * SIZES[:3] ** 2.0)).verdict == "fail"
    assert exponent(SIZES, list(1e-4 * SIZES**0.5)).verdict == "fail"


def test_too_few_and_impossible_times() -> None:
    two = exponent([100, 1000], [1e-3, 1e-2])
    assert two.value == pytest.approx(1.0) and np.isnan(two.error) and two.verdict == "pass"
    for sizes, seconds in (([100, 100], [1.0, 1.0]), ([100], [1.0]), ([100, 200], [0.0, 1.0])):
        with pytest.raises(ValueError, match="at least two sizes"):
            exponent(sizes, seconds)


def test_sizes_that_would_take_too_long_are_left_out() -> None:
    """A calculator whose clock goes with the square of the atoms."""
    now = [0.0]

    class Quadratic:
        def __call__(self, system: Any, **_: Any) -> None:
            now[0] += 1e-6 * system.n_atoms**2

    crystal = bulk("Si", "diamond", a=5.431, cubic=True)
    done, left = times_by_size(
        Quadratic(),
        crystal,
        (64, 512, 4096),
        limit=2.0,
        at_least=0.0,
        clock=lambda: now[0],  # type: ignore[arg-type]
    )
    assert [n for n, _ in done] == [64, 512] and [n for n, _ in left] == [4096]
    assert left[0][1] == pytest.approx(1e-6 * 4096**2)
    assert exponent(*zip(*done, strict=True)).verdict == "fail"


def test_counts_of_atoms() -> None:
    crystal = bulk("Si", "diamond", a=5.431, cubic=True)
    assert atoms_within(crystal, 2.5) == 5.0 and atoms_within(crystal, 4.0) == 17.0
    assert halo_atoms(crystal, 5.0, domain=8 * 27) == pytest.approx(
        ((3 + 10 / 5.431) ** 3 - 27) * 8, rel=1e-12
    )
    assert len(near_size(crystal, 1000)) == 1000
    assert len(near_size(crystal, 300)) in range(250, 350)
    long = rod(crystal, 30.0)
    assert np.ptp(long.positions[:, 2]) > 30.0 and long.pbc.tolist() == [True, True, False]


def argon() -> LennardJones:
    return LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=6.0)


def test_influence_ends_at_the_cutoff_of_a_pair_potential() -> None:
    atoms = rod(bulk("Ar", "fcc", a=5.26, cubic=True), 20.0)
    found = influence(Subject.of(argon()), atoms, int(atoms.positions[:, 2].argmin()), (0.1, 0.2, 0.1))
    assert found.beyond(6.0) == (0.0, 0.0)
    assert found.hops_reached() == 1
    assert all(5.0 < reach <= 6.0 for reach in found.reach())
    # negative control: a smaller radius than the true one is found out
    assert found.beyond(4.0)[0] > 0.0
    with pytest.raises(ValueError, match="No atom is farther"):
        found.beyond(30.0)


def test_messages_that_go_farther_than_claimed_are_seen() -> None:
    atoms = rod(bulk("C", "diamond", a=5.0, cubic=True), 20.0)
    lowest = int(atoms.positions[:, 2].argmin())
    honest, understated = (
        influence(Subject.of(model), atoms, lowest, (0.1, 0.2, 0.1))
        for model in (controls.Toy(), controls.Understated())
    )
    assert honest.beyond(controls.CUTOFF) == (0.0, 0.0) and honest.hops_reached() == 1
    assert understated.beyond(controls.CUTOFF)[0] > 0.0 and understated.hops_reached() == 2


def test_fragments_that_feel_each_other_do_not_add() -> None:
    atoms = bulk("C", "diamond", a=5.0, cubic=True)
    atoms.pbc = False
    halves = atoms[:3], atoms[3:]
    energy, force, largest = excess_of_two(Subject.of(controls.Toy()), *halves, controls.CUTOFF + 0.1)
    assert abs(energy) < 1e-12 and force < 1e-12 < largest
    assert abs(excess_of_two(Subject.of(controls.Toy()), *halves, 1.5)[0]) > 1e-4
    assert abs(excess_of_two(Subject.of(controls.MeanField()), *halves, 50.0)[0]) > 1e-4


def test_the_benchmark_makes_a_row_of_each_kind_and_goes_on(tmp_path: Path, capsys: Any) -> None:
    run, output = script("scaling/run.py", "scaling_run"), tmp_path / "found.json"
    sizes = ["--sizes", "48", "96", "--output", str(output)]
    run.main(["--only", "lennard_jones", "schnet", "hdnnp_4g", "rigid_water", *sizes])
    rows = json.loads(output.read_text())["families"]
    for name, hops in (("lennard_jones", 1), ("schnet", 3)):
        row = rows[name]
        assert row["exempt"] is None and len(row["times"]) == 2 and row["us_per_atom"] > 0
        assert row["additivity"]["verdict"] == row["locality"]["verdict"] == "pass"
        assert row["locality"]["energy_beyond_eV"] == 0.0 < row["locality"]["energy_within_eV"]
        assert row["locality"]["hops_reached"] == hops
        assert row["receptive_field_A"] == pytest.approx(hops * row["cutoff_A"])
    assert "charge is shared" in rows["hdnnp_4g"]["exempt"] and "locality" not in rows["hdnnp_4g"]
    assert rows["hdnnp_4g"]["exponent"]["verdict"] == "exempt"
    assert "topology" in rows["rigid_water"]["exempt"] and "times" not in rows["rigid_water"]
    capsys.readouterr()
    run.registry = type("Few", (), {"names": lambda room: ("lennard_jones", "zbl"), "load": registry.load})
    run.main(sizes)
    assert "lennard_jones" not in capsys.readouterr().out  # it has its row
    assert set(json.loads(output.read_text())["families"]) == {*rows, "zbl"}
    with pytest.raises(SystemExit):
        run.main(["--only", "no_such_potential"])
    shown(output)


def shown(results: Path) -> None:
    """The table on the page of benchmarks says what the rows say."""
    tables = script("tables.py", "benchmark_tables")
    tables.scaling_rows = lambda: list(json.loads(results.read_text())["families"].values())
    lines = {line.split(" |")[0].strip("| "): line for line in tables.scaling() if line.startswith("| ")}
    assert lines["rigid_water"].endswith("topology: no other sizes |") and "exempt" in lines["hdnnp_4g"]
    assert "| 13.5 |" in lines["schnet"] and "| 3 |" in lines["schnet"]
    assert len({line.count("|") for line in lines.values()}) == 1
    assert "schnet" in tables.scaling_plot() and "zbl" not in tables.scaling_plot()


def test_every_setting_is_of_a_family_and_taken() -> None:
    run = script("scaling/run.py", "scaling_run")
    assert set(run.SETTINGS) <= set(registry.names("potentials"))
    for name, changed in run.SETTINGS.items():
        arguments = run.instance(name).arguments
        assert {k: arguments[k] for k in changed} == changed


def test_silica_has_its_bonds() -> None:
    silica = script("scaling/run.py", "scaling_run").silica()
    assert silica.get_chemical_formula() == "O16Si8"
    assert atoms_within(silica[silica.symbols == "O"], 2.7) == 7.0
    assert atoms_within(silica, 1.6) == pytest.approx(1.0 + (8 * 4 + 16 * 2) / 24)
