"""London dispersion by DFT-D3, through the s-dftd3 library."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from ase import Atoms

from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System

from .base import require_finite, require_volume

Damping = Literal["rational", "zero", "modified_rational", "modified_zero", "optimized_power"]
_CLASSES = {
    "rational": "RationalDampingParam",
    "zero": "ZeroDampingParam",
    "modified_rational": "ModifiedRationalDampingParam",
    "modified_zero": "ModifiedZeroDampingParam",
    "optimized_power": "OptimizedPowerDampingParam",
}


class DispersionD3:
    """DFT-D3 dispersion energy, forces and stress, to be added to a model of a functional that has none.

    E = −Σ_{i<j} Σ_{n=6,8} s_n C_n^ij(CN_i, CN_j) f_n(r_ij) / r_ij^n, damped after Becke and Johnson
    (`rational`) or to zero at short range (`zero`), and optionally the three-body term of
    Axilrod, Teller and Muto. Elements H to Pu. Pairs end smoothly within `switch_width` of the cutoff.

        SumCalculator(PotentialCalculator(network), DispersionD3(functional="pbe"))

    References: Grimme et al., doi:10.1063/1.3382344; rational damping: doi:10.1002/jcc.21759.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.3382344", "10.1002/jcc.21759")

    def __init__(
        self,
        *,
        functional: str | None = None,
        damping: Damping = "rational",
        three_body: bool = False,
        parameters: Mapping[str, float] | None = None,
        cutoff: float = 60.0 * units.bohr,
        three_body_cutoff: float = 40.0 * units.bohr,
        coordination_cutoff: float = 40.0 * units.bohr,
        switch_width: float = 1.0,
    ) -> None:
        """
        Args:
            functional: whose published damping parameters are used, e.g. pbe, b3lyp, r2scan
            damping: form at short range
            three_body: add the Axilrod–Teller–Muto term; with `parameters` their s9 says so
            parameters: s6, s8, s9, a1, a2, rs6, rs8, alp, bet (a2 in bohr) instead of those of a functional
            cutoff: of pairs
            three_body_cutoff: of triples
            coordination_cutoff: of the coordination numbers
            switch_width: over which pairs and triples are switched off inside their cutoffs
        """
        if (functional is None) == (parameters is None):
            raise ValueError("Give either a functional by name, e.g. 'pbe', or its damping parameters.")
        if damping not in _CLASSES:
            raise ValueError(f"damping is '{damping}'; allowed are {', '.join(_CLASSES)}.")
        if not 0.0 <= switch_width < min(cutoff, three_body_cutoff) or coordination_cutoff <= 0.0:
            raise ValueError(
                f"Cutoffs must be positive and switch_width ({switch_width} Å) less than "
                f"{min(cutoff, three_body_cutoff)} Å."
            )
        self.functional, self.damping, self.three_body = functional, damping, three_body
        self.parameters = None if parameters is None else {k: float(v) for k, v in parameters.items()}
        lengths = (cutoff, three_body_cutoff, coordination_cutoff, switch_width, switch_width)
        self._cutoffs = tuple(x / units.bohr for x in lengths)
        self._damping = self._parameters()

    def _parameters(self) -> Any:
        make = getattr(_library(), _CLASSES[self.damping])
        if self.parameters is not None:
            try:
                return make(**self.parameters)
            except TypeError as error:
                text = str(error).partition("() ")[2] or str(error)
                raise ValueError(f"Parameters of {self.damping} damping: {text}.") from error
        try:
            return make(method=self.functional, atm=self.three_body)
        except RuntimeError as error:
            raise ValueError(
                f"No {self.damping} damping parameters are published for '{self.functional}' ({error}); "
                f"give `parameters`."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """Without the library's own object."""
        return {**self.__dict__, "_damping": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._damping = self._parameters()

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        if stress:
            require_volume(system)
        if system.owned is not None:
            raise ValueError("DFT-D3 counts every atom; it takes no ghost atoms.")
        numbers = system.numbers.cpu()
        if len(numbers) and int(numbers.max()) > 94:
            raise ValueError(f"DFT-D3 knows elements up to Pu (94); given {int(numbers.max())}.")
        device = system.positions.device
        n = system.n_systems
        energy, force = torch.zeros(n).double(), torch.zeros(system.n_atoms, 3).double()
        derivative = torch.zeros(n, 3, 3).double()
        for k, atoms in enumerate(system.replace(info=None).to_ase()):
            if len(atoms):
                found = self._one(atoms, forces or stress)
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
        return require_finite(results, system, "DFT-D3")

    def _one(self, atoms: Atoms, derivatives: bool) -> dict[str, np.ndarray]:
        periodic = atoms.pbc.any()
        model = _library().DispersionModel(
            atoms.numbers,
            atoms.positions / units.bohr,
            atoms.cell.complete().array / units.bohr if periodic else None,
            np.array(atoms.pbc) if periodic else None,
        )
        model.set_realspace_cutoff(*self._cutoffs)
        found: dict[str, np.ndarray] = model.get_dispersion(self._damping, grad=derivatives)
        return found


def _library() -> Any:
    """The dftd3 interface; the ImportError names what to install."""
    try:
        from dftd3 import interface
    except ImportError as error:
        raise ImportError("DFT-D3 needs the package dftd3: pip install rikiba[dispersion]") from error
    return interface
