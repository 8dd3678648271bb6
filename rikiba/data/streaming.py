"""Datasets larger than memory: a folder of plain binary arrays, read by memory map, one frame at a time.

A store holds `meta.json` and one little-endian `.bin` file per field: per-atom fields are concatenated over
the frames (`offsets.bin` says where a frame starts), per-system fields have one row a frame. A field that a
frame lacks has a cleared bit in `present.bin`. Nothing is pickled; any number of processes may read.
"""

import contextlib
import errno
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
import torch

from rikiba.core import elements
from rikiba.core.results import QUANTITIES, Results
from rikiba.core.system import System

from .dataset import Dataset, Labelled
from .formats import iterate
from .labels import Keys

_VERSION = 1


@final
@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    per_atom: bool
    shape: tuple[int, ...]
    dtype: str
    optional: bool = True


_FIELDS: tuple[_Field, ...] = (
    _Field("positions", True, (3,), "<f8", False),
    _Field("numbers", True, (), "<i2", False),
    _Field("cell", False, (3, 3), "<f8", False),
    _Field("pbc", False, (3,), "<u1", False),
    _Field("charge", False, (), "<f8"),
    _Field("spin", False, (), "<i8"),
    _Field("magmoms", True, (), "<f8"),
    _Field("field", False, (3,), "<f8"),
    _Field("head", False, (), "<i8"),
    _Field("tags", True, (), "<i8"),
    *(_Field(f"label_{q.name}", q.per == "atom", q.shape, "<f8") for q in QUANTITIES.values()),
)


def write_store(frames: Iterable[Labelled], folder: str | Path) -> Path:
    """Write frames, taken one by one, as a store; an existing one is replaced when the new one is complete.

    Metadata (`info`, weights, noise) goes through JSON: arrays come back as lists. Raises ValueError where it
    cannot be written so, and where there are no frames. Of several that write one folder at the same time,
    one wins, whole.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    writer = _Writer(part)
    try:
        for frame in frames:
            writer.add(frame)
        writer.finish()
    except BaseException:
        writer.close()
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.chmod(0o755)
    _put(part, folder)
    return folder


def _put(part: Path, folder: Path) -> None:
    """Move a complete store to its place; what stood there goes first, in one piece."""
    while True:
        try:
            part.rename(folder)
            return
        except OSError as error:
            # what stood there may be gone by now, taken away by another process
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".old"))
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            folder.rename(old / folder.name)
        shutil.rmtree(old, ignore_errors=True)


def convert(
    path: str | Path | Sequence[str | Path],
    folder: str | Path,
    *,
    level_of_theory: str | None = None,
    keys: Keys | None = None,
    group: str | None = None,
    need: Sequence[str] = ("energy", "forces"),
    format: str | None = None,
) -> Dataset:
    """Turn labelled files into a store without loading them; the arguments are those of `formats.read`.

    Returns the opened store. Memory stays that of a single frame and the table of group names.
    """
    paths = [path] if isinstance(path, (str, Path)) else list(path)

    def frames() -> Iterator[Labelled]:
        for one in paths:
            yield from iterate(
                one, level_of_theory=level_of_theory, keys=keys, group=group, need=need, format=format
            )

    return open_store(write_store(frames(), folder))


def open_store(folder: str | Path) -> Dataset:
    """A Dataset whose frames are read when asked for."""
    return Dataset(Store(folder), Path(folder).name)


class _Writer:
    """Appends frames to the arrays of a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, BinaryIO] = {}
        self.rows: dict[str, int] = {}
        self.n_frames = self.n_atoms = self.n_text = 0
        self.strings: dict[str, dict[str, int]] = {"group": {}, "level_of_theory": {}}
        self.numbers: set[int] = set()

    def add(self, frame: Labelled) -> None:
        system = frame.system
        present = 0
        for bit, f in enumerate(_FIELDS):
            name = f.name.removeprefix("label_")
            value = getattr(frame.results if f.name.startswith("label_") else system, name)
            if value is not None:
                present |= 1 << bit
                self._pad(f, self.n_atoms if f.per_atom else self.n_frames)
                rows = np.ascontiguousarray(value.detach().cpu().numpy(), dtype=f.dtype)
                self._append(f.name, rows.reshape(-1, *f.shape))
        meta = {
            "source": frame.source,
            "info": dict(system.info[0]) if system.info else None,
            "weights": frame.weights,
            "noise": frame.noise,
        }
        text = _json(meta, frame.source).encode("utf-8")
        self.n_text += len(text)
        self._append("text", np.frombuffer(text, dtype="<u1"))
        self._append("text_ends", np.array([self.n_text], dtype="<i8"))
        self._append("present", np.array([present], dtype="<u4"))
        for name, value in (("group", frame.group), ("level_of_theory", frame.level_of_theory)):
            known = self.strings[name]
            self._append(f"{name}_index", np.array([known.setdefault(value, len(known))], dtype="<i8"))
        self.n_frames += 1
        self.n_atoms += system.n_atoms
        self._append("atom_ends", np.array([self.n_atoms], dtype="<i8"))
        self.numbers |= set(system.numbers.tolist())

    def _append(self, name: str, rows: np.ndarray) -> None:
        if name not in self.files:
            self.files[name] = (self.folder / f"{name}.bin").open("wb")
        self.files[name].write(rows.tobytes())
        self.rows[name] = self.rows.get(name, 0) + len(rows)

    def _pad(self, f: _Field, upto: int) -> None:
        """Fill the rows of earlier frames that lack the field; their bit is clear: they are never read."""
        missing = upto - self.rows.get(f.name, 0)
        for start in range(0, missing, 65536):
            self._append(f.name, np.zeros((min(65536, missing - start), *f.shape), dtype=f.dtype))

    def finish(self) -> None:
        if self.n_frames == 0:
            raise ValueError("There are no frames to store.")
        fields = [f for f in _FIELDS if f.name in self.rows]
        for f in fields:
            self._pad(f, self.n_atoms if f.per_atom else self.n_frames)
        self.close()
        meta = {
            "format": "rikiba frames",
            "version": _VERSION,
            "n_frames": self.n_frames,
            "n_atoms": self.n_atoms,
            "n_text": self.n_text,
            "fields": [f.name for f in _FIELDS],
            "stored": [f.name for f in fields],
            "strings": {name: list(known) for name, known in self.strings.items()},
            "numbers": sorted(self.numbers),
        }
        (self.folder / "meta.json").write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")

    def close(self) -> None:
        for file in self.files.values():
            file.close()


