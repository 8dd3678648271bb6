"""Potentials of pacemaker in the compiled kernels of the cluster expansion."""

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System

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

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64."""
        types = self._types(system).numpy()
        n = self._sweep.neighbourhoods(types, pairs, vectors.detach().double().contiguous().numpy())
        own, slopes = self._embedded(n)
        energies = self._constants[types]
        if not self._potential.descriptor.radial.repels:
            energies[n.order] += own
            return torch.from_numpy(energies), torch.from_numpy(self._sweep.pair_gradient(n, slopes))
        centre = np.repeat(np.arange(len(types)), np.diff(n.start))
        v, dv = self._repulsion(n, centre)
        total = np.zeros(len(types))
        np.add.at(total, centre, v)
        step, d_step = self._core_step(total, n.kinds)
        energies[n.order] += own * step + total
        gradient = self._sweep.pair_gradient(n, slopes * step[:, None])
        gradient[n.parent] += ((1.0 + own * d_step)[centre] * dv)[:, None] * n.unit
        return torch.from_numpy(energies), torch.from_numpy(gradient)

    def _repulsion(self, n: Neighbourhoods, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v of each pair and its slope."""
        r = torch.from_numpy(n.r)
        i, j = torch.from_numpy(n.kinds[centre]), torch.from_numpy(n.kinds[n.sender])
        radial = self._potential.descriptor.radial
        found = torch.func.jvp(lambda x: radial.repulsion(x, i, j), (r,), (torch.ones_like(r),))
        return found[0].numpy(), found[1].numpy()

    def _core_step(self, total: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f_c of each centre and its slope."""
        v, types = torch.from_numpy(total), torch.from_numpy(kinds)
        found = torch.func.jvp(lambda x: self._potential.core_step(x, types), (v,), (torch.ones_like(v),))
        return found[0].numpy(), found[1].numpy()
