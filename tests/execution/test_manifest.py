"""A manifest holds what decides a run, and nothing else."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from rikiba.execution import manifest


def test_same_run_same_bytes_changed_input_changed_hash(tmp_path: Path) -> None:
    data = tmp_path / "data.xyz"
    data.write_text("one")

    def make() -> manifest.Manifest:
        command = ["rikiba", "run", "a b.toml"]
        return manifest.make_manifest(inputs=[data], seeds={"training": 3}, command=command)

    first = make().save(tmp_path / "1").read_bytes()
    manifest.save_times(tmp_path / "1", 0.0)
    assert make().save(tmp_path / "2").read_bytes() == first
    data.write_text("two")
    assert make().save(tmp_path / "3").read_bytes() != first
    assert make().inputs[str(data)] == hashlib.sha256(b"two").hexdigest() == manifest.digest_of_text("two")


def test_contents_and_round_trip(tmp_path: Path) -> None:
    made = manifest.make_manifest(seeds={"md": 1}, deterministic=True, command=["rikiba", "run", "a b.toml"])
    made.save(tmp_path)
    assert manifest.Manifest.load(tmp_path) == made
    held = json.loads((tmp_path / "manifest.json").read_text())
    assert held["versions"]["torch"] == torch.__version__ and held["shell"] == "rikiba run 'a b.toml'"
    assert {"rikiba", "numpy", "ase", "vesin"} <= set(held["versions"])
    assert not any("time" in key or "utc" in key for key in held)


def test_times_are_apart(tmp_path: Path) -> None:
    held = json.loads(manifest.save_times(tmp_path, 0.0, {"train": 1.5}).read_text())
    assert held["started_utc"] == "1970-01-01T00:00:00Z" and held["stages_s"] == {"train": 1.5}
    assert held["wall_s"] > 1e9


def test_digest_of_a_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        manifest.digest(tmp_path / "absent")
