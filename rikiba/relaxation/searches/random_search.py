"""Random structure search."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.system import System
from rikiba.data.packing import PairDistances
from rikiba.data.structures.base import known_elements

from ..base import Minimiser
from ..lbfgs import Lbfgs
from ..random_structures import random_crystal
from ..ranking import Minima, read_state, write_state


@final
class RandomSearch:
    """Random crystals are relaxed with their cells, and the different minima ranked.

    Each starts from a random cell whose volume lies in a range and from atoms no two of which are too close
    (Pickard & Needs, doi:10.1088/0953-8984/23/5/053201), with the symmetry of a random one of the given
    space groups. Structure k depends on the seed and k alone.

    Args:
        formula: atoms of the primitive cell, e.g. Si2, Na4Cl4.
        structures: how many are tried.
        volume_per_atom: least and greatest volume, Å³ per atom.
        min_distance: least distance of any two atoms at the start, Å.
        min_distances: by pair of elements, e.g. {"Na-Cl" = 2.2}, Å.
        space_groups: numbers to draw from; [1] for no symmetry.
        batch: structures relaxed together.
        minimiser: L-BFGS with the full cell, at most 300 steps, if not given.
        keep: lowest minima that are kept.
        energy_tolerance_eV: minima closer in energy, whole structure, may be the same.
        distance_tolerance: and are if their fingerprints differ by less, root mean square, Å.
        seed: of the structures.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1088/0953-8984/23/5/053201",)
    needs_structure = False

    def __init__(
        self,
        *,
        formula: str,
        volume_per_atom: tuple[float, float],
        structures: int = 50,
        min_distance: float = 1.5,
        min_distances: Mapping[str, float] | None = None,
        space_groups: tuple[int, ...] = (1,),
        batch: int = 16,
        minimiser: Minimiser | None = None,
        keep: int = 100,
        energy_tolerance_eV: float = 5e-3,
        distance_tolerance: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.composition = known_elements(formula)
        low, high = volume_per_atom
        if not 0 < low <= high:
            raise ValueError(f"volume_per_atom is a range of positive volumes; given {volume_per_atom}.")
        if min(structures, batch, keep) < 1:
            raise ValueError(
                f"structures, batch and keep are at least 1; given {structures}, {batch}, {keep}."
            )
        if not space_groups or not all(1 <= g <= 230 for g in space_groups):
            raise ValueError(f"space_groups are numbers 1 to 230; given {space_groups}.")
        self.least = PairDistances(min_distance, min_distances or {}, set(self.composition))
        self.volume_per_atom, self.structures, self.batch = (low, high), structures, batch
        self.space_groups, self.seed = tuple(space_groups), seed
        self.minimiser = minimiser or Lbfgs(cell="full", max_steps=300)
        self._distances = {"min_distance": min_distance, "min_distances": dict(min_distances or {})}
        self._empty = Minima(
            energy_tolerance_eV=energy_tolerance_eV,
            distance_tolerance=distance_tolerance,
            keep=keep,
            references=self.references,
        )

    @classmethod
    def examples(cls) -> "list[RandomSearch]":
        return [cls(formula="Si2", volume_per_atom=(15.0, 25.0))]

    def generate(self, k: int) -> Atoms:
        """The k-th random crystal; `info['space_group']` is what it was made with.

        A group whose orbits do not hold the composition gives way to another. Raises ValueError where none
        does.
        """
        rng = np.random.default_rng([self.seed, k])
        n = sum(self.composition.values())
        volume = n * float(rng.uniform(*self.volume_per_atom))
        reason: ValueError | None = None
        for group in rng.permutation(self.space_groups).tolist():
            try:
                atoms = random_crystal(self.composition, volume, self.least, rng, space_group=group)
            except ValueError as error:
                reason = error
                continue
            atoms.info["space_group"] = group
            return atoms
        assert reason is not None
        raise reason

    def search(
        self,
        calculator: Calculator,
        system: System | None = None,
        *,
        file: str | Path | None = None,
        resume: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Minima:
        """Relax all of the structures; see `Search`. Raises ValueError where one is given to start from."""
        if system is not None:
            raise ValueError("A random search makes its own structures; leave the structure out.")
        minima, done = self._empty, 0
        if resume:
            state = read_state(file, "random_search", self._settings())
            minima, done = self._empty.from_plain(state["minima"]), int(state["done"])
        while done < self.structures:
            last = min(done + self.batch, self.structures)
            minima = self._relaxed(calculator, minima, range(done, last))
            done = last
            if file is not None:
                state = {"done": done, "minima": minima.to_plain()}
                write_state(file, "random_search", self._settings(), state)
            if progress is not None:
                progress(done, self.structures)
        return minima

    def _relaxed(self, calculator: Calculator, minima: Minima, numbers: range) -> Minima:
        frames = [self.generate(k) for k in numbers]
        relaxed = self.minimiser.relax(calculator, System.from_ase(frames))
        for k in range(len(frames)):
            one = relaxed.system[k].replace(info=None)
            minima = minima.with_trial(one, float(relaxed.energies[-1, k]), bool(relaxed.converged[k]))
        return minima

    def _settings(self) -> dict[str, Any]:
        return {
            "composition": self.composition,
            "volume_per_atom": list(self.volume_per_atom),
            "space_groups": list(self.space_groups),
            "batch": self.batch,
            "keep": self._empty.keep,
            "energy_tolerance_eV": self._empty.energy_tolerance_eV,
            "distance_tolerance": self._empty.distance_tolerance,
            "seed": self.seed,
            **self._distances,
        }
