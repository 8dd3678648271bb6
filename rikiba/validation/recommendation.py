"""Which family of potentials suits a task, by the numbers of a comparison that was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, isfinite
from pathlib import Path
from typing import Literal, final

from rikiba.core.record import Record, Table

MEASURED = Path(__file__).with_name("compared_families.json")
"""Record of `rikiba run examples/compare_families/compare_families.toml`; its provenance has the command."""
LARGE = 10_000
"""Atoms from which a run is spread over processes, and the reach of a potential is what they exchange."""


@final
@dataclass(frozen=True, kw_only=True)
class Task:
    """What a potential is wanted for.

    Args:
        atoms: number of atoms.
        periodic: whether the system repeats in any direction.
        charges: whether charges act beyond the reach of a cutoff (ions, polar interfaces, charge transfer).
        reactive: whether bonds break and form.
        purpose: 'dynamics' (forces count) or 'energies' (differences between structures count).
        steps: MD steps, or structures to evaluate.
        hours: wall time for all of them.
        speed: how many times faster than the table's processor, on one thread, the hardware is.
    """

    atoms: int
    periodic: bool = True
    charges: bool = False
    reactive: bool = False
    purpose: Literal["dynamics", "energies"] = "dynamics"
    steps: int = 1_000_000
    hours: float = 24.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        if min(self.atoms, self.steps) < 1 or not (self.hours > 0 and self.speed > 0):
            raise ValueError(
                f"atoms and steps must be at least 1, hours and speed positive; given {self.atoms}, "
                f"{self.steps}, {self.hours}, {self.speed}."
            )
        if self.purpose not in ("dynamics", "energies"):
            raise ValueError(f"purpose is 'dynamics' or 'energies'; given '{self.purpose}'.")

    @property
    def ms_per_step(self) -> float:
        """Time that one step may take."""
        return 3.6e6 * self.hours / self.steps

    @property
    def measure(self) -> str:
        """The error that decides; a reaction lives in rare configurations, which a mean of |error| hides."""
        kind = "rmse" if self.reactive else "mae"
        return f"forces_{kind}_meV_per_A" if self.purpose == "dynamics" else f"energy_{kind}_meV_per_atom"


@final
@dataclass(frozen=True, kw_only=True)
class Advice:
    """One family of the table, judged for a task."""

    name: str
    fits: bool
    """Whether its steps fit into the time."""
    hours: float
    error: float
    deviation: float
    cost: float
    """µs per atom and step."""
    long_range: bool
    reasons: tuple[str, ...] = ()


def recommend(task: Task, measured: Record) -> list[Advice]:
    """The families of a comparison (a record of that name, see `rikiba run`), best first, each with reasons.

    Those whose steps fit into the time come first, among them those with long-range interactions where
    charges call for them, then by the error that the task's purpose names; errors that differ by no more than
    their spread over seeds are equal, and the faster goes first. Raises ValueError for a record that is no
    comparison.
    """
    if "cost_us_per_atom_step" not in measured.values:
        raise ValueError(
            f"The record '{measured.name}' is no comparison of families: it has no cost_us_per_atom_step. "
            "Give records/comparison.json of a run with a table [comparison]."
        )
    found = _rows(task, measured)
    known = [a for a in found if isfinite(a.cost) and isfinite(a.error)]
    fitting = [a for a in known if a.fits]
    able = [a for a in fitting if a.long_range or not task.charges]
    ranked = [*by_error(able), *by_error([a for a in fitting if a not in able])]
    ranked += sorted((a for a in known if not a.fits), key=lambda a: a.hours)
    ranked += [a for a in found if a not in known]
    return [
        Advice(**{**vars(a), "reasons": tuple(_reasons(task, measured, a, ranked[:k], known))})
        for k, a in enumerate(ranked)
    ]


def _rows(task: Task, measured: Record) -> list[Advice]:
    rows = []
    for k, name in enumerate(measured["models"]):
        cost, error = measured["cost_us_per_atom_step"][k], measured[task.measure][k]
        deviation = measured.spread[task.measure][k]
        hours = cost * task.atoms * task.steps / task.speed / 3.6e9
        rows.append(
            Advice(
                name=name,
                fits=hours <= task.hours,
                hours=hours,
                error=error,
                deviation=deviation if deviation is not None and isfinite(deviation) else 0.0,
                cost=cost,
                long_range=bool(measured["long_range"][k]),
            )
        )
    return rows


def by_error(rows: Sequence[Advice]) -> list[Advice]:
    """By error; those that cannot be told from the best of what is left, by cost."""
    left, out = sorted(rows, key=lambda a: a.error), list[Advice]()
    while left:
        tied = [a for a in left if equal(a, left[0])]
        out += sorted(tied, key=lambda a: a.cost)
        left = [a for a in left if a not in tied]
    return out


def equal(a: Advice, b: Advice) -> bool:
    """Whether two errors differ by no more than their spread."""
    return abs(a.error - b.error) <= hypot(a.deviation, b.deviation)


def _reasons(
    task: Task, measured: Record, a: Advice, better: Sequence[Advice], known: Sequence[Advice]
) -> list[str]:
    """What the table says for and against a family, in its numbers."""
    k = measured["models"].index(a.name)
    if a not in known:
        return ["The table has no number for it."]
    unit = "meV/Å" if task.purpose == "dynamics" else "meV/atom"
    what = "forces" if task.purpose == "dynamics" else "energies"
    kind = "root-mean-square error" if task.reactive else "mean error"
    place = 1 + sum(other.error < a.error for other in known)
    spread = f" ± {a.deviation:.2g}" if a.deviation else ""
    said = [
        f"{kind} of {what} {a.error:.3g}{spread} {unit}, place {place} of {len(known)}",
        f"{a.cost:.3g} µs per atom and step: {a.cost * task.atoms / task.speed / 1e3:.3g} ms a step of "
        f"{task.atoms:,} atoms, {a.hours:.3g} h in all"
        + ("" if a.fits else f", not the {task.hours:g} h given"),
    ]
    slower = [b for b in better if b.fits and a.fits and equal(a, b) and b.cost < a.cost]
    if slower:
        said.append(f"no more accurate than {slower[0].name} within the spread, and slower")
    worse_than = [b for b in known if b.cost < a.cost and b.error < a.error and not equal(a, b)]
    if worse_than:
        b = min(worse_than, key=lambda b: b.error)
        said.append(f"{b.name} is faster ({b.cost:.3g} µs) and more accurate ({b.error:.3g} {unit})")
    reach = measured["receptive_field_A"][k]
    if task.charges and not a.long_range:
        beyond = "an Ewald sum" if task.periodic else "a Coulomb sum"
        said.append(f"sees nothing beyond {reach:.3g} Å: charges need {beyond} beside it")
    if task.reactive:
        seconds = measured["training_processor_s"][k]
        said.append(f"trained in {seconds:.3g} s of processor time, which each cycle of new labels repeats")
    if task.atoms >= LARGE:
        said.append(f"processes that share the atoms exchange those within {reach:.3g} Å")
    return said


def as_record(task: Task, measured: Record, advice: Sequence[Advice]) -> Record:
    """The advice as a table, with what the numbers were measured on."""
    rows = tuple(
        (k + 1, a.name, "yes" if a.fits else "no", "; ".join(a.reasons)) for k, a in enumerate(advice)
    )
    elements = "-".join(measured["elements"])
    notes = [
        f"Numbers: {elements}, {measured['n_training']} training and {measured['n_test']} test frames "
        f"({measured['level_of_theory']}); costs at {measured['n_atoms_timed']} atoms. On other data, and "
        "with longer training, the order can differ: run examples/compare_families on yours and give its "
        "table.",
    ]
    if task.reactive:
        notes.append(
            "Reactive: train several members and label what they disagree about; none of these errors was "
            "measured on bonds that break."
        )
    if task.charges and not any(a.long_range for a in advice):
        notes.append("Charges: no family of this table has long-range interactions.")
    return Record(
        name="advice",
        title="Families for the task",
        values={**vars(task), "ms_per_step": task.ms_per_step, "ranked": [a.name for a in advice]},
        tables=(Table(title="Best first", columns=("place", "family", "in time", "reasons"), rows=rows),),
        notes=tuple(notes),
        provenance=dict(measured.provenance),
    )
