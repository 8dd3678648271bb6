"""SNAP in compiled kernels: energies, pair gradients, and the rows of its design matrix."""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.descriptors.bispectrum import Bispectrum
from rikiba.descriptors.bispectrum_tables import couplings, layout
from rikiba.kernels import bispectrum_coupling_cpu as coupling
from rikiba.kernels import bispectrum_cpu as kernels

from .base import Design

if TYPE_CHECKING:
    from .snap import Snap

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
        self.layout = layout(descriptor.twojmax)
        self.couplings = couplings(descriptor.twojmax, self.channels, descriptor.normalised)
        self._reach, self._weight = descriptor.reach.double().numpy(), descriptor.weight.double().numpy()
        kinds = torch.arange(len(descriptor.elements))
        self._own = descriptor.self_weight(kinds).double().numpy()
        self._isolated = descriptor.isolated.double().numpy()
        self._shape = kernels.Shape(
            _ENVELOPES[descriptor.envelope],
            descriptor.envelope_power,
            descriptor.angle_fraction,
            descriptor.r_min,
        )
        c = self.couplings
        # the first of a component's three derivatives is the product that it is the trace of
        first = np.arange(self.n) * 3
        self._first_slot = c.slot[first] * self.channels + c.channel[first]
        self._trace = c.factor[first]
        self._traced = np.zeros(len(c.result) * self.channels, bool)
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
        c, traced = self.couplings, self._traced.reshape(-1, self.channels)
        wanted = np.zeros_like(traced)
        kept = active[c.component]
        wanted[c.slot[kept], c.channel[kept]] = True
        energies, found = np.zeros(len(n.types)), np.empty((len(n.types) if values else 0, self.n))
        rotated = np.empty((len(n.sums), self.layout.first[-1], 8))
        coupling.centres(
            n.sums, n.types, self._own, self.layout, self.couplings, wanted, traced, self._first_slot,
            self._trace, linear, quadratic, self._isolated, found, energies, rotated,
        )  # fmt: skip
        gradient = np.zeros((n.n_pairs, 3))
        kernels.pair_slopes(n.start, n.parent, n.pairs, self.layout, rotated.reshape(-1), gradient)
        return energies, gradient, found

    def gradients(self, n: _Neighbourhoods) -> tuple[np.ndarray, np.ndarray]:
        """(B [atoms, components], ∂B_i/∂r_ij [pairs, components, 3])."""
        out = np.empty((n.n_pairs, self.n, 3))
        values = np.empty((0, self.n))
        none = np.zeros((0, self.n, self.n))
        kinds = len(self._own)
        for k in range(self.n):
            one = np.zeros((kinds, self.n))
            one[:, k] = 1.0
            _, out[:, k], found = self.energies(n, one, none, values=k == 0)
            values = found if k == 0 else values
        return values, out


class CompiledSnap:
    """A snapshot of a SNAP as a program of compiled kernels, in float64."""

    def __init__(self, potential: "Snap") -> None:
        self._sweep = BispectrumSweep(potential.descriptor)
        constant, linear, quadratic = potential.parts(potential.coefficients.detach().double())
        self._constants = (potential.atomic_energies.values + constant).numpy()
        self._linear, self._quadratic = linear.contiguous().numpy().copy(), quadratic.numpy()
        self._types = copy.deepcopy(potential).types

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64."""
        types = self._types(system).numpy()
        n = self._sweep.neighbourhoods(types, pairs.i.numpy(), pairs.j.numpy(), _array(vectors))
        energies, gradient, _ = self._sweep.energies(n, self._linear, self._quadratic)
        return torch.from_numpy(energies + self._constants[types]), torch.from_numpy(gradient)


def design(potential: "Snap", system: System, pairs: Pairs, *, forces: bool, stress: bool) -> Design:
    """Rows of the design matrix: B and its products, and their analytic derivatives."""
    sweep, types = BispectrumSweep(potential.descriptor), potential.types(system)
    kinds, vectors = types.numpy(), _array(pairs.vectors(system))
    i, j = pairs.i.numpy(), pairs.j.numpy()
    n = sweep.neighbourhoods(kinds, i, j, vectors)
    values, gradients = sweep.gradients(n)
    n_kinds, products = len(potential.elements), potential.quadratic
    own = torch.from_numpy(values)
    per_atom = (
        torch.cat([torch.ones_like(own[:, :1]), own, _products(own, own)], 1)
        if products
        else (torch.cat([torch.ones_like(own[:, :1]), own], 1))
    )
    width = per_atom.shape[1]
    row = system.system_index * n_kinds + types
    energy = per_atom.new_zeros((system.n_systems * n_kinds, width)).index_add(0, row, per_atom)
    f = s = None
    if forces:
        f = own.new_zeros((system.n_atoms, 3, n_kinds * width))
        kernels.force_rows(i, j, kinds, values, gradients, width, products, f.numpy())
    if stress:
        outer = torch.einsum("pka,pb->pkab", torch.from_numpy(gradients), torch.from_numpy(vectors))
        virial = own.new_zeros((*own.shape, 3, 3)).index_add(0, pairs.i, outer)
        virial = 0.5 * (virial + virial.transpose(2, 3))
        parts = [torch.zeros_like(virial[:, :1]), virial]
        if products:
            b = own[:, :, None, None]
            parts.append(_products(b, virial) + _products(virial, b))
        rows = torch.cat(parts, 1)
        total = rows.new_zeros((system.n_systems * n_kinds, width, 3, 3)).index_add(0, row, rows)
        total = total.view(system.n_systems, n_kinds * width, 3, 3).permute(0, 2, 3, 1)
        volume = torch.where(system.has_volume, system.volume, torch.nan)
        s = total / volume[:, None, None, None]
    return Design(
        energy=energy.view(system.n_systems, -1),
        offset=system.total(potential.atomic_energies(types)),
        forces=f,
        stress=s,
    )


def _products(a: Tensor, b: Tensor) -> Tensor:
    """a_k b_l for k ≤ l, halved for k = l."""
    row, column = torch.triu_indices(a.shape[1], a.shape[1])
    half = torch.where(row == column, 0.5, 1.0).to(a.dtype)
    return a[:, row] * b[:, column] * half.view(-1, *([1] * (a.dim() - 2)))


def _array(vectors: Tensor) -> np.ndarray:
    return vectors.detach().double().contiguous().numpy()
