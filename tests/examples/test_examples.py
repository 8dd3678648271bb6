"""The examples from the command line: small ones in every run of the tests, whole ones with -m slow."""

import json
import time
from pathlib import Path
from typing import Any

import browser
import pytest
from ase.io import read
from small_runs import SILICON

from rikiba.cli.main import main
from rikiba.core import units
from rikiba.core.record import Record
from rikiba.report.store import read_records

ROOT = Path(__file__).resolve().parents[2]
ETHANOL_FILE = ROOT / "examples" / "ethanol" / "ethanol.toml"
SILICON_FILE = ROOT / "examples" / "silicon" / "silicon.toml"
FAMILIES = ("behler_parrinello", "mace")

MEAN_FORCE = 566.0
"""Mean |F| of the silicon test frames, meV/Å: the error of predicting no force at all."""


def run(file: Path, out: Path, settings: list[str]) -> dict[str, Record]:
    """`rikiba run FILE --out OUT --set …`; the records it left, by name."""
    words = [w for s in settings for w in ("--set", s)]
    assert main(["run", str(file), "--out", str(out), *words]) == 0
    return {r.name: r for r in read_records(out / "records")}


def opens(out: Path, records: list[Record]) -> None:
    """Its report, opened by a browser, draws every figure and viewer and logs no error."""
    if browser.chromium() is None:
        pytest.skip(browser.INSTALL)
    figures, scenes = (sum(len(getattr(r, what)) for r in records) for what in ("figures", "scenes"))
    assert figures > 0
    browser.visit(out / "report.html").check(figures=figures, scenes=scenes)


@pytest.fixture(scope="module")
def silicon(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Record]]:
    out = tmp_path_factory.mktemp("silicon")
    return out, run(SILICON_FILE, out, SILICON)


def test_silicon_is_a_solid_of_its_own_size(silicon: tuple[Path, dict[str, Record]]) -> None:
    """A few epochs already know the crystal: a of PBE is 5.469 Å; forces are far better than none."""
    _, found = silicon
    assert found["eos_behler_parrinello"]["a_A"] == pytest.approx(5.469, rel=0.02)
    assert found["eos_mace"]["a_A"] == pytest.approx(5.469, rel=0.1)
    errors = found["errors"]
    assert 0 < errors["behler_parrinello_forces_mae_meV_per_A"] < 0.5 * MEAN_FORCE
    assert 0 < errors["mace_forces_mae_meV_per_A"] < 0.9 * MEAN_FORCE
    elastic = found["elastic_behler_parrinello"]
    assert elastic["C11_GPa"] > elastic["C12_GPa"] > 0
    assert elastic["C11_GPa"] == pytest.approx(elastic["C33_GPa"], rel=1e-3)


def test_silicon_stands_beside_published_errors(silicon: tuple[Path, dict[str, Record]]) -> None:
    _, found = silicon
    table = found["errors"].tables[0]
    rows = {row[0]: row for row in table.rows}
    assert list(rows) == [*FAMILIES, "MTP", "ACE (large)", "GAP", "qSNAP", "SNAP"]
    energy, forces = (table.columns.index(c) for c in ("E MAE (meV/atom)", "F MAE (meV/Å)"))
    assert (rows["GAP"][energy], rows["GAP"][forces]) == (2.91, 70)
    assert rows["ACE (large)"][forces] is None
    for name, row in rows.items():
        ours = name in FAMILIES
        assert row[energy] > 0 and (row[-1] == "this run") == ours
        if ours:
            assert row[forces] == found["errors"][f"{name}_forces_mae_meV_per_A"]


def test_silicon_answers_carry_the_spread_over_members(silicon: tuple[Path, dict[str, Record]]) -> None:
    _, found = silicon
    for name, key in (("eos", "a_A"), ("elastic", "C11_GPa")):
        for family in FAMILIES:
            record = found[f"{name}_{family}"]
            members = next(t for t in record.tables if "members" in t.title)
            assert members.columns[1:] == ("member 1", "member 2", "mean", "spread")
            first, second = next(row[1:3] for row in members.rows if row[0] == key)
            assert record[key] == pytest.approx((first + second) / 2)
            # sample standard deviation of two
            assert 0 < record.spread[key] == pytest.approx(abs(first - second) / 2**0.5)
        assert found[f"compare_{name}"].tables[0].columns == ("quantity", *FAMILIES)


def test_silicon_tells_of_the_leak_in_its_published_division(silicon: tuple[Path, dict[str, Record]]) -> None:
    """Strained copies of one frame stand on both sides of the published division, unrepaired."""
    out, found = silicon
    leaks = found["leaks"]
    assert leaks.verdict == "fail" and leaks["n_near_duplicates"] > 0
    assert (found["division"]["n_training"], found["division"]["n_test"]) == (214, 25)
    assert "Leaks" in " ".join(found["summary"].notes)
    assert "Leaks between the parts" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.engine
