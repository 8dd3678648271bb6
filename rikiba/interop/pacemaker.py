"""Potentials of pacemaker (PACE): `.yaml`, `.yace` and `.ace` files into what `PacemakerACE` is built from.

The last two hold the coefficients c̃ of products, see Lysogorskiy et al., doi:10.1038/s41524-021-00559-9; the
first, those of coupled functions (`pacemaker_basis`).
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from . import pacemaker_basis, yaml_text
from .foreign_file import ForeignFile
from .mace_torch import Weights

_RADIAL = {
    "ChebExpCos": "chebyshev_exponential",
    "ChebPow": "chebyshev_power",
    "SBessel": "bessel",
    "ChebLinear": "chebyshev_linear",
}
_FORMS = {"FinnisSinclair": "finnis_sinclair", "FinnisSinclairShiftedScaled": "shifted_scaled"}
_LIST_KEY = re.compile(r"^(\s*)\[(\d+),\s*(\d+)\]:", re.MULTILINE)


class PacemakerFileError(ValueError):
    """A file that is not a potential of pacemaker, is damaged, or has what is not offered."""


def recognises(file: ForeignFile) -> bool:
    """True for a file named `.ace` or `.yace`, and for a `.yaml` with blocks of species."""
    if file.named(".yaml", ".yml"):
        return "speciesblock" in file.path.read_text(encoding="utf-8", errors="replace")
    return file.named(".ace", ".yace")


def read_file(*, path: Path) -> Weights:
    """`read_pacemaker`.

    Args:
        path: the file.
    """
    return read_pacemaker(path)


def read_pacemaker(path: str | Path) -> Weights:
    """Arguments of `PacemakerACE` from a `.yaml`, `.yace` or `.ace` file.

    Warns of ChebLinear, which does not vanish at the cutoff. Raises FileNotFoundError, or PacemakerFileError
    for another layout, radial functions and embeddings of other kinds, and what makes energies jump inside
    the cutoff.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        found = _ace(text) if path.name.lower().endswith(".ace") else _yaml(text)
    except (KeyError, IndexError, TypeError) as error:
        raise PacemakerFileError(f"{path} is damaged or in another layout: {error!r}.") from error
    except ValueError as error:
        raise PacemakerFileError(f"{path}: {error}") from error
    return Weights("PacemakerACE", found, {})


def _form(name: str) -> str:
    if name not in _FORMS:
        raise ValueError(f"the embedding {name} is not offered; {', '.join(_FORMS)} are.")
    return _FORMS[name]


def _bond(radial: str, decay: float, cutoff: float, width: float, mixing: Any) -> dict[str, Any]:
    if radial not in _RADIAL:
        raise ValueError(f"the radial functions {radial} are not offered; {', '.join(_RADIAL)} are.")
    if radial == "ChebLinear":
        warnings.warn("ChebLinear does not vanish at the cutoff: energies jump there.", stacklevel=2)
    out = {"radial": _RADIAL[radial], "cutoff": cutoff, "decay": decay, "mixing": mixing}
    return out | ({"cutoff_width": width} if radial == "ChebExpCos" else {})


def _yaml(text: str) -> dict[str, Any]:
    """Arguments from the text of a `.yaml` or `.yace` file."""
    data = yaml_text.parse(_LIST_KEY.sub(r'\1"\2 \3":', text), "pacemaker")
    if isinstance(data, Mapping) and "species" in data:
        return pacemaker_basis.read_basis(data, _yaml_bond, _embedding)
    if not isinstance(data, Mapping) or "bonds" not in data or "functions" not in data:
        raise ValueError("a .yace file has elements, embeddings, bonds and functions.")
    names = [str(s) for s in data["elements"]]
    pairs = [(a, b) for a in range(len(names)) for b in range(len(names))]
    return {
        "elements": names,
        "bonds": {f"{names[a]}-{names[b]}": _yaml_bond(data["bonds"][f"{a} {b}"]) for a, b in pairs},
        "embeddings": {s: _embedding(data["embeddings"][k]) for k, s in enumerate(names)},
        "functions": {
            s: [_function(f, names) for f in data["functions"].get(k, ())] for k, s in enumerate(names)
        },
        "atomic_energies": dict(zip(names, map(float, data["E0"]), strict=True)),
    }


def _embedding(given: Mapping[str, Any]) -> dict[str, Any]:
    n = int(given["ndensity"])
    return {
        "form": _form(given["npoti"]),
        "fs_parameters": [float(x) for x in given["FS_parameters"]][: 2 * n],
        "core_cutoff_eV": float(given["rho_core_cutoff"]),
        "core_width_eV": float(given["drho_core_cutoff"]),
    }


def _yaml_bond(given: Mapping[str, Any]) -> dict[str, Any]:
    decay = [*given.get("radparameters", ()), 1.0][0]
    mixing = [[[float(c) for c in k] for k in l] for l in given["radcoefficients"]]
    mixing = mixing or [[[0.0] * int(given["nradbasemax"])]]
    out = _bond(given["radbasename"], float(decay), float(given["rcut"]), float(given["dcut"]), mixing)
    inner = given.get("inner_cutoff_type", "density")
    end, width = float(given.get("rcut_in", 0.0)), float(given.get("dcut_in", 0.0))
    if inner not in ("density", "distance", "zbl"):
        raise ValueError(f"cores of type {inner} are not offered; density, distance and zbl are.")
    if inner == "density" and end > width:
        raise ValueError(
            f"below {end - width:g} Å this core of type density has no functions: energies jump."
        )
    if inner != "density":
        out |= {"inner_cutoff": end, "inner_width": width}
    if inner == "zbl":
        if not float(given["prehc"]) > 0 or not width > 0:
            raise ValueError(f"a core of type zbl needs a factor and a width > 0; given {dict(given)}.")
        return out | {"zbl": float(given["prehc"]), "cutoff_width": float(given["dcut"])}
    return out | _core(float(given["prehc"]), float(given["lambdahc"]))


