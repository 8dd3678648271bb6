"""What a newcomer types first, and what the command says back."""

import tomllib
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from rikiba.cli.explain import plain_tables
from rikiba.cli.main import main

PROPERTY = """
[structure]
kind = "crystal"
formula = "Cu"
lattice = "fcc"

[calculator]
kind = "ase.calculators.emt:EMT"

[property.eos]
n_points = 6
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.toml").write_text(PROPERTY)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rikiba")]
    assert len(said) == 1
    return said[0]


@pytest.mark.parametrize("word", plain_tables())
def test_every_table_without_kinds_is_explained(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", word]) == 0
    text = capsys.readouterr().out
    heading, cls = plain_tables()[word]
    table = tomllib.loads(text)
    for part in heading.split("."):
        table = table[part]
    assert all(f"{name} " in text for name in cls.__dataclass_fields__)


def test_a_room_is_listed_where_no_kind_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "potential"]) == 0
    text = capsys.readouterr().out
    assert "mace" in text and "rikiba explain potential NAME" in text
    said = refused(capsys, "explain", "simulatoin")
    assert "simulation" in said and "potentials" in said


@pytest.mark.parametrize("verb", ["property", "relax", "md", "evaluate", "label", "train", "run"])
def test_a_folder_that_cannot_be_written_is_refused_before_work(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("a file")
    said = refused(capsys, verb, "job.toml", "--out", "taken/here")
    assert "'taken/here' cannot be written" in said and "--out" in said
    assert Path("taken").read_text() == "a file"


def test_a_page_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["property", "job.toml"]) == 0
    Path("taken").write_text("a file")
    assert "'taken/page.html' cannot be written" in refused(
        capsys, "report", "runs/job", "--out", "taken/page.html"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["structure.formula=Qq"], "no element Qq"),
        (["structure.formula=foo"], "no chemical formula"),
        (["structure.formula=U"], "Give it as a, in Å"),
        (["structure={kind = 'molecule', name = 'CH3CH2O2'}"], "CH3CH2OH"),
        (["structure={kind = 'molecule', name = 'H2O'}"], "pbc = [False, False, False]"),
    ],
)
def test_structures_that_cannot_be(
    settings: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "property", "job.toml", *(w for s in settings for w in ("--set", s)))
    assert words in said and len(said) < 500


def test_physics_of_a_calculator_that_does_not_tell_its_elements(capsys: pytest.CaptureFixture[str]) -> None:
    Path("only.toml").write_text('[calculator]\nkind = "ase.calculators.emt:EMT"\n')
    said = refused(capsys, "evaluate", "only.toml", "--physics")
    assert "[structure]" in said and "[physics]" in said


def test_a_damaged_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cut.npz").write_bytes(b"PK\x03\x04 cut short")
    text = PROPERTY.replace("calculator", "potential", 1)
    text = text.replace('kind = "ase.calculators.emt:EMT"', 'checkpoint = "cut.npz"')
    Path("damaged.toml").write_text(text)
    assert "cut.npz is not a rikiba potential file, or is damaged" in refused(
        capsys, "property", "damaged.toml"
    )


def test_labels_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    atoms = bulk("Cu")
    atoms.info["energy"] = -1.0
    atoms.arrays["DFT_forces"] = atoms.positions * 0
    write("other.xyz", [atoms] * 4, format="extxyz")
    Path("train.toml").write_text(
        '[data]\ntraining = "other.xyz"\nlevel_of_theory = "PBE"\n'
        '[model.a.potential]\nkind = "behler_parrinello"\n'
    )
    said = refused(capsys, "train", "train.toml")
    assert "no forces under 'forces'" in said and "Did you mean forces_key='DFT_forces'?" in said
    said = refused(capsys, "train", "train.toml", "--set", "data.stress_key=virial")
    assert "virial" in said or "forces" in said
