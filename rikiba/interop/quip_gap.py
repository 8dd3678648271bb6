"""Potentials of QUIP's `gap_fit`: the XML file and the files of sparse points beside it.

Read from the documentation of `gap_fit` and from files that it wrote. No code of the file is run.
"""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.potentials.gap import Gap

from .foreign_file import ForeignFile
from .mace_torch import Weights

_SQUARED_EXPONENTIAL, _DOT_PRODUCT = "1", "2"
_WITHOUT: dict[str, dict[str, str | float]] = {
    "soap": {
        "average": "F",
        "diagonal_radial": "F",
        "normalise": "T",
        "covariance_sigma0": 0.0,
        "cutoff_scale": 1.0,
        "cutoff_rate": 1.0,
        "cutoff_dexp": 0.0,
        "basis_error_exponent": 10.0,
        "central_reference_all_species": "F",
        "global": "F",
    },
    "distance_2b": {
        "only_intra": "F",
        "only_inter": "F",
        "n_exponents": 1.0,
        "exponents": 1.0,
        "tail_exponent": 0.0,
    },
    "angle_3b": {},
}
"""Options that are read only where they have this value."""


def recognises(file: ForeignFile) -> bool:
    """True for XML with the parameters of a GAP."""
    return file.named(".xml") and "<GAP_params" in file.path.read_text(encoding="utf-8", errors="replace")


def read_file(*, path: Path, jitter: float = 1e-10) -> Weights:
    """`load_quip_gap`.

    Args:
        path: the XML file; those of its sparse points are beside it.
        jitter: see there.
    """
    return load_quip_gap(path, jitter=jitter)


def load_quip_gap(path: str | Path, *, jitter: float = 1e-10) -> Weights:
    """Read a GAP into what `rikiba.potentials.gap.Gap` is built from.

    soap, distance_2b and angle_3b terms are read, with their sparse points, coefficients and the energies of
    isolated atoms. Raises ValueError for other descriptors and for what has no counterpart here: a core
    potential under the fit, other kernels, permutational symmetry, a mean that is not zero.

    Args:
        path: the XML file.
        jitter: added to the diagonal of K_MM, relative to δ²; predictions do not depend on it.
    """
    path = Path(path)
    try:
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not XML: {error}.") from error
    data, sparse = root.find(".//GAP_data"), root.find(".//gpSparse")
    if data is None or sparse is None:
        raise ValueError(f"{path} is not a GAP: it has no GAP_data or no gpSparse.")
    if data.get("do_core") == "T":
        raise ValueError(f"{path.name} stands on a core potential, which is not read.")
    found = [_coordinates(node, path.parent) for node in sparse.findall("gpCoordinates")]
    found = [f for f in found if f["n_sparse"]]
    numbers = sorted({z for f in found for z in f["numbers"]})
    symbols = periodic_table.sorted_symbols(numbers)
    energies = {int(e.attrib["Z"]): float(e.attrib["value"]) for e in data.findall("e0")}
    arguments: dict[str, Any] = {
        "elements": list(symbols),
        "terms": [f["table"] for f in found],
        "envelope": "cosine",
        "subtract_isolated": False,
        "jitter": jitter,
        "atomic_energies": {s: energies.get(z, 0.0) for s, z in zip(symbols, numbers, strict=True)},
    }
    potential = Gap(**arguments)
    for term, f in zip(potential.processes, found, strict=True):
        term.sparse.copy_(f["points"])
        term.sparse_weight.copy_(f["weight"])
    potential.set_alphas([f["alpha"] for f in found])
    return Weights("Gap", arguments, {k: v.detach() for k, v in potential.state_dict().items()})


def _coordinates(node: ElementTree.Element, folder: Path) -> dict[str, Any]:
    """A gpCoordinates element: the term's table, its points, their weights and coefficients."""
    label = node.get("label")
    text = (node.findtext("descriptor") or "").strip()
    kind, options = _options(text)
    if kind not in _WITHOUT:
        raise ValueError(f"{label} describes '{kind}'; {', '.join(_WITHOUT)} are read.")
    for key, value in _WITHOUT[kind].items():
        given = options.get(key, value)
        if (float(given) if isinstance(value, float) else str(given)[:1].upper()) != value:
            raise ValueError(f"{label} has {key} = {given}; only {value} is read.")
    covariance = _DOT_PRODUCT if kind == "soap" else _SQUARED_EXPONENTIAL
    if node.get("covariance_type") != covariance or node.get("n_permutations") != "1":
        raise ValueError(
            f"{label} has kernel number {node.get('covariance_type')} and {node.get('n_permutations')} "
            f"permutations; for {kind} number {covariance} with one is read."
        )
    if float(node.get("signal_mean", "0")) != 0.0:
        raise ValueError(f"{label} has a mean of {node.get('signal_mean')}; only 0 is read.")
    n, dimensions = int(node.attrib["n_sparseX"]), int(node.attrib["dimensions"])
    rows = node.findall("sparseX")
    table = {
        "kind": kind,
        "cutoff": float(options["cutoff"]),
        "transition_width": float(options.get("cutoff_transition_width", 0.5)),
        "delta": float(node.attrib["signal_variance"]),
        "n_sparse": n,
    }
    points = _points(node, rows, n, dimensions, folder)
    if kind == "soap":
        more, numbers, points = _soap(label, options, float(node.attrib["zeta"]), points)
    else:
        more, numbers = _bodies(
            label, kind, options, [float(x) for x in (node.findtext("theta") or "").split()]
        )
    return {
        "table": table | more,
        "numbers": numbers,
        "n_sparse": n,
        "points": points,
        "alpha": torch.tensor([float(r.attrib["alpha"]) for r in rows], dtype=torch.float64),
        "weight": torch.tensor([float(r.get("sparseCutoff", "1")) for r in rows], dtype=torch.float64),
    }


