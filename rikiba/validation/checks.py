"""What a check of the physics battery is, what it is made on, and how exact it may expect to be."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any, Literal, final

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator

from rikiba.calculators.ase import FromASE
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.base import Calculator
from rikiba.core import elements as periodic_table
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.base import Potential
from rikiba.properties.batches import results_of

Precision = Literal["float64", "float32", "iterative"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One verdict with its number."""

    name: str
    passed: bool | None
    """None: not applicable, for the reason in `note`."""
    value: float
    """What was measured; nan where nothing was."""
    threshold: float
    """Largest value that passes."""
    unit: str = ""
    structure: str = ""
    note: str = ""

    @staticmethod
    def against(
        name: str, value: float, threshold: float, unit: str = "", *, structure: str = "", note: str = ""
    ) -> "Check":
        """Passed where value ≤ threshold; a value that is not finite fails."""
        ok = bool(isfinite(value) and value <= threshold)
        return Check(
            name=name,
            passed=ok,
            value=float(value),
            threshold=threshold,
            unit=unit,
            structure=structure,
            note=note,
        )

    @staticmethod
    def skipped(name: str, reason: str, structure: str = "") -> "Check":
        """Not applicable."""
        return Check(name=name, passed=None, value=np.nan, threshold=np.nan, structure=structure, note=reason)

    @property
    def word(self) -> str:
        return {True: "pass", False: "fail", None: "not applicable"}[self.passed]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far from exact a calculator of a given precision may be.

    float64 thresholds are those of exact physics; float32 and iterative (self-consistent) calculators have
    noise in energies, which finite differences amplify, and get looser ones.
    """

    step: float
    """Largest step of finite differences, Å."""
    derivative: float
    """Relative error of forces and stress against differences of the energy."""
    path: float
    """Closed-path work relative to ∮|F·dl|."""
    energy: float
    """eV per atom, of invariances."""
    force: float
    """Relative to the largest force (at least 1 eV/Å), of invariances and net force."""
    hessian: float
    """Relative asymmetry of a finite-difference Hessian."""
    scan: float
    """Finest step of scans for jumps, Å."""
    force_jump: float
    """eV/Å."""
    curvature_jump: float
    """eV/Å², of dF/dr from one side to the other; inf where noise hides it."""

    @staticmethod
    def of(precision: Precision) -> "Tolerance":
        if precision == "float64":
            return Tolerance(
                step=0.02,
                derivative=1e-6,
                path=1e-5,
                energy=1e-9,
                force=1e-8,
                hessian=1e-4,
                scan=1e-6,
                force_jump=1e-7,
                curvature_jump=1e-3,
            )
        if precision == "float32":
            return Tolerance(
                step=0.08,
                derivative=1e-2,
                path=1e-3,
                energy=1e-5,
                force=1e-4,
                hessian=2e-2,
                scan=1e-3,
                force_jump=2e-3,
                curvature_jump=inf,
            )
        if precision == "iterative":
            return Tolerance(
                step=0.04,
                derivative=1e-3,
                path=1e-3,
                energy=1e-5,
                force=1e-4,
                hessian=1e-2,
                scan=1e-3,
                force_jump=1e-2,
                curvature_jump=inf,
            )
        raise ValueError(f"precision is 'float64', 'float32' or 'iterative'; given '{precision}'.")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A calculator under examination, with what is known about it."""

    name: str
    calculator: Calculator
    potential: Potential | None
    cutoff: float | None
    receptive_field: float
    """Å; inf where unknown or global."""
    elements: tuple[str, ...]
    precision: Precision

    @property
    def tolerance(self) -> Tolerance:
        return Tolerance.of(self.precision)

    @staticmethod
    def of(
        model: Potential | Calculator | AseCalculator,
        *,
        elements: Sequence[str] | None = None,
        cutoff: float | None = None,
        receptive_field: float | None = None,
        precision: Precision | None = None,
        name: str = "",
    ) -> "Subject":
        """Anything that predicts energies. What a potential says of itself need not be given.

        `cutoff`, `receptive_field`: Å, for calculators that do not tell theirs; `precision`: 'float64' if not
        given and the calculator has no dtype.
        """
        calculator: Any = model
        if isinstance(model, Potential):
            calculator = PotentialCalculator(model, skin=0.0)
        elif isinstance(model, AseCalculator):
            calculator = FromASE(model)
        potential = getattr(calculator, "potential", None)
        inner = calculator.calculator if isinstance(calculator, FromASE) else calculator
        if potential is not None:
            cutoff = potential.cutoff if cutoff is None else cutoff
            receptive_field = potential.receptive_field if receptive_field is None else receptive_field
            elements = potential.elements if elements is None else elements
            if precision is None:
                precision = "float32" if potential.dtype != torch.float64 else "float64"
        return Subject(
            name=name or type(potential if potential is not None else inner).__name__,
            calculator=calculator,
            potential=potential,
            cutoff=cutoff,
            receptive_field=inf if receptive_field is None else receptive_field,
            elements=tuple(elements or ()),
            precision=precision or "float64",
        )

    def results(self, frames: Sequence[Atoms], *, forces: bool = True, stress: bool = False) -> Results:
        """Energy, forces and stress of many structures, batched."""
        return results_of(self.calculator, frames, forces=forces, stress=stress, atoms_per_batch=256)

    def energies(self, frames: Sequence[Atoms]) -> np.ndarray:
        return self.results(frames, forces=False).need("energy").detach().cpu().numpy()

    def forces(self, frames: Sequence[Atoms]) -> np.ndarray:
        """[frames, atoms, 3] for frames of equal size."""
        return self.results(frames).need("forces").detach().cpu().numpy().reshape(len(frames), -1, 3)

    def stress(self, frames: Sequence[Atoms]) -> np.ndarray | None:
        """[frames, 3, 3] in eV/Å³, or None where the calculator has no stress."""
        from ase.calculators.calculator import PropertyNotImplementedError

        try:
            results = self.results(frames, stress=True)
        except (PropertyNotImplementedError, NotImplementedError):
            return None
        return None if results.stress is None else results.stress.detach().cpu().numpy()

    def one(self, atoms: Atoms) -> Results:
        """All that the calculator says of one structure, charges and the like included."""
        return self.calculator(System.from_ase(atoms), forces=True)

    def at_precision(self, dtype: torch.dtype) -> "Subject":
        """The same potential, copied, in another precision; ValueError where there is no potential."""
        if self.potential is None:
            raise ValueError(f"{self.name} is no rikiba potential: its precision cannot be changed.")
        other = copy.deepcopy(self.potential).to(dtype)
        return replace(
            self,
            potential=other,
            calculator=PotentialCalculator(other, skin=0.0),
            precision="float64" if dtype == torch.float64 else "float32",
        )


