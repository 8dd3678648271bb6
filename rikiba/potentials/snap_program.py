"""SNAP in compiled kernels: energies, pair gradients, and the rows of its design matrix."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.descriptors.bispectrum import Bispectrum
from rikiba.kernels import bispectrum_cpu as kernels

_ENVELOPES = {"cosine": kernels.COSINE, "polynomial": kernels.POLYNOMIAL, "none": kernels.NONE}


@dataclass(frozen=True)
class _Neighbourhoods:
    """U of all atoms, and what leads from ∂E/∂U back to the pairs."""

    types: np.ndarray
    start: np.ndarray
    parent: np.ndarray
    pairs: np.ndarray
    sums: np.ndarray
    n_pairs: int


class BispectrumSweep:
    """The compiled side of a `Bispectrum`: a snapshot of its settings."""

    def __init__(self, descriptor: Bispectrum) -> None:
        self.n, self.channels = descriptor.n_components, descriptor.n_channels
        self.layout, self.couplings = descriptor.layout(), descriptor.couplings()
        self._reach, self._weight = descriptor.reach.double().numpy(), descriptor.weight.double().numpy()
        kinds = torch.arange(len(descriptor.elements))
        self._own = descriptor._self_weight(kinds).double().numpy()
        self._isolated = descriptor.isolated.double().numpy()
        self._shape = kernels.Shape(
            _ENVELOPES[descriptor.envelope],
            descriptor.envelope_power,
            descriptor.angle_fraction,
            descriptor.r_min,
        )
        c = self.couplings
        self._terms = np.zeros((len(c.result) * self.channels, self.n))
        np.add.at(self._terms, (c.slot * self.channels + c.channel, c.component), c.factor)
        # the first of a component's three derivatives is the product that it is the trace of
        first = np.arange(self.n) * 3
        self._first_slot = c.slot[first] * self.channels + c.channel[first]
        self._trace = c.factor[first]
        self._traced = np.zeros(len(self._terms), bool)
        self._traced[self._first_slot] = True

    def neighbourhoods(
        self, types: np.ndarray, i: np.ndarray, j: np.ndarray, vectors: np.ndarray
    ) -> _Neighbourhoods:
        """Sums over the neighbours of every atom."""
        given = (types, self._reach)
        start, parent = kernels.arrange(vectors, i, j, *given, self.channels, len(types))
        pairs = np.zeros((11, len(parent)))
        kernels.pair_geometry(vectors, i, j, *given, self._weight, parent, self._shape, pairs)
        sums = np.empty((len(types) * self.channels, self.layout.first[-1], 2))
        kernels.summed(start, pairs.reshape(-1), self.layout, self.layout.scale, sums)
        return _Neighbourhoods(types, start, parent, pairs.reshape(-1), sums, len(i))

    def energies(
        self, n: _Neighbourhoods, linear: np.ndarray, quadratic: np.ndarray, *, values: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(β·B + ½ BᵀαB of each atom, ∂E/∂r_ij, B or nothing); one β and α a type."""
        active = (linear != 0).any(0) | (quadratic != 0).any((0, 1))
        wanted = ((self._terms != 0) & active).any(1).reshape(-1, self.channels)
        traced = self._traced.reshape(-1, self.channels)
        energies, found = np.zeros(len(n.types)), np.empty((len(n.types) if values else 0, self.n))
        rotated = np.empty((len(n.sums), self.layout.first[-1], 8))
        kernels.centres(
            n.sums, n.types, self._own, self.layout, self.couplings, wanted, traced, self._first_slot,
            self._trace, self._terms, linear, quadratic, self._isolated, found, energies, rotated,
        )  # fmt: skip
        gradient = np.zeros((n.n_pairs, 3))
        kernels.pair_slopes(n.start, n.parent, n.pairs, self.layout, rotated.reshape(-1), gradient)
        return energies, gradient, found


class CompiledSnap:
    """A snapshot of a SNAP as a program of compiled kernels, in float64."""

    def __init__(
        self,
        descriptor: Bispectrum,
        constants: Float[Tensor, "elements"],
        linear: Float[Tensor, "elements components"],
        quadratic: Float[Tensor, "elements components components"],
        elements: Tensor,
    ) -> None:
        self._sweep = BispectrumSweep(descriptor)
        self._constants = constants.detach().double().numpy().copy()
        self._linear = linear.detach().double().contiguous().numpy().copy()
        self._quadratic = quadratic.detach().double().contiguous().numpy().copy()
        self._types = elements

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64."""
        types = self._types[system.numbers].numpy()
        given = vectors.detach().double().contiguous().numpy()
        n = self._sweep.neighbourhoods(types, pairs.i.numpy(), pairs.j.numpy(), given)
        energies, gradient, _ = self._sweep.energies(n, self._linear, self._quadratic)
        return torch.from_numpy(energies + self._constants[types]), torch.from_numpy(gradient)
