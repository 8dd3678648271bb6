"""London dispersion by DFT-D4, through the dftd4 library."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms

from rikiba.core import units

from .dispersion import LondonDispersion


class DispersionD4(LondonDispersion):
    """DFT-D4 dispersion energy, forces and stress, to be added to a model of a functional that has none.

    E = −Σ_{i<j} Σ_{n=6,8} s_n C_n^ij f_n(r_ij) / r_ij^n plus the three-body term of Axilrod, Teller and Muto;
    coefficients depend on coordination and on charges, which the library equilibrates classically; damped
    after Becke and Johnson. The structure's `charge` counts. Elements H to Lr. Pairs end smoothly within
    `switch_width` of the cutoff.

        SumCalculator(PotentialCalculator(network), DispersionD4(functional="pbe"))

    References: Caldeweyher et al., doi:10.1063/1.5090222; periodic: doi:10.1039/D0CP00502A.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.5090222", "10.1039/D0CP00502A")
    name = "DFT-D4"
    heaviest = 103

    def __init__(
        self,
        *,
        functional: str | None = None,
        model: Literal["d4", "d4s"] = "d4",
        three_body: bool = True,
        parameters: Mapping[str, float] | None = None,
        cutoff: float = 60.0 * units.bohr,
        three_body_cutoff: float = 40.0 * units.bohr,
        coordination_cutoff: float = 30.0 * units.bohr,
        switch_width: float = 1.0,
    ) -> None:
        """
        Args:
            functional: whose published damping parameters are used, e.g. pbe, b3lyp, r2scan
            model: d4 or its smooth variant d4s
            three_body: add the Axilrod–Teller–Muto term; with `parameters` their s9 says so
            parameters: s6, s8, s9, a1, a2, alp (a2 in bohr) instead of those of a functional
            cutoff: of pairs
            three_body_cutoff: of triples
            coordination_cutoff: of the coordination numbers
            switch_width: over which pairs and triples are switched off inside their cutoffs
        """
        if model not in ("d4", "d4s"):
            raise ValueError(f"model is '{model}'; allowed are d4, d4s.")
        self.model, self.three_body = model, three_body
        super().__init__(
            functional=functional,
            parameters=parameters,
            cutoff=cutoff,
            three_body_cutoff=three_body_cutoff,
            coordination_cutoff=coordination_cutoff,
            switch_width=switch_width,
        )

    def _make_damping(self) -> Any:
        make = _library().DampingParam
        if self.parameters is not None:
            try:
                return make(**self.parameters)
            except (KeyError, TypeError, RuntimeError) as error:
                raise ValueError(f"Parameters of rational damping: {error}.") from error
        try:
            return make(method=self.functional, atm=self.three_body)
        except RuntimeError as error:
            raise ValueError(
                f"No damping parameters are published for '{self.functional}' ({error}); give `parameters`."
            ) from error

    def _model(
        self, atoms: Atoms, charge: float, lattice: np.ndarray | None, periodic: np.ndarray | None
    ) -> Any:
        return _library().DispersionModel(
            atoms.numbers, atoms.positions / units.bohr, charge, lattice, periodic, model=self.model
        )


def _library() -> Any:
    """The dftd4 interface; the ImportError names what to install."""
    try:
        from dftd4 import interface
    except ImportError as error:
        raise ImportError("DFT-D4 needs the package dftd4: pip install rikiba[dispersion]") from error
    return interface
