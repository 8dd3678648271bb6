"""The Stillinger–Weber potential."""

from collections.abc import Mapping

import torch
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.double_buffers import DoubleBuffers

from .base import Potential, Program
from .many_body import reaching, triplet_tables

NAMES = ("epsilon_eV", "sigma", "a", "lambda", "gamma", "cos_theta0", "A", "B", "p", "q")

SILICON = {
    "epsilon_eV": 2.1683,
    "sigma": 2.0951,
    "a": 1.80,
    "lambda": 21.0,
    "gamma": 1.20,
    "cos_theta0": -1.0 / 3.0,
    "A": 7.049556277,
    "B": 0.6022245584,
    "p": 4.0,
    "q": 0.0,
}
"""Table I of doi:10.1103/PhysRevB.31.5262; ε = 50 kcal/mol, which gives diamond −4.3366 eV/atom."""

SETS = {"silicon": {"Si-Si-Si": SILICON}}


class StillingerWeber(DoubleBuffers, Potential):
    """Two- and three-body potential that prefers one bond angle.

    E = Σ_{i<j} φ₂(r_ij) + Σ_i Σ_{j<k} φ₃(r_ij, r_ik, θ_jik),
    φ₂ = Aε [B(σ/r)^p − (σ/r)^q] exp(σ/(r − aσ)),
    φ₃ = λε (cos θ − cos θ₀)² exp(γσ/(r_ij − aσ)) exp(γσ/(r_ik − aσ)), each for r < aσ; C^∞ there.

    Source: F. H. Stillinger & T. A. Weber, Phys. Rev. B 31, 5262 (1985), doi:10.1103/PhysRevB.31.5262, eqs.
    2.3–2.6. For several elements as in LAMMPS' `pair_style sw`: ε, λ and θ₀ of a triplet are those of i-j-k,
    everything that belongs to one bond is that of i-j-j. Half of a pair's energy goes to each of its atoms,
    a triplet's to its centre.

    Args:
        parameters: "silicon", the original parameters; or a table by centre and two neighbours like
            {"Si-Si-Si" = {epsilon_eV = 2.1683, sigma = 2.0951, a = 1.8, lambda = 21.0, gamma = 1.2,
            cos_theta0 = -0.3333, A = 7.0496, B = 0.60222, p = 4.0, q = 0.0}}, for every triplet of elements.
    """

    references = ("10.1103/PhysRevB.31.5262",)
    learned = False

    pair_parameters: Tensor
    triplet_parameters: Tensor
    reach: Tensor

    def __init__(self, *, parameters: str | Mapping[str, Mapping[str, float]] = "silicon") -> None:
        super().__init__()
        if isinstance(parameters, str):
            if parameters not in SETS:
                raise ValueError(
                    f"There are no published parameters '{parameters}' here; known are {', '.join(SETS)}. "
                    f"Give a table of values otherwise."
                )
            parameters = SETS[parameters]
        self.elements, t = triplet_tables(parameters, NAMES, symmetric=True)
        # what belongs to the bond i-j stands in the entry i-j-j
        bond = {name: torch.einsum("ijj->ij", table) for name, table in t.items()}
        reach = bond["a"] * bond["sigma"]
        if bool((bond["sigma"] < 0).any() or (bond["a"] < 0).any()) or float(reach.max()) <= 0:
            raise ValueError("sigma and a must not be negative, and one pair of elements must interact.")
        strength = bond["A"] * bond["epsilon_eV"]
        columns = (
            strength * bond["B"], strength, bond["p"], bond["q"],
            bond["sigma"], bond["gamma"] * bond["sigma"], reach,
        )  # fmt: skip
        self.cutoff = float(reach.max())
        self.register_buffer("pair_parameters", torch.stack(columns, -1), persistent=False)
        triplet = torch.stack([t["lambda"] * t["epsilon_eV"], t["cos_theta0"]], -1)
        swapped = triplet.transpose(1, 2)
        if not torch.allclose(triplet, swapped, rtol=1e-5, atol=1e-9):
            raise ValueError("epsilon_eV · lambda and cos_theta0 of i-j-k and i-k-j must be equal.")
        triplet = 0.5 * (triplet + swapped)  # files round the two differently
        self.register_buffer("triplet_parameters", triplet, persistent=False)
        self.register_buffer("reach", reach, persistent=False)

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        pairs, vectors, r = reaching(pairs, system, types, self.reach, self.dtype)
        ti, tj = types[pairs.i], types[pairs.j]
        ab, a, p, q, sigma, gamma, reach = self.pair_parameters[ti, tj].unbind(-1)
        tail = 1.0 / (r - reach)
        half = 0.5 * (ab * (sigma / r) ** p - a * (sigma / r) ** q) * torch.exp(sigma * tail)
        decay = torch.exp(gamma * tail)
        first, second = pairs.triplets()
        strength, cosine0 = self.triplet_parameters[ti[first], tj[first], tj[second]].unbind(-1)
        unit = vectors / r[:, None]
        cosine = (unit[first] * unit[second]).sum(-1)
        # each triplet comes in both orders
        three = 0.5 * strength * (cosine - cosine0) ** 2 * decay[first] * decay[second]
        energies = half.new_zeros(system.n_atoms, dtype=torch.float64)
        energies = energies.index_add(0, pairs.i, half.double())
        return Results(energies=energies.index_add(0, pairs.i[first], three.double()))

    def program(self) -> Program | None:
        """Compiled kernel on the CPU: one pass over centres, no list of triplets."""
        if self.reach.device.type != "cpu":
            return None
        from rikiba.kernels.stillinger_weber_cpu import stillinger_weber

        from .many_body_programs import ManyBodyProgram

        return ManyBodyProgram(self, stillinger_weber, self.pair_parameters, self.triplet_parameters)

    @classmethod
    def examples(cls) -> "list[StillingerWeber]":
        """Small instances for the conformance tests."""
        two = {
            "Ga-Ga-Ga": SILICON | {"epsilon_eV": 1.2, "sigma": 2.1, "a": 1.6},
            "N-N-N": SILICON | {"epsilon_eV": 1.2, "sigma": 1.3, "q": 1.0},
            "Ga-N-N": SILICON | {"epsilon_eV": 2.17, "sigma": 1.695, "lambda": 32.5},
            "N-Ga-Ga": SILICON | {"epsilon_eV": 2.17, "sigma": 1.695, "lambda": 32.5},
            "Ga-Ga-N": SILICON | {"epsilon_eV": 1.61, "cos_theta0": -0.3},
            "N-N-Ga": SILICON | {"epsilon_eV": 1.61},
        }
        return [cls(), cls(parameters=two)]
