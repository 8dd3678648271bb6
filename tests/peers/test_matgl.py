"""TensorNet and M3GNet on weights of matgl answer what matgl answered (matgl/reference)."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop.mace_torch import Weights
from rikiba.interop.matgl import load_matgl, read_matgl
from rikiba.potentials.base import Potential
from rikiba.potentials.m3gnet import M3GNet
from rikiba.potentials.tensornet import TensorNet

FOLDER = Path(__file__).parent / "matgl" / "reference"
SMALL = ["m3gnet_grid", "m3gnet_smooth", "tensornet_o3", "tensornet_so3"]
PRETRAINED = ["m3gnet_mp", "tensornet_matpes"]
CLASSES: dict[str, type[Potential]] = {"TensorNet": TensorNet, "M3GNet": M3GNet}


def load(case: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(FOLDER / f"{case}.npz") as f:
        arrays = dict(f)
    return arrays, json.loads(str(arrays["about"]))


def small(
    arrays: dict[str, np.ndarray], about: dict[str, Any]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """State and settings of a random model, as matgl saves them."""
    arguments = dict(about["arguments"])
    model = {"@class": arguments.pop("model"), "@model_version": 2}
    defaults = {"nblocks": 2 if model["@class"] == "TensorNet" else 3, "max_n": 3, "max_l": 3}
    state = {k[6:]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith("state/")}
    return state, {"model": model | {"init_args": defaults | arguments}}


def build(weights: Weights) -> Potential:
    model = CLASSES[weights.class_name](**weights.arguments).double()
    model.load_state_dict(weights.tensors, strict=True)
    return model


def worst(model: Potential, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> dict[str, float]:
    """Largest difference in energy (eV per atom), forces (eV/Å) and stress (eV/Å³) over all structures."""
    out = {"energy": 0.0, "forces": 0.0, "stress": 0.0}
    for name in about["structures"]:
        s = {k.split("/")[2]: v for k, v in arrays.items() if k.startswith(f"structures/{name}/")}
        atoms = Atoms(numbers=s["numbers"], positions=s["positions"], cell=s["cell"], pbc=s["pbc"])
        system = System.from_ase(atoms)
        found = evaluate(model, system, find_pairs(system, model.cutoff), forces=True, stress="stress" in s)
        errors = {
            "energy": abs(float(found.need("energy")) - float(s["energy"])) / len(atoms),
            "forces": float(np.abs(found.need("forces").numpy() - s["forces"]).max()),
        }
        if "stress" in s:
            errors["stress"] = float(np.abs(found.need("stress")[0].numpy() - s["stress"]).max())
        out = {key: max(out[key], errors.get(key, 0.0)) for key in out}
    return out


def folder_of(data_dir: Path, about: dict[str, Any]) -> Path:
    folder = data_dir / "pretrained" / "matgl" / about["folder"]
    if not folder.exists():
        pytest.skip(f"{about['folder']} is not among the reference data")
    return folder


@pytest.mark.parametrize("case", SMALL)
def test_equal_to_matgl(case: str) -> None:
    arrays, about = load(case)
    state, settings = small(arrays, about)
    model = build(read_matgl(state, settings))
    difference = worst(model, arrays, about)
    assert difference["energy"] < 1e-8 and difference["forces"] < 1e-7 and difference["stress"] < 1e-8
    # negative control: sums at the other end are another model
    other = build(read_matgl(state, settings, messages_to="neighbour"))
    assert worst(other, arrays, about)["energy"] > 1e-3


@pytest.mark.parametrize("case", PRETRAINED)
def test_public_weights_are_equal_to_matgl(case: str, data_dir: Path) -> None:
    arrays, about = load(case)
    # matgl 4 sums M3GNet's messages at the centre whatever the weights were trained with
    weights = load_matgl(folder_of(data_dir, about), messages_to="centre" if case == "m3gnet_mp" else None)
    difference = worst(build(weights), arrays, about)
    assert difference["energy"] < 1e-8 and difference["forces"] < 1e-7 and difference["stress"] < 1e-8


@pytest.mark.parametrize(
    ("case", "right", "wrong"), [("m3gnet_mp", 0.08, 0.3), ("tensornet_matpes", 0.25, 0.3)]
)
def test_public_weights_mean_what_they_were_trained_with(
    case: str, right: float, wrong: float, data_dir: Path
) -> None:
    """Against DFT (PBE without +U, MPtrj) they are right as read here, and wrong with sums at the centre."""
    from ase.io import iread

    structures = data_dir / "mattersim_bench" / "mptrj-random-1k.xyz"
    if not structures.exists():
        pytest.skip("mattersim_bench is not among the reference data")
    folder = folder_of(data_dir, load(case)[1])
    models = [build(load_matgl(folder, messages_to=to)) for to in (None, "centre")]  # type: ignore[arg-type]
    corrected = {"Co", "Cr", "Fe", "Mn", "Mo", "Ni", "V", "W", "O", "F"}
    errors: list[list[float]] = [[], []]
    for atoms in iread(structures, ":150"):
        if corrected & set(atoms.symbols) or len(atoms) > 12:
            continue
        system = System.from_ase(atoms)
        pairs = find_pairs(system, 5.0)
        for model, found in zip(models, errors, strict=True):
            energy = float(evaluate(model, system, pairs, forces=False).need("energy"))
            found.append(abs(energy - atoms.get_potential_energy()) / len(atoms))
    assert len(errors[0]) > 5
    assert np.median(errors[0]) < right
    assert np.median(errors[1]) > wrong


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    state, settings = small(*load("tensornet_so3"))
    torch.save(state, tmp_path / "state.pt")
    torch.save(settings, tmp_path / "model.pt")
    assert load_matgl(tmp_path).class_name == "TensorNet"
    torch.save(settings | {"x": Bomb()}, tmp_path / "model.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_matgl(tmp_path)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="is not a saved potential"):
        load_matgl(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"is_intensive": True}, "is_intensive"),
        ({"activation_type": "tanh"}, "activation_type"),
        ({"use_smooth": False}, "smooth Bessel"),
        ({"include_state": True}, "state features"),
        ({"nblocks": 3}, "missing"),
        ({"nblocks": 0}, "parts that TensorNet has not"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_foreign_parts_are_refused(changed: dict[str, Any], message: str) -> None:
    state, settings = small(*load("tensornet_so3"))
    arguments = settings["model"]["init_args"] | changed
    with pytest.raises(ValueError, match=message):
        read_matgl(state, {"model": settings["model"] | {"init_args": arguments}})
    with pytest.raises(ValueError, match="every structure"):
        read_matgl(state | {"data_mean": torch.tensor(1.0)}, settings)
    with pytest.raises(ValueError, match="TensorNet, M3GNet"):
        read_matgl(state, {"model": settings["model"] | {"@class": "CHGNet"}})
