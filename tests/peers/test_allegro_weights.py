"""Allegro on weights of nequip-allegro answers what that package answered (tests/peers/allegro)."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rikiba.interop.allegro import read_allegro
from rikiba.potentials.allegro import Allegro

from nequip_files import load, state_of, worst  # isort: skip

FOLDER = Path(__file__).parent / "allegro" / "reference"
CASES = sorted(p.stem for p in FOLDER.glob("*.npz"))


def build(state: dict[str, torch.Tensor], settings: dict[str, Any]) -> Allegro:
    weights = read_allegro(state, settings)
    assert weights.class_name == "Allegro"
    model = Allegro(**weights.arguments).double()
    model.load_state_dict(weights.tensors, strict=True)
    return model


def test_there_are_cases_for_every_part() -> None:
    settings = [load(FOLDER / f"{case}.npz")[1]["settings"] for case in CASES]
    assert {(s["num_layers"], s["l_max"]) for s in settings} == {(1, 3), (2, 1), (2, 2), (3, 1), (3, 2)}
    kinds = {s["radial_chemical_embed"]["_target_"].rsplit(".", 1)[1] for s in settings}
    assert len(kinds) == 2
    assert sum(p.stat().st_size for p in FOLDER.glob("*.npz")) < 2e5


@pytest.mark.parametrize("case", CASES)
def test_equal_to_nequip_allegro(case: str) -> None:
    arrays, about = load(FOLDER / f"{case}.npz")
    model = build(state_of(arrays), about["settings"])
    difference = worst(model, arrays, about)
    assert difference["energies"] < 1e-10
    assert difference["forces"] < 1e-10
    assert difference["stress"] < 1e-11
    with torch.no_grad():
        model.layers[-1].product.weights[0, 0] += 0.1  # type: ignore[union-attr,operator]  # negative control
    assert worst(model, arrays, about)["energies"] > 1e-7


@pytest.mark.parametrize(
    ("case", "changed"),
    [
        ("two_layers_l2", {"avg_num_neighbors": 13.0}),
        ("two_layers_l2", {"r_max": 4.01}),
        ("spline_zbl", {"pair_potential": None}),
    ],
    ids=lambda x: x if isinstance(x, str) else next(iter(x)),
)
def test_a_wrong_setting_shows(case: str, changed: dict[str, Any]) -> None:
    """Negative control: the comparison fails where a setting that is not in the weights is wrong."""
    arrays, about = load(FOLDER / f"{case}.npz")
    assert worst(build(state_of(arrays), about["settings"] | changed), arrays, about)["energies"] > 1e-4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"per_edge_type_cutoff": {"H": 2.0}}, "per_edge_type_cutoff"),
        ({"colour": 1}, "Unknown settings"),
        ({"type_names": ["Si", "H", "O", "Cu", "H"]}, "one element"),
        ({"avg_num_neighbors": None}, "must hold"),
        ({"readout_mlp_nonlinearity": "mish"}, "one activation"),
        ({"pair_potential": {"_target_": "nequip.nn.pair_potential.ZBL", "units": "real"}}, "metal"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_foreign_parts_are_refused(changed: dict[str, Any], message: str) -> None:
    arrays, about = load(FOLDER / "two_layers_l2.npz")
    with pytest.raises(ValueError, match=message):
        read_allegro(state_of(arrays), about["settings"] | changed)
