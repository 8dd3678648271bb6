"""DeepPotential on weights of deepmd-kit answers what deepmd-kit answered (deepmd/reference)."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop.deepmd import load_deepmd
from rikiba.interop.mace_torch import Weights
from rikiba.potentials.deep_potential import DeepPotential

FOLDER = Path(__file__).parent / "deepmd" / "reference"
CASES = sorted(p.stem for p in FOLDER.glob("*.npz"))
Arrays = dict[str, np.ndarray]


def load(case: str) -> tuple[Arrays, dict[str, Any]]:
    with np.load(FOLDER / f"{case}.npz") as f:
        arrays = dict(f)
    return arrays, json.loads(str(arrays["about"]))


def weights_of(arrays: Arrays, folder: Path) -> Weights:
    file = folder / "model.json"
    file.write_text(str(arrays["model"]))
    return load_deepmd(file)


def build(weights: Weights, **changes: Any) -> DeepPotential:
    model = DeepPotential(**(weights.arguments | changes)).double()
    model.load_state_dict(weights.tensors, strict=True)
    return model


def worst(
    model: DeepPotential, arrays: Arrays, about: dict[str, Any], program: Any = None
) -> dict[str, float]:
    """Largest difference in energies (eV), forces (eV/Å) and stress (eV/Å³) over all structures."""
    out = {"energies": 0.0, "forces": 0.0, "stress": 0.0}
    for name in about["structures"]:
        s = {k.split("/")[2]: v for k, v in arrays.items() if k.startswith(f"structures/{name}/")}
        system = System.from_ase(Atoms(s["numbers"], s["positions"], cell=s["cell"], pbc=s["pbc"]))
        pairs, wanted = find_pairs(system, model.cutoff), {"forces": True, "stress": "stress" in s}
        found = (
            evaluate(model, system, pairs, **wanted)
            if program is None
            else run_program(program, system, pairs, **wanted)
        )
        expected = {"energies": s["node_energy"], "forces": s["forces"]}
        expected |= {"stress": s["stress"][None]} if "stress" in s else {}
        for key, value in expected.items():
            out[key] = max(out[key], float(np.abs(found.need(key).numpy() - value).max()))
    return out


@pytest.mark.parametrize("case", CASES)
def test_equal_to_deepmd(case: str, tmp_path: Path) -> None:
    arrays, about = load(case)
    assert about["influence_of_sel_eV"] > 1e-3
    difference = worst(build(weights_of(arrays, tmp_path)), arrays, about)
    assert difference["energies"] < 1e-11
    assert difference["forces"] < 1e-12
    assert difference["stress"] < 1e-13


@pytest.mark.parametrize("case", CASES)
def test_compiled_programs_are_equal_too(case: str, tmp_path: Path) -> None:
    """The networks' program as exact as the potential, that of tables within 1e-5 eV/Å of it."""
    arrays, about = load(case)
    model = build(weights_of(arrays, tmp_path))
    for tabulate, tolerance in ((False, 1e-12), (True, 1e-5)):
        difference = worst(model, arrays, about, model.program(tabulate=tabulate))
        assert difference["energies"] < max(1e-11, 0.1 * tolerance)
        assert difference["forces"] < tolerance
        assert difference["stress"] < tolerance


@pytest.mark.parametrize(
    "change", [{"sel": 1}, {"switch_start": 0.7}, {"activation": "other"}, {"isolated_limit": True}], ids=str
)
def test_a_wrong_setting_shows(change: dict[str, Any], tmp_path: Path) -> None:
    """Negative control: the comparison fails where something that is not in the tensors is wrong."""
    arrays, about = load("one_side")
    weights = weights_of(arrays, tmp_path)
    if "sel" in change:
        change = {"sel": weights.arguments["sel"] | {"C": weights.arguments["sel"]["C"] + change["sel"]}}
    if "activation" in change:
        change = {"activation": "silu"}
    assert worst(build(weights, **change), arrays, about)["energies"] > 1e-5


def test_swapped_networks_show(tmp_path: Path) -> None:
    arrays, about = load("both_sides")
    weights = weights_of(arrays, tmp_path)
    name, n = "descriptor.networks.weights.0", len(weights.arguments["elements"])
    swapped = weights.tensors[name].unflatten(0, (n, n)).transpose(0, 1).flatten(0, 1)
    other = Weights(weights.class_name, weights.arguments, weights.tensors | {name: swapped})
    assert worst(build(other), arrays, about)["forces"] > 1e-5


@pytest.mark.parametrize("ending", ["dp", "yaml", "pt", "pth"])
def test_every_file_format_is_the_same_model(ending: str) -> None:
    if ending == "yaml":
        pytest.importorskip("yaml", reason="pip install rikiba[deepmd]")
    arrays, about = load("water")
    difference = worst(build(load_deepmd(FOLDER / f"water.{ending}")), arrays, about)
    assert difference["energies"] < 1e-11 and difference["forces"] < 1e-12


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    with zipfile.ZipFile(FOLDER / "water.pth") as old, zipfile.ZipFile(tmp_path / "bad.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, pickle.dumps(Bomb()) if name.endswith("/data.pkl") else old.read(name))
    with pytest.raises(pickle.UnpicklingError, match="Unsupported"):
        load_deepmd(tmp_path / "bad.pth")
    torch.save({"model": {"_extra_state": Bomb()}}, tmp_path / "bad.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_deepmd(tmp_path / "bad.pt")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="ends in"):
        load_deepmd(tmp_path / "graph.pb")


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("descriptor", "type", "se_atten", "se_e2_a"),
        ("descriptor", "exclude_types", [[0, 1]], "exclude_types"),
        ("descriptor", "activation_function", "gelu", "one activation"),
        ("fitting", "numb_fparam", 1, "numb_fparam"),
        ("fitting", "mixed_types", True, "for all types"),
    ],
)
def test_foreign_parts_are_refused(part: str, name: str, value: Any, message: str, tmp_path: Path) -> None:
    data = json.loads(str(load("water")[0]["model"]))
    data["model"][part][name] = value
    (tmp_path / "model.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        load_deepmd(tmp_path / "model.json")
