"""Equivariant transformers on weights of TorchMD-Net answer what TorchMD-Net answered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop.foreign import build, read_foreign
from rikiba.interop.torchmd_net import read_torchmd_net

FOLDER = Path(__file__).parent / "torchmd" / "reference"
ELEMENTS = ["H", "C", "N", "O", "Si"]


def load(case: str) -> tuple[dict[str, torch.Tensor], dict[str, Any], dict[str, np.ndarray]]:
    with np.load(FOLDER / f"{case}.npz") as file:
        arrays = dict(file)
    about = json.loads(str(arrays["about"]))
    return {k[6:]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith("state/")}, about, arrays


def differences(model: Any, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[float, float]:
    """Largest differences of energy (eV per atom) and forces (eV/Å)."""
    energy = forces = 0.0
    for name in about["structures"]:
        s = {k.split("/")[2]: v for k, v in arrays.items() if k.startswith(f"structures/{name}/")}
        system = System.from_ase(Atoms(numbers=s["numbers"], positions=s["positions"]))
        found = evaluate(model, system, find_pairs(system, model.cutoff))
        energy = max(energy, abs(float(found.need("energy")) - float(s["energy"])) / system.n_atoms)
        forces = max(forces, float(np.abs(found.need("forces").numpy() - s["forces"]).max()))
    return energy, forces


@pytest.mark.parametrize("case", ["on_values", "on_attention"])
def test_energies_and_forces_are_those_of_torchmd_net(case: str, tmp_path: Path) -> None:
    state, about, arrays = load(case)
    checkpoint = {
        "hyper_parameters": about["arguments"],
        "state_dict": {f"model.{k}": v for k, v in state.items()},
    }
    torch.save(checkpoint, tmp_path / "model.ckpt")
    model = build(read_foreign(tmp_path / "model.ckpt", options={"elements": ELEMENTS}), torch.float64)
    energy, forces = differences(model, about, arrays)
    assert energy < 1e-10 and forces < 1e-9
    assert max(np.abs(arrays[f"structures/{n}/forces"]).max() for n in about["structures"]) > 0.05
    # negative control: with one head's query changed the forces are others
    with torch.no_grad():
        model.get_parameter("layers.1.query.bias")[0] += 1.0
    assert differences(model, about, arrays)[1] > 1e-4


@pytest.mark.parametrize(
    ("change", "words"),
    [({"distance_influence": "keys"}, "'both' is"), ({"prior_model": "ZBL"}, "prior_model")],
)
def test_other_settings_are_refused(change: dict[str, Any], words: str) -> None:
    state, about, _ = load("on_values")
    with pytest.raises(ValueError, match=words):
        read_torchmd_net(state, about["arguments"] | change, ELEMENTS)
