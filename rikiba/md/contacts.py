"""How close atoms come to each other, relative to their covalent radii."""

from dataclasses import dataclass
from typing import final

import torch

from rikiba.core.elements import covalent_radius, symbol
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """The closest pair of one system."""

    ratio: float
    """Distance over the sum of covalent radii; infinite where there is no pair."""
    distance: float
    """Å."""
    system: int
    atoms: tuple[int, int]
    """Counted within the system."""
    symbols: tuple[str, str]

    def __str__(self) -> str:
        (i, j), (a, b) = self.atoms, self.symbols
        return (
            f"atoms {i} ({a}) and {j} ({b}) of system {self.system} are {self.distance:.3g} Å apart, "
            f"{self.ratio:.2f} of the sum of their covalent radii"
        )


def closest_contacts(system: System) -> list[Contact]:
    """The closest pair of each system, periodic images included."""
    radii = covalent_radius(system.numbers)
    pairs = find_pairs(system, 2.0 * float(radii.max()))
    distance = pairs.vectors(system).norm(dim=-1)
    ratio = distance / (radii[pairs.i] + radii[pairs.j])
    owner = system.system_index[pairs.i]
    found = []
    for k in range(system.n_systems):
        own = (owner == k).nonzero().flatten()
        if len(own) == 0:
            infinite = float("inf")
            found.append(Contact(ratio=infinite, distance=infinite, system=k, atoms=(0, 0), symbols=("", "")))
            continue
        p = int(own[torch.argmin(ratio[own])])
        first = system.atom_rows(k).start
        i, j = int(pairs.i[p]), int(pairs.j[p])
        found.append(
            Contact(
                ratio=float(ratio[p]),
                distance=float(distance[p]),
                system=k,
                atoms=(i - first, j - first),
                symbols=(symbol(int(system.numbers[i])), symbol(int(system.numbers[j]))),
            )
        )
    return found
