"""SevenNet checkpoints, read into NequIP, answer what SevenNet answered (tests/peers/sevennet)."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop.mace_torch import Weights
from rikiba.interop.sevennet import load_sevennet, read_sevennet
from rikiba.potentials.base import Program
from rikiba.potentials.nequip import NequIP

HERE = Path(__file__).parent
FOLDER = HERE / "sevennet" / "reference"
WHEEL = HERE.parents[1] / ".venvs" / "sevennet"
CASES = sorted(p.stem for p in FOLDER.glob("*.npz") if not p.stem.startswith("sevennet"))
PRETRAINED = sorted(p.stem for p in FOLDER.glob("sevennet*.npz"))


def load(case: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(FOLDER / f"{case}.npz") as f:
        arrays = dict(f)
    return arrays, json.loads(str(arrays["about"]))


def state_of(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {k[6:]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith("state/")}


def build(weights: Weights) -> NequIP:
    assert weights.class_name == "NequIP"
    model = NequIP(**weights.arguments).double()
    model.load_state_dict(weights.tensors, strict=True)
    return model


def worst(
    model: NequIP, arrays: dict[str, np.ndarray], about: dict[str, Any], program: Program | None = None
) -> dict[str, float]:
    """Largest difference in energies (eV per atom), forces (eV/Å) and stress (eV/Å³) over all structures."""
    out = {"energies": 0.0, "forces": 0.0, "stress": 0.0}
    for name in about["structures"]:
        s = {k.split("/")[2]: v for k, v in arrays.items() if k.startswith(f"structures/{name}/")}
        atoms = Atoms(numbers=s["numbers"], positions=s["positions"], cell=s["cell"], pbc=s["pbc"])
        system = System.from_ase(atoms)
        pairs = find_pairs(system, model.cutoff)
        if program is None:
            found = evaluate(model, system, pairs, forces=True, stress=True)
        else:
            found = run_program(program, system, pairs, stress=True)
        expected = {"energies": s["node_energy"], "forces": s["forces"]}
        if "stress" in s:
            expected["stress"] = s["stress"][None]
        for key, value in expected.items():
            out[key] = max(out[key], float(np.abs(found.need(key).numpy() - value).max()))
    return out


def checkpoint(arrays: dict[str, np.ndarray], about: dict[str, Any], path: Path) -> Path:
    """A file as SevenNet writes it: numbers of types as integers, shifts as an array."""
    config = about["config"] | {"_type_map": {int(z): k for z, k in about["config"]["_type_map"].items()}}
    config |= {"shift": np.asarray(config["shift"], dtype=np.float32)}
    torch.save({"config": config, "model_state_dict": state_of(arrays), "optimizer_state_dict": {}}, path)
    return path


def test_there_are_cases_for_every_part() -> None:
    configs = [load(case)[1]["config"] for case in CASES]
    assert {c["is_parity"] for c in configs} == {True, False}
    assert {c["self_connection_type"] for c in configs} == {"nequip", "linear"}
    assert {c["cutoff_function"]["cutoff_function_name"] for c in configs} == {"XPLOR", "poly_cut"}
    assert {c["readout_as_fcn"] for c in configs} == {True, False}
    assert len(PRETRAINED) == 5
    assert sum(p.stat().st_size for p in FOLDER.glob("*.npz")) < 1e6


@pytest.mark.parametrize("case", CASES)
def test_equal_to_sevennet(case: str) -> None:
    arrays, about = load(case)
    difference = worst(
        build(read_sevennet(state_of(arrays), about["config"], modality=about.get("modality"))), arrays, about
    )
    # the peer keeps its constants in float32, hence not to rounding
    assert difference["energies"] < 1e-6
    assert difference["forces"] < 1e-5
    assert difference["stress"] < 1e-6


@pytest.mark.parametrize("case", PRETRAINED)
def test_published_models_are_equal(case: str) -> None:
    """Skips where the wheel is not installed: python benchmarks/peers/install_peers.py sevennet."""
    arrays, about = load(case)
    found = sorted(WHEEL.glob(f"lib/python*/site-packages/sevenn/pretrained_potentials/{about['file']}"))
    if not found:
        pytest.skip("SevenNet's wheel is not installed (benchmarks/peers/install_peers.py sevennet)")
    difference = worst(build(load_sevennet(found[0], modality=about.get("modality"))), arrays, about)
    assert difference["energies"] < 1e-6
    assert difference["forces"] < 1e-5
    assert difference["stress"] < 1e-6


@pytest.mark.parametrize("case", [*CASES, *PRETRAINED])
def test_compiled_programs_are_equal_too(case: str) -> None:
    """The networks' program as exact as the potential, that of tables within 1e-5 eV/Å of it."""
    arrays, about = load(case)
    if case in CASES:
        weights = read_sevennet(state_of(arrays), about["config"], modality=about.get("modality"))
    else:
        found = sorted(WHEEL.glob(f"lib/python*/site-packages/sevenn/pretrained_potentials/{about['file']}"))
        if not found:
            pytest.skip("SevenNet's wheel is not installed (benchmarks/peers/install_peers.py sevennet)")
        weights = load_sevennet(found[0], modality=about.get("modality"))
    model = build(weights)
    for tabulate, tolerance in ((False, 1e-5), (True, 2e-5)):
        difference = worst(model, arrays, about, model.program(tabulate=tabulate))
        assert difference["energies"] < (1e-5 if tabulate else 1e-6)
        assert difference["forces"] < tolerance
        assert difference["stress"] < 1e-6
    model.layers[1].convolution.mix[0].data[0, 0] += 0.5  # negative control
    assert worst(model, arrays, about, model.program(tabulate=False))["energies"] > 1e-6


