"""What calculators of London dispersion through a library share: units, batches, derivatives, refusals."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms

from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System

from .base import require_finite, require_volume


class LondonDispersion(ABC):
    """Energy, forces and stress from a library that takes one structure at a time, in atomic units."""

    name: ClassVar[str]
    heaviest: ClassVar[int]
    """Largest atomic number that the method has parameters of."""

    def __init__(
        self,
        *,
        functional: str | None,
        parameters: Mapping[str, float] | None,
        cutoff: float,
        three_body_cutoff: float,
        coordination_cutoff: float,
        switch_width: float,
    ) -> None:
        if (functional is None) == (parameters is None):
            raise ValueError("Give either a functional by name, e.g. 'pbe', or its damping parameters.")
        if not 0.0 <= switch_width < min(cutoff, three_body_cutoff) or coordination_cutoff <= 0.0:
            raise ValueError(
                f"Cutoffs must be positive and switch_width ({switch_width} Å) less than "
                f"{min(cutoff, three_body_cutoff)} Å."
            )
        self.functional = functional
        self.parameters = None if parameters is None else {k: float(v) for k, v in parameters.items()}
        lengths = (cutoff, three_body_cutoff, coordination_cutoff, switch_width, switch_width)
        self._cutoffs = tuple(x / units.bohr for x in lengths)
        self._damping = self._make_damping()

    @abstractmethod
    def _make_damping(self) -> Any:
        """The library's object that holds the damping parameters."""

    @abstractmethod
    def _model(
        self, atoms: Atoms, charge: float, lattice: np.ndarray | None, periodic: np.ndarray | None
    ) -> Any:
        """The library's model of a structure; lattice in bohr."""

    def __getstate__(self) -> dict[str, Any]:
        """Without the library's own object."""
        return {**self.__dict__, "_damping": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._damping = self._make_damping()

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        if stress:
            require_volume(system)
        if system.owned is not None:
            raise ValueError(f"{self.name} counts every atom; it takes no ghost atoms.")
        numbers = system.numbers.cpu()
        if len(numbers) and int(numbers.max()) > self.heaviest:
            last = Atoms([self.heaviest]).get_chemical_symbols()[0]
            raise ValueError(
                f"{self.name} knows elements up to {last} ({self.heaviest}); given {int(numbers.max())}."
            )
        device = system.positions.device
        n = system.n_systems
        energy, force = torch.zeros(n).double(), torch.zeros(system.n_atoms, 3).double()
        derivative = torch.zeros(n, 3, 3).double()
        for k, atoms in enumerate(system.replace(info=None).to_ase()):
            if len(atoms):
                charge = 0.0 if system.charge is None else float(system.charge[k])
                found = self._one(atoms, charge, forces or stress)
                energy[k] = float(found["energy"]) * units.hartree
                if forces or stress:
                    force[system.atom_rows(k)] = (
                        -torch.from_numpy(found["gradient"]) * units.hartree / units.bohr
                    )
                    # the library's virial is +∂E/∂ε
                    derivative[k] = torch.from_numpy(found["virial"]) * units.hartree
        results = Results(energy=energy.to(device), forces=force.to(device) if forces else None)
        if stress:
            results = results.replace(stress=derivative.to(device) / system.volume[:, None, None])
        return require_finite(results, system, self.name)

    def _one(self, atoms: Atoms, charge: float, derivatives: bool) -> dict[str, np.ndarray]:
        periodic = atoms.pbc.any()
        model = self._model(
            atoms,
            charge,
            atoms.cell.complete().array / units.bohr if periodic else None,
            np.array(atoms.pbc) if periodic else None,
        )
        model.set_realspace_cutoff(*self._cutoffs)
        found: dict[str, np.ndarray] = model.get_dispersion(self._damping, grad=derivatives)
        return found
