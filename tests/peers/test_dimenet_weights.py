"""DimeNet and DimeNet++ on weights of PyTorch Geometric answer what it answered (tests/peers/pyg)."""

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
from rikiba.interop.pytorch_geometric import read_dimenet
from rikiba.potentials.dimenet import DimeNet
from rikiba.potentials.dimenet_plus_plus import DimeNetPlusPlus

FOLDER = Path(__file__).parent / "pyg"
CLASSES = {"dimenet": DimeNet, "dimenet_plus_plus": DimeNetPlusPlus}


def load(case: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(FOLDER / f"{case}.npz") as f:
        arrays = dict(f)
    return arrays, json.loads(str(arrays["about"]))


def build(case: str, **changed: Any) -> DimeNet | DimeNetPlusPlus:
    arrays, about = load(case)
    state = {k[6:]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith("state/")}
    weights = read_dimenet(state, about["settings"], ("H", "O", "C"))
    assert weights.class_name == CLASSES[case].__name__
    model = CLASSES[case](**(weights.arguments | changed)).double()
    model.load_state_dict(weights.tensors, strict=True)
    return model


def worst(case: str, model: DimeNet | DimeNetPlusPlus) -> tuple[float, float]:
    """Largest difference in energy (eV) and forces (eV/Å) over all structures."""
    arrays, about = load(case)
    found = [0.0, 0.0]
    for name in about["structures"]:
        atoms = Atoms(numbers=arrays[f"{name}/numbers"], positions=arrays[f"{name}/positions"])
        system = System.from_ase(atoms)
        results = evaluate(model, system, find_pairs(system, model.cutoff), forces=True)
        for k, key in enumerate(("energy", "forces")):
            difference = np.abs(results.need(key).numpy() - arrays[f"{name}/{key}"]).max()
            found[k] = max(found[k], float(difference))
    return found[0], found[1]


@pytest.mark.parametrize("case", CLASSES)
def test_equal_to_pytorch_geometric(case: str) -> None:
    energy, forces = worst(case, build(case))
    assert energy < 1e-9 and forces < 1e-9
    arrays, _ = load(case)
    assert np.abs(arrays["C6H6/forces"]).max() > 1e-2
    model = build(case)
    model.angle = "bond"  # negative control: the angle of the paper
    assert worst(case, model)[0] > 1e-6
    assert worst(case, build(case, envelope_power=5))[0] > 1e-6


def test_other_models_are_refused() -> None:
    for changed in ({"out_channels": 2}, {"act": "relu"}, {"colour": 1}):
        with pytest.raises(ValueError, match="one output"):
            read_dimenet({}, load("dimenet")[1]["settings"] | changed, ("H",))
