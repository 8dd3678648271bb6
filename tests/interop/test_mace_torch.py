"""MACE on weights of mace-torch answers what mace-torch answered (tests/peers/mace/reference)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop.mace_torch import Weights, change_of_basis, read_mace_torch
from rikiba.nn.coupling import symmetric_couplings
from rikiba.potentials.base import Program
from rikiba.potentials.mace import MACE

FOLDER = Path(__file__).parents[1] / "peers" / "mace" / "reference"
CASES = sorted(p.stem for p in FOLDER.glob("*.npz"))


def load(case: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(FOLDER / f"{case}.npz") as f:
        arrays = dict(f)
    return arrays, json.loads(str(arrays["about"]))


def read(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Weights:
    state = {k[6:]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith("state/")}
    return read_mace_torch(
        state,
        avg_num_neighbors=settings["avg_num_neighbors"],
        activation=settings["gate"],
        envelope_after_network=not settings.get("apply_cutoff", True),
    )


def build(weights: Weights) -> MACE:
    assert weights.class_name == "MACE"
    model = MACE(**weights.arguments).double()
    model.load_state_dict(weights.tensors, strict=True)
    return model


def worst(
    model: MACE, arrays: dict[str, np.ndarray], about: dict[str, Any], *, program: Program | None = None
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
            found = run_program(program, system, pairs, forces=True, stress=True)
        expected = {"energies": s["node_energy"], "forces": s["forces"]}
        if "stress" in s:
            expected["stress"] = s["stress"][None]
        for key, value in expected.items():
            out[key] = max(out[key], float(np.abs(found.need(key).numpy() - value).max()))
    return out


def test_there_are_cases() -> None:
    assert len(CASES) >= 20


@pytest.mark.parametrize("case", CASES)
def test_equal_to_mace_torch(case: str) -> None:
    arrays, about = load(case)
    difference = worst(build(read(arrays, about["arguments"])), arrays, about)
    assert difference["energies"] < 1e-10
    assert difference["forces"] < 1e-10
    assert difference["stress"] < 1e-11


@pytest.mark.parametrize("case", CASES)
def test_the_compiled_program_equals_mace_torch(case: str) -> None:
    """With the radial networks themselves, and with their tables in both precisions."""
    arrays, about = load(case)
    model = build(read(arrays, about["arguments"]))
    exact, tables = model.program(tabulate=False), model.program(tabulate=True)
    single = model.float().program()
    assert exact is not None and tables is not None and single is not None
    found = worst(model, arrays, about, program=exact)
    assert found["energies"] < 1e-10 and found["forces"] < 1e-10 and found["stress"] < 1e-11
    largest = max(float(np.abs(v).max()) for k, v in arrays.items() if k.endswith("/forces"))
    for program, allowed in ((tables, 1e-5), (single, 1e-5 + 2e-5 * largest)):
        found = worst(model, arrays, about, program=program)
        assert found["energies"] < allowed and found["forces"] < allowed and found["stress"] < allowed


@pytest.mark.parametrize("setting", ["avg_num_neighbors", "gate"])
def test_a_wrong_setting_shows(setting: str) -> None:
    """Negative control: the comparison fails where a setting that is not in the weights is wrong."""
    arrays, about = load("two_layers_L1_nu2_ell2")
    changed = about["arguments"] | {"avg_num_neighbors": 9.0, "gate": "tanh"}
    settings = about["arguments"] | {setting: changed[setting]}
    assert worst(build(read(arrays, settings)), arrays, about)["energies"] > 1e-4


def test_order_of_elements_does_not_matter() -> None:
    """A model whose table of elements is not sorted gives the same potential."""
    arrays, about = load("two_layers_L1_nu2_ell2")
    types, n = np.array([3, 0, 4, 1, 2]), 5
    shuffled = dict(arrays)
    for key, value in arrays.items():
        if key.endswith(("atomic_numbers", "atomic_energies")) and key.startswith("state"):
            shuffled[key] = value[types]
        elif key.endswith("node_embedding.linear.weight"):
            shuffled[key] = value.reshape(n, -1)[types].ravel()
        elif key.endswith("skip_tp.weight"):
            shuffled[key] = value.reshape(-1, 4, n, 4)[:, :, types].ravel()
        elif ".contractions." in key and ".weights" in key and value.shape[:1] == (n,):
            shuffled[key] = value[types]
    assert not np.array_equal(shuffled["state/atomic_numbers"], arrays["state/atomic_numbers"])
    assert worst(build(read(shuffled, about["arguments"])), arrays, about)["energies"] < 1e-10


def test_change_of_basis_refuses_what_it_cannot_span() -> None:
    ours = symmetric_couplings(1, 2, 0).tensor(4)
    torch.testing.assert_close(change_of_basis(ours[0], 1, 2, 0), torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="natural parity"):
        change_of_basis(torch.ones(4, 4, 1), 1, 2, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [("joint_embedding.x", "joint_embedding"), ("radial_embedding.distance_transform.alpha", "Soft")],
)
def test_foreign_parts_are_refused(name: str, message: str) -> None:
    arrays, about = load("two_layers_L1_nu2_ell2")
    arrays[f"state/{name}"] = np.zeros(1)
    with pytest.raises(ValueError, match=message):
        read(arrays, about["arguments"])
