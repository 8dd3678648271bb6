"""Read LAMMPS' files of three-body parameters (.sw, .tersoff, .tersoff.mod) into arguments of our classes.

Formats as in LAMMPS' documentation of `pair_style sw`, `tersoff` and `tersoff/mod`, units metal.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

from .foreign_file import ForeignFile
from .mace_torch import Weights

_COLUMNS = {
    "StillingerWeber": (
        "epsilon_eV", "sigma", "a", "lambda", "gamma", "cos_theta0", "A", "B", "p", "q", "tolerance",
    ),
    "Tersoff": (
        "m", "gamma", "lambda3_per_A", "c", "d", "cos_theta0", "n", "beta", "lambda2_per_A", "B_eV",
        "R", "D", "lambda1_per_A", "A_eV",
    ),
    "TersoffMod": (
        "m", "alpha_per_A", "cos_theta0", "eta", "beta", "lambda2_per_A", "B_eV", "R", "D",
        "lambda1_per_A", "A_eV", "n", "c1", "c2", "c3", "c4", "c5",
    ),
}  # fmt: skip


class ThreeBodyFileError(ValueError):
    """A file that does not hold entries of the expected potential."""


def recognises(file: ForeignFile) -> bool:
    """True for a file named `.sw`, `.tersoff` or `.tersoff.mod`."""
    return file.named(".sw", ".tersoff", ".tersoff.mod")


def read_file(*, path: Path, elements: Sequence[str] | Mapping[str, str] | None = None) -> Weights:
    """`read_stillinger_weber` of a `.sw` file, `read_tersoff` of another.

    Args:
        path: the file.
        elements: which elements to use, or element → name in the file; all that have an entry if not given.
    """
    reader = read_stillinger_weber if path.name.lower().endswith(".sw") else read_tersoff
    return reader(path, elements)


def read_stillinger_weber(
    path: str | Path, elements: Sequence[str] | Mapping[str, str] | None = None
) -> Weights:
    """Arguments of `StillingerWeber` from a `.sw` file.

    Args:
        path: the file.
        elements: which elements to use, or element → name in the file; all that have an entry if not given.

    Raises FileNotFoundError, or ThreeBodyFileError for another layout, and for a tolerance other than 0, with
    which LAMMPS shortens the cutoff.
    """
    parameters = _entries(path, "StillingerWeber", elements)
    for key, values in parameters.items():
        if values.pop("tolerance") != 0.0:
            raise ThreeBodyFileError(f"{path}: {key} has a tolerance; set the last number of the entry to 0.")
    return Weights("StillingerWeber", {"parameters": parameters}, {})


def read_tersoff(
    path: str | Path,
    elements: Sequence[str] | Mapping[str, str] | None = None,
    **options: Any,
) -> Weights:
    """Arguments of `Tersoff` from a `.tersoff` file, or of `TersoffMod` from a `.tersoff.mod` file.

    Args:
        path: the file; which of the two it is, its number of columns tells.
        elements: which elements to use, or element → name in the file; all that have an entry if not given.
        options: further arguments, `taper`.

    Raises FileNotFoundError, or ThreeBodyFileError for another layout.
    """
    words = list(_words(path))
    name = "TersoffMod" if len(words) % 17 and not len(words) % 20 else "Tersoff"
    if not len(words) % 340 and len(words) > 20:
        name = "TersoffMod" if not _is_number(words[20]) else "Tersoff"
    return Weights(name, {"parameters": _entries(path, name, elements)} | options, {})


def _words(path: str | Path) -> Iterator[str]:
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        yield from line.split("#")[0].split()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _entries(
    path: str | Path, class_name: str, elements: Sequence[str] | Mapping[str, str] | None
) -> dict[str, dict[str, float]]:
    """'centre-first-second' → named values of the entries that the elements need."""
    columns = _COLUMNS[class_name]
    words, length = list(_words(path)), 3 + len(columns)
    if not words or len(words) % length:
        raise ThreeBodyFileError(
            f"{path} holds {len(words)} entries; {class_name} needs groups of {length}: three elements and "
            f"{', '.join(columns)}."
        )
    found: dict[str, dict[str, float]] = {}
    labels = dict.fromkeys(w for k in range(0, len(words), length) for w in words[k : k + 3])
    names = elements if isinstance(elements, Mapping) else {e: e for e in elements or labels}
    absent = [label for label in names.values() if label not in labels]
    if absent:
        raise ThreeBodyFileError(f"{path} has {', '.join(labels)}, not {', '.join(absent)}.")
    symbols: dict[str, list[str]] = {}
    for symbol, label in names.items():
        symbols.setdefault(label, []).append(symbol)
    for k in range(0, len(words), length):
        try:
            values = [float(w) for w in words[k + 3 : k + length]]
        except ValueError as error:
            raise ThreeBodyFileError(
                f"{path}: the entry {words[k : k + length]} is damaged: {error}."
            ) from error
        named = dict(zip(columns, values, strict=True))
        a, b, c = (symbols.get(w, []) for w in words[k : k + 3])
        for key in (f"{x}-{y}-{z}" for x in a for y in b for z in c):
            if key in found and any(not isclose(found[key][n], v) for n, v in named.items()):
                raise ThreeBodyFileError(f"{path} has {key} twice with different values.")
            found[key] = dict(named)
    return found
