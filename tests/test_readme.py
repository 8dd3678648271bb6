"""The README's code runs as it stands; its file runs at a reduced size."""

import json
import re
from pathlib import Path

import pytest
import torch
from ase.io import read, write

from rikiba.cli.main import main, verbs

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)
    return text


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has the examples, and that may be written to."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_block(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    exec(compile(block("python"), "README.md", "exec"), {"__name__": "__readme__"})
    energy = float(capsys.readouterr().out.split()[0])
    frames = read("examples/silicon/data/train.xyz", ":")
    energies = [a.get_potential_energy() / len(a) for a in frames]
    # the crystal is the lowest of all frames, and their mean lies well above it
    assert min(energies) < sum(energies) / len(energies) - 0.1
    assert energy / 8 == pytest.approx(min(energies), abs=0.05)
    assert (clone / "silicon.npz").is_file()


def test_toml_block(clone: Path) -> None:
    (clone / "silicon.toml").write_text(block("toml"))
    for name in ("train", "test"):
        frames = [a for a in read(f"examples/silicon/data/{name}.xyz", ":") if len(a) <= 64]
        write(f"{name}.xyz", frames[:12], format="extxyz")
    settings = [
        "data.training=train.xyz",
        "data.test=test.xyz",
        "model.silicon.potential.channels=4",
        "model.silicon.potential.max_L=0",
        "model.silicon.training.max_epochs=2",
        "validation.physics=false",
        "property.elastic.max_steps=100",
        "property.elastic.force_tolerance=0.05",
        "property.elastic.stress_tolerance_GPa=1.0",
        "run.processes=1",
    ]
    assert main(["run", "silicon.toml", *(word for s in settings for word in ("--set", s))]) == 0
    out = clone / "runs" / "silicon"
    assert json.loads((out / "manifest.json").read_text())["versions"]["rikiba"]
    assert "Elastic constants" in (out / "report.html").read_text()


def test_commands_are_those_of_the_makefile_and_verbs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    row = re.search(r"\| Command line \| (.*?) \|", README)
    assert row is not None and set(re.findall(r"`(\w+)`", row[1])) == set(verbs())


def test_files_that_are_named_exist() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).is_file(), path
