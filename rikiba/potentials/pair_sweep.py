"""From positions to forces in blocks of centres, so that nothing of the size of the pair list is stored."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System

Kernel = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], None]
"""(vectors, i, j, energies, gradient): adds to energies [atoms] and gradient [pairs, 3]."""

BLOCK = 4096
"""Pairs of a block, about: vectors and gradients of this many stay in the second-level cache."""


def sweep(
    kernel: Kernel, system: System, pairs: Pairs, energies: Float[Tensor, "atoms"]
) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"], Float[Tensor, "systems 3 3"]]:
    """(energies per atom in eV, forces in eV/Å, Σ g ⊗ r of each system in eV) of a kernel over all pairs.

    A block ends where a centre's pairs end. `energies` are those before any pair, and are added to.
    """
    from rikiba.kernels.pair_sweep_cpu import collect, pair_vectors

    positions, cell = system.positions.detach().numpy(), system.cell.detach().numpy()
    index = system.system_index.numpy()
    i, j, shift = pairs.i.numpy(), pairs.j.numpy(), pairs.shift.numpy()
    forces, virial = np.zeros_like(positions), np.zeros((system.n_systems, 3, 3))
    out, n, start = energies.numpy(), len(i), 0
    vectors = gradient = np.empty((0, 3))
    while start < n:
        stop = n if n - start <= BLOCK else int(np.searchsorted(i, i[start + BLOCK], "right"))
        if stop - start > len(vectors):
            vectors, gradient = np.empty((stop - start, 3)), np.empty((stop - start, 3))
        v, g, a, b = vectors[: stop - start], gradient[: stop - start], i[start:stop], j[start:stop]
        pair_vectors(positions, cell, index, a, b, shift[start:stop], v)
        g[:] = 0.0
        kernel(v, a, b, out, g)
        collect(v, g, a, b, index, forces, virial)
        start = stop
    return energies, torch.from_numpy(forces), torch.from_numpy(virial)


class Once:
    """Each pair of a list in one direction only; kept while the list stays."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, Pairs] | None = None

    def __call__(self, pairs: Pairs) -> Pairs:
        """The pairs with j > i, and of an atom with its own images those of positive first shift."""
        if self._kept is None or self._kept[0] is not pairs.i:
            s = pairs.shift
            ahead = torch.where(s[:, 0] != 0, s[:, 0], torch.where(s[:, 1] != 0, s[:, 1], s[:, 2])) > 0
            keep = torch.nonzero((pairs.j > pairs.i) | ((pairs.j == pairs.i) & ahead)).flatten()
            half = replace(pairs, i=pairs.i[keep], j=pairs.j[keep], shift=s[keep], given_vectors=None)
            self._kept = (pairs.i, half)
        return self._kept[1]
