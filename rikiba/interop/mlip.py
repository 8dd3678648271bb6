"""Coefficient files of moment tensor potentials (`.mtp`, `.almtp`) of the MLIP programs, in and out.

A file carries its basis as a list of products; which of our functions each one is, is found by evaluating
both exactly, in whole numbers, for random moments. Elements have no names in a file, only an order.
"""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rikiba.core import elements as periodic_table
from rikiba.descriptors.moment_basis import MomentBasis, contractions, moment_basis
from rikiba.potentials.mtp import Mtp

from .foreign_file import ForeignFile
from .mace_torch import Weights

_ALIASES = {
    "min_dist": ("min_dist", "min_val", "min"),
    "max_dist": ("max_dist", "max_val", "max"),
    "radial_basis_size": ("radial_basis_size", "basis_size", "size"),
}
_ASSIGNMENT = re.compile(r"^\s*(\w+)\s*=\s*(.*)$")
_BLOCK = re.compile(r"^\s*(\d+)-(\d+)\s*$")
_LIMIT = 1 << 61


def recognises(file: ForeignFile) -> bool:
    """True for a file named `.mtp` or `.almtp`."""
    return file.named(".mtp", ".almtp")


def read_file(*, path: Path, elements: Sequence[str]) -> Weights:
    """`load_mlip`.

    Args:
        path: the file.
        elements: symbols in the order of its types, which it does not name.
    """
    return load_mlip(path, elements=elements)


def load_mlip(file: str | Path, *, elements: Sequence[str]) -> Weights:
    """Read an `.mtp` or `.almtp` file into what `Mtp` is built from; `elements` in the order of its types.

    The active set behind the coefficients of an `.almtp` file is not read. Raises ValueError for what is not
    such a file, another radial basis than RBChebyshev, and functions that no level contains.
    """
    text = Path(file).read_bytes().split(b"#MVS", 1)[0].decode("utf-8", errors="replace")
    return read_mlip(text, elements=elements)


def read_mlip(text: str, *, elements: Sequence[str]) -> Weights:
    """The same from the text of the file."""
    fields, radial = _parsed(text)
    n_types = int(_need(fields, "species_count"))
    if len(set(elements)) != n_types or len(elements) != n_types:
        raise ValueError(
            f"The file has {n_types} elements; {len(elements)} are named: {', '.join(elements)}."
        )
    kind = _need(fields, "radial_basis_type")
    if kind != "RBChebyshev":
        raise ValueError(f"The radial basis {kind} is not offered; only RBChebyshev is.")
    basic, products = (_rows(fields, name) for name in ("alpha_index_basic", "alpha_index_times"))
    mapping = [int(x) for x in _numbers(fields, "alpha_moment_mapping")]
    values = _evaluated(basic, products, mapping)
    level, places = _recognised(values)
    arguments: dict[str, Any] = {
        "elements": list(periodic_table.sorted_symbols(elements)),
        "cutoff": float(_need(fields, "max_dist")),
        "level": level,
        "n_radial": int(_need(fields, "radial_basis_size")),
        "r_min": float(_need(fields, "min_dist")),
        "envelope_power": 2,
        "scaling": float(fields.get("scaling", "1.0")),
    }
    potential = Mtp(**arguments)
    n_mu = potential.descriptor.n_radial_functions
    order = [list(elements).index(s) for s in potential.elements]
    c = np.array([[radial.get((a, b), []) for b in order] for a in order], dtype=np.float64)
    if c.ndim != 4 or c.shape[2] < n_mu or c.shape[3] != arguments["n_radial"]:
        raise ValueError(
            f"Two elements have {n_mu} × {arguments['n_radial']} radial coefficients; not so in the file."
        )
    xi = np.zeros(potential.descriptor.n_functions)
    xi[places] = _numbers(fields, "moment_coeffs", len(mapping))
    shifts = np.array(_numbers(fields, "species_coeffs", n_types))[order]
    tensors = potential.state_dict() | {
        "radial_coefficients": torch.from_numpy(c[:, :, :n_mu].copy()),
        "coefficients": torch.from_numpy(np.concatenate([shifts, xi])),
    }
    return Weights("Mtp", arguments, tensors)