@pytest.mark.parametrize("case", CASES)
def test_a_file_is_read_without_running_anything(case: str, tmp_path: Path) -> None:
    arrays, about = load(case)
    model = build(
        load_sevennet(checkpoint(arrays, about, tmp_path / "checkpoint.pth"), modality=about.get("modality"))
    )
    assert worst(model, arrays, about)["energies"] < 1e-6


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    arrays, about = load("parity_l1")
    state = state_of(arrays)
    torch.save({"config": about["config"], "model_state_dict": state, "x": Bomb()}, tmp_path / "bad.pth")
    with pytest.raises(pickle.UnpicklingError):
        load_sevennet(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()
    torch.save({"weights": state}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="not a SevenNet checkpoint"):
        load_sevennet(tmp_path / "other.pth")


def test_sign_of_stored_couplings_and_version_matter() -> None:
    """Negative control: the comparison fails with another sign of a coupling or order of columns."""
    arrays, about = load("no_parity_l2_xplor_linear")
    state = state_of(arrays)
    name = "1_convolution.convolution._compiled_main_left_right._w3j_1_1_1"
    flipped = build(read_sevennet(state | {name: -state[name]}, about["config"]))
    assert worst(flipped, arrays, about)["energies"] > 1e-5
    older = build(read_sevennet(state, about["config"] | {"version": "0.9.2"}))
    assert worst(older, arrays, about)["energies"] > 1e-5
    with pytest.raises(ValueError, match="real spherical harmonics"):
        read_sevennet(state | {name: 2 * state[name]}, about["config"])
    del state[name]
    with pytest.raises(ValueError, match="does not hold its coupling"):
        read_sevennet(state, about["config"])


def test_an_old_file_with_the_other_sign_and_order_is_the_same_model() -> None:
    """Before version 0.11 columns came in another order, and e3nn 0.4 had another sign of (1, 2, 2)."""
    arrays, about = load("no_parity_l3_manual")
    state, config = state_of(arrays), about["config"]
    hidden = [(4, 0), (3, 1), (2, 2), (2, 3)]
    for t in (1, 2):
        degrees = [0] if t == 2 else [0, 1, 2, 3]
        paths = [
            (n, l1, l2, l3)
            for n, l1 in hidden
            for l2 in range(4)
            for l3 in range(abs(l1 - l2), l1 + l2 + 1)
            if l3 in degrees
        ]
        by_output = sorted(paths, key=lambda p: p[3])
        name = f"{t}_convolution.weight_nn.layer2.weight"
        columns = dict(zip(by_output, state[name].split([p[0] for p in by_output], 1), strict=True))
        state[name] = torch.cat([columns[p] * (-1 if sorted(p[1:]) == [1, 2, 2] else 1) for p in paths], 1)
        for key in [k for k in state if k.startswith(f"{t}_convolution") and "_w3j_" in k]:
            if sorted(key[-5:].split("_")) == ["1", "2", "2"]:
                state[key] = -state[key]
    old = build(read_sevennet(state, config | {"version": "0.9.2"}))
    assert worst(old, arrays, about)["energies"] < 1e-6


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"use_bias_in_linear": True}, "use_bias_in_linear"),
        ({"act_radial": "tanh"}, "act_radial"),
        ({"cutoff_function": {"cutoff_function_name": "cosine"}}, "XPLOR or poly_cut"),
        ({"self_connection_type": ["nequip", "linear", "linear"]}, "all 'linear'"),
        ({"readout_as_fcn": True, "readout_fcn_activation": "relu"}, "silu or tanh"),
        ({"irreps_manual": ["4x0e", "4x0e+3x1o", "4x0e", "4x0e"]}, "same features"),
        ({"channel": 5}, "do not fit"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_foreign_parts_are_refused(changed: dict[str, Any], message: str) -> None:
    arrays, about = load("parity_l1")
    with pytest.raises(ValueError, match=message):
        read_sevennet(state_of(arrays), about["config"] | changed)


def test_modalities_differ_and_must_be_named() -> None:
    arrays, about = load("three_modalities")
    other = build(read_sevennet(state_of(arrays), about["config"], modality="third"))
    assert worst(other, arrays, about)["forces"] > 1e-4
    with pytest.raises(ValueError, match="Say which modality of first, second, third"):
        read_sevennet(state_of(arrays), about["config"])
    arrays, about = load("parity_l1")
    with pytest.raises(ValueError, match="has no modalities"):
        read_sevennet(state_of(arrays), about["config"], modality="first")
