"""Coefficient files of LAMMPS' `pair_style snap` (`.snapcoeff`, `.snapparam`), in and out.

Elements stand here in order of atomic number, there in the order of the file; with `chemflag` the components
are reordered with them. Read from the documentation of LAMMPS, `pair_style snap` and `compute sna/atom`.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.potentials.snap import Snap

from .foreign_file import ForeignFile
from .mace_torch import Weights

_DEFAULTS = {
    "rfac0": 0.99363,
    "rmin0": 0.0,
    "switchflag": 1.0,
    "bzeroflag": 1.0,
    "quadraticflag": 0.0,
    "chemflag": 0.0,
    "bnormflag": 0.0,
    "wselfallflag": 0.0,
    "switchinnerflag": 0.0,
}
_NO_PHYSICS = ("chunksize", "parallelthresh")


def recognises(file: ForeignFile) -> bool:
    """True for a file named `.snapcoeff`."""
    return file.named(".snapcoeff")


def read_file(*, path: Path, parameters: Path | None = None) -> Weights:
    """`load_lammps_snap`.

    Args:
        path: the `.snapcoeff` file.
        parameters: its `.snapparam` file; the one of the same name beside it if not given.
    """
    return load_lammps_snap(path, path.with_suffix(".snapparam") if parameters is None else parameters)


def load_lammps_snap(coefficients: str | Path, parameters: str | Path) -> Weights:
    """Read a `.snapcoeff` and its `.snapparam` file into what `Snap` is built from.

    Other potentials that a file is meant to be overlaid with (ZBL) are not part of these files.
    Raises ValueError for what is not such a file, and for `switchinnerflag`, which is not offered.
    """
    return read_lammps_snap(
        Path(coefficients).read_text(encoding="utf-8"), Path(parameters).read_text(encoding="utf-8")
    )


def read_lammps_snap(coefficients: str, parameters: str) -> Weights:
    """The same from the text of the two files."""
    settings = _settings(parameters)
    blocks = _blocks(coefficients)
    given = [symbol for symbol, *_ in blocks]
    arguments: dict[str, Any] = {
        "elements": list(periodic_table.sorted_symbols(given)),
        "cutoff": settings["rcutfac"],
        "twojmax": int(settings["twojmax"]),
        "quadratic": bool(settings["quadraticflag"]),
        "radii": {symbol: radius for symbol, radius, _, _ in blocks},
        "weights": {symbol: weight for symbol, _, weight, _ in blocks},
        "angle_fraction": settings["rfac0"],
        "r_min": settings["rmin0"],
        "envelope": "cosine" if settings["switchflag"] else "none",
        "subtract_isolated": bool(settings["bzeroflag"]),
        "normalised": bool(settings["bnormflag"]),
        "explicit_elements": bool(settings["chemflag"]),
        "all_self": bool(settings["wselfallflag"]),
    }
    potential = Snap(**arguments)
    size = len(potential.coefficients) // len(given)
    if any(len(values) != size for *_, values in blocks):
        raise ValueError(
            f"These settings need {size} coefficients per element; the file has {len(blocks[0][3])}. "
            "Check twojmax, quadraticflag and chemflag."
        )
    table = torch.tensor([values for *_, values in blocks], dtype=torch.float64)
    order = [given.index(s) for s in potential.elements]
    tensors = potential.state_dict() | {"coefficients": _reordered(potential, table, order).flatten()}
    return Weights("Snap", arguments, tensors)


def write_lammps_snap(potential: Snap, coefficients: str | Path, parameters: str | Path) -> None:
    """Write the two files; energies of isolated atoms become part of the constants.

    Every number is written so that reading it gives the same bits. With explicit elements some components
    are equal; LAMMPS' forces are right only where these have equal coefficients, so that their mean is
    written, which changes no energy. Raises ValueError for the polynomial envelope, which LAMMPS does not
    have.
    """
    d, n = potential.descriptor, len(potential.elements)
    if d.envelope == "polynomial":
        raise ValueError("LAMMPS has no polynomial envelope; fit with envelope = 'cosine' to export to it.")
    table = _averaged(potential)
    table[:, 0] += potential.atomic_energies.values
    arguments = potential.arguments
    lines = ["# SNAP coefficients", f"{n} {table.shape[1]}"]
    radii, weights = arguments.get("radii") or {}, arguments.get("weights") or {}
    for symbol, row in zip(potential.elements, table.tolist(), strict=True):
        lines.append(f"{symbol} {float(radii.get(symbol, 0.5))!r} {float(weights.get(symbol, 1.0))!r}")
        lines += [repr(c) for c in row]
    Path(coefficients).write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "rcutfac": repr(float(arguments.get("cutoff", 4.7))),
        "twojmax": d.twojmax,
        "rfac0": repr(d.angle_fraction),
        "rmin0": repr(d.r_min),
        "switchflag": int(d.envelope == "cosine"),
        "bzeroflag": int(d.subtract_isolated),
        "quadraticflag": int(potential.quadratic),
        "chemflag": int(d.n_channels > 1),
        "bnormflag": int(d.normalised),
        "wselfallflag": int(d.all_self),
    }
    text = "\n".join(f"{key} {value}" for key, value in settings.items())
    Path(parameters).write_text(f"# SNAP parameters\n{text}\n", encoding="utf-8")


def _reordered(potential: Snap, table: Tensor, order: list[int]) -> Tensor:
    """Rows in our order of elements; with explicit elements the components too."""
    table = table[order]
    d = potential.descriptor
    if d.n_channels == 1:
        return table
    n_triples, e = len(d.triples), d.n_channels
    # a component of our elements (x, y, z) stands in the file at theirs
    place = [
        ((order[x] * e + order[y]) * e + order[z]) * n_triples + t
        for x, y, z, t in product(range(e), range(e), range(e), range(n_triples))
    ]
    n = d.n_components
    out = table.clone()
    out[:, 1 : n + 1] = table[:, 1 : n + 1][:, place]
    if potential.quadratic:
        _, _, alpha = potential.parts(table.flatten())
        row, column = torch.triu_indices(n, n)
        out[:, n + 1 :] = alpha[:, place][:, :, place][:, row, column]
    return out


def _averaged(potential: Snap) -> Tensor:
    """Coefficients [elements, …] with the mean for components that are equal."""
    d = potential.descriptor
    table = potential.coefficients.detach().double().view(len(potential.elements), -1).clone()
    groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
    channels = range(d.n_channels)
    for k, (x, y, z, (j1, j2, j)) in enumerate(product(channels, channels, channels, d.triples)):
        groups.setdefault(tuple(sorted([(j1, x), (j2, y), (j, z)])), []).append(k)
    several = [g for g in groups.values() if len(g) > 1]
    if not several:
        return table
    n = d.n_components
    _, linear, alpha = (x.clone() for x in potential.parts(table.flatten()))
    for g in several:
        linear[:, g] = _mean(linear[:, g], 1)
        if potential.quadratic:
            alpha[:, g] = _mean(alpha[:, g], 1)
            alpha[:, :, g] = _mean(alpha[:, :, g], 2)
    table[:, 1 : n + 1] = linear
    if potential.quadratic:
        row, column = torch.triu_indices(n, n)
        table[:, n + 1 :] = alpha[:, row, column]
    return table


def _mean(x: Tensor, dim: int) -> Tensor:
    """The mean, to the bit where all are equal."""
    same = (x == x.narrow(dim, 0, 1)).all(dim, keepdim=True)
    return torch.where(same, x.narrow(dim, 0, 1), x.mean(dim, keepdim=True)).expand_as(x)


def _words(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if words:
            yield words


def _settings(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for words in _words(text):
        if words[0] in _NO_PHYSICS:
            continue
        if words[0] not in (*_DEFAULTS, "rcutfac", "twojmax") or len(words) != 2:
            raise ValueError(f"The parameter file has '{' '.join(words)}', which is not known here.")
        found[words[0]] = float(words[1])
    missing = {"rcutfac", "twojmax"} - set(found)
    if missing:
        raise ValueError(f"The parameter file lacks {', '.join(sorted(missing))}.")
    if found.get("switchinnerflag"):
        raise ValueError("switchinnerflag is not offered here.")
    return _DEFAULTS | found


def _blocks(text: str) -> list[tuple[str, float, float, list[float]]]:
    """(symbol, radius, weight, coefficients) of each element, in the order of the file."""
    lines = list(_words(text))
    if not lines or len(lines[0]) != 2:
        raise ValueError("A coefficient file begins with the numbers of elements and of coefficients.")
    n, size = int(lines[0][0]), int(lines[0][1])
    if len(lines) < 1 + n * (size + 1):
        raise ValueError(f"{n} elements of {size} coefficients are announced; the file ends before.")
    out = []
    for k in range(n):
        head, *rows = lines[1 + k * (size + 1) : 1 + (k + 1) * (size + 1)]
        out.append((head[0], float(head[1]), float(head[2]), [float(r[0]) for r in rows]))
    return out
