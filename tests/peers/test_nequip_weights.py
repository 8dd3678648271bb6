"""NequIP on weights of the nequip package answers what that package answered (tests/peers/nequip)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rikiba.interop.nequip import read_nequip
from rikiba.potentials.nequip import NequIP, NequIPLayer

from nequip_files import load as load_file, state_of, worst  # isort: skip

FOLDER = Path(__file__).parent / "nequip" / "reference"
CASES = sorted(p.stem for p in FOLDER.glob("*.npz"))


def load(case: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return load_file(FOLDER / f"{case}.npz")


def build(state: dict[str, torch.Tensor], settings: dict[str, Any]) -> NequIP:
    weights = read_nequip(state, settings)
    assert weights.class_name == "NequIP"
    model = NequIP(**weights.arguments).double()
    model.load_state_dict(weights.tensors, strict=True)
    return model


def test_there_are_cases_for_every_part() -> None:
    settings = [load(case)[1]["settings"] for case in CASES]
    found = {(s["l_max"], s["parity"]) for s in settings}
    assert found >= {(0, False), (1, True), (2, True), (3, True), (3, False)}
    assert {s["num_layers"] for s in settings} >= {1, 2, 3, 4, 6}
    assert sum(p.stat().st_size for p in FOLDER.glob("*.npz")) < 2e6


@pytest.mark.parametrize("case", CASES)
def test_equal_to_nequip(case: str) -> None:
    arrays, about = load(case)
    difference = worst(build(state_of(arrays), about["settings"]), arrays, about)
    assert difference["energies"] < 1e-10
    assert difference["forces"] < 1e-10
    assert difference["stress"] < 1e-11


@pytest.mark.parametrize("case", CASES)
def test_the_compiled_program_is_equal_too(case: str) -> None:
    arrays, about = load(case)
    model = build(state_of(arrays), about["settings"])
    difference = worst(model, arrays, about, model.program(tabulate=False))
    assert difference["energies"] < 1e-10
    assert difference["forces"] < 1e-10
    assert difference["stress"] < 1e-11
    tables = worst(model, arrays, about, model.program(tabulate=True))
    assert tables["energies"] < 1e-5 and tables["forces"] < 1e-5
    model.layers[-1].convolution.mix[0].data[0, 0] += 0.5  # negative control
    assert worst(model, arrays, about, model.program(tabulate=False))["energies"] > 1e-8


@pytest.mark.parametrize(
    ("case", "changed"),
    [
        ("two_layers_l1", {"avg_num_neighbors": 13.0}),
        ("two_layers_l1", {"polynomial_cutoff_p": 5}),
        ("two_layers_l1", {"r_max": 4.01}),
        ("gelu_readout", {"readout_mlp_nonlinearity": "silu"}),
        ("zbl", {"pair_potential": None}),
    ],
    ids=lambda x: x if isinstance(x, str) else next(iter(x)),
)
def test_a_wrong_setting_shows(case: str, changed: dict[str, Any]) -> None:
    """Negative control: the comparison fails where a setting that is not in the weights is wrong."""
    arrays, about = load(case)
    model = build(state_of(arrays), about["settings"] | changed)
    assert worst(model, arrays, about)["energies"] > 1e-4


def test_the_sign_of_couplings_shows() -> None:
    """Negative control: with the sign of the coupling (1, 2, 2) that e3nn 0.4 has, the numbers differ."""
    arrays, about = load("four_layers_l2_parity")
    model = build(state_of(arrays), about["settings"])
    right = worst(model, arrays, about)["energies"]
    for layer in model.layers:
        assert isinstance(layer, NequIPLayer)
        column = 0
        for stream in layer.convolution.streams:
            for path in stream.paths:
                if sorted((path.harmonics, path.features.l, path.output.l)) == [1, 2, 2]:
                    with torch.no_grad():
                        layer.radial.weights[-1][:, column : column + stream.channels] *= -1
                column += stream.channels
        assert column == layer.convolution.n_weights
    assert worst(model, arrays, about)["energies"] > 1e5 * right


def test_features_of_unnatural_parity_matter_from_the_fourth_layer_on() -> None:
    """What is left out changes nothing (the cases above agree); what is kept is needed."""
    arrays, about = load("four_layers_l1_parity")
    model = build(state_of(arrays), about["settings"])
    assert [str(h) for h in model.hidden][1:4] == ["4x0e + 3x1o", "4x0e + 3x1o + 3x1e", "4x0e + 3x1o"]
    right = worst(model, arrays, about)["energies"]
    with torch.no_grad():
        model.layers[2].up.weights[2].zero_()
    assert worst(model, arrays, about)["energies"] > 1e5 * right
    arrays, about = load("six_layers_l1_parity")
    assert "3x0o" in str(build(state_of(arrays), about["settings"]).hidden[3])


def test_prefix_of_names_does_not_matter() -> None:
    arrays, about = load("two_layers_l1")
    state = {k.replace("model.func.", "sole_model.func."): v for k, v in state_of(arrays).items()}
    assert worst(build(state, about["settings"]), arrays, about)["energies"] < 1e-10


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"per_edge_type_cutoff": {"H": 2.0}}, "per_edge_type_cutoff"),
        ({"categorical_graph_field_embed": [{}]}, "categorical_graph_field_embed"),
        ({"colour": 1}, "Unknown settings"),
        ({"num_features": 5}, "do not fit"),
        ({"type_names": ["Si", "H", "O", "Cu", "H"]}, "one element"),
        ({"avg_num_neighbors": None}, "must hold"),
        ({"pair_potential": {"_target_": "nequip.nn.pair_potential.ZBL", "units": "real"}}, "metal"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_foreign_parts_are_refused(changed: dict[str, Any], message: str) -> None:
    arrays, about = load("two_layers_l1")
    with pytest.raises(ValueError, match=message):
        read_nequip(state_of(arrays), about["settings"] | changed)


def test_a_state_without_the_model_is_refused() -> None:
    _, about = load("two_layers_l1")
    with pytest.raises(ValueError, match="0 names"):
        read_nequip({"weight": torch.zeros(1)}, about["settings"])
