"""Moment tensor potentials in compiled kernels: energies, pair gradients, rows of the design matrix."""

import copy
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.descriptors.moment_basis import MomentBasis
from rikiba.descriptors.moments import monomials
from rikiba.kernels import moment_cpu as kernels
from rikiba.kernels.moment_parameters_cpu import sensitivities

from .base import Design

if TYPE_CHECKING:
    from .mtp import Mtp


class CompiledMtp:
    """A snapshot of a moment tensor potential as a program of compiled kernels, in float64."""

    def __init__(self, potential: "Mtp") -> None:
        self._basis = potential.descriptor.basis
        self._plan = _plan(self._basis)
        q = potential.radial
        c = potential.radial_coefficients.detach().double().numpy().copy()
        self._radial = kernels.Radial(
            c, q.r_min, q.cutoff, q.power, q.scaling, potential.descriptor.normalised
        )
        n = len(potential.elements)
        coefficients = potential.coefficients.detach().double().numpy()
        self._e0 = potential.atomic_energies.values.numpy().copy()
        self._constants = self._e0 + coefficients[:n]
        self._weights = np.zeros(self._basis.n_nodes)
        self._weights[self._basis.scalars] = coefficients[n:]
        self._types = copy.deepcopy(potential).types

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64."""
        types, v, i, j, groups = self._grouped(system, pairs, vectors)
        energies, gradient = np.zeros(len(types)), np.zeros((len(i), 3))
        kernels.sweep(v, i, j, types, groups, self._radial, self._plan, self._weights, energies, gradient)
        return torch.from_numpy(energies + self._constants[types]), torch.from_numpy(gradient)

    def parameter_gradient(
        self,
        system: System,
        pairs: Pairs,
        vectors: Float[Tensor, "pairs 3"],
        of_energies: Float[Tensor, "atoms"],
        along: Float[Tensor, "pairs 3"],
    ) -> dict[str, Tensor]:
        """Gradient of Σ_a of_energies_a E_a + Σ_p along_p·∂E/∂r_p by parameter, float64."""
        types, v, i, j, groups = self._grouped(system, pairs, vectors)
        e, w = (t.detach().double().contiguous().numpy() for t in (of_energies, along))
        functions, radial = np.zeros(len(self._basis.scalars)), np.zeros(self._radial.coefficients.size)
        sensitivities(
            v, i, j, types, groups, self._radial, self._plan, self._weights, self._basis.scalars, e, w,
            functions, radial,
        )  # fmt: skip
        constants = np.bincount(types, e, len(self._e0))
        return {
            "radial_coefficients": torch.from_numpy(radial.reshape(self._radial.coefficients.shape)),
            "coefficients": torch.from_numpy(np.concatenate([constants, functions])),
        }

    def _grouped(
        self, system: System, pairs: Pairs, vectors: Tensor
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, kernels.Groups]:
        types = self._types(system).numpy()
        v = vectors.detach().double().contiguous().numpy()
        i, j = pairs.i.numpy(), pairs.j.numpy()
        return types, v, i, j, kernels.arrange(v, i, self._radial.cutoff, len(types))

    def design(self, system: System, pairs: Pairs, *, forces: bool, stress: bool) -> Design:
        """Rows of the design matrix: the basis functions and their analytic derivatives."""
        types, v, i, j, groups = self._grouped(system, pairs, pairs.vectors(system))
        n_types, n_functions, n_atoms = len(self._e0), len(self._basis.scalars), len(types)
        values = np.zeros((n_functions, n_atoms))
        f = np.zeros((n_functions if forces else 0, n_atoms, 3))
        s = np.zeros((n_functions if stress else 0, system.n_systems, 3, 3))
        of_system = system.system_index.numpy()
        needed = _needed(self._basis)
        kernels.design(v, i, j, types, of_system, groups, self._radial, self._plan, needed, values, f, s)
        kinds = torch.nn.functional.one_hot(torch.from_numpy(types), n_types).double()
        per_atom = torch.cat([kinds, torch.from_numpy(values).T], 1)
        volume = torch.where(system.has_volume, system.volume, torch.nan)
        return Design(
            energy=system.total(per_atom),
            offset=system.total(torch.from_numpy(self._e0[types])),
            forces=_behind(n_types, torch.from_numpy(f).permute(1, 2, 0)) if forces else None,
            stress=_behind(n_types, _symmetric(torch.from_numpy(s)).permute(1, 2, 3, 0))
            / volume[:, None, None, None]
            if stress
            else None,
        )


def _behind(n: int, rows: Tensor) -> Tensor:
    """The columns behind n columns of zeros, which are those of the constants."""
    return torch.cat([rows.new_zeros((*rows.shape[:-1], n)), rows], -1)


def _symmetric(x: Tensor) -> Tensor:
    return 0.5 * (x + x.transpose(2, 3))


@lru_cache(maxsize=8)
def _plan(basis: MomentBasis) -> kernels.Plan:
    powers = [(a, b, c) for a, b, c in basis.basic[:, 1:].tolist()]
    lower, axis, place = monomials(powers)
    return kernels.Plan(
        of_mu=np.searchsorted(basis.basic[:, 0], np.arange(basis.n_radial_functions + 1)),
        monomial=np.array([place[p] for p in powers], np.int64),
        lower=np.array(lower, np.int64),
        axis=np.array(axis, np.int64),
        first=basis.first,
        left=basis.left,
        right=basis.right,
        factor=basis.factor,
    )


@lru_cache(maxsize=8)
def _needed(basis: MomentBasis) -> kernels.Needed:
    """What every function depends on."""
    plan, n_basic = _plan(basis), len(basis.basic)
    products: list[list[int]] = []
    basics: list[list[int]] = []
    powers: list[list[int]] = []
    bounds = []
    for scalar in basis.scalars.tolist():
        found, front = set(), [scalar]
        while front:
            n = front.pop()
            if n in found:
                continue
            found.add(n)
            if n >= n_basic:
                terms = slice(basis.first[n - n_basic], basis.first[n - n_basic + 1])
                front += [*basis.left[terms].tolist(), *basis.right[terms].tolist()]
        products.append(sorted((n for n in found if n >= n_basic), reverse=True))
        own = sorted(n for n in found if n < n_basic)
        bounds.append(len([b for one in basics for b in one]) + np.searchsorted(own, plan.of_mu))
        basics.append(own)
        monomial, front = {0}, plan.monomial[own].tolist()
        while front:
            n = front.pop()
            if n not in monomial:
                monomial.add(n)
                front.append(int(plan.lower[n]))
        powers.append(sorted(monomial))
    return kernels.Needed(
        basis.scalars,
        *_flat(products),
        np.array(bounds, np.int64),
        _flat(basics)[1],
        *_flat(powers),
    )


def _flat(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    bounds = np.cumsum([0, *map(len, lists)])
    return bounds.astype(np.int64), np.array([x for one in lists for x in one], np.int64)
