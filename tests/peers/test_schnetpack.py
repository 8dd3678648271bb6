"""SchNet and PaiNN on weights of SchNetPack answer what SchNetPack answered (schnetpack/reference)."""

import json
import lzma
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate
from rikiba.core import elements as periodic_table
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop import foreign
from rikiba.interop.foreign import read_foreign
from rikiba.interop.inert_pickle import Record, load_inert
from rikiba.interop.schnetpack import read_file, read_schnetpack
from rikiba.interop.schnetpack import settings_of as settings_of_whole
from rikiba.interop.schnetpack import state_of as inert_state
from rikiba.potentials.base import Potential
from rikiba.potentials.painn import PaiNN
from rikiba.potentials.schnet import SchNet

FOLDER = Path(__file__).parent / "schnetpack" / "reference"
CASES = sorted(p.stem for p in FOLDER.glob("*.npz"))
ELEMENTS = ("H", "C", "O", "Si", "Cu")
CLASSES: dict[str, type[Potential]] = {"SchNet": SchNet, "PaiNN": PaiNN}


def load(case: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(FOLDER / f"{case}.npz") as f:
        arrays = dict(f)
    return arrays, json.loads(str(arrays["about"]))


def state_of(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {k[6:]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith("state/")}


def settings_of(about: dict[str, Any]) -> dict[str, Any]:
    arguments = about["arguments"]
    return {
        "readout_activation": arguments["readout"]["activation"],
        "norm_epsilon": arguments["representation"].get("epsilon", 1e-8),
    }


def build(state: dict[str, torch.Tensor], settings: dict[str, Any], **changes: Any) -> Potential:
    weights = read_schnetpack(state, elements=ELEMENTS, **settings)
    model = CLASSES[weights.class_name](**(weights.arguments | changes)).double()
    model.load_state_dict(weights.tensors, strict=True)
    return model


def worst(model: Potential, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> dict[str, float]:
    """Largest difference in energy (eV per atom), forces (eV/Å) and stress (eV/Å³) over all structures."""
    out = {"energy": 0.0, "energies": 0.0, "forces": 0.0, "stress": 0.0}
    for name in about["structures"]:
        s = {k.split("/")[2]: v for k, v in arrays.items() if k.startswith(f"structures/{name}/")}
        atoms = Atoms(numbers=s["numbers"], positions=s["positions"], cell=s["cell"], pbc=s["pbc"])
        system = System.from_ase(atoms)
        found = evaluate(model, system, find_pairs(system, model.cutoff), forces=True, stress=True)
        expected = {"energy": s["energy"] / len(atoms), "forces": s["forces"]}
        values = {k: found.need(k).numpy() for k in ("energy", "energies", "forces", "stress")}
        values["energy"] = values["energy"] / len(atoms)
        if not about["arguments"].get("offsets"):
            expected["energies"] = s["node_energy"]
        if "stress" in s:
            expected["stress"] = s["stress"][None]
        for key, value in expected.items():
            out[key] = max(out[key], float(np.abs(values[key] - value).max()))
    return out


def test_there_are_cases() -> None:
    found = [load(case)[1] for case in CASES]
    kinds = {(a["arguments"]["model"], a["arguments"]["radial_basis"]) for a in found}
    assert kinds == {(m, b) for m in ("SchNet", "PaiNN") for b in ("GaussianRBF", "BesselRBF")}
    assert {"ethanol", "silicon", "silica_hydrogen", "slab", "isolated_atom"} <= set(found[0]["structures"])
    assert all(a["influence_of_last_interaction"] > 1e-2 for a in found)
    assert sum(p.stat().st_size for p in FOLDER.glob("*.npz")) < 6e5


@pytest.mark.parametrize("case", CASES)
def test_equal_to_schnetpack(case: str) -> None:
    arrays, about = load(case)
    difference = worst(build(state_of(arrays), settings_of(about)), arrays, about)
    assert max(difference["energy"], difference["energies"]) < 1e-11
    assert difference["forces"] < 1e-11
    assert difference["stress"] < 1e-12


def saved_whole(case: str, folder: Path) -> Path:
    path = folder / "best_model"
    path.write_bytes(lzma.decompress((FOLDER / f"{case}.model.xz").read_bytes()))
    return path


@pytest.mark.parametrize("case", ["schnet_shared", "painn_shared_filters"])
def test_models_saved_whole_need_no_settings(case: str, tmp_path: Path) -> None:
    """They say their activation and PaiNN's epsilon; nothing of the peer is imported to read them."""
    weights = read_foreign(saved_whole(case, tmp_path), options={"elements": ELEMENTS})
    model = foreign.build(weights, torch.float64)
    arrays, about = load(case)
    difference = worst(model, arrays, about)
    assert max(difference["energy"], difference["forces"]) < 1e-11
    assert "schnetpack" not in sys.modules
    state = state_of(arrays)
    for name, value in inert_state(load_inert(saved_whole(case, tmp_path))).items():
        assert torch.equal(value, state[name]), name


def test_whole_models_that_are_others_are_refused(tmp_path: Path) -> None:
    path = saved_whole("schnet_shared", tmp_path)
    with pytest.raises(ValueError, match="leave out readout_activation"):
        read_file(path=path, elements=ELEMENTS, readout_activation="silu")

    def spoilt(module: str, **changes: Any) -> Record:
        model = load_inert(path)
        part = model if not module else model.child(module)
        part.state.update(changes)
        return model

    for model, message in (
        (spoilt("output_modules.0", aggregation_mode="avg"), "summed"),
        (spoilt("representation.interactions.0.f2out.0", activation="torch.tanh"), "torch.tanh"),
        (spoilt("postprocessors.0", is_extensive=False), "AddOffsets"),
    ):
        with pytest.raises(ValueError, match=message):
            inert_state(model)
            settings_of_whole(model)
    # offsets that the model does not add are not added here
    kept = inert_state(spoilt("postprocessors.0", add_mean=False))
    assert "postprocessors.0.mean" not in kept and "postprocessors.0.atomref" in kept


@pytest.mark.parametrize("case", ["schnet_gaussian", "painn_bessel"])
@pytest.mark.parametrize(
    "change", [{"envelope": "polynomial"}, {"readout_activation": "other"}, {"isolated_limit": True}], ids=str
)
def test_a_wrong_setting_shows(case: str, change: dict[str, Any]) -> None:
    """Negative control: the comparison fails where something that is not in the weights is wrong."""
    arrays, about = load(case)
    if "readout_activation" in change:
        right = about["arguments"]["readout"]["activation"]
        change = {"readout_activation": "silu" if right == "shifted_softplus" else "shifted_softplus"}
    difference = worst(build(state_of(arrays), settings_of(about), **change), arrays, about)
    assert difference["energy"] > 1e-4


def test_a_wrong_epsilon_and_a_swapped_weight_show() -> None:
    arrays, about = load("painn_shared_filters")
    state, settings = state_of(arrays), settings_of(about)
    assert worst(build(state, settings | {"norm_epsilon": 1e-2}), arrays, about)["energy"] > 1e-4
    name = "representation.mixing.0.mu_channel_mix.weight"
    swapped = state | {name: state[name].roll(state[name].shape[0] // 2, 0)}  # V for U
    assert worst(build(swapped, settings), arrays, about)["forces"] > 1e-4


def test_the_unit_of_energy_is_converted() -> None:
    arrays, about = load("painn_gaussian")  # has offsets
    factor = 0.0433641153
    one, other = (build(state_of(arrays), settings_of(about) | e) for e in ({}, {"energy_unit_eV": factor}))
    system = System.from_ase(Atoms("CO", [[0, 0, 0], [0, 0, 1.3]]))
    a, b = (evaluate(m, system, find_pairs(system, m.cutoff)) for m in (one, other))
    torch.testing.assert_close(b.need("energy"), factor * a.need("energy"), rtol=1e-13, atol=0)
    torch.testing.assert_close(b.need("forces"), factor * a.need("forces"), rtol=1e-12, atol=1e-15)


def test_float32_models_are_read_to_their_own_precision() -> None:
    """Their constants are rounded to float32; ours are exact."""
    arrays, about = load("painn_gaussian")
    rounded = {k: v.float() for k, v in state_of(arrays).items()}
    difference = worst(build(rounded, settings_of(about)), arrays, about)
    assert difference["energy"] < 1e-6 and difference["forces"] < 1e-5


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("representation.cutoff_fn.eps", torch.zeros(1), "cutoff_fn.eps"),
        ("representation.electronic_embeddings.0.weight", torch.zeros(1), "electronic_embeddings"),
        ("representation.radial_basis.offsets", torch.linspace(0.5, 4.0, 10), "centres of the Gaussians"),
        ("representation.radial_basis.widths", torch.ones(10), "widths of the Gaussians"),
        ("output_modules.3.outnet.0.weight", torch.zeros(1, 8), "One output network"),
    ],
)
def test_foreign_parts_are_refused(name: str, value: torch.Tensor, message: str) -> None:
    arrays, about = load("schnet_gaussian")
    with pytest.raises(ValueError, match=message):
        build(state_of(arrays) | {name: value}, settings_of(about))


def test_elements_are_those_named() -> None:
    """Rows of the table follow atomic numbers, whatever order the symbols are given in."""
    arrays, about = load("schnet_gaussian")
    weights = read_schnetpack(state_of(arrays), elements=("Si", "H"), **settings_of(about))
    table = arrays["state/representation.embedding.weight"]
    expected = table[periodic_table.numbers_of(("H", "Si")).numpy()]
    np.testing.assert_array_equal(weights.tensors["embedding"].numpy(), expected)
    assert weights.arguments["elements"] == ["H", "Si"]