def test_silicon_report_opens(silicon: tuple[Path, dict[str, Record]]) -> None:
    out, found = silicon
    opens(out, list(found.values()))


@pytest.mark.engine
def test_ethanol_report_opens(ethanol_run: tuple[Path, list[Record]]) -> None:
    out, records = ethanol_run
    assert sum(len(r.scenes) for r in records) >= 2
    opens(out, records)


@pytest.mark.engine
def test_a_report_that_cannot_be_drawn_is_noticed(
    silicon: tuple[Path, dict[str, Record]], tmp_path: Path
) -> None:
    """Negative control: the same page with the data of its first figure broken."""
    out, found = silicon
    text = (out / "report.html").read_text(encoding="utf-8")
    data = '<script type="application/json">{'
    assert data in text
    (tmp_path / "report.html").write_text(text.replace(data, data[:-1], 1), encoding="utf-8")
    with pytest.raises(AssertionError):
        opens(tmp_path, list(found.values()))


def times(out: Path) -> dict[str, Any]:
    return json.loads((out / "times.json").read_text())


@pytest.mark.slow
def test_whole_ethanol(tmp_path: Path) -> None:
    """What `make demo` promises on two idle cores: five minutes, and a molecule like the reference's."""
    pytest.importorskip("tblite", reason="pip install rikiba[xtb]")
    began = time.perf_counter()
    found = run(ETHANOL_FILE, tmp_path, [])
    assert time.perf_counter() - began < 300, times(tmp_path)
    assert found["labels"]["n_labelled"] >= 600
    for family in FAMILIES:
        lengths = found["compare_bond_lengths"]
        assert lengths[f"{family}_largest_difference_lengths_A"] < 0.01
        lines = found[f"frequencies_{family}"]["frequencies_cm1"]
        # an imaginary frequency is printed as a negative number
        assert len(lines) == 21 and min(lines) > 0, lines
        assert found["compare_frequencies"][f"{family}_rms_difference_frequencies_cm1"] < 60
        assert found[f"drift_{family}"].verdict != "fail", found[f"drift_{family}"]["finding"]
    opens(tmp_path, list(found.values()))


def elastic_constants_of_the_labels() -> dict[str, float]:
    """C11 and C12 of DFT, GPa: stress against strain of the labelled cells strained by 2 % along one axis.

    Atoms of diamond stay where they are in such a cell, by symmetry, so nothing is left to relax.
    """
    frames = [
        atoms
        for atoms in read(SILICON_FILE.parent / "data" / "train.xyz", ":")
        if atoms.info["description"].endswith(("mode 0, strain 0.02", "mode 0, strain -0.02"))
    ]
    shorter, longer = sorted(frames, key=lambda atoms: atoms.cell[0, 0])
    rest = shorter.cell[1, 1]
    strain = (longer.cell[0, 0] - shorter.cell[0, 0]) / rest
    slope = (longer.get_stress() - shorter.get_stress()) / strain / units.gigapascal
    assert abs(strain - 0.04) < 1e-3 and longer.cell[1, 1] == pytest.approx(rest)
    return {"C11_GPa": float(slope[0]), "C12_GPa": float(slope[1])}


def test_labels_are_softer_than_silicon() -> None:
    """PBE: C11 = 153 GPa where 166 are measured, C12 = 56 GPa where 64 are."""
    assert elastic_constants_of_the_labels() == pytest.approx({"C11_GPa": 152.7, "C12_GPa": 56.5}, abs=0.5)


@pytest.mark.slow
def test_whole_silicon(tmp_path: Path) -> None:
    """Elastic constants within 20 % of those of the labels; C44, of which labels hold only the part before
    the atoms relax, within 20 % of the measured one.

    Measured at 298 K: McSkimin & Andreatch, J. Appl. Phys. 35, 2161 (1964), doi:10.1063/1.1702809. Labels
    are PBE at 0 K, which is up to a tenth softer: half of the allowance.
    """
    expected = elastic_constants_of_the_labels() | {"C44_GPa": 79.6}
    found = run(SILICON_FILE, tmp_path, [])
    for family in FAMILIES:
        elastic = found[f"elastic_{family}"]
        assert {k: elastic[k] for k in expected} == pytest.approx(expected, rel=0.2), family
        assert found[f"eos_{family}"]["a_A"] == pytest.approx(5.469, rel=0.005)
        assert found["errors"][f"{family}_forces_mae_meV_per_A"] < 0.25 * MEAN_FORCE
    opens(tmp_path, list(found.values()))
