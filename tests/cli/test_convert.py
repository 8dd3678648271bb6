"""`rikiba convert`, and published weights by the name of their kind."""

import importlib.util
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.io import read

from rikiba.cli.main import main
from rikiba.interop import foreign
from rikiba.interop.foreign import build, formats, read_foreign
from rikiba.interop.pytorch_geometric import read_dimenet
from rikiba.potentials.chgnet import CHGNet
from rikiba.training.checkpoint import load_potential, read_metadata

PEERS = Path(__file__).resolve().parents[1] / "peers"


class _Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reference(peer: str, case: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with np.load(PEERS / peer / "reference" / f"{case}.npz") as file:
        state = {k[6:]: torch.as_tensor(file[k]) for k in file if k.startswith("state/")}
        return state, json.loads(str(file["about"]))


def checkpoint_of_chgnet() -> Path:
    """A small model in a file of the chgnet package's layout."""
    state, about = reference("chgnet", "norms")
    torch.save({"model": {"state_dict": state, "model_args": about["arguments"]}}, "small.pth.tar")
    return Path("small.pth.tar")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["convert", *words]) == 2
    out, err = capsys.readouterr()
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in out + err
    return err


def test_a_converted_file_is_the_potential(capsys: pytest.CaptureFixture[str]) -> None:
    file = checkpoint_of_chgnet()
    words = ["--set", 'elements=["O","Si"]', "--precision", "float64", "--level-of-theory", "PBE"]
    assert main(["convert", str(file), "--out", "model.rikiba", *words]) == 0
    assert "CHGNet of 2 elements" in capsys.readouterr().out
    found = load_potential("model.rikiba")
    expected = build(read_foreign(file, options={"elements": ["O", "Si"]}), torch.float64)
    assert isinstance(found, CHGNet) and found.elements == ("O", "Si") and found.dtype == torch.float64
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
    about = read_metadata("model.rikiba")
    assert about["level_of_theory"] == "PBE" and about["metadata"]["converted_from"] == file.name