def _json(meta: Mapping[str, Any], source: str) -> str:
    try:
        return json.dumps(meta, ensure_ascii=False, default=lambda v: v.tolist())
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{source or 'A frame'}: its info cannot be stored as JSON: {error}.") from error


@final
class Store(Sequence[Labelled]):
    """The frames of a store folder, read one at a time by memory map; can be sent to other processes."""

    def __init__(self, folder: str | Path) -> None:
        """
        Args:
            folder: a folder that `write_store` or `convert` made
        """
        self.folder = Path(folder)
        try:
            meta = json.loads((self.folder / "meta.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(f"{self.folder} is not a complete store of frames: {error}.") from error
        if meta.get("format") != "rikiba frames" or meta.get("version") != _VERSION:
            raise ValueError(
                f"{self.folder}: version {meta.get('version')} of {meta.get('format')!r} is not known."
            )
        self._meta = meta
        self._stamp = self._written()
        self._bits = {name: bit for bit, name in enumerate(meta["fields"])}
        self._maps: dict[str, np.ndarray] = {}

    def _written(self) -> tuple[int, int]:
        """What tells this store from another one put in its place."""
        stat = (self.folder / "meta.json").stat()
        return stat.st_ino, stat.st_mtime_ns

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    def __len__(self) -> int:
        return int(self._meta["n_frames"])

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols present, ordered by atomic number, of the whole store."""
        return elements.sorted_symbols(self._meta["numbers"])

    def column(self, name: str) -> Sequence[str]:
        """'group' or 'level_of_theory' of every frame without loading structures; 'source' reads metadata."""
        if name == "source":
            return [self._text(k)["source"] for k in range(len(self))]
        names = self._meta["strings"][name]
        return [names[k] for k in self._map(f"{name}_index", (), "<i8").tolist()]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(len(self))[index]]
        k = range(len(self))[int(index)]  # raises IndexError, takes negative indices
        ends = self._map("atom_ends", (), "<i8")
        first, last = (int(ends[k - 1]) if k else 0), int(ends[k])
        present = int(self._map("present", (), "<u4")[k])
        system: dict[str, Any] = {}
        labels: dict[str, Any] = {}
        for f in _FIELDS:
            if f.name in self._bits and present >> self._bits[f.name] & 1:
                rows = slice(first, last) if f.per_atom else slice(k, k + 1)
                value = torch.from_numpy(np.array(self._map(f.name, f.shape, f.dtype)[rows]))
                if f.name.startswith("label_"):
                    labels[f.name.removeprefix("label_")] = value
                else:
                    system[f.name] = value
        text = self._text(k)
        system["numbers"] = system["numbers"].long()
        system["pbc"] = system["pbc"].bool()
        return Labelled(
            system=System(
                **system,
                system_index=torch.zeros(last - first, dtype=torch.int64),
                info=None if text["info"] is None else (text["info"],),
            ),
            results=Results(**labels),
            level_of_theory=self._string("level_of_theory", k),
            group=self._string("group", k),
            source=text["source"],
            weights=text["weights"],
            noise=text["noise"],
        )

    def _string(self, name: str, k: int) -> str:
        return str(self._meta["strings"][name][int(self._map(f"{name}_index", (), "<i8")[k])])

    def _text(self, k: int) -> dict[str, Any]:
        ends = self._map("text_ends", (), "<i8")
        raw = self._map("text", (), "<u1")[int(ends[k - 1]) if k else 0 : int(ends[k])]
        return dict(json.loads(raw.tobytes()))

    def _map(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        if name not in self._maps:
            if self._written() != self._stamp:
                raise ValueError(f"{self.folder} was replaced while it was being read; open it again.")
            self._maps[name] = np.memmap(self.folder / f"{name}.bin", dtype=dtype, mode="r").reshape(
                -1, *shape
            )
        return self._maps[name]
