"""Whole models that torch saved, read without importing or running anything in them."""

import lzma
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from rikiba.interop.foreign import build, read_foreign
from rikiba.interop.inert_pickle import InertError, Record, load_inert
from rikiba.interop.mace_torch import read_mace_torch

REFERENCE = Path(__file__).parents[1] / "peers" / "mace" / "reference"


@pytest.mark.parametrize("case", ["last_readout_only", "two_layers_L2_nu3_ell2"])
def test_a_whole_model_of_mace_torch_is_what_its_weights_are(case: str, tmp_path: Path) -> None:
    """Made with mace-torch 0.3.16 by tests/peers/mace/make_reference.py --whole CASE."""
    file = tmp_path / f"{case}.model"
    file.write_bytes(lzma.decompress((REFERENCE / f"{case}.model.xz").read_bytes()))
    found = read_foreign(file)
    assert not any(m == "mace" or m.startswith("mace.") for m in sys.modules)
    stored = np.load(REFERENCE / f"{case}.npz")
    state = {k[6:]: torch.as_tensor(stored[k]) for k in stored if k.startswith("state/")}
    activation = "tanh" if case.startswith("two") else "silu"
    expected = read_mace_torch(state, avg_num_neighbors=2.5, activation=activation)
    assert found.arguments == expected.arguments
    assert all(torch.equal(found.tensors[k], t) for k, t in expected.tensors.items())
    assert type(build(found)).__name__ == "MACE"


class _Bomb:
    """What it does when an ordinary unpickler meets it: writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, (f"open({str(self.path)!r}, 'w').write('boom')",))


class _HiddenBomb(_Bomb):
    """The same by a method."""

    def __reduce__(self) -> tuple[object, ...]:
        return (self.path.write_text, ("boom",))


@pytest.mark.parametrize("kind", [_Bomb, _HiddenBomb])
def test_nothing_in_a_file_is_run(kind: type[_Bomb], tmp_path: Path) -> None:
    proof, file = tmp_path / "proof", tmp_path / "bomb.pt"
    torch.save({"weights": torch.arange(3.0), "bomb": kind(proof)}, file)
    found = load_inert(file)
    assert not proof.exists()
    assert torch.equal(found["weights"], torch.arange(3.0)) and isinstance(found["bomb"], Record)
    assert "boom" in str(found["bomb"].arguments)
    torch.load(file, weights_only=False)
    assert proof.read_text() == "boom"  # negative control: it is armed


def test_modules_are_walked_as_torch_walks_them(tmp_path: Path) -> None:
    last = torch.nn.Linear(4, 1, bias=False)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), last)
    model[0].register_buffer("transient", torch.ones(2), persistent=False)
    last.weight = torch.nn.Parameter(torch.rand(4, 6)[::2, 1::2].T)  # a view with strides
    torch.save(model, tmp_path / "model.pt")
    found = load_inert(tmp_path / "model.pt")
    state = model.state_dict()
    assert list(found.state_dict()) == list(state)
    assert all(torch.equal(found.state_dict()[k], v) for k, v in state.items())
    assert found.child("1").name.endswith("BatchNorm1d") and found.child("7") is None


def test_damaged_and_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InertError, match="not an archive"):
        load_inert(tmp_path / "plain.pkl")
    torch.save(torch.arange(4.0), tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as archive, zipfile.ZipFile(tmp_path / "cut.pt", "w") as out:
        for name in archive.namelist():
            content = archive.read(name)
            out.writestr(name, content[:8] if name.endswith("data/0") else content)
    with pytest.raises(InertError, match="holds 2 numbers instead of 4"):
        load_inert(tmp_path / "cut.pt")
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as out:
        out.writestr("bad/data.pkl", b"\x80\x02nonsense")
    with pytest.raises(InertError, match="cannot be read"):
        load_inert(tmp_path / "bad.pt")
