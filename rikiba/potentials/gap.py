"""Gaussian approximation potential: sparse Gaussian-process regression on SOAP, pairs and triplets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.atomic_energies import AtomicEnergies

from .base import Design, LinearPotential, Program
from .gap_terms import Envelope, Environments, SoapTerm, Term, terms_of

_MOST_ENVIRONMENTS = 20_000
"""Of a term, among which sparse points are chosen."""


class Gap(LinearPotential):
    """E = Σ_i E0 + Σ_t Σ_e ε_t(x_e) with Gaussian processes ε_t(x) = Σ_m α_m k_t(x, x_m), x_m sparse points.

    A term is a table: `kind` is soap (power spectrum of an atom's neighbourhood, k = δ² (p·p')^ζ),
    distance_2b (pairs) or angle_3b (triplets; both k = δ² exp(−Σ(x_d − x'_d)²/2θ_d²)); the other keys are
    those of `SoapTerm`, `PairTerm` and `AngleTerm` in `rikiba.potentials.gap_terms`, among them delta (eV),
    n_sparse, sparse_method (cur, fps, uniform, random), cutoff and transition_width (Å). A term that names
    no `centre` or `pair` of elements stands for one of each.

    `coefficients` are z = Lᵀα with K_MM = L Lᵀ, so that their prior is the unit normal distribution: fit
    them with `rikiba.training.gaussian_process.SparseGaussianProcess`. Sparse points are chosen from the
    training structures. Arithmetic is in float64 whatever the precision of the coefficients, as sums of
    α k cancel.

    Bartók, Payne, Kondor & Csányi, doi:10.1103/PhysRevLett.104.136403; Bartók & Csányi,
    doi:10.1002/qua.24927. Departures by default: neighbours fade by the C² polynomial (theirs:
    `envelope = "cosine"`, C¹), and the energy that the SOAP terms give an isolated atom is subtracted, so
    that it has its E0 (theirs: `subtract_isolated = false`).

    Args:
        elements: chemical symbols; kept in order of atomic number.
        terms: tables of terms; a SOAP of each element if not given.
        envelope: of terms that name none: polynomial (C²) or cosine (C¹).
        subtract_isolated: an atom without neighbours has its E0.
        jitter: added to the diagonal of K_MM, relative to δ².
        variance: what `spread` holds, as standard deviations in eV: nothing; sparse, for each atom's energy
            the prior variance that the sparse points leave, k(x, x) − k_xM K_MM⁻¹ k_Mx summed over terms
            and environments, which says how unlike them an environment is (QUIP gives the same); posterior,
            with the uncertainty of the coefficients after the fit added, also for whole structures.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        seed: of coefficients and sparse points before they are fitted, and of the choice of points.
    """

    references = ("10.1103/PhysRevLett.104.136403", "10.1103/PhysRevB.87.184115", "10.1002/qua.24927")

    information: Tensor

    def __init__(
        self,
        *,
        elements: Sequence[str],
        terms: Sequence[Mapping[str, Any]] = ({"kind": "soap"},),
        envelope: Envelope = "polynomial",
        subtract_isolated: bool = True,
        jitter: float = 1e-8,
        variance: Literal["none", "sparse", "posterior"] = "none",
        atomic_energies: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0.0 <= jitter < 1.0:
            raise ValueError(f"jitter must be at least 0 and below 1; given {jitter}.")
        if variance not in ("none", "sparse", "posterior"):
            raise ValueError(f"variance must be none, sparse or posterior; given '{variance}'.")
        self.elements = periodic_table.sorted_symbols(elements)
        self.jitter, self.variance, self.subtract_isolated = float(jitter), variance, subtract_isolated
        self.seed = int(seed)
        generator = torch.Generator().manual_seed(self.seed)
        self.terms = nn.ModuleList(terms_of(terms, self.elements, envelope, generator))
        self.cutoff = max(t.cutoff for t in self.processes)
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        m = sum(t.n_sparse for t in self.processes)
        self.coefficients = nn.Parameter(torch.randn(m, generator=generator, dtype=torch.float64))
        kept = m if variance == "posterior" else 0
        self.register_buffer("information", torch.eye(kept, dtype=torch.float64))

    @classmethod
    def examples(cls) -> "list[Gap]":
        """Small instances for the conformance tests."""
        both = ("O", "Si")
        soap = {"kind": "soap", "cutoff": 3.6, "n_max": 3, "l_max": 2, "n_sparse": 5, "delta": 0.5}
        pair = {"kind": "distance_2b", "cutoff": 4.0, "n_sparse": 6, "delta": 0.3}
        angle = {"kind": "angle_3b", "cutoff": 2.8, "n_sparse": 4, "delta": 0.1}
        return [
            cls(elements=both, terms=[soap], variance="posterior"),
            cls(elements=both, terms=[pair, angle, soap | {"centre": "Si"}], jitter=1e-6, seed=1),
        ]

    @property
    def processes(self) -> list[Term]:
        """The terms."""
        return [t for t in self.terms if isinstance(t, Term)]

    def prepare(self, structures: Iterable[tuple[System, Pairs]]) -> None:
        """Choose the sparse points of every term from these structures."""
        generator = torch.Generator().manual_seed(self.seed)
        found = [_Sample(t, generator) for t in self.processes]
        with torch.no_grad():
            for system, pairs in structures:
                vectors, types = pairs.vectors(system), self.types(system)
                for sample in found:
                    sample.add(sample.term.environments(vectors, pairs, types))
        for sample in found:
            sample.term.points_from(sample.features, generator)

    def alphas(self) -> list[Tensor]:
        """α of every term times the weight of its point, so that ε = Σ_m α_m w k(x, x_m)."""
        return [
            torch.linalg.solve_triangular(t.factor(self.jitter).T, z[:, None], upper=True)[:, 0]
            * t.sparse_weight
            for t, z in zip(self.processes, self.parts(), strict=True)
        ]

    def parts(self) -> list[Tensor]:
        """Coefficients of every term, float64."""
        return list(self.coefficients.double().split([t.n_sparse for t in self.processes]))

    def set_alphas(self, alphas: Sequence[Tensor]) -> None:
        """Set the coefficients by α of every term, weights of the points not in it."""
        parts = [t.factor(self.jitter).T @ a.double() for t, a in zip(self.processes, alphas, strict=True)]
        with torch.no_grad():
            self.coefficients.copy_(torch.cat(parts))

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        vectors = pairs.vectors(system)
        energies = self.atomic_energies(types)
        every = [t.environments(vectors, pairs, types) for t in self.processes]
        for term, e, alpha in zip(self.processes, every, self.alphas(), strict=True):
            values = term.multiplicity * e.weight * (term.kernel(e.features, term.sparse) @ alpha)
            if self.subtract_isolated and isinstance(term, SoapTerm):
                values = values - term.kernel(term.isolated(), term.sparse)[0] @ alpha
            energies = energies.index_add(0, e.atom, values)
        if self.variance == "none":
            return Results(energies=energies)
        return Results(energies=energies, spread=self._spread(system, every))

    def features(self, term: Term, e: Environments) -> Float[Tensor, "environments points"]:
        """φ = L⁻¹ k_M of each environment: ε = φ·z."""
        lower = term.factor(self.jitter)
        return torch.linalg.solve_triangular(lower, term.covariance(e).T, upper=False).T

    @torch.no_grad()
    def _spread(self, system: System, every: list[Environments]) -> Results:
        """Standard deviations of the energies of atoms and, after a fit, of structures."""
        variance = system.positions.new_zeros(system.n_atoms)
        columns = []
        for term, e in zip(self.processes, every, strict=True):
            phi = self.features(term, e)
            # rounding can take a difference of equal numbers below 0
            left = (_diagonal(term, e) - phi.square().sum(1)).clamp(min=0.0)
            variance.index_add_(0, e.atom, term.multiplicity * left)
            if self.subtract_isolated and isinstance(term, SoapTerm):
                alone = term.isolated()
                phi = phi - self.features(term, Environments(alone, alone.new_ones(1), e.atom[:0]))
            columns.append(
                phi.new_zeros((system.n_atoms, phi.shape[1])).index_add(0, e.atom, phi * term.multiplicity)
            )
        if self.variance == "sparse":
            return Results(energies=variance.sqrt())
        phi = torch.cat(columns, 1)
        whole = torch.cat([phi, system.total(phi)])
        after = (
            torch.linalg.solve_triangular(self.information.double().T, whole.T, upper=False).square().sum(0)
        )
        n = system.n_atoms
        return Results(
            energies=(variance + after[:n]).sqrt(), energy=(system.total(variance) + after[n:]).sqrt()
        )

    def program(self) -> Program | None:
        """Energies and forces by compiled kernels, in float64; none where a variance is asked for."""
        if self.variance != "none":
            return None
        from .gap_program import CompiledGap

        return CompiledGap(self)

    def design(self, system: System, pairs: Pairs, *, forces: bool, stress: bool) -> Design:
        from .gap_design import design

        return design(self, system, pairs, forces=forces, stress=stress)


def _diagonal(term: Term, e: Environments) -> Float[Tensor, "environments"]:
    """w² k(x, x)."""
    if isinstance(term, SoapTerm):
        return term.delta**2 * e.features.square().sum(1) ** term.zeta
    return (term.delta * e.weight) ** 2


class _Sample:
    """Environments of a term, at most so many, drawn evenly from all that were seen."""

    def __init__(self, term: Term, generator: torch.Generator) -> None:
        self.term, self._generator = term, generator
        self.features = term.sparse.new_zeros((0, term.sparse.shape[1]))
        self._keys = self.features.new_zeros(0)

    def add(self, e: Environments) -> None:
        keys = torch.rand(len(e.features), generator=self._generator, dtype=torch.float64)
        seen = e.weight > 0
        self.features = torch.cat([self.features, e.features[seen]])
        self._keys = torch.cat([self._keys, keys[seen.cpu()]])
        if len(self._keys) > _MOST_ENVIRONMENTS:
            kept = self._keys.topk(_MOST_ENVIRONMENTS).indices.sort().values
            self.features, self._keys = self.features[kept], self._keys[kept]
