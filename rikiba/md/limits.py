"""What no healthy run does: limits whose breach ends it, and what is the likely cause."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rikiba.core.system import System

from .contacts import closest_contacts
from .state import State

FAR_A_STEP = 0.3
"""Å; an atom that moves so far in one step crosses a good part of a bond."""


class SimulationError(ArithmeticError):
    """The run cannot go on; the state is the last one with finite numbers."""

    def __init__(
        self, message: str, *, step: int = -1, systems: tuple[int, ...] = (), atoms: tuple[int, ...] = ()
    ) -> None:
        super().__init__(message)
        self.step = step
        self.systems = systems
        """Systems at fault; empty where that is not known."""
        self.atoms = atoms
        """Atoms at fault, counted in the batch."""


class OutputError(OSError):
    """A file of the run cannot be written; nothing that was written before is lost."""


class Breach(ArithmeticError):
    """A limit is broken: by which systems and atoms, and what may be done about it."""

    def __init__(self, message: str, systems: tuple[int, ...], atoms: tuple[int, ...], cause: str) -> None:
        super().__init__(message)
        self.systems, self.atoms, self.cause = systems, atoms, cause


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The table [limits]: where a run is stopped with an error. A value "none" is not checked.

    The checks say nothing about whether a run is right (the reporter `health` watches for that); they stop
    one that is lost. They are made every `interval` steps and before each checkpoint, so that no checkpoint
    holds a state beyond them.

    Args:
        max_temperature_K: instantaneous kinetic temperature of a system.
        min_contact: closest distance of two atoms over the sum of their covalent radii.
        max_distance: distance of an atom from its system's median position along an axis that is not
            periodic, Å.
        min_width: perpendicular width of a periodic cell, Å.
        min_orthogonality: volume of a cell over the product of its edges; 1 for right angles.
        interval: steps between checks.
    """

    max_temperature_K: float | None = 1e5
    min_contact: float | None = 0.3
    max_distance: float | None = 1000.0
    min_width: float | None = 0.5
    min_orthogonality: float | None = 0.05
    interval: int = 20

    def __post_init__(self) -> None:
        for name in ("max_temperature_K", "min_contact", "max_distance", "min_width", "min_orthogonality"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, or none for no limit; given {value}.")
        if self.interval < 1:
            raise ValueError(f"interval is a number of steps, at least 1; given {self.interval}.")

    @staticmethod
    def wide() -> "Limits":
        """What a Simulation has by default: only what makes no sense in any model is stopped."""
        return Limits(
            max_temperature_K=1e7,
            min_contact=None,
            max_distance=1e6,
            min_width=1e-3,
            min_orthogonality=None,
        )

    def check(self, state: State) -> None:
        """Raise Breach for the first limit that is broken."""
        self._cells(state.system)
        self._temperature(state)
        self._lost(state)
        if self.min_contact is not None and state.system.n_atoms:
            for contact in closest_contacts(state.system):
                if contact.ratio < self.min_contact:
                    first = state.system.atom_rows(contact.system).start
                    i, j = contact.atoms
                    raise Breach(
                        f"{contact} (limit {self.min_contact:g}).",
                        (contact.system,),
                        (first + i, first + j),
                        "the atoms overlapped at the start, or the potential does not repel at short range "
                        "(outside its training data)",
                    )

    def _temperature(self, state: State) -> None:
        if self.max_temperature_K is None:
            return
        hot = state.temperature_K > self.max_temperature_K
        if bool(hot.any()):
            k = _first(hot)
            atom = _fastest(state, k)
            raise Breach(
                f"system {k} is at {float(state.temperature_K[k]):.3g} K (limit {self.max_temperature_K:g} "
                f"K); its fastest atom is {_name(state.system, atom)}.",
                _all(hot),
                (atom,),
                "",
            )

    def _lost(self, state: State) -> None:
        if self.max_distance is None or bool(state.system.pbc.all()):
            return
        system = state.system
        for k in range(system.n_systems):
            open_axes = ~system.pbc[k]
            if not bool(open_axes.any()) or int(system.counts[k]) == 0:
                continue
            rows = system.atom_rows(k)
            away = system.positions[rows] - system.positions[rows].median(0).values
            far = away[:, open_axes].norm(dim=-1)
            if not bool((far < self.max_distance).all()):
                atom = rows.start + int(far.argmax())
                raise Breach(
                    f"{_name(system, atom)} of system {k} is {float(far.max()):.4g} Å from the others along "
                    f"axes that are not periodic (limit {self.max_distance:g} Å).",
                    (k,),
                    (atom,),
                    "it evaporated, or was shot off by a force that is too large; a periodic cell or a wall "
                    "keeps a gas together",
                )

    def _cells(self, system: System) -> None:
        volume = torch.linalg.det(system.cell).abs()
        lengths = system.cell.norm(dim=-1)
        solid = system.pbc.all(1)
        width = torch.where(solid, volume / _largest_face(system.cell), torch.inf)
        square = torch.where(solid, volume / lengths.prod(1), 1.0)
        for values, limit, what in (
            (width, self.min_width, "is {:.3g} Å wide at its narrowest (limit {:g} Å)"),
            (square, self.min_orthogonality, "has {:.3g} of the volume of a right-angled one (limit {:g})"),
        ):
            if limit is None:
                continue
            bad = ~(values >= limit)
            if bool(bad.any()):
                k = _first(bad)
                raise Breach(
                    f"the cell of system {k} {what.format(float(values[k]), limit)}: "
                    f"{system.cell[k].tolist()}.",
                    _all(bad),
                    (),
                    "the pressure is more than the potential withstands, the barostat's time constant is too "
                    "short, or a liquid's cell was allowed to change its shape",
                )


def likely_cause(state: State, dt: Float[Tensor, "systems"], systems: tuple[int, ...]) -> str:
    """What the last finite state of the systems at fault says about why they failed."""
    which = systems or tuple(range(state.n_systems))
    reasons = []
    # of a cell that has collapsed an atom's images would be all that is found, in endless numbers
    sound = tuple(k for k in which if _is_wide(state.system, k))
    for contact in closest_contacts(state.system[torch.tensor(sound)]) if sound else ():
        if contact.ratio < 0.6:
            k = sound[contact.system]
            reasons.append(str(contact).replace(f"of system {contact.system}", f"of system {k}"))
    for k in which:
        if int(state.system.counts[k]) == 0:
            continue
        atom = _fastest(state, k)
        far = float(state.velocities[atom].norm() * dt[k])
        if far > FAR_A_STEP:
            reasons.append(
                f"{_name(state.system, atom)} of system {k} moves {far:.2g} Å a step: the timestep is too "
                f"long for it"
            )
    usual = "a timestep too long for the fastest motion, atoms that overlap at the start"
    return "; ".join(reasons) if reasons else f"usual causes are {usual}, a potential outside its data"


def _is_wide(system: System, k: int) -> bool:
    """Whether the periodic cell of a system is at least half an ångström wide in each direction."""
    if not bool(system.pbc[k].any()):
        return True
    cell = system.cell[k : k + 1]
    volume = torch.linalg.det(cell).abs()
    return bool(not system.has_volume[k] or volume / _largest_face(cell) > 0.5)


def _largest_face(cell: Float[Tensor, "systems 3 3"]) -> Float[Tensor, "systems"]:
    faces = torch.linalg.cross(cell[:, [1, 2, 0]], cell[:, [2, 0, 1]])
    largest: Tensor = faces.norm(dim=-1).amax(1).clamp(min=1e-300)
    return largest


def _fastest(state: State, k: int) -> int:
    rows = state.system.atom_rows(k)
    first: int = rows.start
    return first + int((state.velocities[rows] ** 2).sum(-1).argmax())


def _name(system: System, atom: int) -> str:
    from rikiba.core.elements import symbol

    k = int(system.system_index[atom])
    return f"atom {atom - system.atom_rows(k).start} ({symbol(int(system.numbers[atom]))})"


def _first(mask: Bool[Tensor, "systems"]) -> int:
    return int(mask.nonzero()[0])


def _all(mask: Bool[Tensor, "systems"]) -> tuple[int, ...]:
    return tuple(mask.nonzero().flatten().tolist())
