"""Extended XYZ as a stream: one frame at a time, nothing renamed, every error with its line number."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, final

import numpy as np
from ase import Atoms

_KINDS = {"S": np.str_, "R": np.float64, "I": np.int64, "L": np.bool_}
_BOOLEAN_WORDS = {"T": True, "F": False, "true": True, "false": False, "True": True, "False": False}
_BOOLEANS = {"T": True, "F": False, "True": True, "False": False, "1": True, "0": False}


class FormatError(ValueError):
    """A file that does not follow its format; the message names the file and the line or frame."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawFrame:
    """A structure with whatever stood beside it, under the names of the file."""

    atoms: Atoms
    """Without calculator; info and arrays hold nothing that could be a label."""
    where: str
    """File and frame (and line), for messages."""
    info: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    """What a stored calculator held, in ASE's units."""


def iterate(path: str | Path) -> Iterator[RawFrame]:
    """The frames of an extended XYZ file, one in memory at a time.

    Raises FormatError, with file and line, for a bad atom count, a frame cut short, a row with too few or too
    many columns, an entry that is not a number, an unknown element or a bad `Lattice`.
    """
    path = Path(path)
    with path.open(encoding="utf-8") as file:
        line_number, frame = 0, 0
        for line in file:
            line_number += 1
            if not line.strip():
                _only_blank_lines_follow(file, path, line_number)
                return
            where = f"{path.name}, frame {frame} (line {line_number})"
            try:
                n = int(line)
            except ValueError:
                raise FormatError(
                    f"{where}: an atom count is needed here; found {line.strip()[:60]!r}."
                ) from None
            if n < 0:
                raise FormatError(f"{where}: the atom count is {n}.")
            yield _frame(file, n, where, path, line_number)
            line_number += n + 1
            frame += 1


def _only_blank_lines_follow(file: TextIO, path: Path, line_number: int) -> None:
    for line in file:
        line_number += 1
        if line.strip():
            raise FormatError(
                f"{path.name}, line {line_number}: text after an empty line; a frame starts with a count."
            )


def _frame(file: TextIO, n: int, where: str, path: Path, line_number: int) -> RawFrame:
    comment = file.readline()
    if not comment:
        raise FormatError(f"{where}: the file ends after the atom count.")
    info = _comment(comment, where)
    columns = _columns(info.pop("Properties", "species:S:1:pos:R:3"), where)
    width = sum(c[2] for c in columns)
    rows = []
    for k in range(n):
        line = file.readline()
        if not line:
            raise FormatError(f"{where}: {n} atoms announced, the file ends after {k}.")
        row = line.split()
        if len(row) != width:
            raise FormatError(
                f"{path.name}, line {line_number + 2 + k}: {len(row)} columns, {width} are declared by "
                f"Properties ({', '.join(f'{c[0]}:{c[2]}' for c in columns)})."
            )
        rows.append(row)
    arrays = _arrays(rows, columns, n, path, line_number + 2)
    return RawFrame(atoms=_atoms(arrays, info, where), info=info, arrays=arrays, where=where)


_QUOTED = r'"(?:\\.|[^"\\])*"'
_PAIR = re.compile(
    rf"""\s*({_QUOTED}|[^\s="']+)"""  # key
    rf"""(?:\s*=\s*({_QUOTED}|'[^']*'|\{{[^}}]*\}}"""  # value, in one of four delimiters or bare
    rf"""|\[(?:[^\[\]]|\[[^\]]*\])*\]|[^\s"'\[{{]\S*))?\s*"""
)


def _comment(line: str, where: str) -> dict[str, Any]:
    """key=value pairs of a comment line; text that is none of it goes under 'comment'."""
    line = line.strip()
    out: dict[str, Any] = {}
    position = 0
    while position < len(line):
        match = _PAIR.match(line, position)
        if match is None:
            if "Properties=" in line or "Lattice=" in line:
                raise FormatError(f"{where}: not a key=value pair: {line[position : position + 40]!r}.")
            return {"comment": line}
        key, value = _unquoted(match.group(1)), match.group(2)
        out[key] = True if value is None else _value(value, key, where)
        position = match.end()
    return out


