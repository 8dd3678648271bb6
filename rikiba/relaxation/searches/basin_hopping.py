"""Basin hopping."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.calculators.base import Calculator
from rikiba.core import units
from rikiba.core.system import System
from rikiba.kernels.random import PER_SYSTEM, normals, uniforms

from ..base import Minimiser
from ..lbfgs import Lbfgs
from ..ranking import Minima, from_plain, plain, read_state, write_state

_MOVE, _ACCEPT, _SCATTER, _RADIUS = 0, 1, 2, 3
"""Streams of random numbers."""
_ADJUST_AFTER, _ADJUST_BY = 10, 1.1
"""Hops between changes of a walker's displacement, and the factor of one change."""


@final
class BasinHopping:
    """Several walkers step from minimum to minimum: displace all atoms, relax, accept as Metropolis does.

    A hop from a minimum of energy E to one of energy E′ is accepted with probability
    min(1, exp(−(E′ − E)/kT)) (Wales & Doye, doi:10.1021/jp970984n). All walkers are relaxed in one batch;
    each has its own random numbers and its own displacement, tuned towards half the hops being accepted. A
    relaxation that does not converge is a refused hop.

    Args:
        temperature_K: of the acceptance; kT of about a tenth to one bond energy.
        hops: hops of each walker.
        walkers: independent walks from the same start.
        displacement: largest change of a coordinate in a hop at first, Å; a third of a bond length.
        scatter: walkers start from atoms at random in a sphere of this radius, Å, about the centre of the
            given structure, instead of its positions.
        container: a hop that leaves an atom farther than this from the centre, Å, is refused.
        stop_below_eV: end the search once a minimum lower than this was met, eV.
        minimiser: of each hop; L-BFGS with its defaults if not given.
        keep: lowest minima that are kept.
        energy_tolerance_eV: minima closer in energy, whole structure, may be the same.
        distance_tolerance: and are if their fingerprints differ by less, root mean square, Å.
        seed: of the hops; walker k has seed + k.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1021/jp970984n",)
    needs_structure = True

    def __init__(
        self,
        *,
        temperature_K: float,
        hops: int = 100,
        walkers: int = 4,
        displacement: float = 0.8,
        scatter: float | None = None,
        container: float | None = None,
        stop_below_eV: float | None = None,
        minimiser: Minimiser | None = None,
        keep: int = 100,
        energy_tolerance_eV: float = 1e-3,
        distance_tolerance: float = 0.05,
        seed: int = 0,
    ) -> None:
        if not temperature_K > 0 or not displacement > 0:
            raise ValueError(
                f"temperature_K and displacement must be positive; given {temperature_K}, {displacement}."
            )
        if hops < 1 or walkers < 1 or keep < 1:
            raise ValueError(f"hops, walkers and keep are at least 1; given {hops}, {walkers}, {keep}.")
        for name, radius in (("scatter", scatter), ("container", container)):
            if radius is not None and not radius > 0:
                raise ValueError(f"{name} must be positive; given {radius} Å.")
        self.minimiser = minimiser or Lbfgs()
        self.temperature_K, self.hops, self.walkers, self.seed = temperature_K, hops, walkers, seed
        self.displacement, self.scatter, self.container = displacement, scatter, container
        self.stop_below_eV = -math.inf if stop_below_eV is None else stop_below_eV
        self._empty = Minima(
            energy_tolerance_eV=energy_tolerance_eV,
            distance_tolerance=distance_tolerance,
            keep=keep,
            references=self.references,
        )

    @classmethod
    def examples(cls) -> "list[BasinHopping]":
        return [cls(temperature_K=300.0)]

    def search(
        self,
        calculator: Calculator,
        system: System | None = None,
        *,
        file: str | Path | None = None,
        resume: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Minima:
        """Hop `hops` times with every walker; see `Search`.

        `system` is one structure for all walkers, or one for each. Raises ValueError for another number, and
        where there is no file to resume from.
        """
        if system is None or system.n_systems not in (1, self.walkers):
            raise ValueError(
                f"Basin hopping starts from one structure, or one for each of {self.walkers} walkers; given "
                f"{'none' if system is None else system.n_systems}."
            )
        start = system if system.n_systems == self.walkers else System.cat([system] * self.walkers)
        walk = self._read(file, start) if resume else self._first(calculator, start)
        while walk.hop < self.hops and not self._low_enough(walk.minima):
            walk = self._hopped(calculator, walk)
            if file is not None:
                self._write(file, walk)
            if progress is not None:
                progress(walk.hop, self.hops)
        return walk.minima

    def _low_enough(self, minima: Minima) -> bool:
        return len(minima) > 0 and minima[0].energy < self.stop_below_eV

    def _first(self, calculator: Calculator, start: System) -> "_Walk":
        begin = start if self.scatter is None else self._scattered(start, self.scatter)
        relaxed = self.minimiser.relax(calculator, begin)
        minima = self._noted(self._empty, relaxed.system, relaxed.energies[-1], relaxed.converged)
        height = torch.where(relaxed.converged, relaxed.energies[-1], torch.inf)  # any minimum is lower
        return _Walk(
            hop=0,
            system=relaxed.system,
            energy=height,
            size=torch.full_like(relaxed.energy, self.displacement, dtype=torch.float64),
            accepted=torch.zeros_like(relaxed.converged, dtype=torch.int64),
            minima=minima,
        )

    def _hopped(self, calculator: Calculator, walk: "_Walk") -> "_Walk":
        system, which = walk.system, walk.system.system_index
        seeds, index = self._seeds(system), _index_in_system(system)
        u = uniforms(seeds[which], index, walk.hop, _MOVE, 3)
        moved = system.positions + walk.size[which][:, None] * (2.0 * u - 1.0)
        relaxed = self.minimiser.relax(calculator, system.replace(positions=moved))
        energy = relaxed.energies[-1]
        good = relaxed.converged & self._inside(relaxed.system)
        draw = uniforms(seeds, torch.full_like(seeds, PER_SYSTEM), walk.hop, _ACCEPT, 1)[:, 0]
        kt = units.boltzmann * self.temperature_K
        accepted = good & (torch.log(draw) <= -(energy - walk.energy) / kt)
        atoms = accepted[which][:, None]
        size, count = walk.size, walk.accepted + accepted
        if (walk.hop + 1) % _ADJUST_AFTER == 0:
            size = torch.where(2 * count > _ADJUST_AFTER, size * _ADJUST_BY, size / _ADJUST_BY)
            count = torch.zeros_like(count)
        return _Walk(
            hop=walk.hop + 1,
            system=system.replace(
                positions=torch.where(atoms, relaxed.system.positions, system.positions),
                cell=torch.where(accepted[:, None, None], relaxed.system.cell, system.cell),
            ),
            energy=torch.where(accepted, energy, walk.energy),
            size=size,
            accepted=count,
            minima=self._noted(walk.minima, relaxed.system, energy, good),
        )

    def _seeds(self, system: System) -> Int[Tensor, "walkers"]:
        return self.seed + torch.arange(self.walkers, dtype=torch.int64, device=system.positions.device)

    def _scattered(self, system: System, radius: float) -> System:
        which, index = system.system_index, _index_in_system(system)
        seeds = self._seeds(system)[which]
        direction = normals(seeds, index, 0, _SCATTER, 3)
        reach = radius * uniforms(seeds, index, 0, _RADIUS, 1) ** (1.0 / 3.0)
        centre = (system.total(system.positions) / system.counts[:, None])[which]
        return system.replace(positions=centre + reach * direction / direction.norm(dim=1, keepdim=True))

    def _inside(self, system: System) -> Tensor:
        if self.container is None:
            return torch.ones(system.n_systems, dtype=torch.bool, device=system.positions.device)
        centre = system.total(system.positions) / system.counts[:, None]
        distance = (system.positions - centre[system.system_index]).norm(dim=1)
        largest = distance.new_zeros(system.n_systems).scatter_reduce(
            0, system.system_index, distance, "amax"
        )
        return largest <= self.container

    @staticmethod
    def _noted(minima: Minima, system: System, energy: Tensor, good: Tensor) -> Minima:
        for k in range(system.n_systems):
            minima = minima.with_trial(system[k].replace(info=None), float(energy[k]), bool(good[k]))
        return minima

    def _settings(self) -> dict[str, Any]:
        return {
            "temperature_K": self.temperature_K,
            "walkers": self.walkers,
            "displacement": self.displacement,
            "scatter": self.scatter,
            "container": self.container,
            "keep": self._empty.keep,
            "energy_tolerance_eV": self._empty.energy_tolerance_eV,
            "distance_tolerance": self._empty.distance_tolerance,
            "seed": self.seed,
        }

    def _write(self, file: str | Path, walk: "_Walk") -> None:
        state = {
            "hop": walk.hop,
            "walkers": [plain(walk.system[k]) for k in range(self.walkers)],
            "energy": walk.energy.tolist(),
            "size": walk.size.tolist(),
            "accepted": walk.accepted.tolist(),
            "minima": walk.minima.to_plain(),
        }
        write_state(file, "basin_hopping", self._settings(), state)

    def _read(self, file: str | Path | None, start: System) -> "_Walk":
        state = read_state(file, "basin_hopping", self._settings())
        device = start.positions.device
        walkers = System.cat([from_plain(w) for w in state["walkers"]]).to(device)
        if not torch.equal(walkers.numbers, start.numbers):
            raise ValueError(f"{file} belongs to a search of other atoms.")
        number = lambda name: torch.tensor(state[name], dtype=torch.float64, device=device)  # noqa: E731
        return _Walk(
            hop=state["hop"],
            system=start.replace(positions=walkers.positions, cell=walkers.cell),
            energy=number("energy"),
            size=number("size"),
            accepted=torch.tensor(state["accepted"], device=device),
            minima=self._empty.from_plain(state["minima"]),
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Walk:
    """Where the walkers are."""

    hop: int
    system: System
    energy: Float[Tensor, "walkers"]
    """eV; inf for a walker that has not been in a minimum yet."""
    size: Float[Tensor, "walkers"]
    accepted: Int[Tensor, "walkers"]
    """Since the displacement was changed last."""
    minima: Minima


def _index_in_system(system: System) -> Int[Tensor, "atoms"]:
    """Each atom's place within its own structure."""
    first = system.counts.cumsum(0) - system.counts
    return torch.arange(system.n_atoms, device=first.device) - first[system.system_index]
