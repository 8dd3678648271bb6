"""A bulk crystal by its structure type."""

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from ase import Atoms

from .base import known_elements, made

Lattice = Literal[
    "sc",
    "fcc",
    "bcc",
    "hcp",
    "diamond",
    "zincblende",
    "rocksalt",
    "cesiumchloride",
    "wurtzite",
    "fluorite",
    "perovskite",
]

_HEXAGONAL = ("hcp", "wurtzite")


@final
@dataclass(frozen=True, kw_only=True)
class Crystal:
    """A bulk crystal of one, two or (perovskite) three elements.

    Args:
        formula: chemical formula, e.g. Si, Cu, NaCl, CaF2 (fluorite), SrTiO3 (perovskite: A, B, X).
        lattice: structure type.
        a: lattice constant, Å; ASE's tabulated value if not given (elements only).
        c: second lattice constant of a hexagonal crystal, Å.
        c_over_a: the same as a ratio; the ideal √(8/3) if neither is given.
        u: internal parameter of wurtzite; 1/4 + (a/c)²/3, which makes all bonds equal, if not given.
        cubic: the conventional cubic cell instead of the primitive one.
        repeat: repetitions along the three axes.
    """

    formula: str
    lattice: Lattice
    a: float | None = None
    c: float | None = None
    c_over_a: float | None = None
    u: float | None = None
    cubic: bool = True
    repeat: tuple[int, int, int] = (1, 1, 1)

    def __post_init__(self) -> None:
        if self.c is not None and self.c_over_a is not None:
            raise ValueError("c and c_over_a say the same; give one of them.")
        if (self.c is not None or self.c_over_a is not None) and self.lattice not in _HEXAGONAL:
            raise ValueError(f"c belongs to hexagonal crystals; {self.lattice} has a alone.")
        if self.u is not None and self.lattice != "wurtzite":
            raise ValueError(f"u belongs to wurtzite; given for {self.lattice}.")
        for name in ("a", "c", "c_over_a", "u"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive; given {value}.")
        if min(self.repeat) < 1:
            raise ValueError(f"repeat is at least 1 along each axis; given {self.repeat}.")

    def build(self) -> Atoms:
        """The periodic crystal. Raises ValueError where the pieces do not make one."""
        known_elements(self.formula)
        cell = self._perovskite() if self.lattice == "perovskite" else self._from_ase()
        return made(self, cell * self.repeat)

    def _from_ase(self) -> Atoms:
        from ase.build import bulk

        cubic = self.cubic and self.lattice not in _HEXAGONAL
        options: dict[str, Any] = {"c": self.c, "covera": self.c_over_a, "u": self.u}
        given = {k: v for k, v in options.items() if v is not None}
        try:
            return bulk(self.formula, self.lattice, a=self.a, cubic=cubic, **given)
        except (RuntimeError, KeyError, ValueError) as error:
            advice = " Give it as a, in Å." if "lattice constant" in str(error) else ""
            raise ValueError(f"No {self.lattice} crystal of '{self.formula}': {error}{advice}") from error

    def _perovskite(self) -> Atoms:
        """Cubic Pm3̄m: A at the corners, B in the centre, X on the faces."""
        from ase.formula import Formula

        symbols = list(Formula(self.formula))
        if len(symbols) != 5 or len(set(symbols[2:])) > 1 or len(set(symbols)) != 3:
            raise ValueError(f"A perovskite's formula is ABX3, such as SrTiO3; given '{self.formula}'.")
        if self.a is None:
            raise ValueError(f"No lattice constant of '{self.formula}' is known here. Give it as a, in Å.")
        sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
        return Atoms(symbols, scaled_positions=sites, cell=self.a * np.eye(3), pbc=True)