def _unquoted(text: str) -> str:
    if text[0] == '"':
        return re.sub(r"\\(.)", lambda m: "\n" if m.group(1) == "n" else m.group(1), text[1:-1])
    return text[1:-1] if text[0] in "'{[" else text


def _value(text: str, key: str, where: str) -> Any:
    """A number, an array of numbers or booleans, decoded JSON, or the string."""
    if text.startswith("[["):
        text = '"_JSON ' + text.replace('"', '\\"') + '"'
    text = _unquoted(text)
    if key == "Properties":
        return text
    if text.startswith("_JSON "):
        try:
            value = json.loads(text[6:])
        except json.JSONDecodeError as error:
            raise FormatError(f"{where}: '{key}' holds broken JSON: {error}.") from error
        array = np.array(value) if isinstance(value, list) and _is_regular(value) else None
        return array if array is not None and array.dtype.kind in "ifb" else value
    words = re.split(r"[\s,]+", text.strip(" ,"))
    converters: tuple[Any, ...] = (int, float, _BOOLEAN_WORDS.__getitem__)
    for convert in converters if "_" not in text else ():  # Python would read 1_000 as a number
        try:
            values = [convert(w) for w in words]
        except (ValueError, KeyError):
            continue
        return values[0] if len(values) == 1 else np.array(values)
    return text


def _is_regular(value: list[Any]) -> bool:
    try:
        np.array(value, dtype=float)
    except (ValueError, TypeError):
        return False
    return True


def _columns(properties: Any, where: str) -> list[tuple[str, str, int]]:
    """(name, kind, columns) of each entry of `Properties`."""
    words = str(properties).split(":")
    try:
        out = [(words[k], words[k + 1], int(words[k + 2])) for k in range(0, len(words), 3)]
    except (IndexError, ValueError):
        raise FormatError(f"{where}: Properties={properties!r} is not name:type:columns:…") from None
    for name, kind, count in out:
        if kind not in _KINDS or count < 1:
            raise FormatError(f"{where}: Properties has '{name}:{kind}:{count}'; types are S, R, I, L.")
    return out


def _arrays(
    rows: list[list[str]], columns: list[tuple[str, str, int]], n: int, path: Path, first_line: int
) -> dict[str, np.ndarray]:
    table = np.array(rows, dtype=np.str_).reshape(n, sum(c[2] for c in columns))
    out: dict[str, np.ndarray] = {}
    start = 0
    for name, kind, count in columns:
        text = table[:, start : start + count]
        start += count
        try:
            if kind == "L":
                value = np.array([_BOOLEANS[t] for t in text.ravel()], bool).reshape(text.shape)
            else:
                value = text.astype(_KINDS[kind])
        except (ValueError, KeyError):
            row, entry = _first_bad(text, kind)
            raise FormatError(
                f"{path.name}, line {first_line + row}: '{entry}' under '{name}' is not of type {kind}."
            ) from None
        out[name] = value[:, 0] if count == 1 else value
    return out


def _first_bad(text: np.ndarray, kind: str) -> tuple[int, str]:
    for row, entries in enumerate(text):
        for entry in entries:
            try:
                _BOOLEANS[entry] if kind == "L" else np.asarray(entry).astype(_KINDS[kind])
            except (ValueError, KeyError):
                return row, str(entry)
    return 0, ""


