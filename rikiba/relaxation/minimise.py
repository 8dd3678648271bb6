"""The loop that every minimiser shares, and what it leaves behind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rikiba.calculators.base import Calculator
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.core.results import Results
from rikiba.core.system import System

from .cell import CellMode, Coordinates, FixedCell, VariableCell, residual_force

if TYPE_CHECKING:
    from ase import Atoms


class NotConvergedError(ArithmeticError):
    """A relaxation ended before its thresholds were met."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Relaxed:
    """Where a relaxation ended; look at `converged` before using it."""

    system: System
    results: Results
    converged: Bool[Tensor, "systems"]
    n_steps: Int[Tensor, "systems"]
    """Steps that each system took."""
    fmax_eV_per_A: Float[Tensor, "systems"]
    """Largest force left on a free atom."""
    smax_GPa: Float[Tensor, "systems"]
    """Largest stress component left that the cell could relax; 0 for a fixed cell."""
    energies: Float[Tensor, "iterations systems"]
    """Energy (enthalpy under pressure) at every iteration, eV."""
    method: str
    references: tuple[str, ...] = ()

    @property
    def energy(self) -> Float[Tensor, "systems"]:
        """eV."""
        return self.results.need("energy")

    def to_ase(self) -> "list[Atoms]":
        """The relaxed structures with their results."""
        return self.system.to_ase(self.results)

    def require_converged(self) -> "Relaxed":
        """Itself, or NotConvergedError naming the systems that did not reach the thresholds."""
        if not bool(self.converged.all()):
            raise NotConvergedError(self._failure())
        return self

    def _failure(self) -> str:
        bad = (~self.converged).nonzero().flatten().tolist()
        k = bad[0]
        return (
            f"{len(bad)} of {len(self.converged)} relaxations did not converge. System {k} has a force of "
            f"{float(self.fmax_eV_per_A[k]):.4g} eV/Å and a stress of {float(self.smax_GPa[k]):.4g} GPa left "
            f"after {int(self.n_steps[k])} steps; raise max_steps or look at the structure."
        )

    def record(self) -> Record:
        """Energies and what is left of forces and stresses; "fail" where a system did not converge."""
        columns = ("system", "converged", "steps", "energy (eV)", "force left (eV/Å)", "stress left (GPa)")
        rows = zip(
            range(len(self.converged)),
            *(
                t.tolist()
                for t in (self.converged, self.n_steps, self.energy, self.fmax_eV_per_A, self.smax_GPa)
            ),
            strict=True,
        )
        history = (self.energies - self.energies[-1]) / self.system.counts * 1000.0
        curves = [
            Curve.of(f"system {k}", range(len(history)), history[:, k])
            for k in range(min(16, history.shape[1]))
        ]
        figure = Figure(
            title="Relaxation",
            x_label="step",
            y_label="energy above the last (meV/atom)",
            curves=tuple(curves),
        )
        all_converged = bool(self.converged.all())
        return Record(
            name="relaxation",
            title=f"Relaxation ({self.method})",
            values={
                "converged": all_converged,
                "energy_eV": self.energy.tolist(),
                "n_steps": self.n_steps.tolist(),
                "fmax_eV_per_A": self.fmax_eV_per_A.tolist(),
                "smax_GPa": self.smax_GPa.tolist(),
            },
            tables=(Table(title="Relaxed structures", columns=columns, rows=tuple(rows)),),
            figures=(figure,),
            notes=() if all_converged else (self._failure(),),
            verdict="pass" if all_converged else "fail",
            references=self.references,
        )


StepperMemory = Mapping[str, Any]


@runtime_checkable
class Stepper(Protocol):
    """One rule for the next displacement."""

    def start(self, x: Float[Tensor, "rows 3"], n_systems: int) -> StepperMemory: ...

    def step(
        self,
        x: Float[Tensor, "rows 3"],
        gradient: Float[Tensor, "rows 3"],
        objective: Float[Tensor, "systems"],
        row_system: Int[Tensor, "rows"],
        memory: StepperMemory,
    ) -> tuple[Float[Tensor, "rows 3"], StepperMemory]:
        """Displacement of every row, and the memory for the next."""
        ...

    def narrowed(
        self, memory: StepperMemory, systems: Bool[Tensor, "systems"], rows: Bool[Tensor, "rows"]
    ) -> StepperMemory:
        """The memory of some of the systems, whose rows are those."""
        ...


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """When a system counts as relaxed, and what may move."""

    fmax_eV_per_A: float = 0.01
    smax_GPa: float = 0.05
    max_steps: int = 500
    cell: CellMode = "fixed"
    pressure_GPa: float = 0.0

    def __post_init__(self) -> None:
        if not self.fmax_eV_per_A > 0 or not self.smax_GPa > 0:
            raise ValueError(
                f"fmax_eV_per_A and smax_GPa must be positive; given {self.fmax_eV_per_A}, {self.smax_GPa}."
            )
        if self.max_steps < 0:
            raise ValueError(f"max_steps is at least 0; given {self.max_steps}.")
        if self.cell not in ("fixed", "full", "hydrostatic"):
            raise ValueError(f"cell must be 'fixed', 'full' or 'hydrostatic'; given '{self.cell}'.")
        if self.cell == "fixed" and self.pressure_GPa != 0:
            raise ValueError("A pressure acts on a cell that may change; set cell = 'full' or 'hydrostatic'.")


