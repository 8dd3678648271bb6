"""Chemical symbols, atomic numbers, masses (u) and covalent radii (Å), from ASE's tables."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from ase.data import atomic_masses, atomic_numbers, chemical_symbols, covalent_radii
from torch import Tensor

MAX_Z = 118


def number(symbol: str) -> int:
    """Atomic number of a chemical symbol; raises ValueError for an unknown one."""
    z = atomic_numbers.get(symbol)
    if not z:
        raise ValueError(f"'{symbol}' is not a chemical symbol; write it like H, C, Si, Cu.")
    return int(z)


def symbol(z: int) -> str:
    """Chemical symbol of an atomic number."""
    if not 1 <= z <= MAX_Z:
        raise ValueError(f"{z} is not an atomic number; allowed are 1 to {MAX_Z}.")
    return chemical_symbols[z]


def sorted_symbols(symbols_or_numbers: Iterable[str | int]) -> tuple[str, ...]:
    """Unique elements ordered by atomic number: the order every potential uses."""
    zs = {number(s) if isinstance(s, str) else int(s) for s in symbols_or_numbers}
    return tuple(symbol(z) for z in sorted(zs))


def numbers_of(symbols: Sequence[str]) -> Tensor:
    """Atomic numbers of symbols as an int64 tensor."""
    return torch.tensor([number(s) for s in symbols], dtype=torch.int64)


def type_table(symbols: Sequence[str]) -> Tensor:
    """Map atomic number → index in `symbols` (−1 where absent), an int64 tensor of length 119."""
    table = torch.full((MAX_Z + 1,), -1, dtype=torch.int64)
    table[numbers_of(symbols)] = torch.arange(len(symbols))
    return table


def masses(numbers: Tensor) -> Tensor:
    """Standard atomic masses in u, float64, for atomic numbers of any shape."""
    return torch.as_tensor(np.asarray(atomic_masses)[numbers.cpu().numpy()], device=numbers.device)


def covalent_radius(numbers: Tensor) -> Tensor:
    """Covalent radii in Å (Cordero et al., Dalton Trans. 2008, 2832, doi:10.1039/b801115j)."""
    return torch.as_tensor(np.asarray(covalent_radii)[numbers.cpu().numpy()], device=numbers.device)
