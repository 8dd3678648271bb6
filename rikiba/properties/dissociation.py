"""Energy of a molecule against the length of one bond, until it breaks or does not."""

from dataclasses import dataclass
from typing import final

import numpy as np
from ase import Atoms
from jaxtyping import Float

from rikiba.calculators.base import Calculator
from rikiba.core.record import Curve, Figure, Record

from .batches import results_of
from .bond_graph import bond_graph, is_open, reached
from .stationary import relax_ions


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Dissociation:
    """E(r) as two parts of a molecule are moved apart rigidly along the bond between them.

    The pull is dE/dr = −Σ_a F_a·u over the atoms a of the part that moves along u. A bond that breaks lets
    go: at the end nothing pulls, and the parts lie higher than the molecule. A harmonic bond pulls ever
    harder. Every potential with a cutoff lets go there, whether or not it was ever told of broken bonds:
    compare the depth with that of a reference, and look at further minima.

    Args:
        bond: the two atoms, bonded outside rings; if not given, such a bond between the heaviest atoms.
        longest: largest distance, Å.
        shortest: smallest one, as a fraction of the bond's length.
        spacing: between distances, Å.
        relax: begin at the nearest minimum; otherwise at the structure as given.
        pull_tolerance_eV_per_A: pull at the end under which a bond has let go.
        ceiling_eV: the figure shows energies up to this, above the least.
        force_tolerance: largest force component left by the relaxation, eV/Å.
        max_steps: relaxation steps before giving up.
    """

    bond: tuple[int, int] | None = None
    longest: float = 12.0
    shortest: float = 0.7
    spacing: float = 0.05
    relax: bool = True
    pull_tolerance_eV_per_A: float = 0.02
    ceiling_eV: float = 15.0
    force_tolerance: float = 2e-3
    max_steps: int = 1000

    def compute(self, calculator: Calculator, atoms: Atoms) -> Record:
        """Energies above the least (eV) and pulls (eV/Å) at each length; 'pass' where the bond breaks.

        Raises ValueError for periodic structures, for atoms that are not bonded, and for bonds in rings.
        """
        i, j = self._bond(atoms)
        side = sorted(reached(bond_graph(atoms), j, i))
        start = relax_ions(calculator, atoms, self.force_tolerance, self.max_steps) if self.relax else atoms
        axis = start.positions[j] - start.positions[i]
        rest = float(np.linalg.norm(axis))
        axis = axis / rest
        if not self.longest > rest:
            raise ValueError(f"longest must be above the bond's {rest:.3g} Å; given {self.longest} Å.")
        lengths = np.arange(self.shortest * rest, self.longest + 0.5 * self.spacing, self.spacing)
        frames = []
        for r in lengths:
            moved = start.copy()
            moved.positions[side] += (r - rest) * axis
            frames.append(moved)
        found = results_of(calculator, frames)
        energies = found.need("energy").numpy()
        forces = found.need("forces").numpy().reshape(len(lengths), len(atoms), 3)
        return self._record(atoms, (i, j), lengths, energies, -(forces[:, side].sum(1) @ axis))

    def check(self, atoms: Atoms) -> None:
        """Raises ValueError where there is no bond to break."""
        self._bond(atoms)

    def _bond(self, atoms: Atoms) -> tuple[int, int]:
        positive = (self.longest, self.shortest, self.spacing, self.pull_tolerance_eV_per_A, self.ceiling_eV)
        if not all(0.0 < x < np.inf for x in positive) or not self.shortest < 1.0:
            raise ValueError(
                "longest, spacing, pull_tolerance_eV_per_A and ceiling_eV must be positive and shortest lie "
                f"between 0 and 1; given {positive}."
            )
        if atoms.pbc.any():
            raise ValueError(
                f"Dissociation is of molecules; {atoms.get_chemical_formula()} has pbc = "
                f"{atoms.pbc.tolist()}."
            )
        graph, z = bond_graph(atoms), atoms.numbers
        if self.bond is not None:
            i, j = (int(a) for a in self.bond)
            if not (0 <= min(i, j) and max(i, j) < len(atoms)) or j not in graph[i]:
                raise ValueError(f"Atoms {i} and {j} of {atoms.get_chemical_formula()} are not bonded.")
            if not is_open(graph, i, j):
                raise ValueError(f"The bond {i}–{j} is in a ring: no two parts come apart when it breaks.")
            return i, j
        found = [(-int(z[a] + z[b]), a, b) for a in graph for b in graph[a] if a < b and is_open(graph, a, b)]
        if not found:
            raise ValueError(f"No bond outside rings was found in {atoms.get_chemical_formula()}.")
        return min(found)[1:]

    def _record(
        self,
        atoms: Atoms,
        bond: tuple[int, int],
        lengths: Float[np.ndarray, "points"],
        energies: Float[np.ndarray, "points"],
        pulls: Float[np.ndarray, "points"],
    ) -> Record:
        best = int(energies.argmin())
        above = energies - energies[best]
        lets_go = abs(pulls[-1]) < self.pull_tolerance_eV_per_A and 0 < best < len(lengths) - 1
        inside = (above[1:-1] < above[:-2]) & (above[1:-1] < above[2:])
        wells = [float(r) for r in lengths[1:-1][inside] if r != lengths[best]]
        name = "-".join(f"{atoms.symbols[a]}{a}" for a in bond)
        notes = [f"Rigid parts moved apart along {name}."]
        if not lets_go:
            notes.append(
                f"The bond does not break: at {lengths[-1]:.1f} Å it pulls with {pulls[-1]:.3g} eV/Å, and "
                f"the energy is {above[-1]:.3g} eV above the least."
            )
        if wells:
            notes.append(f"Further minima at {', '.join(f'{r:.2f}' for r in wells)} Å.")
        shown = above <= self.ceiling_eV
        if not shown.all():
            notes.append(f"The figure ends at {self.ceiling_eV:g} eV; the curve goes on above it.")
        return Record(
            name="dissociation",
            title=f"Dissociation of {name}",
            values={
                "bond": list(bond),
                "length_A": float(lengths[best]),
                "depth_eV": float(above[-1]),
                "largest_pull_eV_per_A": float(pulls[best:].max()),
                "length_at_largest_pull_A": float(lengths[best + int(pulls[best:].argmax())]),
                "pull_at_end_eV_per_A": float(pulls[-1]),
                "wells_A": wells,
                "lengths_A": lengths.tolist(),
                "energies_eV": above.tolist(),
                "pulls_eV_per_A": pulls.tolist(),
            },
            figures=(
                Figure(
                    title=f"Dissociation of {name}",
                    x_label="bond length (Å)",
                    y_label="energy (eV)",
                    curves=(Curve.of("rigid parts", lengths[shown], above[shown]),),
                ),
            ),
            verdict="pass" if lets_go else "fail",
            notes=tuple(notes),
        )
