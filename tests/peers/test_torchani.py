"""ANI with the weights of NeuroChem files answers what torchani answered (torchani/reference)."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate
from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop.ani import NeuroChemError, pretrained, read_file
from rikiba.potentials.ani import ANI

FOLDER = Path(__file__).parent / "torchani" / "reference"
SMALL = FOLDER / "small.whl"


def reference(name: str) -> dict[str, dict[str, np.ndarray]]:
    """Structure → values."""
    out: dict[str, dict[str, np.ndarray]] = {}
    with np.load(FOLDER / f"{name}.npz") as file:
        for key, value in file.items():
            if "/" in key:
                out.setdefault(key.split("/")[0], {})[key.split("/")[1]] = value
    return out


def build(file: Path, name: str = "", **changes: Any) -> ANI:
    found = read_file(path=file, model=name)
    assert found.class_name == "ANI"
    model = ANI(**(found.arguments | changes)).double()
    model.load_state_dict(found.tensors, strict=True)
    return model


def worst(model: ANI, name: str) -> dict[str, float]:
    """Largest differences: eV per atom, eV/Å, eV/Å³, and of environment vectors."""
    out = dict.fromkeys(("energy", "energies", "forces", "stress", "spread", "environments"), 0.0)
    for s in reference(name).values():
        atoms = Atoms(s["numbers"], s["positions"], cell=s["cell"], pbc=s["pbc"])
        system = System.from_ase(atoms)
        pairs = find_pairs(system, model.cutoff)
        found = evaluate(model, system, pairs, stress="stress" in s)
        members = units.hartree * s["members"]
        assert found.spread is not None
        pairs_of = {
            "energy": (found.need("energy")[0] / len(atoms), members.mean() / len(atoms)),
            "energies": (found.need("energies"), units.hartree * s["node_energy"]),
            "forces": (found.need("forces"), units.hartree * s["forces"]),
            "spread": (found.spread.need("energy")[0], members.std(ddof=1)),
        }
        if "stress" in s:
            pairs_of["stress"] = (found.need("stress")[0], units.hartree * s["stress"])
        if "environments" in s:
            vectors = model.environment(system, pairs, model.types(system), torch.float64)
            pairs_of["environments"] = (vectors[:, _columns(model)], s["environments"])
        for key, (ours, theirs) in pairs_of.items():
            out[key] = max(out[key], float(np.abs(np.asarray(ours) - theirs).max()))
    return out


def _columns(model: ANI) -> list[int]:
    """Our place of each of their columns; only ANI-2x has another order, H C N O S F Cl."""
    e, theirs = model.environment, ["H", "C", "N", "O", "S", "F", "Cl"][: len(model.elements)]
    at = [model.elements.index(s) for s in theirs]
    out = [a * e.n_radial + k for a in at for k in range(e.n_radial)]
    for x, a in enumerate(at):
        for b in at[x:]:
            first = e.n_elements * e.n_radial + int(e.pair_index[a, b]) * e.n_angular
            out += range(first, first + e.n_angular)
    return out


def check(difference: dict[str, float]) -> None:
    assert max(difference["energy"], difference["energies"], difference["spread"]) < 1e-9
    assert difference["forces"] < 2e-6  # torch's gradient of celu, see torchani/README.md
    assert difference["stress"] < 1e-7
    assert difference["environments"] < 1e-11


def test_model_of_seven_elements_from_an_archive() -> None:
    model = build(SMALL, "ani-2x")
    assert model.elements == ("H", "C", "N", "O", "F", "S", "Cl") and model.n_members == 2
    assert model.environment.n_features == 1008
    check(worst(model, "ani-2x_8x"))


@pytest.mark.parametrize(
    "change",
    [{"envelope": "polynomial"}, {"radial_factor": 1.0}, {"cosine_factor": 0.96}, {"isolated_limit": True}],
    ids=str,
)
def test_a_wrong_setting_shows(change: dict[str, Any]) -> None:
    """Negative control."""
    assert worst(build(SMALL, "ani-2x", **change), "ani-2x_8x")["energies"] > 1e-4


def test_published_ani_1x(data_dir: Path) -> None:
    model = build(data_dir / "pretrained" / "ani" / "ani-1x_8x.info")
    assert model.elements == ("H", "C", "N", "O") and model.n_members == 8
    check(worst(model, "ani-1x_8x"))


def test_published_ani_1ccx_from_the_wheel() -> None:
    wheels = sorted((Path(__file__).resolve().parents[2] / ".venvs").glob("torchani-1.2-*.whl"))
    if not wheels:
        pytest.skip("ANI-1ccx: pip download --no-deps -d .venvs torchani==1.2")
    check(worst(build(wheels[0], "ani-1ccx"), "ani-1ccx_8x"))


def test_a_folder_is_read_like_its_info_file_and_members_are_chosen(tmp_path: Path) -> None:
    with zipfile.ZipFile(SMALL) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "torchani" / "resources" / "ani-2x_8x"
    whole, second = read_file(path=SMALL, model="ani-2x"), read_file(path=folder, members=[1])
    assert second.arguments["n_members"] == 1
    name = "networks.networks.5.weights.0"
    assert torch.equal(second.tensors[name], whole.tensors[name][1:])
    with pytest.raises(NeuroChemError, match="members 0 … 1"):
        read_file(path=folder, members=[2])
    (folder / "train1" / "networks" / "ANN-S.nnf").write_bytes(b"12=\nnothing")
    with pytest.raises(NeuroChemError, match="damaged"):
        read_file(path=folder)
    (folder / "sae_linfit.dat").unlink()
    with pytest.raises(NeuroChemError, match="no model of NeuroChem"):
        read_file(path=folder)


def test_what_is_absent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="there are: ani-2x"):
        read_file(path=SMALL, model="ani-1ccx")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_file(path=Path("nowhere/model.info"))
    with pytest.raises(ImportError, match="pip install torchani"):
        pretrained(model="ani-1ccx")


def test_an_installed_package_is_found_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(SMALL) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "torchani" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert pretrained(model="ani-2x", members=[0]).arguments["n_members"] == 1
