"""A bulk crystal by its structure type."""

from dataclasses import dataclass
from typing import Literal, final

from ase import Atoms


@final
@dataclass(frozen=True, kw_only=True)
class Crystal:
    """An elemental or binary bulk crystal.

    Args:
        formula: chemical formula, e.g. Si, Cu, NaCl.
        lattice: structure type.
        a: lattice constant, Å; ASE's tabulated value if not given (elements only).
        c_over_a: ratio of a hexagonal crystal's axes; the ideal one if not given.
        cubic: the conventional cubic cell instead of the primitive one.
        repeat: repetitions along the three axes.
    """

    formula: str
    lattice: Literal[
        "sc", "fcc", "bcc", "hcp", "diamond", "zincblende", "rocksalt", "cesiumchloride", "wurtzite"
    ]
    a: float | None = None
    c_over_a: float | None = None
    cubic: bool = True
    repeat: tuple[int, int, int] = (1, 1, 1)

    def build(self) -> Atoms:
        """The periodic crystal. Raises ValueError where the pieces do not make one."""
        from ase.build import bulk

        self._known_elements()
        can_be_cubic = self.lattice not in ("hcp", "wurtzite")
        try:
            atoms = bulk(
                self.formula, self.lattice, a=self.a, covera=self.c_over_a, cubic=self.cubic and can_be_cubic
            )
        except (RuntimeError, KeyError, ValueError) as error:
            advice = " Give it as a, in Å." if "lattice constant" in str(error) else ""
            raise ValueError(f"No {self.lattice} crystal of '{self.formula}': {error}{advice}") from error
        return atoms * self.repeat

    def _known_elements(self) -> None:
        from ase.data import atomic_numbers
        from ase.formula import Formula

        try:
            unknown = sorted(s for s in Formula(self.formula).count() if not atomic_numbers.get(s))
        except ValueError as error:
            raise ValueError(
                f"'{self.formula}' is no chemical formula; write one such as Si or NaCl."
            ) from error
        if unknown:
            raise ValueError(
                f"formula '{self.formula}' has no element {', '.join(unknown)}; write one such as Si."
            )
