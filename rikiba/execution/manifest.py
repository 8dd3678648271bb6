"""What a run was made of: versions, command line, seeds and digests, so that it can be made again.

`manifest.json` holds nothing that differs between two runs of the same command on the same machine and
inputs; clock times go to `times.json` beside it, so that deterministic outputs stay equal byte for byte.
"""

import hashlib
import json
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

PACKAGES = ("rikiba", "torch", "numpy", "ase", "vesin", "scipy", "numba", "h5py", "tblite")
"""Distributions whose versions a manifest records, where installed."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that decides a run's outcome."""

    command: tuple[str, ...]
    """The command line, one word each."""
    versions: Mapping[str, str]
    """Distribution → version."""
    python: str
    platform: str
    """Operating system and processor type."""
    seeds: Mapping[str, int] = field(default_factory=dict)
    """What is seeded → seed."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """File → SHA-256 of its bytes."""
    deterministic: bool = False
    """True where the run promises the same bytes again."""
    threads: int = 1

    def to_json(self) -> str:
        """JSON text with sorted keys, and the command as one can paste it."""
        return json.dumps(asdict(self) | {"shell": shlex.join(self.command)}, indent=1, sort_keys=True) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write `manifest.json` into a run's folder."""
        path = Path(folder) / "manifest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")
        return path

    @staticmethod
    def load(folder: str | Path) -> "Manifest":
        """The manifest of a run's folder."""
        found: dict[str, Any] = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
        found.pop("shell")
        return Manifest(**found | {"command": tuple(found["command"])})


def make_manifest(
    *,
    inputs: Iterable[str | Path] = (),
    seeds: Mapping[str, int] | None = None,
    deterministic: bool = False,
    command: Sequence[str] | None = None,
) -> Manifest:
    """The manifest of this process.

    Args:
        inputs: files that the run reads (the configuration, data sets, checkpoints).
        seeds: what is seeded → seed.
        deterministic: whether the run promises the same bytes again.
        command: the command line; that of this process if not given.
    """
    import torch

    words = tuple(command) if command is not None else (Path(sys.argv[0]).name, *sys.argv[1:])
    return Manifest(
        command=words,
        versions=package_versions(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        seeds=dict(seeds or {}),
        inputs={str(p): digest(p) for p in inputs},
        deterministic=deterministic,
        threads=torch.get_num_threads(),
    )


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Distribution → installed version; those not installed are left out."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal. Raises FileNotFoundError where there is none."""
    sha = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def digest_of_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, as hexadecimal."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def save_times(folder: str | Path, started: float, stages: Mapping[str, float] | None = None) -> Path:
    """Write `times.json`: start (UTC), wall seconds since `started` (from time.time()), seconds per stage."""
    clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
    content = {
        "started_utc": clock,
        "wall_s": round(time.time() - started, 3),
        "stages_s": dict(stages or {}),
    }
    path = Path(folder) / "times.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