def _core(prefactor: float, decay: float) -> dict[str, float]:
    return {"repulsion_eV_A": abs(prefactor), "repulsion_per_A2": abs(decay)} if prefactor else {}


def _function(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    rank, n_m, n_p = (int(given[k]) for k in ("rank", "num_ms_combs", "ndensity"))
    return {
        "neighbours": [names[k] for k in given["mus"]],
        "n": list(given["ns"]),
        "l": list(given["ls"]),
        "m": _rows(given["ms_combs"], n_m, rank),
        "coefficients": _rows([float(c) for c in given["ctildes"]], n_m, n_p),
    }


def _rows(flat: Sequence[Any], n: int, width: int) -> list[list[Any]]:
    if len(flat) != n * width:
        raise ValueError(f"{n} rows of {width} are announced; there are {len(flat)} numbers.")
    return [list(flat[k * width : (k + 1) * width]) for k in range(n)]


def _ace(text: str) -> dict[str, Any]:
    """Arguments from the text of an `.ace` file."""
    start = re.search(r"^\s*nelements=", text, re.MULTILINE)
    if start is None:
        raise ValueError("an .ace file begins with nelements=, after comments.")
    # brackets, colons and equal signs only separate
    words = iter(re.sub(r"[=():<>]", " ", text[start.start() :]).split())
    (n,) = (int(x) for x in _after(words, "nelements", 1))
    names = _after(words, "elements", n)
    l_max = int(_after(words, "lmax", 1)[0])
    form = _form(_after(words, "embedding-function", 1)[0])
    n_fs = int(_after(words, "", 1)[0])
    fs = _numbers(_after(words, "FS parameters", n_fs))
    core = _numbers(_after(words, "core energy-cutoff parameters", 2 * n))
    e0 = _numbers(_after(words, "E0", n))
    radial = _after(words, "radbasename", 1)[0]
    n_base, n_radial = (int(_after(words, key, 1)[0]) for key in ("nradbase", "nradmax"))
    _after(words, "cutoffmax", 1)
    _after(words, "deltaSplineBins", 1)
    repulsion = _numbers(_after(words, "core repulsion parameters", 2 * n * n))
    decay, cutoff, width = (_numbers(_after(words, key, n * n)) for key in ("radparameter", "cutoff", "dcut"))
    size = n_base * n_radial * (l_max + 1)
    mixing = _numbers(_after(words, "crad", n * n * size))
    bonds = {}
    for k in range(n * n):
        c = _by_n_l_k(mixing[k * size : (k + 1) * size], n_base, n_radial, l_max + 1)
        bonds[f"{names[k // n]}-{names[k % n]}"] = _bond(radial, decay[k], cutoff[k], width[k], c) | _core(
            *repulsion[2 * k : 2 * k + 2]
        )
    for key in ("rankmax", "ndensitymax", "num_c_tilde_max", "num_ms_combinations_max"):
        _after(words, key, 1)
    functions: dict[str, list[dict[str, Any]]] = {s: [] for s in names}
    for key in ("total_basis_size_rank1", "total_basis_size"):
        for count in [int(x) for x in _after(words, key, n)]:
            for _ in range(count):
                centre, function = _block(words, names)
                functions[centre].append(function)
    if left := next(words, None):
        raise ValueError(f"it goes on with '{left}' after its last function.")
    return {
        "elements": names,
        "bonds": bonds,
        "embeddings": {
            s: {"form": form, "fs_parameters": fs, "core_cutoff_eV": core[2 * k],
                "core_width_eV": core[2 * k + 1]}
            for k, s in enumerate(names)
        },
        "functions": functions,
        "atomic_energies": dict(zip(names, e0, strict=True)),
    }  # fmt: skip


def _by_n_l_k(flat: list[float], n_base: int, n_radial: int, n_l: int) -> list[list[list[float]]]:
    """From the order k, n, l of a file to [n][l][k]."""
    return [
        [[flat[(k * n_radial + n) * n_l + l] for k in range(n_base)] for l in range(n_l)]
        for n in range(n_radial)
    ]


def _block(words: Iterator[str], names: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """(element of the centre, function)."""
    rank, n_p, centre = (int(_after(words, k, 1)[0]) for k in ("ctilde_basis_func rank", "ndens", "mu0"))
    neighbours, n, l = ([int(x) for x in _after(words, key, rank)] for key in ("mu", "n", "l"))
    n_m = int(_after(words, "num_ms", 1)[0])
    m, c = [], []
    for _ in range(n_m):
        m.append([int(x) for x in _after(words, "", rank)])
        c.append([float(x) for x in _after(words, "", n_p)])
    function = {"neighbours": [names[k] for k in neighbours], "n": n, "l": l, "m": m, "coefficients": c}
    return names[centre], function


def _after(words: Iterator[str], key: str, n: int) -> list[str]:
    """The n words after a key, which comes next; after none if it is empty."""
    for expected in key.split():
        if (found := next(words, "the end")) != expected:
            raise ValueError(f"'{key}' should come where '{found}' stands.")
    values = list(islice(words, n))
    if len(values) != n:
        raise ValueError(f"'{key}' should have {n} values; the file ends after {len(values)}.")
    return values


def _numbers(words: Sequence[str]) -> list[float]:
    return [float(x) for x in words]
