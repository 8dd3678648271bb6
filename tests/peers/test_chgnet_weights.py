"""CHGNet on weights of the chgnet package answers what that package answered (chgnet/reference)."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop import chgnet as interop
from rikiba.interop.chgnet import read_chgnet
from rikiba.interop.foreign import build
from rikiba.potentials.base import Potential

FOLDER = Path(__file__).parent / "chgnet" / "reference"
DRAWN = ("norms", "biases", "deep")
PUBLISHED = ("published_0.3.0", "published_0.2.0", "published_r2scan")


@cache
def load(case: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(FOLDER / f"{case}.npz") as f:
        arrays = dict(f)
    return arrays, json.loads(str(arrays["about"]))


def state_of(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {k[6:]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith("state/")}


def drawn(case: str, **changes: Any) -> Potential:
    arrays, about = load(case)
    weights = read_chgnet(state_of(arrays), about["arguments"], bias_needs_angles=True)
    return build(weights._replace(arguments=weights.arguments | changes), torch.float64)


def published(case: str) -> Potential:
    try:
        weights = interop.pretrained(model=load(case)[1]["arguments"]["published"], bias_needs_angles=True)
    except ImportError as missing:
        pytest.skip(str(missing))
    return build(weights, torch.float64)


def worst(model: Potential, case: str, names: tuple[str, ...] = ()) -> dict[str, float]:
    """Largest difference in energy (eV per atom), forces (eV/Å), stress (eV/Å³) and moments (μB)."""
    arrays, about = load(case)
    out = dict.fromkeys(("energy", "energies", "forces", "stress", "magmoms"), 0.0)
    for name in names or about["structures"]:
        s = {k.split("/")[2]: v for k, v in arrays.items() if k.startswith(f"structures/{name}/")}
        atoms = Atoms(numbers=s["numbers"], positions=s["positions"], cell=s["cell"], pbc=True)
        system = System.from_ase(atoms)
        found = evaluate(model, system, find_pairs(system, model.cutoff), forces=True, stress=True)
        values = {k: found.need(k).detach().numpy() for k in out}
        expected = s | {"energies": s["node_energy"], "stress": s["stress"][None]}
        for key in out:
            error = float(np.abs(values[key] - expected[key]).max())
            out[key] = max(out[key], error / len(atoms) if key == "energy" else error)
    return out


def test_the_structures_are_what_is_needed() -> None:
    arrays, about = load("published_0.2.0")
    angles = {name: int(arrays[f"structures/{name}/n_angles"]) for name in about["structures"]}
    assert angles["pair"] == 0 and min(n for k, n in angles.items() if k != "pair") > 50
    moments = arrays["structures/iron/magmoms"], load("published_0.3.0")[0]["structures/nickel_oxide/magmoms"]
    assert moments[0].min() > 1.5 and moments[1].max() > 1.0
    assert sum(p.stat().st_size for p in FOLDER.glob("*.npz")) < 3e5


@pytest.mark.parametrize("case", DRAWN)
def test_equal_to_chgnet(case: str) -> None:
    difference = worst(drawn(case), case)
    assert max(difference["energy"], difference["energies"]) < 1e-10
    assert difference["forces"] < 1e-9 and difference["stress"] < 1e-10 and difference["magmoms"] < 1e-9


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_weights_answer_the_same(case: str) -> None:
    difference = worst(published(case), case)
    assert max(difference["energy"], difference["energies"]) < 1e-6
    assert difference["forces"] < 1e-5 and difference["stress"] < 1e-6 and difference["magmoms"] < 1e-4


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"envelope_power": 7}, "energy"),
        ({"angle_epsilon": 0.2}, "energy"),
        ({"bond_cutoff": 2.9}, "energy"),
        ({"isolated_limit": True}, "energy"),
        ({"bias_needs_angles": False}, "forces"),
    ],
    ids=str,
)
def test_a_wrong_setting_shows(change: dict[str, Any], key: str) -> None:
    """Negative control: the comparison fails where something that is not in the weights is wrong."""
    case, names = ("biases", ("pair",)) if "bias_needs_angles" in change else ("norms", ("silica_hydrogen",))
    assert worst(drawn(case), case, names)[key] < 1e-9
    assert worst(drawn(case, **change), case, names)[key] > 1e-6


def test_the_energy_jumps_with_the_first_angle_only_if_asked_for() -> None:
    """chgnet#79: a chain whose two bonds pass 3 Å together loses its angle there."""

    def energy(model: Potential, r: float) -> float:
        system = System.from_ase(Atoms("ONaCl", [[0, 0, 0], [r, 0, 0], [0, r, 0]]))
        return float(model(system, find_pairs(system, model.cutoff)).need("energies").detach().sum())

    for as_published in (True, False):
        model = drawn("biases", bias_needs_angles=as_published)
        jump = abs(energy(model, 3.0 - 1e-7) - energy(model, 3.0 + 1e-7))
        assert (jump > 1e-4) == as_published and (jump < 1e-6) != as_published


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_norm": "layer"}, "conv_norm"),
        ({"non_linearity": "tanh"}, "non_linearity"),
        ({"gMLP_norm": "batch"}, "batch norms"),
        ({"mlp_first": False}, "mlp_first"),
    ],
)
def test_other_architectures_are_refused(change: dict[str, Any], message: str) -> None:
    arrays, about = load("norms")
    with pytest.raises(ValueError, match=message):
        read_chgnet(state_of(arrays), about["arguments"] | change)


def test_elements_are_those_named() -> None:
    arrays, about = load("norms")
    weights = read_chgnet(state_of(arrays), about["arguments"], elements=("Si", "O"))
    table = arrays["state/atom_embedding.embedding.weight"]
    np.testing.assert_array_equal(weights.tensors["embedding"].numpy(), table[[7, 13]])
    assert weights.arguments["elements"] == ["O", "Si"]
    all_of_them = read_chgnet(state_of(arrays), about["arguments"]).arguments["elements"]
    assert len(all_of_them) == 89 and not {"Po", "At", "Rn", "Fr", "Ra"} & set(all_of_them)
    with pytest.raises(ValueError, match="Am"):
        read_chgnet(state_of(arrays), about["arguments"], elements=("Am",))
