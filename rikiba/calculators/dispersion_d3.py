"""London dispersion by DFT-D3, through the s-dftd3 library."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms

from rikiba.core import units

from .dispersion import LondonDispersion

Damping = Literal["rational", "zero", "modified_rational", "modified_zero", "optimized_power"]
_CLASSES = {
    "rational": "RationalDampingParam",
    "zero": "ZeroDampingParam",
    "modified_rational": "ModifiedRationalDampingParam",
    "modified_zero": "ModifiedZeroDampingParam",
    "optimized_power": "OptimizedPowerDampingParam",
}


class DispersionD3(LondonDispersion):
    """DFT-D3 dispersion energy, forces and stress, to be added to a model of a functional that has none.

    E = −Σ_{i<j} Σ_{n=6,8} s_n C_n^ij(CN_i, CN_j) f_n(r_ij) / r_ij^n, damped after Becke and Johnson
    (`rational`) or to zero at short range (`zero`), and optionally the three-body term of
    Axilrod, Teller and Muto. Elements H to Pu. Pairs end smoothly within `switch_width` of the cutoff.

        SumCalculator(PotentialCalculator(network), DispersionD3(functional="pbe"))

    References: Grimme et al., doi:10.1063/1.3382344; rational damping: doi:10.1002/jcc.21759.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.3382344", "10.1002/jcc.21759")
    name = "DFT-D3"
    heaviest = 94

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
        if damping not in _CLASSES:
            raise ValueError(f"damping is '{damping}'; allowed are {', '.join(_CLASSES)}.")
        self.damping, self.three_body = damping, three_body
        super().__init__(
            functional=functional,
            parameters=parameters,
            cutoff=cutoff,
            three_body_cutoff=three_body_cutoff,
            coordination_cutoff=coordination_cutoff,
            switch_width=switch_width,
        )

    def _make_damping(self) -> Any:
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

    def _model(
        self, atoms: Atoms, charge: float, lattice: np.ndarray | None, periodic: np.ndarray | None
    ) -> Any:
        return _library().DispersionModel(atoms.numbers, atoms.positions / units.bohr, lattice, periodic)


def _library() -> Any:
    """The dftd3 interface; the ImportError names what to install."""
    try:
        from dftd3 import interface
    except ImportError as error:
        raise ImportError("DFT-D3 needs the package dftd3: pip install rikiba[dispersion]") from error
    return interface