def named(structures: Mapping[str, Atoms] | Sequence[Atoms]) -> dict[str, Atoms]:
    """Structures with names for the report: the given ones, or formula and position in the list."""
    if isinstance(structures, Mapping):
        return dict(structures)
    return {f"{k}: {a.get_chemical_formula()}": a for k, a in enumerate(structures)}


def default_structures(elements: Sequence[str], cutoff: float | None, seed: int = 0) -> dict[str, Atoms]:
    """A cluster, a triclinic crystal and a cell smaller than the cutoff, of the given elements at random.

    Neighbours are between 0.4 and 0.6 of the cutoff apart (or at the sum of covalent radii, if between), so
    that every structure has interactions, some of them near the cutoff.
    """
    symbols = list(elements)
    if not symbols:
        raise ValueError(
            "The calculator does not tell its elements: give structures (a table [structure]), or elements "
            "(in the table [physics]), e.g. elements = ['Cu']."
        )
    rng = np.random.default_rng(seed)
    radii = periodic_table.covalent_radius(periodic_table.numbers_of(symbols))
    bond = 2.0 * float(radii.max())
    d = bond if cutoff is None else float(np.clip(bond, 0.4 * cutoff, 0.6 * cutoff))

    def drawn(n: int) -> list[str]:
        first = symbols[:n]
        return first + [str(s) for s in rng.choice(symbols, n - len(first))]

    def jittered(sites: np.ndarray) -> np.ndarray:
        return sites + rng.uniform(-0.08, 0.08, sites.shape) * d

    cube = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)], float)
    cluster = Atoms(drawn(7), jittered(1.08 * d * cube[:7]))
    shear = np.array([[1.0, 0.0, 0.0], [0.17, 1.0, 0.0], [-0.11, 0.21, 1.0]])
    crystal = Atoms(drawn(8), jittered(1.08 * d * cube @ shear), cell=2.16 * d * shear, pbc=True)
    small = 1.17 * d * (shear + 0.1 * np.eye(3)[[1, 2, 0]])
    body = np.array([[0.03, 0.0, 0.02], [0.5, 0.53, 0.48]])
    tiny = Atoms(drawn(2), body @ small, cell=small, pbc=True)
    return {"cluster": cluster, "triclinic crystal": crystal, "cell below the cutoff": tiny}