OTHERS = {
    "deepmd/reference/water.dp": (),
    "deepmd/reference/water.yaml": (),
    "deepmd/reference/water.pth": (),
    "quippy/reference/gap.xml": (),
    "pacemaker/reference/Cu.ace": (),
    "pacemaker/reference/AlNi.yace": (),
    "motep/reference/level12.mtp": ("--set", 'elements=["O","Si"]'),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_programs_files_are_known_by_themselves(name: str) -> None:
    if name.endswith((".yaml", ".yace")):
        pytest.importorskip("yaml", reason="PyYAML is not installed: pip install rikiba[deepmd]")
    assert main(["convert", str(PEERS / name), "--out", "model.rikiba", *OTHERS[name]]) == 0
    assert load_potential("model.rikiba").cutoff > 2.0


def test_state_dicts_are_told_apart_by_their_content() -> None:
    schnet, _ = reference("schnetpack", "schnet_gaussian")
    torch.save(schnet, "a.pt")
    weights = read_foreign("a.pt", options={"elements": ["H", "C", "O", "Si", "Cu"]})
    assert weights.class_name == "SchNet"
    mace = next((PEERS / "mace" / "reference").glob("*.npz")).stem
    torch.save(reference("mace", mace)[0], "b.pt")
    assert read_foreign("b.pt", options={"avg_num_neighbors": 5.0}).class_name == "MACE"
    assert {"chgnet", "mace_torch", "nequip", "sevennet", "schnetpack", "lammps_snap"} <= set(formats())


def test_models_of_which_only_tensors_were_saved(capsys: pytest.CaptureFixture[str]) -> None:
    state, about = reference("allegro", "spline_zbl")
    torch.save({f"model.{k}": v for k, v in state.items()}, "c.pt")
    settings = about["settings"]
    assert read_foreign("c.pt", options={"settings": settings}).class_name == "Allegro"
    assert "settings" in refused(capsys, "c.pt", "--out", "x")
    for case, name in (("dimenet", "DimeNet"), ("dimenet_plus_plus", "DimeNetPlusPlus")):
        with np.load(PEERS / "pyg" / f"{case}.npz") as file:
            state = {k[6:]: torch.as_tensor(file[k]) for k in file if k.startswith("state/")}
            settings = json.loads(str(file["about"]))["settings"]
        torch.save(state, f"{case}.pt")
        cutoff, power = settings["cutoff"], settings.get("envelope_exponent", 5)
        options = {"elements": ["C", "H", "O"], "cutoff": cutoff, "envelope_exponent": power}
        found = read_foreign(f"{case}.pt", options=options)
        expected = read_dimenet(state, settings, ["C", "H", "O"])
        assert found.class_name == name
        assert found.arguments.items() >= expected.arguments.items()
        build(found, torch.float64)
        state["output_blocks.0.lin.weight"] = torch.ones(2, 6)
        torch.save(state, "two.pt")
        with pytest.raises(ValueError, match="one output"):
            read_foreign("two.pt", options=options)


def test_checkpoints_of_two_programs_with_one_ending() -> None:
    """Negative control: by its ending alone either could be the other's."""
    torch.save({"config": {}, "model_state_dict": {}}, "a.pth")
    with pytest.raises(ValueError, match="as sevennet"):
        read_foreign("a.pth")
    file = PEERS / "deepmd/reference/water.pt"
    assert read_foreign(file).class_name == "DeepPotential"


def test_text_files_are_told_by_their_name() -> None:
    Path("Si.sw").write_text(
        "Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.333333 7.049556277 0.6022245584 4 0 0\n"
    )
    assert read_foreign("Si.sw").class_name == "StillingerWeber"
    assert main(["convert", "Si.sw", "--out", "si.rikiba"]) == 0
    assert load_potential("si.rikiba").elements == ("Si",)


def test_bad_input_is_refused_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(checkpoint_of_chgnet())
    Path("notes.txt").write_text("nothing")
    Path("folder").mkdir()
    cases = {
        ("absent.pt", "--out", "x"): "no file",
        ("notes.txt", "--out", "x"): "no reader knows it",
        ("notes.txt", "--out", "x", "--format", "chgnt"): "no format 'chgnt'",
        ("notes.txt", "--out", "x", "--format", "chgnet"): "not a file that torch wrote",
        (file, "--out", "folder"): "is a folder",
        (file, "--out", file): "file that is read",
        (file, "--out", "x", "--set", "elemnts=1"): "Did you mean 'elements'",
        (file, "--out", "x", "--set", 'elements=["Xx"]'): "Xx",
    }
    for words, message in cases.items():
        assert message in refused(capsys, *words), words
    assert not Path("x").exists()


def test_objects_in_a_pickle_are_never_made(capsys: pytest.CaptureFixture[str]) -> None:
    """Negative control: the plain unpickler does run what stands in such a file."""
    torch.save({"model": _Bomb()}, "bomb.pt")
    assert "holds Python objects" in refused(capsys, "bomb.pt", "--out", "x")
    Path("old.pt").write_bytes(pickle.dumps(_Bomb()))
    assert "holds Python objects" in refused(capsys, "old.pt", "--out", "x")
    assert not Path("exploded").exists()
    pickle.loads(Path("old.pt").read_bytes())
    assert Path("exploded").exists()


def test_a_damaged_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    state, about = reference("chgnet", "norms")
    del state["site_wise.weight"]
    torch.save({"model": {"state_dict": state, "model_args": about["arguments"]}}, "a.pt")
    assert "moment.weight" in refused(capsys, "a.pt", "--out", "x")
    del state["atom_embedding.embedding.weight"]
    torch.save({"model": {"state_dict": state, "model_args": about["arguments"]}}, "b.pt")
    assert "atom_embedding" in refused(capsys, "b.pt", "--out", "x")
    whole = checkpoint_of_chgnet().read_bytes()
    Path("cut.pt").write_bytes(whole[: len(whole) // 2])
    refused(capsys, "cut.pt", "--out", "x")


MD = """
[structure]
kind = "crystal"
formula = "NaCl"
lattice = "rocksalt"
a = 5.64

[potential]
kind = "chgnet"

[ensemble]
kind = "nve"

[md]
steps = 4
timestep_fs = 1.0
temperature_K = 300.0
interval = 1
"""


def test_the_package_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("job.toml").write_text(MD)
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "chgnet" else there(n, *a))
    assert main(["md", "job.toml"]) == 2
    assert "pip install rikiba[chgnet]" in capsys.readouterr().err


def test_published_weights_run_by_the_name_of_their_kind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wheel's folder with a small model in it, whose package would not import."""
    folder = Path("site/chgnet/pretrained/0.3.0")
    folder.mkdir(parents=True)
    Path("site/chgnet/__init__.py").write_text("raise RuntimeError('imported')")
    checkpoint_of_chgnet().rename(folder / "small.pth.tar")
    monkeypatch.syspath_prepend(str(Path("site").absolute()))
    Path("job.toml").write_text(MD)
    assert main(["md", "job.toml", "--out", "out"]) == 0
    assert len(read("out/trajectory.xyz", ":")) >= 4
    assert 'model = "0.3.0"' in Path("out/resolved.toml").read_text()
    assert foreign.pretrained("mace") is None and foreign.pretrained("chgnet") is not None
    assert main(["md", "job.toml", "--set", "potential.model=0.4"]) == 2
    assert "0.3.0" in capsys.readouterr().err
