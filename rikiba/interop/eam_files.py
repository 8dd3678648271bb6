"""Read embedded-atom tables (funcfl, setfl, eam/fs) into what `potentials.eam.EAM` is built from.

Formats: S. M. Foiles, M. I. Baskes & M. S. Daw, Phys. Rev. B 33, 7983 (1986), doi:10.1103/PhysRevB.33.7983,
as LAMMPS' documentation of `pair_style eam` describes them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rikiba.core import elements as periodic_table

from .foreign_file import ForeignFile
from .mace_torch import Weights

FUNCFL_FACTOR = 27.2 * 0.529
"""Hartree (eV) times Bohr (Å) as funcfl files mean it: r·φ = 27.2 · 0.529 · Z(r)²."""


class EamFileError(ValueError):
    """A file that is not an embedded-atom table, or is damaged."""


def recognises(file: ForeignFile) -> bool:
    """True for a file named `.eam`, `.eam.alloy`, `.eam.fs`, `.setfl` or `.funcfl`."""
    return file.named(".eam", ".eam.alloy", ".eam.fs", ".setfl", ".funcfl")


def read_file(*, path: Path) -> Weights:
    """`read_eam` of one file.

    Args:
        path: the file.
    """
    return read_eam(path)


def read_eam(path: str | Path | Sequence[str | Path], **options: Any) -> Weights:
    """Arguments of `EAM` from one setfl or eam/fs file, or from one funcfl file for each element.

    The format is told by how many numbers there are. Several funcfl files are brought to one grid, the
    coarsest and longest, by cubic Lagrange polynomials through four points; r·φ of two elements is
    27.2 · 0.529 · Z_a Z_b.

    Args:
        path: the file, or several funcfl files.
        options: further arguments of `EAM`: `interpolation`, `switch_width`.

    Raises FileNotFoundError, or EamFileError for anything that is not in one of these formats.
    """
    paths = [Path(path)] if isinstance(path, (str, Path)) else [Path(p) for p in path]
    texts = [p.read_text(encoding="utf-8", errors="replace") for p in paths]
    if len(texts) == 1 and (symbols := _symbols(texts[0])) is not None:
        return Weights("EAM", _multi_element(texts[0], symbols, paths[0]) | options, {})
    files = [_funcfl(text, p) for text, p in zip(texts, paths, strict=True)]
    return Weights("EAM", _combined(files) | options, {})


class _Funcfl(NamedTuple):
    symbol: str
    density_step: float
    distance_step: float
    cutoff: float
    embedding: np.ndarray
    charge: np.ndarray
    density: np.ndarray


def _numbers(words: Sequence[str], path: Path) -> np.ndarray:
    try:
        return np.array([w.replace("D", "e").replace("d", "e") for w in words], dtype=np.float64)
    except ValueError as error:
        raise EamFileError(f"{path}: a number was expected ({error}).") from error


def _symbols(text: str) -> list[str] | None:
    """The elements of the fourth line of a setfl or eam/fs file; None where there are none."""
    lines = text.splitlines()
    words = lines[3].split() if len(lines) > 5 else []
    if not words or not words[0].isdigit() or int(words[0]) != len(words) - 1 or len(words) == 1:
        return None
    try:
        for symbol in words[1:]:
            periodic_table.number(symbol)
    except ValueError:
        return None
    return words[1:]


def _grid(words: Sequence[str], path: Path) -> tuple[int, float, int, float, float]:
    if len(words) < 5:
        raise EamFileError(f"{path}: the line of the grid needs five numbers; it is '{' '.join(words)}'.")
    n_rho, d_rho, n_r, d_r, cutoff = _numbers(words[:5], path).tolist()
    if min(n_rho, n_r) < 5 or min(d_rho, d_r, cutoff) <= 0 or n_rho != int(n_rho) or n_r != int(n_r):
        raise EamFileError(f"{path}: a grid of {n_rho} × {d_rho} and {n_r} × {d_r} up to {cutoff} is none.")
    return int(n_rho), d_rho, int(n_r), d_r, cutoff


def _multi_element(text: str, symbols: list[str], path: Path) -> dict[str, Any]:
    """setfl and eam/fs: for each element a line and its functions, then r·φ of every pair."""
    lines = [line for line in text.splitlines()[4:] if line.strip()]
    if len(lines[0].split()) > 5:
        raise EamFileError(f"{path}: densities that start elsewhere than at 0 (eam/he) are not supported.")
    n_rho, d_rho, n_r, d_r, cutoff = _grid(lines[0].split(), path)
    n = len(symbols)
    functions = sum(len(line.split()) for line in lines[1:]) - n * n_rho - n * (n + 1) // 2 * n_r
    per_element = n if functions > 0.5 * (n + 1) * n * n_r else 1  # n·n_r or n²·n_r, and the titles
    words = [(word, k) for k, line in enumerate(lines[1:]) for word in line.split()]
    at = 0

    def take(count: int) -> list[float]:
        nonlocal at
        at += count
        if at > len(words):
            raise EamFileError(f"{path} ends {at - len(words)} numbers too early.")
        return _numbers([word for word, _ in words[at - count : at]], path).tolist()

    def skip_title() -> None:
        """Atomic number, mass, lattice constant and (in most files) lattice, on one line."""
        nonlocal at
        line = words[at][1] if at < len(words) else -1
        at += sum(k == line for _, k in words[at : at + 4])

    embedding, density, pair = {}, {}, {}
    for a in symbols:
        skip_title()
        embedding[a] = take(n_rho)
        for b in symbols[:per_element]:
            density[a if per_element == 1 else f"{a}-{b}"] = take(n_r)
    for k, a in enumerate(symbols):
        for b in symbols[: k + 1]:
            pair[f"{a}-{b}"] = take(n_r)
    steps = {"density_step": d_rho, "distance_step": d_r, "cutoff": cutoff}
    return {"embedding": embedding, "density": density, "pair": pair} | steps


def _funcfl(text: str, path: Path) -> _Funcfl:
    """One element: F(ρ), the effective charge Z(r), the density."""
    lines = text.splitlines()
    head = lines[1].split() if len(lines) > 3 else []
    if not head or not head[0].isdigit():
        raise EamFileError(f"{path} is neither a funcfl nor a setfl nor an eam/fs file.")
    n_rho, d_rho, n_r, d_r, cutoff = _grid(lines[2].split(), path)
    values = _numbers([w for line in lines[3:] for w in line.split()], path)
    if len(values) != n_rho + 2 * n_r:
        raise EamFileError(f"{path} holds {len(values)} numbers; its grid asks for {n_rho + 2 * n_r}.")
    symbol = periodic_table.symbol(int(head[0]))
    embedding, charge, density = np.split(values, [n_rho, n_rho + n_r])
    return _Funcfl(symbol, d_rho, d_r, cutoff, embedding, charge, density)


def _combined(files: list[_Funcfl]) -> dict[str, Any]:
    d_rho, d_r = max(f.density_step for f in files), max(f.distance_step for f in files)
    n_rho = 1 + max(round((len(f.embedding) - 1) * f.density_step / d_rho) for f in files)
    n_r = 1 + max(round((len(f.charge) - 1) * f.distance_step / d_r) for f in files)
    charge = {f.symbol: _resampled(f.charge, f.distance_step, d_r, n_r) for f in files}
    if len(charge) != len(files):
        raise EamFileError(f"Each element needs one file; given are {', '.join(f.symbol for f in files)}.")
    symbols = list(charge)
    pair = {
        f"{a}-{b}": (FUNCFL_FACTOR * charge[a] * charge[b]).tolist()
        for k, a in enumerate(symbols)
        for b in symbols[: k + 1]
    }
    return {
        "embedding": {
            f.symbol: _resampled(f.embedding, f.density_step, d_rho, n_rho).tolist() for f in files
        },
        "density": {f.symbol: _resampled(f.density, f.distance_step, d_r, n_r).tolist() for f in files},
        "pair": pair,
        "density_step": d_rho,
        "distance_step": d_r,
        "cutoff": max(f.cutoff for f in files),
    }


def _resampled(values: np.ndarray, step: float, new_step: float, n: int) -> np.ndarray:
    """Values at 0, new_step, … by the cubic through the four nearest nodes; up to one step past the end."""
    if step == new_step and len(values) == n:
        return values
    x = np.arange(n) * new_step / step
    at = np.clip(x.astype(int), 1, len(values) - 3)
    p = np.minimum(x - at, 2.0)
    weights = (
        -p * (p - 1.0) * (p - 2.0) / 6.0,
        (p * p - 1.0) * (p - 2.0) / 2.0,
        -p * (p + 1.0) * (p - 2.0) / 2.0,
        p * (p * p - 1.0) / 6.0,
    )
    return sum(w * values[at + k - 1] for k, w in enumerate(weights))  # type: ignore[return-value]
