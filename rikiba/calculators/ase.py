"""ASE both ways: our calculators inside ASE, ASE's calculators inside rikiba."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from rikiba.core.results import Results
from rikiba.core.system import System

from .base import Calculator, require_finite, require_volume


def _conditions(atoms: Atoms) -> dict[str, Any]:
    """What `info` says that changes an energy; ASE's calculators do not compare it between calls."""
    return {key: atoms.info.get(key) for key in ("charge", "spin")}


class RikibaCalculator(AseCalculator):
    """An ASE calculator around any rikiba calculator; stress only where the cell spans a volume."""

    implemented_properties: list[str] = [
        "energy", "free_energy", "forces", "stress", "energies", "charges", "magmoms", "dipole",
    ]  # fmt: skip

    def __init__(self, calculator: Calculator, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.calculator = calculator

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What differs from the last call, charge and spin in `info` included."""
        changes: list[str] = super().check_state(atoms, tol)
        if self.atoms is not None and _conditions(self.atoms) != _conditions(atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None  # set by the line above
        system = System.from_ase(self.atoms)
        results = self.calculator(system, forces=True, stress="stress" in properties)
        self.results["energy"] = self.results["free_energy"] = float(results.need("energy")[0])
        self.results["forces"] = results.need("forces").cpu().numpy()
        for name in ("energies", "charges", "magmoms"):
            if getattr(results, name) is not None:
                self.results[name] = results.need(name).detach().cpu().numpy()
        if results.dipole is not None:
            self.results["dipole"] = results.dipole[0].detach().cpu().numpy()
        if results.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(results.stress[0].cpu().numpy())


def as_ase(calculator: Calculator) -> RikibaCalculator:
    """Any rikiba calculator as an ASE calculator (energy, forces, stress, energies)."""
    return RikibaCalculator(calculator)


class FromASE:
    """Any ASE calculator as a rikiba calculator; structures of a batch are evaluated one after another.

    Charge and spin stand in each structure's `info`, for calculators that look there; others ignore them.

    Args:
        calculator: an ASE calculator that implements energy and forces (and stress, where it is asked for).
    """

    def __init__(self, calculator: AseCalculator) -> None:
        self.calculator = calculator
        self._atoms: list[Atoms] = []
        self._last: dict[str, Any] | None = None

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        if stress:
            require_volume(system)
        parts = [self._one(atoms, forces, stress) for atoms in self._frames(system)]
        device = system.positions.device
        return require_finite(Results.cat(parts).to(device), system, type(self.calculator).__name__)

    def _frames(self, system: System) -> list[Atoms]:
        """ASE structures, kept between calls so that a calculator can start from its last solution."""
        frames = system.to_ase()
        if len(frames) == len(self._atoms) == 1 and np.array_equal(frames[0].numbers, self._atoms[0].numbers):
            kept, new = self._atoms[0], frames[0]
            kept.set_cell(new.cell)
            kept.set_pbc(new.pbc)
            kept.arrays.clear()
            kept.arrays.update(new.arrays)
            kept.info = new.info
            return self._atoms
        self._atoms = frames
        return frames

    def _one(self, atoms: Atoms, forces: bool, stress: bool) -> Results:
        if self._last != _conditions(atoms):
            if self._last is not None:
                self.calculator.reset()
            self._last = _conditions(atoms)
        atoms.calc = self.calculator
        energy = torch.tensor([float(atoms.get_potential_energy())], dtype=torch.float64)
        f = torch.from_numpy(np.array(atoms.get_forces(), dtype=np.float64)) if forces else None
        s = None
        if stress:
            full = np.asarray(atoms.get_stress(voigt=False), dtype=np.float64)
            s = torch.from_numpy(full if full.shape == (3, 3) else voigt_6_to_full_3x3_stress(full))[None]
        return Results(energy=energy, forces=f, stress=s)
