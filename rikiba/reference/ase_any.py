"""Any ASE calculator as a reference."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from .base import Failure
from .believable import Limits, labelled

_EXTRA = ("charges", "magmoms", "dipole", "energies")


class AseAny:
    """Labels from an ASE calculator, given as an object or as 'package.module:Class' with its arguments.

    Stress is asked for where the structure is periodic in all directions and the calculator has it. An error
    inside the calculator is a Failure. A frame with a charge or a multiplicity above 1 is labelled only if
    `charge_argument` or `spin_argument` names the calculator's parameter, or initial magnetic moments
    add up to the spin; otherwise it is a Failure, because the calculator would answer for another system.
    """

    def __init__(
        self,
        *,
        calculator: Any,
        level_of_theory: str,
        arguments: Mapping[str, Any] | None = None,
        charge_argument: str | None = None,
        spin_argument: str | None = None,
        min_distance_ratio: float | None = 0.5,
        max_force: float | None = 100.0,
    ) -> None:
        """
        Args:
            calculator: 'package.module:Class', e.g. 'ase.calculators.emt:EMT', or a calculator object
            level_of_theory: what stands beside every label, e.g. 'PBE/def2-SVP (code 1.2)'
            arguments: constructor arguments of the class
            charge_argument: the calculator's parameter for the total charge
            spin_argument: the calculator's parameter for the multiplicity 2S+1
            min_distance_ratio: least distance of two atoms over the sum of their covalent radii
            max_force: largest believable force on an atom, eV/Å
        """
        if not level_of_theory:
            raise ValueError("level_of_theory is empty; name the method, e.g. 'PBE/def2-SVP'.")
        self._level_of_theory = level_of_theory
        self.calculator, self.arguments = calculator, dict(arguments or {})
        self.charge_argument, self.spin_argument = charge_argument, spin_argument
        self.limits = Limits(min_distance_ratio=min_distance_ratio, max_force=max_force, energy_window=None)
        if arguments and not isinstance(calculator, str):
            raise ValueError(
                "arguments belong to a class given by name; this calculator is an object already."
            )
        self._engine: Any = None if isinstance(calculator, str) else calculator
        if isinstance(calculator, str):
            _load(calculator)  # a wrong name fails here, not at the first label

    def __getstate__(self) -> dict[str, Any]:
        """Without the running calculator where it can be built again."""
        return {**self.__dict__, "_engine": None} if isinstance(self.calculator, str) else self.__dict__

    @property
    def level_of_theory(self) -> str:
        return self._level_of_theory

    @property
    def fingerprint(self) -> str:
        """Everything that is known to change an answer."""
        name = self.calculator if isinstance(self.calculator, str) else type(self.calculator).__qualname__
        parameters = self.arguments or dict(getattr(self._engine, "parameters", {}))
        return f"{self.level_of_theory} {name} {sorted(map(str, parameters.items()))} {self.limits}"

    def ase_calculator(self) -> Any:
        """The ASE calculator itself, for MD and relaxation."""
        if self._engine is None:
            self._engine = _load(self.calculator)(**self.arguments)
        return self._engine

    def label(self, frames: Sequence[Atoms]) -> list[Atoms | Failure]:
        """One labelled copy or Failure per frame, in order."""
        return [self._label(atoms) for atoms in frames]

    def _label(self, atoms: Atoms) -> Atoms | Failure:
        reason = self.limits.before(atoms) or self._misfit(atoms)
        if reason:
            return Failure(atoms=atoms, reason=reason, deterministic=True)
        try:
            values = self._singlepoint(atoms)
        except Exception as error:  # whatever an engine raises is its answer for this structure
            text = " ".join(str(error).split()) or "no message"
            return Failure(atoms=atoms, reason=f"{type(error).__name__}: {text[:300]}")
        reason = self.limits.after(values["energy"], values["forces"])
        if reason:
            return Failure(atoms=atoms, reason=reason, deterministic=True)
        return labelled(atoms, self.level_of_theory, values)

    def _misfit(self, atoms: Atoms) -> str | None:
        charge, spin = float(atoms.info.get("charge", 0.0)), int(atoms.info.get("spin", 1))
        if charge != 0.0 and self.charge_argument is None:
            return f"the frame has charge {charge:+g} and charge_argument does not say how to pass it"
        moments = atoms.get_initial_magnetic_moments().sum() if atoms.has("initial_magmoms") else 0.0
        if spin != 1 and self.spin_argument is None and round(abs(moments)) != spin - 1:
            return f"the frame has multiplicity {spin} and spin_argument does not say how to pass it"
        return None

    def _singlepoint(self, atoms: Atoms) -> dict[str, Any]:
        engine = self.ase_calculator()
        if self.charge_argument is not None:
            engine.set(**{self.charge_argument: float(atoms.info.get("charge", 0.0))})
        if self.spin_argument is not None:
            engine.set(**{self.spin_argument: int(atoms.info.get("spin", 1))})
        work = atoms.copy()
        work.calc = engine
        values: dict[str, Any] = {
            "energy": float(work.get_potential_energy()),
            "forces": np.array(work.get_forces(apply_constraint=False), dtype=float),
        }
        if work.pbc.all() and "stress" in getattr(engine, "implemented_properties", ()):
            values["stress"] = np.array(work.get_stress(apply_constraint=False), dtype=float)
        held = getattr(engine, "results", {})
        return values | {
            name: np.array(held[name], dtype=float) for name in _EXTRA if held.get(name) is not None
        }


def _load(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(
            f"calculator is '{name}'; write it as package.module:Class, e.g. ase.calculators.emt:EMT."
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"calculator '{name}' cannot be imported: {error}.") from error
