"""Whole Python objects that torch saved, read as inert records: no code of theirs is imported or run.

A file of `torch.save(model)` names classes and functions, which an ordinary unpickler imports and calls.
Here each becomes a `Record` that remembers its name, what it was called with and its state. Tensors are made
of the bytes in the file. Only plain containers are what they say.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STORAGES = {
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


class InertError(ValueError):
    """A file that cannot be read as inert records."""


class Record:
    """An object of a class that was not imported, or what a function that was not called would have made."""

    name = ""
    """module.name as the file has it."""

    def __new__(cls, *arguments: Any, **named: Any) -> "Record":
        self = object.__new__(cls)
        self.arguments, self.named = arguments, named
        self.state, self.items = {}, []
        return self

    arguments: tuple[Any, ...]
    named: dict[str, Any]
    state: dict[str, Any]
    items: list[Any]
    """What was appended to it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {"": state}

    def __call__(self, *arguments: Any, **named: Any) -> "Record":
        """What a method of this object would have made: another record."""
        made = Record(*arguments, **named)
        made.name = f"{self.name}()"
        return made

    def append(self, item: Any) -> None:
        self.items.append(item)

    def extend(self, items: Any) -> None:
        self.items.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def child(self, path: str) -> "Record | None":
        """The submodule of this dotted name of a recorded `torch.nn.Module`; None where there is none."""
        found: Any = self
        for part in path.split("."):
            found = found.state.get("_modules", {}).get(part) if isinstance(found, Record) else None
        return found if isinstance(found, Record) else None

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers of a recorded `torch.nn.Module`, as its own `state_dict()`."""
        return dict(self._tensors(""))

    def _tensors(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        transient = self.state.get("_non_persistent_buffers_set", ())
        for part in ("_parameters", "_buffers"):
            for name, value in self.state.get(part, {}).items():
                if isinstance(value, Tensor) and name not in transient:
                    yield prefix + name, value
        for name, module in self.state.get("_modules", {}).items():
            if isinstance(module, Record):
                yield from module._tensors(f"{prefix}{name}.")


def load_inert(path: str | Path) -> Any:
    """What `torch.save` wrote into a zip archive, every unknown object as a `Record`.

    Raises InertError for files of another kind, and damaged ones.
    """
    path = Path(path)
    if not zipfile.is_zipfile(path):
        raise InertError(f"'{path}' is not an archive that torch wrote (the format of torch 1.6 or later).")
    with zipfile.ZipFile(path) as archive:
        roots = [n[: -len("data.pkl")] for n in archive.namelist() if n.endswith("/data.pkl")]
        if len(roots) != 1:
            raise InertError(f"'{path}' holds {len(roots)} pickles; one is expected.")
        names = set(archive.namelist())
        if f"{roots[0]}byteorder" in names and archive.read(f"{roots[0]}byteorder") != b"little":
            raise InertError(f"'{path}' was written on a big-endian machine.")
        stream = io.BytesIO(archive.read(f"{roots[0]}data.pkl"))
        try:
            return _Unpickler(stream, archive, roots[0]).load()
        except InertError:
            raise
        except Exception as error:  # a damaged file fails anywhere
            raise InertError(f"'{path}' cannot be read: {type(error).__name__}: {error}") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(stream)
        self.archive, self.root = archive, root
        self.kinds: dict[str, type[Record]] = {}
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Containers, makers of tensors, and a class of records for everything else; imports nothing."""
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known = _KNOWN.get(f"{module}.{name}")
        if known is not None:
            return known
        full = f"{module}.{name}"
        if full not in self.kinds:
            self.kinds[full] = type("Record", (Record,), {"name": full})
        return self.kinds[full]

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers of a storage, read from the archive."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage"):
            raise InertError("the file refers to something outside itself")
        _, dtype, key, _, number = pid
        if not isinstance(dtype, torch.dtype) or not isinstance(number, int):
            raise InertError(f"a storage of an unknown kind ({dtype})")
        if key not in self.storages:
            content = bytearray(self.archive.read(f"{self.root}data/{key}"))
            whole = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            if len(whole) < number:
                raise InertError(f"storage {key} holds {len(whole)} numbers instead of {number}")
            self.storages[key] = whole[:number]
        return self.storages[key]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *further: Any) -> Tensor:
    """A view of a storage; torch refuses one that reaches outside."""
    if not isinstance(storage, Tensor):
        raise InertError("a tensor without a storage")
    return storage.as_strided(tuple(size), tuple(stride), offset).clone()


def _parameter(data: Any, *further: Any) -> Any:
    return data


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    """What pickle's second protocol makes bytes of."""
    if not isinstance(text, str) or encoding not in ("latin1", "utf-8", "ascii"):
        raise InertError("bytes in an unknown encoding")
    return text.encode(encoding)


_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "_codecs.encode": _encode,
    **{f"{m}.{t.__name__}": t for m in ("builtins", "__builtin__") for t in (set, frozenset, slice)},
    **{f"{m}.{t.__name__}": t for m in ("builtins", "__builtin__") for t in (complex, bytearray)},
}
