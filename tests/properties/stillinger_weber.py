"""Stillinger–Weber silicon, written out plainly: a three-body potential with published elastic constants."""

import torch

from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.base import Potential


class StillingerWeberSilicon(Potential):
    """E = Σ_{i<j} φ₂ + Σ_i Σ_{j<k} φ₃ with the parameters of doi:10.1103/PhysRevB.31.5262,
    ε = 2.1683 eV and σ = 2.0951 Å."""

    learned = False

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.sigma, self.epsilon = ("Si",), 2.0951, 2.1683
        self.cutoff = 1.8 * self.sigma

    def forward(self, system: System, pairs: Pairs) -> Results:
        self.types(system)
        vectors = pairs.vectors(system) / self.sigma
        r = vectors.norm(dim=-1)
        tail = 1.0 / (r - 1.8)
        two = 0.5 * 7.049556277 * (0.6022245584 * r**-4 - 1.0) * torch.exp(tail)
        a, b = pairs.triplets()
        cosine = (vectors[a] * vectors[b]).sum(-1) / (r[a] * r[b])
        three = 0.5 * 21.0 * torch.exp(1.2 * (tail[a] + tail[b])) * (cosine + 1.0 / 3.0) ** 2
        energies = torch.zeros(system.n_atoms, dtype=torch.float64)
        energies = energies.index_add(0, pairs.i, two).index_add(0, pairs.i[a], three)
        return Results(energies=self.epsilon * energies)
