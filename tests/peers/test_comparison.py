"""The comparison with other programs: what it refuses, what it writes, a short run where a peer is there."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rikiba.core.pairs import find_pairs
from rikiba.core.system import System

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "peers"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # dataclasses look there
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def compare() -> Any:
    sys.path.insert(0, str(FOLDER))
    names = ("structures", "cases", "install_peers", "compare")
    kept = {name: sys.modules.pop(name, None) for name in names}
    yield module("compare")
    sys.path.remove(str(FOLDER))
    for name, before in kept.items():
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before


def answers(**changes: float) -> dict[str, np.ndarray]:
    """Numbers of two atoms, some of them shifted."""
    forces = np.array([[1.0, 0.5, 0.0], [-1.0, -0.5, 0.0]])
    return {
        "energy": np.array([-3.0 + changes.get("energy", 0.0)]),
        "forces": forces + changes.get("forces", 0.0),
        "stress": np.eye(3) * 0.1 + changes.get("stress", 0.0),
    }


def differences(compare: Any, dtype: str, folder: Path, **changes: float) -> dict[str, float]:
    np.savez(folder / "a.npz", **answers())
    np.savez(folder / "b.npz", **answers(**changes))
    return compare.compare_numbers("model", "pair", dtype, folder / "a.npz", folder / "b.npz", 2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_equal_numbers_pass(compare: Any, dtype: str, tmp_path: Path) -> None:
    found = differences(compare, dtype, tmp_path, energy=1e-6, forces=5e-6)
    assert found["energy_eV_per_atom"] == pytest.approx(5e-7)
    assert found["forces_eV_per_A"] == pytest.approx(5e-6)


@pytest.mark.parametrize(
    ("dtype", "changes"),
    [
        ("float64", {"energy": 4e-6}),
        ("float64", {"forces": 2e-5}),
        ("float64", {"stress": 2e-6}),
        ("float64", {"forces": float("nan")}),
        ("float32", {"energy": 1e-4}),
        ("float32", {"forces": 2e-3}),
    ],
)
def test_unequal_numbers_stop_the_run(
    compare: Any, dtype: str, changes: dict[str, float], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="not equal"):
        differences(compare, dtype, tmp_path, **changes)


def test_structures_are_what_they_say(compare: Any) -> None:
    structures = sys.modules["structures"]
    for name in structures.NAMES:
        found = structures.structure(name)
        count = name.partition("-")[2]
        assert len(found.numbers) == int(count or {"ethanol": 9, "aspirin": 21}[name])
        assert found.periodic == bool(count)
        system = System.from_ase(found.atoms())
        assert len(find_pairs(system, 0.6)) == 0 < len(find_pairs(system, 3.0))
    again = structures.structure("water-192").frames
    assert np.array_equal(again, structures.structure("water-192").frames) and again.std(0).min() > 0
    with pytest.raises(ValueError, match="no structure"):
        structures.ideal("Si-65")


def row(**changes: Any) -> dict[str, Any]:
    return {"case": "painn", "structure": "Si-64", "threads": 1, "ratio": 1.23456} | changes


def test_rows_are_replaced_not_doubled(compare: Any, tmp_path: Path) -> None:
    for changes in ({}, {"threads": 2}, {"structure": "ethanol"}, {"ratio": 9.0}):
        compare.write("schnetpack", row(**changes), tmp_path)
    found = json.loads((tmp_path / "schnetpack.json").read_text())["rows"]
    assert [(r["structure"], r["threads"], r["ratio"]) for r in found] == [
        ("ethanol", 1, 1.235),
        ("Si-64", 1, 9.0),
        ("Si-64", 2, 1.235),
    ]


def test_several_threads_need_as_many_cores(compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare.os, "cpu_count", lambda: 2)
    assert compare.crowded(row(threads=2, busy_with_others=0.5))
    assert not compare.crowded(row(threads=2, busy_with_others=0.1))
    assert not compare.crowded(row(threads=1, busy_with_others=1.5))


def test_every_case_has_its_side_and_pins(compare: Any) -> None:
    assert set(compare.chosen(["mace", "painn"])) == {*(n for n in compare.CASES if "mace" in n), "painn"}
    with pytest.raises(ValueError, match="no case"):
        compare.chosen(["gromacs"])
    for case in compare.CASES.values():
        assert (FOLDER / f"{case.peer}_side.py").is_file()
        pins = (FOLDER / "pinned" / f"{case.peer}.txt").read_text().splitlines()
        assert all("==" in line for line in pins)
        assert {p.partition("==")[0] for p in pins} >= set(compare.PACKAGES[case.peer])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "structure"),
    [
        ("mace-64x0e", "ethanol"),
        ("mace-64x0e-md", "Si-216"),
        ("schnet", "ethanol"),
        ("painn", "Si-64"),
        ("nequip-l1", "ethanol"),
        ("sevennet-0", "ethanol"),
        ("tersoff", "Si-216"),
    ],
)
def test_a_short_run(compare: Any, case: str, structure: str, tmp_path: Path) -> None:
    """Skips where the peer is not installed, and says how to."""
    peer = compare.CASES[case].peer
    if not compare.environment(peer).exists():
        pytest.skip(f"python benchmarks/peers/install_peers.py {peer}")
    command = [
        "--only",
        case,
        "--systems",
        structure,
        "--threads",
        "1",
        "--seconds",
        "1",
        "--out",
        str(tmp_path),
    ]
    subprocess.run([sys.executable, str(FOLDER / "compare.py"), *command], check=True, cwd=ROOT)
    (found,) = json.loads((tmp_path / f"{peer}.json").read_text())["rows"]
    assert found["rounds"] >= 3 and found["ratio"] > 0
    assert found["peer"]["median_ms"] > 0 and found["rikiba"]["median_ms"] > 0
    if compare.CASES[case].equal:
        assert found["differences_float64"]["energy_eV_per_atom"] <= 1e-6
        assert "differences_float32" in found
