"""A substitutional alloy: random, or as close to random as its cell allows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from ase import Atoms

from .base import Builder, known_elements, made


@final
@dataclass(frozen=True, kw_only=True)
class Alloy:
    """The sites of one element of a crystal shared out among several, at random or quasi-randomly.

    A quasi-random structure has Warren–Cowley parameters near 0 in its first shells, as an infinite random
    alloy has (after Zunger, Wei, Ferreira & Bernard, doi:10.1103/PhysRevLett.65.353; pairs only): atoms are
    exchanged with a falling temperature so that Σ |α|/shell becomes small.

    Args:
        host: the crystal.
        composition: share of each element on the sites, e.g. {Cu = 0.5, Au = 0.5}; the sum is 1.
        sites: element of the host whose sites are shared; all sites if not given.
        quasirandom: exchange atoms until the short-range order is small.
        shells: neighbour shells whose order is reported (and reduced).
        swaps: exchanges tried for a quasi-random structure.
        seed: of the arrangement.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1103/PhysRevLett.65.353",)

    host: Builder
    composition: Mapping[str, float]
    sites: str | None = None
    quasirandom: bool = False
    shells: int = 3
    swaps: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.composition) < 2 or min(self.composition.values()) <= 0:
            raise ValueError(f"composition has at least two positive shares; given {dict(self.composition)}.")
        if abs(sum(self.composition.values()) - 1.0) > 1e-6:
            raise ValueError(
                f"The shares of composition add up to {sum(self.composition.values()):g}, not 1."
            )
        if self.shells < 1 or self.swaps < 0:
            raise ValueError(f"shells ≥ 1 and swaps ≥ 0 are needed; given {self.shells}, {self.swaps}.")

    def build(self) -> Atoms:
        """The alloy; `info['warren_cowley']` has α of each pair of elements and shell.

        Numbers of atoms are the nearest to the shares; `info['composition']` says which they are.
        """
        from rikiba.data.short_range_order import neighbour_shells, order_error, warren_cowley

        atoms = self.host.build()
        for element in self.composition:
            known_elements(element)
        where = np.array([k for k, s in enumerate(atoms.symbols) if self.sites in (None, s)])
        if len(where) < len(self.composition):
            raise ValueError(f"The host has {len(where)} sites for {len(self.composition)} elements.")
        rng = np.random.default_rng(self.seed)
        kinds = rng.permutation(shared(self.composition, len(where)))
        shells = _within(neighbour_shells(atoms, self.shells), where, len(atoms))
        if self.quasirandom:
            kinds = anneal(kinds, lambda z: order_error(z, shells), self.swaps, rng)
        atoms.numbers[where] = kinds
        order = {
            f"shell {k + 1}": {f"{_symbol(a)}-{_symbol(b)}": round(v, 6) for (a, b), v in found.items()}
            for k, found in enumerate(warren_cowley(kinds, s) for s in shells)
        }
        counts = {_symbol(int(z)): int((kinds == z).sum()) for z in np.unique(kinds)}
        text = " ".join(f"{s}{n}" for s, n in counts.items())
        return made(
            self,
            atoms,
            composition=text,
            warren_cowley=order,
            short_range_order=order_error(kinds, shells),
        )


def shared(composition: Mapping[str, float], n: int) -> np.ndarray:
    """Atomic numbers of n sites with the given shares: the largest remainders get the last sites."""
    from ase.data import atomic_numbers

    exact = np.array(list(composition.values())) * n
    counts = np.floor(exact + 1e-9).astype(int)
    for k in np.argsort(counts - exact, kind="stable")[: n - counts.sum()]:
        counts[k] += 1
    return np.repeat([atomic_numbers[s] for s in composition], counts)


def anneal(kinds: np.ndarray, error: object, swaps: int, rng: np.random.Generator) -> np.ndarray:
    """The best arrangement met while exchanging unlike atoms with a temperature that falls to zero."""
    assert callable(error)
    now, value = kinds.copy(), float(error(kinds))
    best, lowest, first = now.copy(), value, max(value, 1e-3) / 10.0
    for k in range(swaps):
        if lowest < 1e-9:
            break
        i, j = rng.integers(len(now), size=2)
        if now[i] == now[j]:
            continue
        now[[i, j]] = now[[j, i]]
        tried = float(error(now))
        if tried <= value or rng.random() < np.exp((value - tried) / (first * (1.0 - k / swaps))):
            value = tried
            if value < lowest:
                best, lowest = now.copy(), value
        else:
            now[[i, j]] = now[[j, i]]
    return best


def _within(shells: list[np.ndarray], where: np.ndarray, n_atoms: int) -> list[np.ndarray]:
    """The pairs of each shell whose atoms are both on the shared sites, numbered among these."""
    place = np.full(n_atoms, -1)
    place[where] = np.arange(len(where))
    kept = [place[s] for s in shells]
    return [s for s in (s[(s >= 0).all(1)] for s in kept) if len(s)]


def _symbol(z: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[z])
