"""A pair potential expanded in basis functions, linear in its coefficients."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.cutoff import polynomial
from rikiba.nn.radial import chebyshev

from .base import Design, LinearPotential, Program, check_positive, seeded


class PairBasis(LinearPotential):
    """A pair potential expanded in Chebyshev polynomials.

    E = Σ_i E0(Z_i) + ½ Σ_i Σ_j Σ_k c_{Z_i Z_j, k} T_k(2r_ij/r_c − 1) f(r_ij/r_c), where f is the polynomial
    envelope of power p, twice continuously differentiable at the cutoff. The coefficients of Z_i Z_j and
    Z_j Z_i are one. With `one_body` each element has one coefficient more, a constant energy per atom. Forces
    and stress rows of the design matrix are analytic, T_k' = k U_{k−1} and
    f' = −½p(p+1)(p+2) x^{p−1}(1 − x)²/r_c.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        n_basis: functions per pair of elements.
        envelope_power: power p of the envelope.
        one_body: fit a constant per element too, on top of `atomic_energies`.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        seed: of the coefficients before they are fitted.
    """

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 6.0,
        n_basis: int = 12,
        envelope_power: int = 6,
        one_body: bool = False,
        atomic_energies: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff, n_basis=n_basis)
        if envelope_power < 2:
            raise ValueError(f"envelope_power must be at least 2; given {envelope_power}.")
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.n_basis, self.envelope_power = float(cutoff), n_basis, envelope_power
        self.one_body = one_body
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        n = len(self.elements)
        upper = torch.triu_indices(n, n)
        table = torch.zeros((n, n), dtype=torch.int64)
        table[upper[0], upper[1]] = table[upper[1], upper[0]] = torch.arange(upper.shape[1])
        self.register_buffer("pair_type", table, persistent=False)
        self.n_pair_types = upper.shape[1]
        size = self.n_pair_types * n_basis + (n if one_body else 0)
        with seeded(seed):
            self.coefficients = nn.Parameter(0.01 * torch.randn(size, dtype=torch.float64))

    pair_type: Tensor

    @classmethod
    def examples(cls) -> "list[PairBasis]":
        """Small instances for the conformance tests."""
        return [
            cls(elements=("O", "Si"), cutoff=4.5, n_basis=6),
            cls(elements=("O", "Si"), cutoff=4.0, n_basis=4, one_body=True, seed=1),
        ]

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        pairs = self._own(system, pairs)
        r = pairs.vectors(system, self.dtype).norm(dim=-1)
        c = self.coefficients[: self.n_pair_types * self.n_basis].view(self.n_pair_types, self.n_basis)
        half = 0.5 * (self._functions(r) * c[self._pair_types(types, pairs)]).sum(-1)
        energies = self.atomic_energies(types).index_add(0, pairs.i, half.double())
        if self.one_body:
            energies = energies + self.coefficients[-len(self.elements) :][types]
        return Results(energies=energies)

    def program(self) -> Program | None:
        """Compiled kernels in float64 on the CPU; None for a subclass, or coefficients elsewhere."""
        if type(self) is not PairBasis or self.coefficients.device.type != "cpu":
            return None
        from .term_programs import PairProgram

        c = self.coefficients.detach().double()
        n = self.n_pair_types * self.n_basis
        table = c[:n].view(self.n_pair_types, self.n_basis)[self.pair_type]
        head = torch.tensor([self.cutoff, float(self.envelope_power)], dtype=torch.float64)
        stop = torch.full((*table.shape[:2], 1), self.cutoff, dtype=torch.float64)
        one_body = self.atomic_energies.values
        return PairProgram(
            self,
            form="chebyshev",
            parameters=torch.cat([head.expand(*table.shape[:2], 2), table], -1),
            ends=torch.cat([stop, stop, torch.zeros_like(stop), torch.zeros_like(stop)], -1),
            one_body=one_body + c[n:] if self.one_body else one_body,
        )

    def design(self, system: System, pairs: Pairs, *, forces: bool, stress: bool) -> Design:
        types = self.types(system)
        pairs = self._own(system, pairs)
        vectors = pairs.vectors(system).detach()
        r = vectors.norm(dim=-1)
        of_pair = self._pair_types(types, pairs)
        centre = system.system_index[pairs.i]
        energy = self._sort_by_type(0.5 * self._functions(r), centre, of_pair, system.n_systems)
        if self.one_body:
            energy = torch.cat([energy, self._one_body_rows(types, system)], -1)
        f = s = None
        if forces or stress:
            gradient = (0.5 * self._derivatives(r) / r[:, None])[:, None, :] * vectors[:, :, None]
            if forces:
                f = self._sort_by_type(gradient, pairs.i, of_pair, system.n_atoms)
                f = self._padded(f - self._sort_by_type(gradient, pairs.j, of_pair, system.n_atoms))
            if stress:
                # g ∥ r for a pair function, so g_a r_b is symmetric already
                virial = gradient[:, :, None, :] * vectors[:, None, :, None]
                virial = self._sort_by_type(virial, centre, of_pair, system.n_systems)
                volume = torch.where(system.has_volume, system.volume, torch.nan)
                s = self._padded(virial / volume[:, None, None, None])
        return Design(energy=energy, offset=system.total(self.atomic_energies(types)), forces=f, stress=s)

    def _own(self, system: System, pairs: Pairs) -> Pairs:
        """The pairs within this potential's cutoff of a list that may reach farther."""
        return pairs if pairs.cutoff <= self.cutoff else pairs.within(system, self.cutoff)[0]

    def _pair_types(self, types: Int[Tensor, "atoms"], pairs: Pairs) -> Int[Tensor, "pairs"]:
        return self.pair_type[types[pairs.i], types[pairs.j]]

    def _functions(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs n_basis"]:
        """φ_k(r) = T_k f."""
        x = r / self.cutoff
        return chebyshev(2.0 * x - 1.0, self.n_basis) * polynomial(x, self.envelope_power)[:, None]

    def _derivatives(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs n_basis"]:
        """dφ_k/dr = T_k' f + T_k f', 1/Å."""
        x, p = r / self.cutoff, self.envelope_power
        xi = 2.0 * x - 1.0
        second = [torch.zeros_like(xi), torch.ones_like(xi)]  # U_{−1}, U_0, U_{k+1} = 2ξU_k − U_{k−1}
        while len(second) < self.n_basis:
            second.append(2.0 * xi * second[-1] - second[-2])
        slopes = torch.stack([k * u for k, u in enumerate(second[: self.n_basis])], -1) * (2.0 / self.cutoff)
        falling = -0.5 * p * (p + 1) * (p + 2) * x ** (p - 1) * (1.0 - x) ** 2 / self.cutoff
        return slopes * polynomial(x, p)[:, None] + chebyshev(xi, self.n_basis) * falling[:, None]

    def _sort_by_type(
        self, values: Float[Tensor, "pairs *mid n_basis"], row: Tensor, of_pair: Tensor, n_rows: int
    ) -> Float[Tensor, "rows *mid columns"]:
        """Σ over the pairs of each row, into the columns of their type of pair."""
        out = values.new_zeros((n_rows * self.n_pair_types, *values.shape[1:]))
        out = out.index_add(0, row * self.n_pair_types + of_pair, values)
        return out.unflatten(0, (n_rows, self.n_pair_types)).movedim(1, -2).flatten(-2)

    def _one_body_rows(self, types: Tensor, system: System) -> Float[Tensor, "systems elements"]:
        return system.total(nn.functional.one_hot(types, len(self.elements)))

    def _padded(self, rows: Tensor) -> Tensor:
        """Zeros for the one-body coefficients, which no force or stress depends on."""
        if not self.one_body:
            return rows
        return torch.cat([rows, rows.new_zeros((*rows.shape[:-1], len(self.elements)))], -1)
