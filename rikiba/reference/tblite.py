"""GFN-xTB tight binding through the tblite library."""

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms

from rikiba.core import units

from .base import Failure
from .believable import Limits, labelled


class Tblite:
    """Semi-empirical GFN2-xTB, GFN1-xTB or IPEA1-xTB energies, forces, stresses, charges and dipoles.

    Charge and multiplicity come from `atoms.info['charge']` (0) and `info['spin']` (the lowest that fits).
    The methods are not spin polarised: a multiplicity fixes occupations only. Periodic cells are sampled at
    the Γ point alone, so use supercells; mixed periodicity is a Failure, because the library would treat it
    as periodic in all directions. Every label starts from the same guess and does not depend on history.

    Each answer is a copy of the structure with energy, forces, charges, dipole (not periodic) and stress
    (periodic); an SCF that does not converge, atoms on top of each other, a force or energy beyond reason, a
    charge and multiplicity that do not fit are Failures.

    References: GFN2-xTB doi:10.1021/acs.jctc.8b01176; GFN1-xTB doi:10.1021/acs.jctc.7b00118;
    IPEA1-xTB doi:10.1039/c7sc00601b.
    """

    references: ClassVar[tuple[str, ...]] = (
        "10.1021/acs.jctc.8b01176",
        "10.1021/acs.jctc.7b00118",
        "10.1039/c7sc00601b",
    )

    def __init__(
        self,
        *,
        method: Literal["GFN2-xTB", "GFN1-xTB", "IPEA1-xTB"] = "GFN2-xTB",
        accuracy: float = 0.01,
        electronic_temperature_K: float = 300.0,
        max_iterations: int = 250,
        solvent: str | None = None,
        min_distance_ratio: float | None = 0.5,
        max_force: float | None = 100.0,
        energy_window: tuple[float, float] | None = (-20.0, 10.0),
    ) -> None:
        """
        Args:
            method: parametrisation
            accuracy: SCF threshold relative to the library's own; 0.01 leaves about 1e-5 eV/Å in forces
            electronic_temperature_K: Fermi smearing
            max_iterations: SCF steps before a label is a Failure
            solvent: implicit solvent by name (ALPB), e.g. water
            min_distance_ratio: least distance of two atoms over the sum of their covalent radii
            max_force: largest believable force on an atom, eV/Å
            energy_window: believable energy per atom relative to isolated atoms, eV
        """
        if method not in ("GFN2-xTB", "GFN1-xTB", "IPEA1-xTB"):
            raise ValueError(f"method is '{method}'; allowed are GFN2-xTB, GFN1-xTB, IPEA1-xTB.")
        if accuracy <= 0 or electronic_temperature_K < 0 or max_iterations < 1:
            raise ValueError(
                "accuracy and max_iterations must be positive, electronic_temperature_K not negative."
            )
        _library()
        self.method, self.accuracy, self.solvent = method, accuracy, solvent
        self.electronic_temperature_K, self.max_iterations = electronic_temperature_K, max_iterations
        window = None if energy_window is None else (float(energy_window[0]), float(energy_window[1]))
        self.limits = Limits(min_distance_ratio=min_distance_ratio, max_force=max_force, energy_window=window)
        self._isolated: dict[int, float] = {}

    @property
    def level_of_theory(self) -> str:
        """Method, version and what departs from the plain method, e.g. 'GFN2-xTB (tblite 0.8.0)'."""
        from importlib.metadata import version

        parts = [f"tblite {version('tblite')}"]
        if self.electronic_temperature_K != 300.0:
            parts.append(f"{self.electronic_temperature_K:g} K electrons")
        if self.solvent:
            parts.append(f"ALPB {self.solvent}")
        return f"{self.method} ({', '.join(parts)})"

    @property
    def fingerprint(self) -> str:
        """Everything that changes an answer."""
        return f"{self.level_of_theory} accuracy={self.accuracy} steps={self.max_iterations} {self.limits}"

    def label(self, frames: Sequence[Atoms]) -> list[Atoms | Failure]:
        """One labelled copy or Failure per frame, in order."""
        return [self._label(atoms) for atoms in frames]

    def _label(self, atoms: Atoms) -> Atoms | Failure:
        reason = self.limits.before(atoms) or self._misfit(atoms)
        if reason:
            return Failure(atoms=atoms, reason=reason, deterministic=True)
        library = _library()
        try:
            values = self._singlepoint(atoms)
        except (library.TBLiteRuntimeError, library.TBLiteValueError) as error:
            return Failure(atoms=atoms, reason=f"{self.method}: {error}", deterministic=True)
        separated = self._separated(atoms) if len(atoms) > 1 else None
        reason = self.limits.after(values["energy"], values["forces"], separated)
        if reason:
            return Failure(atoms=atoms, reason=reason, deterministic=True)
        return labelled(atoms, self.level_of_theory, values)

    def _misfit(self, atoms: Atoms) -> str | None:
        if atoms.pbc.any() and not atoms.pbc.all():
            return "periodic in some directions only; add vacuum and set all three periodic"
        charge, spin = _charge(atoms), atoms.info.get("spin")
        if spin is not None and (int(spin) < 1 or (_electrons(atoms, charge) - int(spin) + 1) % 2):
            return f"multiplicity {spin} does not fit {_electrons(atoms, charge)} electrons"
        return None

    def _singlepoint(self, atoms: Atoms) -> dict[str, Any]:
        library = _library()
        charge = _charge(atoms)
        spin = atoms.info.get("spin")
        unpaired = _electrons(atoms, charge) % 2 if spin is None else int(spin) - 1
        periodic = bool(atoms.pbc.all())
        calculator = library.Calculator(
            self.method,
            atoms.numbers,
            atoms.positions / units.bohr,
            charge,
            unpaired,
            atoms.cell.array / units.bohr if periodic else None,
            atoms.pbc if periodic else None,
        )
        calculator.set("verbosity", 0)
        calculator.set("accuracy", self.accuracy)
        calculator.set("temperature", self.electronic_temperature_K * units.boltzmann / units.hartree)
        calculator.set("max-iter", self.max_iterations)
        if self.solvent:
            calculator.add("alpb-solvation", self.solvent)
        with _one_thread():
            result = calculator.singlepoint()
        values: dict[str, Any] = {
            "energy": float(result.get("energy")) * units.hartree,
            "forces": -result.get("gradient") * (units.hartree / units.bohr),
            "charges": np.array(result.get("charges")),
        }
        if periodic:
            # the library's virial is +∂E/∂ε
            stress = result.get("virial") * units.hartree / atoms.get_volume()
            values["stress"] = stress.ravel()[[0, 4, 8, 5, 2, 1]]
        else:
            values["dipole"] = np.array(result.get("dipole")) * units.bohr
        return values

    def _separated(self, atoms: Atoms) -> float:
        """Sum of the energies of the neutral isolated atoms, eV (kept per element)."""
        for z in set(atoms.numbers.tolist()) - set(self._isolated):
            self._isolated[z] = self._singlepoint(Atoms(numbers=[z], positions=[[0.0, 0.0, 0.0]]))["energy"]
        return sum(self._isolated[z] for z in atoms.numbers.tolist())

    def ase_calculator(self, charge: float = 0.0, spin: int | None = None) -> Any:
        """A quiet ASE calculator at the same settings for MD and relaxation; its numbers are not checked."""
        _library()
        from tblite.ase import TBLite

        class OneThread(TBLite):  # type: ignore[misc]
            """The library's calculator, its thread count that of `Tblite`."""

            def calculate(self, *arguments: Any, **keywords: Any) -> None:
                with _one_thread():
                    super().calculate(*arguments, **keywords)

        return OneThread(
            method=self.method,
            charge=charge,
            multiplicity=spin,
            accuracy=self.accuracy,
            electronic_temperature=self.electronic_temperature_K,
            max_iterations=self.max_iterations,
            solvation=None if self.solvent is None else ("alpb", self.solvent),
            verbosity=0,
        )


