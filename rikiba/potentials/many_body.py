"""What three-body potentials share: parameters by triplet of elements, and the pairs that count."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.system import System

Triplets = Mapping[str, Mapping[str, float]]
"""'centre-first-second' → {name: value}, e.g. {'Si-Si-Si': {'sigma': 2.0951, …}}."""


def triplet_tables(
    parameters: Triplets, names: Iterable[str], *, symmetric: bool
) -> tuple[tuple[str, ...], dict[str, Float[Tensor, "types types types"]]]:
    """Tables [centre, first, second] of every name from a table by triplet of elements.

    With `symmetric` an entry 'a-b-c' serves 'a-c-b' where that is not given. Returns (elements, {name:
    table}). Raises ValueError where a triplet of the elements named, or one of its values, is missing,
    unknown or not finite.
    """
    names = tuple(names)
    keys = {key: _split(key) for key in parameters}
    if not keys:
        raise ValueError("No parameters are given; write a table like {'Si-Si-Si': {…}}.")
    elements = periodic_table.sorted_symbols(s for parts in keys.values() for s in parts)
    index = {s: k for k, s in enumerate(elements)}
    n = len(elements)
    found = torch.full((n, n, n, len(names)), torch.nan, dtype=torch.float64)
    for key, parts in keys.items():
        a, b, c = (index[s] for s in parts)
        found[a, b, c] = _values(key, parameters[key], names)
    if symmetric:
        found = torch.where(torch.isnan(found), found.transpose(1, 2), found)
    missing = torch.isnan(found).any(-1).nonzero().tolist()
    if missing:
        text = ", ".join("-".join(elements[k] for k in triplet) for triplet in missing)
        raise ValueError(f"Parameters are given for {', '.join(keys)}; also needed: {text}.")
    return elements, {name: found[..., k] for k, name in enumerate(names)}


def _values(key: str, given: Mapping[str, float], names: tuple[str, ...]) -> Float[Tensor, "names"]:
    if set(given) != set(names):
        raise ValueError(f"{key} has {', '.join(sorted(given))}; needed are exactly {', '.join(names)}.")
    values = torch.tensor([float(given[name]) for name in names], dtype=torch.float64)
    if not bool(values.isfinite().all()):
        raise ValueError(f"{key} holds a value that is not finite: {dict(given)}.")
    return values


def _split(key: str) -> list[str]:
    parts = key.split("-")
    if len(parts) != 3:
        raise ValueError(f"'{key}' is not a triplet of elements; write centre and neighbours like 'Si-Si-O'.")
    return parts


def reaching(
    pairs: Pairs,
    system: System,
    types: Int[Tensor, "atoms"],
    reach: Float[Tensor, "types types"],
    dtype: torch.dtype,
) -> tuple[Pairs, Float[Tensor, "kept 3"], Float[Tensor, "kept"]]:
    """The pairs with r < reach[centre's type, neighbour's type], their vectors and their lengths."""
    vectors = pairs.vectors(system, dtype)
    r = vectors.norm(dim=-1)
    keep = torch.nonzero(r.detach() < reach[types[pairs.i], types[pairs.j]]).flatten()
    vectors = vectors[keep]
    kept = replace(pairs, i=pairs.i[keep], j=pairs.j[keep], shift=pairs.shift[keep], given_vectors=vectors)
    return kept, vectors, r[keep]
