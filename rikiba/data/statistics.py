"""What a dataset says about a potential's constructor: elements, neighbours, E0s, scale and shift."""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rikiba.core import elements
from rikiba.core.pairs import find_pairs

from .dataset import Dataset, Labelled


def computed_arguments(
    dataset: Dataset, cutoff: float, isolated: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """elements, atomic_energies (symbol → eV), avg_num_neighbors, scale (eV) and shift (eV/atom).

    `scale` is the root mean square of the force components times 1 Å; `shift` is the mean per atom of what
    remains of the energies after the E0s. Raises ValueError for an empty dataset, one without energies, and
    where `isolated` lacks an element that the data do not fix either.
    """
    if len(dataset) == 0:
        raise ValueError("The dataset is empty; there is nothing to compute from.")
    e0 = atomic_energies(dataset, isolated)
    symbols = dataset.elements
    return {
        "elements": symbols,
        "atomic_energies": {s: e0[s] for s in symbols},
        "avg_num_neighbors": average_neighbours(dataset, cutoff),
        "scale": force_scale(dataset),
        "shift": energy_shift(dataset, e0),
    }


def average_neighbours(dataset: Dataset, cutoff: float, max_frames: int = 5000) -> float:
    """Mean number of neighbours within the cutoff, over all atoms that have one (isolated atoms left out).

    Above `max_frames` an evenly spaced selection is used. Raises ValueError where no atom has a neighbour.
    """
    stride = max(1, -(-len(dataset) // max_frames))
    pairs = atoms = 0
    for k in range(0, len(dataset), stride):
        found = find_pairs(dataset[k].system, cutoff)
        pairs += len(found)
        atoms += int(found.i.unique().numel())
    if pairs == 0:
        raise ValueError(f"No atom of the data has a neighbour within {cutoff} Å; the cutoff is too short.")
    return pairs / atoms


def force_scale(dataset: Dataset) -> float:
    """Root mean square of all force components, eV/Å.

    Where all forces are zero or absent, the standard deviation of the energy per atom within each composition
    is used instead, with a warning; 1 where that is zero too.
    """
    total, count = 0.0, 0
    for frame in dataset:
        if frame.results.forces is not None and not is_isolated_atom(frame):
            total += float((frame.results.forces.double() ** 2).sum())
            count += frame.results.forces.numel()
    if total > 0.0:
        return float(np.sqrt(total / count))
    by_composition: dict[tuple[tuple[str, int], ...], list[float]] = defaultdict(list)
    for counts, energy, _ in _energies(dataset):
        by_composition[tuple(counts.items())].append(energy / sum(counts.values()))
    residuals = [e - np.mean(values) for values in by_composition.values() for e in values]
    spread = float(np.std(residuals)) if residuals else 0.0
    scale = spread if spread > 0.0 else 1.0
    warnings.warn(
        f"The data have no forces that could set a scale; {scale:.4g} eV is used "
        f"({'spread of the energy per atom' if spread > 0 else 'neither do energies vary'}).",
        stacklevel=3,
    )
    return scale


def energy_shift(dataset: Dataset, e0: Mapping[str, float]) -> float:
    """Mean over frames of (E − Σ E0)/n, eV/atom; isolated atoms left out (0 where nothing else is there)."""
    values = [
        (energy - sum(e0[s] * n for s, n in counts.items())) / sum(counts.values())
        for counts, energy, frame in _energies(dataset)
        if not is_isolated_atom(frame)
    ]
    return float(np.mean(values)) if values else 0.0


def atomic_energies(dataset: Dataset, isolated: Mapping[str, float] | None = None) -> dict[str, float]:
    """E0 of each element, eV: given, else of isolated neutral atoms in the data, else by least squares.

    Least squares minimises Σ_frames ((E − Σ_Z n_Z E0_Z)/n)² over the elements that are left. What the
    compositions do not determine is set by the minimum norm, with a UserWarning that names it: energies of
    the compositions seen are right then, those of other compositions and of reactions are not.

    Raises ValueError where two isolated atoms of one element disagree and where no frame has an energy.
    """
    symbols = dataset.elements
    known = {s: float(e) for s, e in (isolated or {}).items()}
    for s in known:
        elements.number(s)
    missing = [s for s in symbols if s not in known]
    if missing:
        known |= {s: e for s, e in _isolated_in(dataset).items() if s in missing}
        missing = [s for s in missing if s not in known]
    if missing:
        known |= _least_squares(dataset, missing, known)
    return {s: known[s] for s in elements.sorted_symbols(known)}


def is_isolated_atom(frame: Labelled) -> bool:
    """One atom that is not periodic, or whose info says config_type=IsolatedAtom."""
    if frame.system.n_atoms != 1:
        return False
    info = frame.system.info[0] if frame.system.info else {}
    said = str(info.get("config_type", "")).lower().replace("_", "").replace(" ", "")
    return said == "isolatedatom" or not bool(frame.system.pbc.any())


def _energies(dataset: Dataset) -> Iterator[tuple[dict[str, int], float, Labelled]]:
    """(symbol → count, energy, frame) of each frame that has an energy."""
    for frame in dataset:
        if frame.results.energy is not None:
            zs, counts = np.unique(frame.system.numbers.numpy(), return_counts=True)
            named = {elements.symbol(int(z)): int(n) for z, n in zip(zs, counts, strict=True)}
            yield named, float(frame.results.energy[0]), frame


def _isolated_in(dataset: Dataset) -> dict[str, float]:
    found: dict[str, float] = {}
    for counts, energy, frame in _energies(dataset):
        ion = frame.system.charge is not None and float(frame.system.charge[0]) != 0.0
        if ion or not is_isolated_atom(frame):
            continue
        (symbol,) = counts
        if abs(found.setdefault(symbol, energy) - energy) > 1e-6:
            raise ValueError(
                f"{frame.source}: this isolated {symbol} atom has {energy} eV, another "
                f"has {found[symbol]} eV; give atomic energies explicitly."
            )
    return found


def _least_squares(dataset: Dataset, symbols: list[str], known: Mapping[str, float]) -> dict[str, float]:
    rows, targets = [], []
    for counts, energy, _ in _energies(dataset):
        n = sum(counts.values())
        rest = energy - sum(known[s] * c for s, c in counts.items() if s in known)
        rows.append([counts.get(s, 0) / n for s in symbols])
        targets.append(rest / n)
    if not rows:
        raise ValueError("No frame has an energy, so atomic energies cannot be fitted; give them.")
    matrix = np.array(rows)
    solution, _, rank, _ = np.linalg.lstsq(matrix, np.array(targets), rcond=1e-6)
    if rank < len(symbols):
        null = np.linalg.svd(matrix.T @ matrix)[2][rank:]
        warnings.warn(
            f"The compositions in the data fix {rank} of the {len(symbols)} atomic energies of "
            f"{', '.join(symbols)}; undetermined: {'; '.join(_combination(v, symbols) for v in null)}. "
            f"The smallest ones that fit are used. Give isolated-atom energies where "
            f"reaction energies are to mean something.",
            stacklevel=4,
        )
    return dict(zip(symbols, solution.tolist(), strict=True))


def _combination(vector: np.ndarray, symbols: list[str]) -> str:
    """A direction in which the E0s may move without changing any energy, as text."""
    scaled = vector / np.abs(vector).max()
    terms = [f"{c:+.2g} {s}" for c, s in zip(scaled, symbols, strict=True) if abs(c) > 1e-6]
    return " ".join(terms).lstrip("+")
