"""Attributes and tensors of a TorchScript file, read as data: none of its code is compiled or run."""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")


@final
class Record:
    """What stands for an object of a class that the file defines: its attributes, and no behaviour."""

    def __init__(self, *arguments: Any) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = dict(state) if isinstance(state, dict) else {"state": state}


def read_torch_script(path: str | Path) -> Record:
    """The root of a file written by `torch.jit.save`.

    Objects are `Record`s, tensors are tensors on the CPU. Raises ValueError for another kind of file and
    pickle.UnpicklingError where it names a class or function that such a file does not need.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"'{path}' is not a TorchScript file.")
    with zipfile.ZipFile(path) as archive:
        found = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(found) != 1 or not any("/code/" in n for n in archive.namelist()):
            raise ValueError(f"'{path}' is not a TorchScript file: it has no code.")
        with archive.open(found[0]) as stream:
            root = _Reader(stream, archive, found[0].partition("/")[0]).load()
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


class _Reader(pickle.Unpickler):
    """Makes tensors, lists and records, and nothing else."""

    def __init__(self, stream: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(stream)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return Record
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if module == "torch.jit._pickle" and name in _LISTS:
            return list
        if module == "torch.jit._pickle" and name == "restore_type_tag":
            return _untagged
        if module == "collections" and name == "OrderedDict":
            return OrderedDict
        raise pickle.UnpicklingError(f"A TorchScript file of weights does not need {module}.{name}; refused.")

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, n = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(key).isdigit():
            raise pickle.UnpicklingError(f"Not a stored tensor: {pid!r}.")
        if n == 0:
            return torch.empty(0, dtype=dtype)
        data = self._archive.read(f"{self._folder}/data/{key}")
        return torch.frombuffer(bytearray(data), dtype=dtype, count=n)


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return storage.as_strided(tuple(size), tuple(stride), offset).clone()


def _untagged(value: Any, _: str) -> Any:
    return value
