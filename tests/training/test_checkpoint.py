"""Checkpoints: bit for bit for every registered class, and clear errors for bad files."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from rikiba.calculators.autograd import evaluate
from rikiba.core import registry
from rikiba.core.pairs import find_pairs
from rikiba.potentials.base import Potential
from rikiba.potentials.pair_basis import PairBasis
from rikiba.potentials.sum import Sum
from rikiba.training.checkpoint import (
    CheckpointError,
    load_potential,
    read_archive,
    read_metadata,
    save_potential,
    write_archive,
)

from labelled_frames import REFERENCE, dataset, same  # isort: skip


def registered() -> list:
    cases = []
    for name in registry.names("potentials"):
        cls = registry.load("potentials", name)
        if isinstance(cls, type) and issubclass(cls, Potential) and hasattr(cls, "examples"):
            cases += [pytest.param(cls, k, id=f"{name}-{k}") for k in range(len(cls.examples()))]
    return cases


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("cls", "k"), registered())
def test_every_registered_class_comes_back_bit_for_bit(
    cls: type, k: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    potential = cls.examples()[k].to(dtype)
    with torch.no_grad():
        for p in potential.parameters():
            p.mul_(1.0 + 0.1 * torch.rand(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype))
    back = load_potential(save_potential(tmp_path / "a.npz", potential))
    assert type(back) is cls and same(dict(potential.state_dict()), dict(back.state_dict()))
    known = [f for f in dataset(12, seed=3).frames if set(f.system.symbols) <= set(potential.elements)]
    for frame in known[:2]:
        pairs = find_pairs(frame.system, potential.cutoff)
        one, two = (evaluate(p, frame.system, pairs) for p in (potential, back))
        assert torch.equal(one.energy, two.energy) and torch.equal(one.forces, two.forces)


def potential() -> PairBasis:
    return PairBasis(elements=("O", "Si"), cutoff=4.0, n_basis=3, atomic_energies={"O": -1.0, "Si": -2.0})


def test_a_sum_brings_its_terms_along(tmp_path: Path) -> None:
    total = Sum(terms=[potential(), REFERENCE])
    back = load_potential(save_potential(tmp_path / "sum.npz", total))
    assert [type(t) for t in back.terms] == [type(t) for t in total.terms]
    assert same(dict(total.state_dict()), dict(back.state_dict()))


def test_metadata_says_where_it_comes_from(tmp_path: Path) -> None:
    path = save_potential(
        tmp_path / "a.npz", potential(), level_of_theory="GFN2-xTB", training_data="abc", epochs=12
    )
    header = read_metadata(path)
    assert header["level_of_theory"] == "GFN2-xTB" and header["training_data"] == "abc"
    assert header["metadata"] == {"epochs": 12} and header["units"]["energy"] == "eV"
    # defaults are written too, so that a later change of a default changes nothing here
    assert header["recipe"] == {
        "kind": "pair_basis",
        "arguments": {
            "elements": ["O", "Si"], "cutoff": 4.0, "n_basis": 3, "envelope_power": 6, "one_body": False,
            "atomic_energies": {"O": -1.0, "Si": -2.0}, "seed": 0,
        },
    }  # fmt: skip


def test_file_has_no_pickle_and_numpy_reads_it(tmp_path: Path) -> None:
    path = save_potential(tmp_path / "a.npz", potential())
    with zipfile.ZipFile(path) as archive:
        assert all(n == "recipe.json" or n.endswith(".npy") for n in archive.namelist())
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["coefficients"], potential().coefficients.detach().numpy())


def test_equal_potentials_give_equal_files_and_none_is_left_half(tmp_path: Path) -> None:
    a, b = (save_potential(tmp_path / n, potential()) for n in ("a.npz", "b.npz"))
    assert a.read_bytes() == b.read_bytes()
    with pytest.raises(ValueError, match="cannot hold"):
        bad = potential()
        bad.arguments["elements"] = np.zeros(3)
        save_potential(tmp_path / "c.npz", bad)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_bfloat16_and_integers_survive(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 2).bfloat16(), "index": torch.arange(4), "flag": torch.tensor(True),
        "empty": torch.zeros(0, 3), "scalar": torch.tensor(1.5),
    }  # fmt: skip
    write_archive(tmp_path / "t", {"format": "x", "format_version": 1}, tensors)
    assert same(read_archive(tmp_path / "t", "x")[1], tensors)


def test_bad_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        load_potential(tmp_path / "absent.npz")
    text = tmp_path / "text.npz"
    text.write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="not a rikiba potential"):
        load_potential(text)
    good = save_potential(tmp_path / "good.npz", potential())
    damaged = tmp_path / "damaged.npz"
    content = bytearray(good.read_bytes())
    at = content.find(potential().coefficients.detach().numpy().tobytes())
    assert at > 0
    content[at + 3] ^= 255
    damaged.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_potential(damaged)
    damaged.write_bytes(good.read_bytes()[:-200])
    with pytest.raises(CheckpointError):
        load_potential(damaged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "newer rikiba"),
        ({"format": "rikiba training state"}, "is needed here"),
        ({"recipe": {"kind": "no_such_thing", "arguments": {}}}, "no_such_thing"),
        ({"recipe": {"kind": "pair_basis", "arguments": {"elements": ["O"], "wrong": 1}}}, "wrong"),
        (
            {"recipe": {"kind": "pair_basis", "arguments": {"elements": ["O", "Si"], "n_basis": 7}}},
            "do not fit",
        ),
    ],
)
def test_files_that_cannot_be_used_here_say_why(change: dict, message: str, tmp_path: Path) -> None:
    path = save_potential(tmp_path / "a.npz", potential())
    header, tensors = read_archive(path, "rikiba potential")
    write_archive(path, {**json.loads(json.dumps(header)), **change}, tensors)
    with pytest.raises(CheckpointError, match=message):
        load_potential(path)


def test_a_recipe_calls_nothing_but_potentials(tmp_path: Path) -> None:
    header, weights = read_archive(save_potential(tmp_path / "a.npz", potential()), "rikiba potential")
    file = tmp_path / "called"
    for kind, arguments in (
        ("os:mkdir", {"path": str(file)}),
        ("pathlib:Path", {}),
        ("tests_no_module:Class", {}),
    ):
        header["recipe"] = {"kind": kind, "arguments": arguments}
        with pytest.raises(CheckpointError):
            load_potential(write_archive(tmp_path / "b.npz", header, weights))
    assert not file.exists()
