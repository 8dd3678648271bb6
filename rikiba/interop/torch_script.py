"""Attributes and tensors of a TorchScript file, read as data: none of its code is compiled or run.

The objects of such a file are read by torch's restricted unpickler, for which every class that the file
defines is the same inert one.
"""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")


@final
class Record:
    """What stands for an object of a class that the file defines: its attributes, and no behaviour."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = dict(state) if isinstance(state, dict) else {"state": state}


def is_torch_script(path: str | Path) -> bool:
    """Whether a file is an archive with code beside its data, as `torch.jit.save` writes it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def read_torch_script(path: str | Path) -> Record:
    """The root of a file written by `torch.jit.save`.

    Objects are `Record`s, tensors are tensors on the CPU. Raises ValueError for another kind of file and
    pickle.UnpicklingError where it names a class or function that such a file does not need.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"'{path}' is not a TorchScript file.")
    plain = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(plain, "w") as data:
        names = archive.namelist()
        objects = [n for n in names if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(objects) != 1 or not any("/code/" in n for n in names):
            raise ValueError(f"'{path}' is not a TorchScript file: it has no code.")
        folder = objects[0].partition("/")[0]
        kept = (*(f"{folder}/{n}" for n in ("data/", ".data/", "version", "byteorder")), objects[0])
        for name in names:
            if name.startswith(kept):
                data.writestr(name, archive.read(name))
        classes = _classes(archive.read(objects[0]))
    plain.seek(0)
    allowed: list[Any] = [(Record, name) for name in classes]
    allowed += [(list, f"torch.jit._pickle.{name}") for name in _LISTS]
    allowed.append((_untagged, "torch.jit._pickle.restore_type_tag"))
    with torch.serialization.safe_globals(allowed):  # type: ignore[no-untyped-call]
        root = torch.load(plain, map_location="cpu", weights_only=True)
    if not isinstance(root, Record):
        raise ValueError(f"'{path}' holds {type(root).__name__} instead of a module.")
    return root


def tensors_of(record: Record, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors below a record with their dotted names, as in a `state_dict`."""
    for name, value in record.attributes.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, Record):
            yield from tensors_of(value, f"{prefix}{name}.")


def _classes(stream: bytes) -> set[str]:
    """Names of the classes that the file itself defines, of which only attributes are read."""
    named = (str(argument) for op, argument, _ in pickletools.genops(stream) if op.name == "GLOBAL")
    return {n.replace(" ", ".") for n in named if n.startswith("__torch__")}


def _untagged(value: Any, _: str) -> Any:
    return value
