"""Analytic calculators for tests, written without the package's potentials."""

import torch
from torch import Tensor

from rikiba.core.pairs import PairFinder
from rikiba.core.results import Results
from rikiba.core.system import System


class Harmonic:
    """Every atom tied to its own site: E = ½ k Σ |r − r₀|²."""

    def __init__(self, sites: Tensor, k: float = 1.0) -> None:
        self.sites, self.k, self.n_calls = sites.clone(), k, 0

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        self.n_calls += 1
        d = system.positions - self.sites
        e = 0.5 * self.k * (d * d).sum(-1)
        return Results(energy=system.total(e), forces=-self.k * d)


class LennardJones:
    """4ε((σ/r)¹² − (σ/r)⁶) times a switch that takes value and two derivatives to 0 at the cutoff.

    Forces are scatter sums over canonical pairs, so that they do not depend on when the list was built.
    """

    def __init__(
        self, *, epsilon: float = 0.0104, sigma: float = 3.4, cutoff: float = 8.0, skin: float = 0.5,
        smooth: bool = True,
    ) -> None:  # fmt: skip
        self.epsilon, self.sigma, self.cutoff, self.smooth = epsilon, sigma, cutoff, smooth
        self.pairs = PairFinder(cutoff, skin)
        self.n_calls = 0

    def _energy(self, r2: Tensor) -> Tensor:
        s6 = (self.sigma**2 / r2) ** 3
        e = 4.0 * self.epsilon * (s6 * s6 - s6)
        if self.smooth:
            x = ((r2.sqrt() - 0.8 * self.cutoff) / (0.2 * self.cutoff)).clamp(min=0.0)
            e = e * (1 - x**3 * (10 - 15 * x + 6 * x * x))
        return e

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        self.n_calls += 1
        pairs = self.pairs(system)
        with torch.enable_grad():
            r = pairs.vectors(system).detach().requires_grad_()
            e = 0.5 * self._energy((r * r).sum(-1))
            (g,) = torch.autograd.grad(e.sum(), r)
        e, n = e.detach(), system.n_atoms
        f = g.new_zeros((n, 3)).index_add(0, pairs.i, g).index_add(0, pairs.j, g, alpha=-1)
        energies = g.new_zeros(n).index_add(0, pairs.i, e)
        results = Results(energy=system.total(energies), forces=f)
        if stress:
            w = g.new_zeros((system.n_systems, 3, 3)).index_add(
                0, system.system_index[pairs.i], g[:, :, None] * r.detach()[:, None, :]
            )
            results = results.replace(stress=w / system.volume[:, None, None])
        return results


def oscillators(n: int = 1, offset: float = 0.0, n_systems: int = 1) -> tuple[System, Tensor]:
    """n independent atoms in each system and the sites (the origin) they are tied to."""
    from ase import Atoms

    frames = [Atoms("H" * n, positions=torch.full((n, 3), offset).numpy()) for _ in range(n_systems)]
    system = System.from_ase(frames)
    return system, torch.zeros_like(system.positions)
