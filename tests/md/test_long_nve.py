"""Constant energy for long: the script of benchmarks/long_nve, shortened; a million steps where slow."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest


def script() -> Any:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "long_nve" / "run.py"
    spec = importlib.util.spec_from_file_location("long_nve", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs_and_goes_on(tmp_path: Path) -> None:
    first = script().run("lennard_jones", 400, tmp_path)
    assert first["steps"] == 400 and first["alarms"] == []
    assert script().run("lennard_jones", 800, tmp_path)["length_ps"] == pytest.approx(3.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lennard_jones", "schnet", "snap"])
def test_a_million_steps(name: str, tmp_path: Path) -> None:
    found = script().run(name, 1_000_000, tmp_path)
    assert found["steps"] == 1_000_000 and found["alarms"] == []
    assert found["verdict"] == "pass", found
