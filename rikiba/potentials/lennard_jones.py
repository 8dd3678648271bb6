"""The Lennard-Jones potential."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System

from .pair import PairPotential, Truncation


class LennardJones(PairPotential):
    """12-6 potential v(r) = 4ε[(σ/r)¹² − (σ/r)⁶].

    Source: J. E. Jones, Proc. R. Soc. A 106, 463 (1924), doi:10.1098/rspa.1924.0082. Unlike pairs are mixed
    by Lorentz–Berthelot, σ = (σ_a + σ_b)/2, ε = √(ε_a ε_b), or geometrically, σ = √(σ_a σ_b).

    Args:
        epsilon_eV: well depth of each element, e.g. {"Ar": 0.0104}, eV.
        sigma: diameter of each element, Å.
        cutoff: pairs beyond this distance do not interact, Å.
        truncation: how the potential ends at the cutoff: smooth, cut, shift or force_shift.
        switch_from: where the smooth switch begins, Å; 0.8·cutoff if not given.
        mixing: rule for unlike pairs: lorentz_berthelot or geometric.
        tail_correction: add the energy and stress of a uniform fluid beyond the cutoff (periodic cells, with
            truncation = "cut" only).
    """

    references = ("10.1098/rspa.1924.0082",)
    compiled_form = "lennard_jones"

    sigma: Tensor
    epsilon: Tensor

    def __init__(
        self,
        *,
        epsilon_eV: Mapping[str, float],
        sigma: Mapping[str, float],
        cutoff: float,
        truncation: Truncation = "smooth",
        switch_from: float | None = None,
        mixing: Literal["lorentz_berthelot", "geometric"] = "lorentz_berthelot",
        tail_correction: bool = False,
    ) -> None:
        super().__init__()
        if set(epsilon_eV) != set(sigma) or not sigma:
            raise ValueError(
                f"epsilon_eV is given for {sorted(epsilon_eV)} and sigma for {sorted(sigma)}; "
                f"give both for every element."
            )
        if not (min(sigma.values()) > 0 and min(epsilon_eV.values()) >= 0):
            raise ValueError(f"Needed are sigma > 0 and epsilon_eV at least 0; given {sigma}, {epsilon_eV}.")
        if mixing not in ("lorentz_berthelot", "geometric"):
            raise ValueError(f"mixing must be lorentz_berthelot or geometric; given '{mixing}'.")
        if tail_correction and truncation != "cut":
            raise ValueError('tail_correction describes a plainly cut potential; set truncation = "cut".')
        self.set_truncation(cutoff, truncation, switch_from)
        self.elements = periodic_table.sorted_symbols(sigma)
        s = torch.tensor([sigma[e] for e in self.elements], dtype=torch.float64)
        e = torch.tensor([epsilon_eV[e] for e in self.elements], dtype=torch.float64)
        geometric = (s[:, None] * s[None, :]).sqrt()
        mixed = 0.5 * (s[:, None] + s[None, :]) if mixing == "lorentz_berthelot" else geometric
        self.register_buffer("sigma", mixed)
        self.register_buffer("epsilon", (e[:, None] * e[None, :]).sqrt())
        self.tail_correction = self.uses_positions = tail_correction

    def form_parameters(self) -> Float[Tensor, "types types 2"]:
        """4ε (eV) and σ (Å)."""
        return torch.stack([4.0 * self.epsilon, self.sigma], -1)

    def pair_energy(
        self, r: Float[Tensor, "*pairs"], ti: Int[Tensor, "*pairs"], tj: Int[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        s6 = (self.sigma[ti, tj] / r) ** 6
        return 4.0 * self.epsilon[ti, tj] * (s6 * s6 - s6)

    def forward(self, system: System, pairs: Pairs) -> Results:
        results = super().forward(system, pairs)
        if not self.tail_correction:
            return results
        return results.replace(energies=results.need("energies") + self.tail(system)[system.system_index])

    def tail(self, system: System) -> Float[Tensor, "systems"]:
        """Energy per atom of a uniform fluid beyond the cutoff, eV.

        E_tail = (2π/V) Σ_ab N_a N_b ∫_rc^∞ r² v_ab(r) dr, ∫ = 4ε[σ¹²/(9 rc⁹) − σ⁶/(3 rc³)]
        (Allen & Tildesley, Computer Simulation of Liquids, 2nd ed., eq. 2.144). Its stress is the strain
        derivative of this energy at fixed cutoff, as for every term here; the textbook pressure correction
        ∝ ∫ r³ v' dr also counts pairs that cross the cutoff and differs by
        (2π/3V²) Σ_ab N_a N_b rc³ v_ab(rc).
        """
        if not bool(system.has_volume.all() and system.pbc.all()):
            raise ValueError("The tail correction needs a cell with a volume, periodic in all directions.")
        types = self.types(system)
        one_hot = torch.nn.functional.one_hot(types, len(self.elements)).double()
        counts = system.total(one_hot)
        s6 = self.sigma**6
        integral = 4.0 * self.epsilon * (s6 * s6 / (9.0 * self.cutoff**9) - s6 / (3.0 * self.cutoff**3))
        volume = torch.linalg.det(system.cell).abs()
        total = 2.0 * math.pi / volume * torch.einsum("sa,ab,sb->s", counts, integral, counts)
        return total / counts.sum(-1)

    @classmethod
    def examples(cls) -> "list[LennardJones]":
        """Small instances for the conformance tests."""
        return [cls(epsilon_eV={"Si": 0.4, "O": 0.05}, sigma={"Si": 2.1, "O": 1.4}, cutoff=4.5)]
