"""Potentials of pacemaker in the compiled kernels of the cluster expansion."""

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

from .ace_program import CompiledACE, Neighbourhoods

if TYPE_CHECKING:
    from .pacemaker_ace import PacemakerACE


class CompiledPacemakerACE(CompiledACE):
    """A snapshot of a `PacemakerACE`: the embedded expansion by kernels, and the repulsion of cores."""

    def __init__(self, potential: "PacemakerACE") -> None:
        super().__init__(
            potential,
            potential.descriptor.weights,
            factors=potential.factors,
            exponents=potential.exponents,
            embedding=potential.embeddings,
        )
        self._potential = copy.deepcopy(potential)

    def _energies(self, n: Neighbourhoods, gradient: np.ndarray) -> np.ndarray:
        if not self._potential.descriptor.radial.repels:
            return super()._energies(n, gradient)
        own, slopes = self._embedded(n)
        centre = np.repeat(np.arange(len(own)), np.diff(n.start))
        v, dv = self._repulsion(n, centre)
        total = np.zeros(len(own))
        np.add.at(total, centre, v)
        step, d_step = self._core_step(total, n.kinds)
        self._sweep.pair_gradient(n, slopes * step[:, None], gradient)
        gradient[n.parent] += ((1.0 + own * d_step)[centre] * dv)[:, None] * n.unit
        return own * step + total

    def _repulsion(self, n: Neighbourhoods, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v of each pair and its slope."""
        r = torch.from_numpy(n.r)
        i, j = torch.from_numpy(n.kinds[centre]), torch.from_numpy(n.neighbour)
        radial = self._potential.descriptor.radial
        found = torch.func.jvp(lambda x: radial.repulsion(x, i, j), (r,), (torch.ones_like(r),))
        return found[0].numpy(), found[1].numpy()

    def _core_step(self, total: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f_c of each centre and its slope."""
        v, types = torch.from_numpy(total), torch.from_numpy(kinds)
        found = torch.func.jvp(lambda x: self._potential.core_step(x, types), (v,), (torch.ones_like(v),))
        return found[0].numpy(), found[1].numpy()
