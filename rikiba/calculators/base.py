"""What everybody but the trainer uses: a `Calculator` maps a System to Results."""

import math
from typing import Protocol, runtime_checkable

from rikiba.core.results import Results
from rikiba.core.system import System


@runtime_checkable
class Calculator(Protocol):
    """Anything that gives energies, and forces and stress where asked.

    DFT, a neural network, a committee or a sum of terms look alike from here. Forces and stress are the
    derivatives of the energy returned with them.
    """

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        """Results with `energy`, and `forces`, `stress` where asked.

        Raises ValueError for structures it cannot treat, NonFiniteError for a prediction that is not finite.
        """
        ...


class NonFiniteError(ArithmeticError):
    """A prediction is NaN or infinite, for `systems` and `atoms` of the batch where these are known."""

    def __init__(self, message: str, systems: tuple[int, ...] = (), atoms: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.systems = systems
        self.atoms = atoms


def require_finite(results: Results, system: System, source: str) -> Results:
    """Return `results`, or raise NonFiniteError naming the first system and quantity that is not finite."""
    for q in results.present():
        values = getattr(results, q.name)
        if math.isfinite(values.sum().item()):
            continue
        bad = (~values.isfinite()).reshape(len(values), -1).any(1).nonzero().flatten()
        if len(bad) == 0:  # a finite set whose sum overflows
            continue
        row = int(bad[0])
        k = int(system.system_index[row]) if q.per == "atom" else row
        where = f"atom {row} of system {k}" if q.per == "atom" else f"system {k}"
        owners = system.system_index[bad] if q.per == "atom" else bad
        raise NonFiniteError(
            f"{source} gave a non-finite {q.name} for {where}. Look at that structure: atoms on top of each "
            f"other or far outside the training data are the usual causes.",
            tuple(owners.unique().tolist()),
            tuple(bad.tolist()) if q.per == "atom" else (),
        )
    return results


def require_volume(system: System) -> None:
    """Raise ValueError unless every system's cell spans a volume."""
    flat = (~system.has_volume).nonzero().flatten().tolist()
    if flat:
        raise ValueError(
            f"A stress needs three independent lattice vectors; system {flat[0]} has the cell "
            f"{system.cell[flat[0]].tolist()}. Give it a cell or do not ask for the stress."
        )