def _charge(atoms: Atoms) -> float:
    return float(atoms.info.get("charge", 0.0))


def _electrons(atoms: Atoms, charge: float) -> int:
    return round(int(atoms.numbers.sum()) - charge)


def _library() -> Any:
    """The tblite interface; the ImportError names what to install."""
    try:
        from tblite import interface
    except ImportError as error:
        raise ImportError("GFN-xTB needs the package tblite: pip install rikiba[xtb]") from error
    return interface


@contextmanager
def _one_thread() -> Iterator[None]:
    """One OpenMP thread inside the block, for this Python thread; unless OMP_NUM_THREADS asks for a number.

    On molecules more threads are slower, on a busy machine far slower (they wait for each other in a loop).
    The environment cannot say so in time: the OpenMP library may be loaded, with torch, before this package.
    So the one that tblite is linked with is told; where it cannot be found, it keeps its own number.
    """
    from tblite import _libtblite

    openmp = ctypes.CDLL(_libtblite.__file__)
    if "OMP_NUM_THREADS" in os.environ or not hasattr(openmp, "omp_set_num_threads"):
        yield
        return
    before = int(openmp.omp_get_max_threads())
    openmp.omp_set_num_threads(1)
    try:
        yield
    finally:
        openmp.omp_set_num_threads(before)