def _points(
    node: ElementTree.Element, rows: list[ElementTree.Element], n: int, dimensions: int, folder: Path
) -> Tensor:
    if len(rows) != n:
        raise ValueError(f"{node.get('label')} announces {n} sparse points; {len(rows)} stand there.")
    name = node.get("sparseX_filename")
    if name:
        if Path(name).name != name or not (folder / name).exists():
            raise ValueError(f"The sparse points of {node.get('label')} should stand in {folder / name}.")
        values = np.fromstring((folder / name).read_text(encoding="utf-8"), sep=" ")
    else:
        values = np.fromstring(" ".join(" ".join(r.itertext()) for r in rows), sep=" ")
    if len(values) != n * dimensions:
        raise ValueError(
            f"{node.get('label')} needs {n} × {dimensions} numbers for its points; found {len(values)}."
        )
    return torch.from_numpy(values.reshape(n, dimensions))


def _soap(
    label: str | None, options: dict[str, str], zeta: float, points: Tensor
) -> tuple[dict[str, Any], list[int], Tensor]:
    centre, seen = (
        _integers(options.get("Z", "0")),
        _integers(options.get("species_Z", options.get("Z", "0"))),
    )
    if len(centre) != 1 or 0 in centre or 0 in seen or centre[0] not in seen:
        raise ValueError(
            f"{label} must name one central element Z and itself among species_Z; it has {options}."
        )
    n_max, l_max = int(options["n_max"]), int(options["l_max"])
    symbols = periodic_table.sorted_symbols(seen)
    more = {
        "centre": periodic_table.sorted_symbols(centre)[0],
        "neighbours": list(symbols),
        "n_max": n_max,
        "l_max": l_max,
        "atom_sigma": float(options.get("atom_sigma", options.get("atom_gaussian_width", 0.5))),
        "central_weight": float(options.get("central_weight", 1.0)),
        "zeta": zeta,
    }
    # the last component is covariance_sigma0
    place = _places([sorted(seen).index(z) for z in seen], n_max, l_max)
    return more, seen, points[:, :-1][:, place]


def _places(order: list[int], n_max: int, l_max: int) -> list[int]:
    """Where each of our components stands in the file; `order` is our index of its elements."""
    channel = {order[s] * n_max + n: s * n_max + n for s in range(len(order)) for n in range(n_max)}
    out = []
    for a in range(len(channel)):
        for b in range(a + 1):
            high, low = max(channel[a], channel[b]), min(channel[a], channel[b])
            out += [(high * (high + 1) // 2 + low) * (l_max + 1) + l for l in range(l_max + 1)]
    return out


def _bodies(
    label: str | None, kind: str, options: dict[str, str], theta: list[float]
) -> tuple[dict[str, Any], list[int]]:
    pair = [int(options.get("Z1", 0)), int(options.get("Z2", 0))]
    centre = [int(options.get("Z_center", options.get("Z", 0)))] if kind == "angle_3b" else []
    if 0 in pair + centre:
        raise ValueError(f"{label} must name its elements; it has {options}.")
    symbols = [periodic_table.sorted_symbols([z])[0] for z in pair]
    more: dict[str, Any] = {"pair": symbols, "theta": theta[0] if kind == "distance_2b" else theta}
    if centre:
        more["centre"] = periodic_table.sorted_symbols(centre)[0]
    return more, pair + centre


def _options(text: str) -> tuple[str, dict[str, str]]:
    """'soap n_max=8 Z={6 1}' → ('soap', {'n_max': '8', 'Z': '6 1'})."""
    head, _, rest = text.partition(" ")
    pairs = re.findall(r"(\w+)\s*=\s*(\{+[^}]*\}+|\S+)", rest)
    return head, {k: v.strip("{} ") for k, v in pairs}


def _integers(text: str) -> list[int]:
    return [int(x) for x in text.replace(",", " ").split()]
