"""What a label must satisfy to be believed."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from ase import Atoms
from ase.data import covalent_radii


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds beyond which a structure or its label is a failure; `None` switches a bound off."""

    min_distance_ratio: float | None = 0.5
    """Least distance of two atoms over the sum of their covalent radii (0.5: C–C 0.76 Å, H–H 0.31 Å)."""
    max_force: float | None = 100.0
    """Largest believable force on an atom, eV/Å."""
    energy_window: tuple[float, float] | None = (-20.0, 10.0)
    """Believable energy per atom relative to isolated atoms, eV (no known solid binds by more than 9)."""

    def before(self, atoms: Atoms) -> str | None:
        """Why this structure cannot be labelled, or None."""
        if len(atoms) == 0:
            return "there are no atoms"
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            return "positions or cell are not finite"
        if atoms.pbc.any() and abs(np.linalg.det(atoms.cell.complete().array)) < 1e-8:
            return "the cell has no volume"
        if self.min_distance_ratio is not None:
            return _too_close(atoms, self.min_distance_ratio)
        return None

    def after(self, energy: float, forces: np.ndarray, separated_atoms: float | None = None) -> str | None:
        """Why these numbers cannot be right, or None; `separated_atoms` is the isolated atoms' sum."""
        if not np.isfinite(energy) or not np.isfinite(forces).all():
            return "energy or forces are not finite"
        size = np.linalg.norm(forces, axis=1)
        worst = int(size.argmax())
        if self.max_force is not None and size[worst] > self.max_force:
            return (
                f"the force on atom {worst} is {size[worst]:.1f} eV/Å; believed are up to {self.max_force:g}"
            )
        if self.energy_window is not None and separated_atoms is not None:
            low, high = self.energy_window
            relative = (energy - separated_atoms) / len(forces)
            if not low <= relative <= high:
                said = f"the energy is {relative:+.2f} eV/atom from separated atoms"
                return f"{said}; believed are {low:g} to {high:g}"
        return None


def _too_close(atoms: Atoms, ratio: float) -> str | None:
    """The closest pair relative to its covalent radii, if below the ratio."""
    radii = covalent_radii[atoms.numbers]
    if atoms.pbc.any():
        from ase.neighborlist import neighbor_list  # light: a worker process need not load torch

        i, j, distance = neighbor_list("ijd", atoms, 2.0 * ratio * float(radii.max()))
    else:
        i, j = np.triu_indices(len(atoms), 1)
        distance = np.linalg.norm(atoms.positions[j] - atoms.positions[i], axis=1)
    if len(i) == 0:
        return None
    relative = distance / (radii[i] + radii[j])
    worst = int(relative.argmin())
    if relative[worst] >= ratio:
        return None
    return (
        f"atoms {i[worst]} and {j[worst]} ({atoms.symbols[i[worst]]}, {atoms.symbols[j[worst]]}) are "
        f"{distance[worst]:.2f} Å apart, less than {ratio:g} of their covalent radii"
    )


def labelled(atoms: Atoms, level_of_theory: str, values: dict[str, Any]) -> Atoms:
    """A copy of a structure that carries labels (ASE names and units) and its level of theory."""
    from ase.calculators.singlepoint import SinglePointCalculator

    out = atoms.copy()
    out.info["level_of_theory"] = level_of_theory
    out.calc = SinglePointCalculator(out, **values)
    return out