def coordinates(system: System, fixed: Bool[Tensor, "atoms"], thresholds: Thresholds) -> Coordinates:
    """The generalised coordinates that the thresholds ask for."""
    if thresholds.cell == "fixed":
        return FixedCell(system, fixed)
    pressure = torch.full((system.n_systems,), thresholds.pressure_GPa, dtype=torch.float64)
    return VariableCell(system, fixed, thresholds.cell, pressure.to(system.cell.device))


def minimise(
    calculator: Calculator,
    system: System,
    stepper: Stepper,
    thresholds: Thresholds,
    *,
    fixed: Bool[Tensor, "atoms"] | None = None,
    progress: Callable[[int, int], None] | None = None,
    method: str,
    references: tuple[str, ...] = (),
) -> Relaxed:
    """Move every system of a batch downhill until its forces (and stress) are below the thresholds.

    A system that has converged stays where it is while the others go on, and is left out of the batch once a
    quarter of it has converged, unless the calculator says `whole_batch`: that it answers for all of its
    systems or none. Raises ValueError as the coordinates do; a prediction that is not finite raises in the
    calculator.
    """
    still = torch.zeros_like(system.numbers, dtype=torch.bool) if fixed is None else fixed
    space = coordinates(system, still, thresholds)
    x, which = space.start, torch.arange(system.n_systems, device=space.start.device)
    memory = stepper.start(x, system.n_systems)
    done = torch.zeros_like(which, dtype=torch.bool)
    n_steps, heights = torch.zeros_like(which), x.new_zeros(system.n_systems)
    history, parts = [], []
    may_leave = not getattr(calculator, "whole_batch", False)
    for iteration in range(thresholds.max_steps + 1):
        system = space.system(x)
        results = calculator(system, forces=True, stress=space.needs_stress)
        force, stress = residual_force(results, system, still), space.residual_stress(system, results)
        done = done | ((force < thresholds.fmax_eV_per_A) & (stress < thresholds.smax_GPa))
        objective = space.objective(system, results)
        heights = heights.index_copy(0, which, objective)
        history.append(heights)
        if progress is not None:
            progress(iteration, thresholds.max_steps)
        if bool(done.all()) or iteration == thresholds.max_steps:
            break
        if may_leave and len(done) <= _LEFT_OUT * int(done.sum()):
            parts.append(_Part(which, system, results, done, force, stress).of(done))
            goes_on = ~done
            rows, atoms = goes_on[space.row_system], goes_on[system.system_index]
            memory = stepper.narrowed(memory, goes_on, rows)
            rest = _Part(which, system, results, done, force, stress).of(goes_on)
            which, system, results, done = rest.which, rest.system, rest.results, rest.converged
            space, x, still, objective = space.narrowed(goes_on), x[rows], still[atoms], objective[goes_on]
        gradient = space.gradient(x, system, results)
        move, memory = stepper.step(x, gradient, objective, space.row_system, memory)
        x = x + torch.where(done[space.row_system][:, None], 0.0, move)
        n_steps = n_steps.index_add(0, which, (~done).long())
    end = _Part.joined([*parts, _Part(which, system, results, done, force, stress)])
    return Relaxed(
        system=end.system,
        results=end.results,
        converged=end.converged,
        n_steps=n_steps,
        fmax_eV_per_A=end.force,
        smax_GPa=end.stress,
        energies=torch.stack(history),
        method=method,
        references=references,
    )


_LEFT_OUT = 4
"""Converged systems leave a batch when they are this part of it, or more."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Some systems of a batch, as their relaxation left them."""

    which: Int[Tensor, "systems"]
    system: System
    results: Results
    converged: Bool[Tensor, "systems"]
    force: Float[Tensor, "systems"]
    stress: Float[Tensor, "systems"]

    def of(self, chosen: Bool[Tensor, "systems"]) -> "_Part":
        results = self.results.select(self.system, chosen.nonzero().flatten().tolist())
        numbers = (t[chosen] for t in (self.converged, self.force, self.stress))
        return _Part(self.which[chosen], self.system[chosen], results, *numbers)

    @staticmethod
    def joined(parts: Sequence["_Part"]) -> "_Part":
        """All of them, in the order of the batch."""
        if len(parts) == 1:
            return parts[0]
        system = System.cat([p.system for p in parts])
        results = Results.cat([p.results for p in parts])
        which = torch.cat([p.which for p in parts])
        order = which.argsort()
        numbers = (
            torch.cat([getattr(p, name) for p in parts])[order] for name in ("converged", "force", "stress")
        )
        return _Part(which[order], system[order], results.select(system, order.tolist()), *numbers)


def dot(a: Tensor, b: Tensor, row_system: Tensor, n_systems: int) -> Float[Tensor, "systems"]:
    """Σ over the rows of each system of a·b."""
    return a.new_zeros(n_systems).index_add(0, row_system, (a * b).sum(-1))


def limited(move: Tensor, row_system: Tensor, longest: Float[Tensor, "systems"]) -> Float[Tensor, "rows 3"]:
    """The displacement, shortened in each system so that no row moves further than `longest`."""
    length = longest.new_zeros(len(longest)).scatter_reduce(0, row_system, move.norm(dim=-1), "amax")
    factor = torch.where(length > longest, longest / length, 1.0)
    return move * factor[row_system][:, None]
