"""What is known about a System: one type for predictions and for labels.

Each quantity is one declaration below: a field with its shape, unit, law under rotation and extensivity.
Everything generic (units in reports, batching of labels, symmetry tests, arithmetic) reads the declaration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from ase import Atoms

    from .system import System

Law = Literal["scalar", "vector", "tensor", "pseudoscalar"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """Declaration of one physical quantity."""

    name: str
    per: Literal["system", "atom"]
    shape: tuple[int, ...]
    unit: str
    law: Law
    extensive: bool
    """Sums over non-interacting parts (per-atom quantities: concatenates, False)."""
    ase_name: str | None
    """Name among ASE's calculator results, if it has one."""


def quantity(
    per: Literal["system", "atom"],
    shape: tuple[int, ...],
    unit: str,
    law: Law,
    *,
    extensive: bool = False,
    ase_name: str | None = None,
) -> Any:
    """Declare a field of `Results`."""
    meta = {
        "per": per,
        "shape": shape,
        "unit": unit,
        "law": law,
        "extensive": extensive,
        "ase_name": ase_name,
    }
    return field(default=None, metadata=meta)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Results:
    """Energies, forces and whatever else is known; absent quantities are None.

    NaN marks a label that a batch lacks and comes from collation only; a NaN in a file or in a prediction
    is an error there.
    """

    energy: Float[Tensor, "systems"] | None = quantity(
        "system", (), "eV", "scalar", extensive=True, ase_name="energy"
    )
    forces: Float[Tensor, "atoms 3"] | None = quantity("atom", (3,), "eV/Å", "vector", ase_name="forces")
    stress: Float[Tensor, "systems 3 3"] | None = quantity(
        "system", (3, 3), "eV/Å³", "tensor", ase_name="stress"
    )
    """ASE's sign: positive under tension; σ = (1/V) ∂E/∂ε."""
    energies: Float[Tensor, "atoms"] | None = quantity("atom", (), "eV", "scalar", ase_name="energies")
    charges: Float[Tensor, "atoms"] | None = quantity("atom", (), "e", "scalar", ase_name="charges")
    magmoms: Float[Tensor, "atoms"] | None = quantity("atom", (), "μB", "scalar", ase_name="magmoms")
    dipole: Float[Tensor, "systems 3"] | None = quantity("system", (3,), "e·Å", "vector", ase_name="dipole")
    spread: "Results | None" = None
    """Uncertainty (one standard deviation) in the same units."""

    def present(self) -> tuple[Quantity, ...]:
        """Declarations of the quantities that are set."""
        return tuple(q for q in QUANTITIES.values() if getattr(self, q.name) is not None)

    def need(self, name: str) -> Tensor:
        """A quantity that must be there; raises ValueError that says which are."""
        value: Tensor | None = getattr(self, name)
        if value is None:
            have = ", ".join(q.name for q in self.present()) or "nothing"
            raise ValueError(f"'{name}' is needed but these results hold {have}.")
        return value

    def replace(self, **changes: Any) -> "Results":
        """A copy with the named fields changed."""
        return replace(self, **changes)

    def _map(self, f: Any) -> "Results":
        new = {q.name: f(getattr(self, q.name)) for q in self.present()}
        return Results(**new, spread=None if self.spread is None else self.spread._map(f))

    def detach(self) -> "Results":
        return self._map(Tensor.detach)

    def to(self, device: torch.device | str) -> "Results":
        return self._map(lambda t: t.to(device))

    def __mul__(self, factor: float) -> "Results":
        """Scale every quantity (and |factor|·spread)."""
        scaled = self.replace(spread=None)._map(lambda t: t * factor)
        return scaled.replace(spread=None if self.spread is None else self.spread * abs(factor))

    __rmul__ = __mul__

    def __add__(self, other: "Results") -> "Results":
        """Add quantity by quantity. Energy-like terms must be in both; others may be in one.

        Independent spreads add in quadrature. Raises ValueError where one side lacks energy, energies,
        forces or stress that the other has.
        """
        new: dict[str, Any] = {}
        for q in QUANTITIES.values():
            a, b = getattr(self, q.name), getattr(other, q.name)
            if a is None and b is None:
                continue
            if (a is None) != (b is None):
                if q.name in ("energy", "energies", "forces", "stress"):
                    raise ValueError(f"Cannot add results: only one side has '{q.name}'.")
                new[q.name] = a if b is None else b
            else:
                new[q.name] = a + b
        if self.spread is not None and other.spread is not None:
            new["spread"] = Results(
                **{
                    q.name: (getattr(self.spread, q.name) ** 2 + getattr(other.spread, q.name) ** 2).sqrt()
                    for q in self.spread.present()
                    if getattr(other.spread, q.name) is not None
                }
            )
        else:
            new["spread"] = self.spread if other.spread is None else other.spread
        return Results(**new)

    def select(self, system: "System", which: Sequence[int]) -> "Results":
        """The results of some of the systems, in the given order; −1 is the last, as in any sequence."""
        device = system.numbers.device
        index = torch.arange(system.n_systems)[torch.as_tensor(which, dtype=torch.int64)].to(device)
        rows = [system.atom_rows(k) for k in index.tolist()]
        none = torch.zeros(0, dtype=torch.int64)
        atoms = torch.cat([none, *(torch.arange(r.start, r.stop) for r in rows)]).to(device)
        new = {q.name: getattr(self, q.name)[atoms if q.per == "atom" else index] for q in self.present()}
        return Results(**new, spread=None if self.spread is None else self.spread.select(system, which))

    @staticmethod
    def cat(parts: Sequence["Results"]) -> "Results":
        """Concatenate; each quantity must be in all parts or in none, else ValueError."""
        new = {}
        for q in QUANTITIES.values():
            values = [getattr(p, q.name) for p in parts]
            missing = sum(v is None for v in values)
            if missing and missing < len(values):
                raise ValueError(f"Cannot concatenate results: {missing} of {len(values)} lack '{q.name}'.")
            if not missing and values:
                new[q.name] = torch.cat(values)
        spreads = [p.spread for p in parts if p.spread is not None]
        return Results(**new, spread=Results.cat(spreads) if len(spreads) == len(parts) and spreads else None)

    def attach(self, atoms: "Atoms", k: int, rows: slice) -> None:
        """Put system k's results on an ASE structure as a SinglePointCalculator."""
        from ase.calculators.singlepoint import SinglePointCalculator
        from ase.stress import full_3x3_to_voigt_6_stress

        values: dict[str, Any] = {}
        for q in self.present():
            if q.ase_name is None:
                continue
            t = getattr(self, q.name)[rows if q.per == "atom" else k].detach().cpu().numpy()
            values[q.ase_name] = full_3x3_to_voigt_6_stress(t) if q.name == "stress" else t
        if "energy" in values:
            values["energy"] = float(values["energy"])
        atoms.calc = SinglePointCalculator(atoms, **values)


QUANTITIES: dict[str, Quantity] = {
    f.name: Quantity(name=f.name, **f.metadata) for f in fields(Results) if f.metadata
}
"""Every declared quantity by name."""