def write_mlip(potential: Mtp, file: str | Path) -> None:
    """Write an `.mtp` file; types are in the order of `potential.elements`.

    Energies of isolated atoms become part of the constants. Raises ValueError for another envelope than
    (r_c − r)² and for moments of vectors that are not normalised, which the format does not have.
    """
    if potential.radial.power != 2 or not potential.descriptor.normalised:
        raise ValueError(
            "An .mtp file has the envelope (r_c − r)² and unit vectors: fit with envelope_power = 2 and "
            f"normalised = True; here {potential.radial.power} and {potential.descriptor.normalised}."
        )
    basis, q, n = potential.descriptor.basis, potential.radial, len(potential.elements)
    c = potential.radial_coefficients.detach().double()
    xi = potential.coefficients.detach().double()
    shifts = xi[:n] + potential.atomic_energies.values
    lines = [
        "MTP",
        "version = 1.1.0",
        "potential_name = MTP",
        f"scaling = {q.scaling!r}",
        f"species_count = {n}",
        "potential_tag = ",
        "radial_basis_type = RBChebyshev",
        f"\tmin_dist = {float(q.r_min)!r}",
        f"\tmax_dist = {float(q.cutoff)!r}",
        f"\tradial_basis_size = {q.n}",
        f"\tradial_funcs_count = {c.shape[2]}",
        "\tradial_coeffs",
    ]
    for a in range(n):
        for b in range(n):
            lines.append(f"\t\t{a}-{b}")
            lines += [f"\t\t\t{_braces(row)}" for row in c[a, b].tolist()]
    products = _products(basis)
    lines += [
        f"alpha_moments_count = {basis.n_nodes}",
        f"alpha_index_basic_count = {len(basis.basic)}",
        f"alpha_index_basic = {_braces(basis.basic.tolist())}",
        f"alpha_index_times_count = {len(products)}",
        f"alpha_index_times = {_braces(products)}",
        f"alpha_scalar_moments = {len(basis.scalars)}",
        f"alpha_moment_mapping = {_braces(basis.scalars.tolist())}",
        f"species_coeffs = {_braces(shifts.tolist())}",
        f"moment_coeffs = {_braces(xi[n:].tolist())}",
    ]
    Path(file).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _products(basis: MomentBasis) -> list[list[int]]:
    """[left, right, factor, result] of every product."""
    result = len(basis.basic) + np.repeat(np.arange(len(basis.first) - 1), np.diff(basis.first))
    columns = (basis.left, basis.right, basis.factor.astype(np.int64), result)
    return np.stack(columns, 1).tolist()  # type: ignore[no-any-return]


def _braces(values: Sequence[Any]) -> str:
    return "{" + ", ".join(_braces(v) if isinstance(v, list) else repr(v) for v in values) + "}"


def _parsed(text: str) -> tuple[dict[str, str], dict[tuple[int, int], list[list[float]]]]:
    """(fields by name, radial coefficients by pair of types)."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != "MTP":
        raise ValueError("Not a coefficient file of a moment tensor potential: its first line is not 'MTP'.")
    fields: dict[str, str] = {}
    radial: dict[tuple[int, int], list[list[float]]] = {}
    block: list[list[float]] = []
    for line in lines[1:]:
        if found := _ASSIGNMENT.match(line):
            fields.setdefault(found[1], found[2].strip())
        elif found := _BLOCK.match(line):
            block = radial.setdefault((int(found[1]), int(found[2])), [])
        elif line.strip().startswith("{"):
            block.append([float(x) for x in line.strip(" \t{},").split(",")])
    return fields, radial


def _need(fields: dict[str, str], name: str) -> str:
    for key in _ALIASES.get(name, (name,)):
        if key in fields:
            return fields[key]
    raise ValueError(f"The file has no '{name}'; an untrained template has no coefficients.")


def _numbers(fields: dict[str, str], name: str, n: int | None = None) -> list[float]:
    found = [float(x) for x in re.split(r"[\s,{}]+", _need(fields, name)) if x]
    if n is not None and len(found) != n:
        raise ValueError(f"'{name}' should hold {n} numbers; it holds {len(found)}.")
    return found


def _rows(fields: dict[str, str], name: str) -> list[list[int]]:
    """Rows of four."""
    flat = [int(x) for x in _numbers(fields, name)]
    if len(flat) % 4:
        raise ValueError(f"'{name}' should hold groups of four numbers; it holds {len(flat)} numbers.")
    return [flat[k : k + 4] for k in range(0, len(flat), 4)]


def _random(component: Sequence[int]) -> int:
    """The same whole number for the same component of a moment."""
    return random.Random(",".join(map(str, component))).randrange(1, _LIMIT)


def _evaluated(basic: list[list[int]], products: list[list[int]], mapping: list[int]) -> list[int]:
    size = 1 + max([len(basic) - 1, *mapping, *(row[3] for row in products)])
    nodes = [_random(row) for row in basic] + [0] * (size - len(basic))
    for a, b, factor, to in products:
        nodes[to] += factor * nodes[a] * nodes[b]
    return [nodes[k] for k in mapping]


def _recognised(values: list[int]) -> tuple[int, list[int]]:
    """(level, place of every function among ours)."""
    for level in range(2, 30, 2):
        if len(contractions(level, 4)) < len(values):
            continue
        basis = moment_basis(level)
        ours = basis.evaluate(np.array([_random(row) for row in basis.basic.tolist()], dtype=object))
        place = {v: k for k, v in enumerate(ours.tolist())}
        if all(v in place for v in values):
            return level, [place[v] for v in values]
        break
    raise ValueError(
        f"The {len(values)} functions of the file are not those of a level with up to four moments each."
    )