def _atoms(arrays: dict[str, np.ndarray], info: dict[str, Any], where: str) -> Atoms:
    """The structure; what it takes is removed from `arrays` and `info`."""
    from ase.data import atomic_numbers

    positions = next((arrays.pop(name) for name in ("pos", "positions") if name in arrays), None)
    if positions is None or positions.ndim != 2 or positions.shape[1] != 3:
        raise FormatError(f"{where}: Properties must hold pos:R:3.")
    if "species" in arrays:
        species = [str(s).capitalize() for s in arrays.pop("species")]
        unknown = sorted(set(species) - set(atomic_numbers))
        if unknown:
            raise FormatError(f"{where}: '{unknown[0]}' is not a chemical symbol.")
        numbers = np.array([atomic_numbers[s] for s in species], dtype=np.int64)
        arrays.pop("Z", None)
    elif "Z" in arrays or "numbers" in arrays:
        numbers = next(arrays.pop(name) for name in ("Z", "numbers") if name in arrays)
    else:
        raise FormatError(f"{where}: Properties holds neither species nor Z.")
    lattice = info.pop("Lattice", None)
    cell = np.zeros((3, 3))
    if lattice is not None:
        given = np.asarray(lattice)
        if given.size != 9 or given.dtype.kind not in "fi":
            raise FormatError(f"{where}: Lattice needs nine numbers.")
        cell = given.reshape(3, 3).astype(float)  # the file lists one lattice vector after the other
    pbc = info.pop("pbc", lattice is not None)
    try:
        pbc = np.broadcast_to(np.asarray(pbc, dtype=bool), 3)
    except ValueError:
        raise FormatError(f"{where}: pbc={pbc!r} is not three of T or F.") from None
    atoms = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=pbc)
    if "tags" in arrays:
        atoms.set_tags(arrays.pop("tags"))
    if "initial_magmoms" in arrays:
        atoms.set_initial_magnetic_moments(arrays.pop("initial_magmoms"))
    return atoms


def write_frame(
    file: TextIO, atoms: Atoms, info: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Append one frame; floats are written so that reading returns the same bits."""
    per_atom = {
        "species": np.array(atoms.get_chemical_symbols(), dtype=np.str_),
        "pos": atoms.positions,
        **arrays,
    }
    if atoms.has("tags"):
        per_atom["tags"] = atoms.get_tags()
    if atoms.has("initial_magmoms"):
        per_atom["initial_magmoms"] = atoms.get_initial_magnetic_moments()
    kinds = {"U": "S", "f": "R", "i": "I", "b": "L"}
    properties, columns = [], []
    for name, values in per_atom.items():
        kind = kinds[np.asarray(values).dtype.kind]
        table = np.asarray(values).reshape(len(atoms), values.shape[1] if values.ndim > 1 else 1)
        properties.append(f"{name}:{kind}:{table.shape[1]}")
        columns.append([" ".join(_entry(v, kind) for v in row) for row in table])
    pairs = [f"{_key(k)}={_pair_value(v)}" for k, v in info.items() if v is not None]
    if atoms.cell.array.any():
        pairs.insert(0, f'Lattice="{" ".join(repr(float(v)) for v in atoms.cell.array.ravel())}"')
    pairs.insert(1 if atoms.cell.array.any() else 0, f"Properties={':'.join(properties)}")
    pairs.append(f'pbc="{" ".join("T" if p else "F" for p in atoms.pbc)}"')
    rows = [" ".join(column[k] for column in columns) for k in range(len(atoms))]
    file.write("\n".join([str(len(atoms)), " ".join(pairs), *rows]) + "\n")


def _entry(value: Any, kind: str) -> str:
    if kind == "R":
        return repr(float(value))
    return ("T" if value else "F") if kind == "L" else str(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[^\s=\"'\\{}\[\]]+", str(key)) else _quote(str(key))


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _pair_value(value: Any) -> str:
    """Text of an info value that reads back as the same value (arrays of numbers, JSON for the rest)."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        if value.ndim == 2 and value.shape == (3, 3):
            value = value.ravel()  # symmetric tensors: nine numbers, the order ASE and others read
        if value.ndim == 1 and value.dtype.kind in "ifb" and len(value) > 1:
            return (
                '"'
                + " ".join(_entry(v, {"f": "R", "b": "L"}.get(value.dtype.kind, "I")) for v in value)
                + '"'
            )
        value = value.tolist()
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        plain = bool(value) and value == value.strip() and _value(_quote(value), "", "") == value
        return _quote(value if plain and not value.startswith("_JSON") else "_JSON " + json.dumps(value))
    try:
        return _quote("_JSON " + json.dumps(value, default=lambda v: v.tolist()))
    except (TypeError, AttributeError):
        raise ValueError(
            f"info holds {type(value).__name__}, which extended XYZ cannot store: {value!r}"
        ) from None
