"""A checkpoint on disk: arrays and JSON in one NumPy archive, without pickle, written atomically."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

FORMAT = 1
_META = "meta.json"


def write(path: str | Path, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> Path:
    """Write arrays (or tensors) and a JSON document; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, **meta})
    plain = {
        name: v.detach().cpu().numpy() if isinstance(v, Tensor) else np.asarray(v)
        for name, v in arrays.items()
    }
    for name, value in plain.items():
        if value.dtype == object:
            raise ValueError(f"'{name}' cannot go into a checkpoint: only numbers, booleans and text can.")
    # one name for all attempts: what a killed one left is overwritten by the next
    scratch = path.with_name(f".{path.name}.part")
    try:
        with open(scratch, "wb") as file:
            np.savez(file, allow_pickle=False, **{_META: np.array(text)}, **plain)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return path


def _sync_folder(folder: Path) -> None:
    """Put a renamed file's new name on disk, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder cannot be opened on every system
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and JSON document of a checkpoint; raises ValueError for a file that is not one."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(str(arrays.pop(_META)))
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is not a checkpoint, or it is damaged: {error}.") from error
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path} has checkpoint format {meta.get('format')}; this version reads {FORMAT}.")
    return arrays, meta


def under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names start with `prefix/`, without it."""
    return {name[len(prefix) + 1 :]: v for name, v in arrays.items() if name.startswith(prefix + "/")}
