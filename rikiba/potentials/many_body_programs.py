"""Inference of classical many-body potentials by compiled kernels, one pass over centres each."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System

from .base import Potential
from .pair_sweep import sweep


class ManyBodyProgram:
    """A kernel (vectors, i, j, types, *constants, energies, gradient) with its constants.

    Args:
        potential: gives the types of atoms.
        kernel: adds to energies [atoms] and gradient [pairs, 3]; pairs are ordered by centre.
        constants: what the kernel takes besides; tensors are copied.
        one_body: eV of an atom of each type before the kernel adds anything; 0 if not given.
    """

    def __init__(
        self,
        potential: Potential,
        kernel: Any,
        *constants: Any,
        one_body: Float[Tensor, "types"] | None = None,
    ) -> None:
        self._types = potential.types
        self._one_body = None if one_body is None else one_body.detach().double().clone()
        self._kernel = kernel
        self._constants = [
            c.detach().clone().contiguous().numpy() if isinstance(c, Tensor) else c for c in constants
        ]

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64; pairs may reach beyond the cutoff."""
        types = self._types(system)
        given = vectors.detach().to(torch.float64).contiguous()
        energies, gradient = self._start(types), torch.zeros_like(given)
        self._kernel(
            given.numpy(), pairs.i.numpy(), pairs.j.numpy(), types.numpy(), *self._constants,
            energies.numpy(), gradient.numpy(),
        )  # fmt: skip
        return energies, gradient

    def sweep(
        self, system: System, pairs: Pairs
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"], Float[Tensor, "systems 3 3"]]:
        """(energies per atom, forces, ∂E/∂ε before symmetrisation); pairs may reach beyond the cutoff."""
        types = self._types(system)
        known, constants = types.numpy(), self._constants

        def block(vectors: Any, i: Any, j: Any, energies: Any, gradient: Any) -> None:
            self._kernel(vectors, i, j, known, *constants, energies, gradient)

        return sweep(block, system, pairs, self._start(types))

    def _start(self, types: Int[Tensor, "atoms"]) -> Float[Tensor, "atoms"]:
        if self._one_body is None:
            return torch.zeros(len(types), dtype=torch.float64)
        return self._one_body[types]
