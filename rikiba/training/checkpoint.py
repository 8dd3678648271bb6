"""A potential in one file: weights and a JSON recipe to rebuild it, no pickle.

The file is a zip archive (readable by `numpy.load` and `unzip`) of `recipe.json` and one `.npy` member per
tensor. The recipe holds the class's registered name, all constructor arguments (other potentials nested),
precision, units, level of theory, a digest of the training data, citations and versions. It is written
beside its place and moved there, so a reader never sees half a file.
"""

import inspect
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rikiba.core import registry
from rikiba.potentials.base import Potential

FORMAT_VERSION = 1
POTENTIAL = "rikiba potential"
TRAINING_STATE = "rikiba training state"
_NESTED = "potential:"


class CheckpointError(ValueError):
    """A file that is not a checkpoint, is damaged, or cannot be used here."""


def save_potential(
    path: str | Path,
    potential: Potential,
    *,
    level_of_theory: str = "",
    training_data: str = "",
    **metadata: Any,
) -> Path:
    """Write a potential, bit for bit, with where it comes from.

    `level_of_theory` names the method of the labels, `training_data` is a digest of them; further metadata
    must be what JSON has. Raises ValueError for constructor arguments that JSON cannot hold.
    """
    from rikiba import __version__

    header = {
        "format": POTENTIAL,
        "format_version": FORMAT_VERSION,
        "rikiba_version": __version__,
        "recipe": recipe(potential),
        "dtype": _name(potential.dtype),
        "elements": list(potential.elements),
        "cutoff": float(potential.cutoff),
        "units": {"energy": "eV", "length": "Å", "stress": "eV/Å³"},
        "level_of_theory": level_of_theory,
        "training_data": training_data,
        "references": list(potential.references),
        "metadata": metadata,
    }
    return write_archive(path, header, potential.state_dict())


def load_potential(path: str | Path, device: torch.device | str = "cpu") -> Potential:
    """The potential of a file, equal to the saved one in every bit.

    Raises FileNotFoundError, or CheckpointError for a file that is damaged, of another kind or of a newer
    format, or whose tensors do not fit the class of that name.
    """
    header, tensors = read_archive(path, POTENTIAL)
    try:
        potential = build(header["recipe"]).to(getattr(torch, header["dtype"]))
    except (registry.UnknownName, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be rebuilt by this version of rikiba: {error}") from error
    own = {**dict(potential.named_parameters()), **dict(potential.named_buffers())}
    for name, saved in tensors.items():
        if name in own and own[name].dtype != saved.dtype:
            own[name].data = own[name].data.to(saved.dtype)
    try:
        potential.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"Tensors in {path} do not fit {type(potential).__name__}: {error}") from error
    return potential.to(device)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Everything of a potential's file but the tensors; raises as `load_potential`."""
    return _header(path, POTENTIAL)


def recipe(potential: Potential) -> dict[str, Any]:
    """{'kind': registered name, 'arguments': every constructor argument, defaults included}."""
    cls = type(potential)
    bound = inspect.signature(cls).bind(**potential.arguments)
    bound.apply_defaults()
    kind = registry.name_of("potentials", cls)
    arguments = {name: _plain(value, f"{kind}.{name}") for name, value in bound.kwargs.items()}
    return {"kind": kind, "arguments": arguments}


def build(of: Mapping[str, Any]) -> Potential:
    """The potential of a recipe, with freshly initialised weights; CheckpointError for any other class."""
    cls = registry.load("potentials", of["kind"])
    if not (isinstance(cls, type) and issubclass(cls, Potential)):
        raise CheckpointError(f"The recipe names '{of['kind']}', which is not a potential.")
    return cls(**{name: _built(value) for name, value in of["arguments"].items()})


def _plain(value: Any, where: str) -> Any:
    """What JSON has; a potential becomes its recipe under a marked key."""
    if isinstance(value, Potential):
        return {_NESTED: recipe(value)}
    if isinstance(value, (np.generic, Tensor)) and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: _plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (Mapping, Tensor, np.ndarray)):
        return [_plain(v, where) for v in value]
    raise ValueError(
        f"The argument {where} is a {type(value).__name__}, which a checkpoint cannot hold; constructor "
        f"arguments are numbers, strings, booleans, lists, mappings with string keys, or potentials."
    )


def _built(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_NESTED}:
            return build(value[_NESTED])
        return {k: _built(v) for k, v in value.items()}
    return [_built(v) for v in value] if isinstance(value, list) else value


def write_archive(path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a JSON header and tensors to one file, atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {**header, "tensors": {k: _name(t.dtype) for k, t in tensors.items()}}, ensure_ascii=False
    )
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
                archive.writestr(zipfile.ZipInfo("recipe.json"), text.encode())
                for name, tensor in tensors.items():
                    member = BytesIO()
                    np.lib.format.write_array(member, _to_numpy(tensor), allow_pickle=False)
                    archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def read_archive(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(header, tensors) of a file of the given kind; raises CheckpointError where it is not one."""
    header = _header(path, kind)
    tensors = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name, dtype in header["tensors"].items():
                array = np.lib.format.read_array(BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
                tensors[name] = _to_torch(array, dtype)
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); use another copy.") from error
    return header, tensors


def _header(path: str | Path, kind: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read("recipe.json"))
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not a {kind} file, or is damaged: {error}.") from error
    if not isinstance(header, dict) or header.get("format") != kind:
        found = header.get("format") if isinstance(header, dict) else None
        raise CheckpointError(f"{path} holds '{found}'; a {kind} is needed here.")
    if header["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {header['format_version']}, written by rikiba "
            f"{header.get('rikiba_version')}; this version reads up to {FORMAT_VERSION}. "
            f"Install a newer rikiba."
        )
    return header


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _to_numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu().contiguous()
    # numpy has no bfloat16: its bits travel as 16-bit integers
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _to_torch(array: np.ndarray, dtype: str) -> Tensor:
    tensor = torch.from_numpy(np.array(array))  # a copy that torch may write to
    wanted = getattr(torch, dtype)
    return tensor.view(wanted) if wanted == torch.bfloat16 else tensor.to(wanted)
