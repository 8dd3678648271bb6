"""The physics battery: every check on any potential or calculator, as one Record."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator

from rikiba.calculators.base import Calculator
from rikiba.core.record import Figure, Record, Table
from rikiba.potentials.base import Potential

from . import derivatives, locality, precision, short_range, smoothness, symmetries
from .checks import Check, Precision, Subject, default_structures, named

One = Callable[[Subject, Atoms], Check | list[Check]]

PER_STRUCTURE: dict[str, One] = {
    "force_consistency": derivatives.force_consistency,
    "closed_path": derivatives.closed_path,
    "stress_consistency": derivatives.stress_consistency,
    "hessian": derivatives.hessian_consistency,
    "net_force": derivatives.net_force_and_torque,
    "translation": symmetries.translation,
    "rotation": symmetries.rotation,
    "permutation": symmetries.permutation,
    "periodicity": symmetries.periodicity,
}
"""Checks made on every structure."""

ONCE: dict[str, One] = {
    "additivity": locality.additivity,
    "isolated_atoms": locality.isolated_atoms,
    "local_energies": locality.local_energies,
    "at_cutoff": smoothness.at_cutoff,
    "along_path": smoothness.along_path,
    "precision": precision.single_against_double,
    "hot_dynamics": short_range.hot_dynamics,
}
"""Checks made on the first structure."""

ALL = (*PER_STRUCTURE, *ONCE, "short_range", "cost")
"""Names of all checks."""

ASKED_FOR = ("hot_dynamics", "cost")
"""Made only where asked for, by name or as 'all': dynamics that takes its time, and a timing."""

REARRANGING = (
    "permutation",
    "additivity",
    "isolated_atoms",
    "local_energies",
    "at_cutoff",
    "along_path",
    "short_range",
)
"""Checks that list, separate or take away atoms, which those of a fixed topology do not allow."""

DEFAULT = tuple(n for n in ALL if n not in ASKED_FOR)


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """The names, or every name for just 'all'. Raises ValueError for a name that is not in `ALL`."""
    wanted = tuple(names)
    if wanted == ("all",):
        return ALL
    unknown = [n for n in wanted if n not in ALL]
    if unknown:
        raise ValueError(f"There is no check '{unknown[0]}'; known are {', '.join(ALL)}, or just 'all'.")
    return wanted


def run_checks(
    subject: Subject, structures: Mapping[str, Atoms], names: Iterable[str] = DEFAULT
) -> tuple[list[Check], list[Figure]]:
    """Every named check; a check that the calculator cannot go through fails with the error as its note."""
    wanted = chosen(names)
    checks: list[Check] = []
    figures: list[Figure] = []
    first = next(iter(structures.items()))
    crystals = [item for item in structures.items() if item[1].pbc.all()]
    fixed = subject.potential is not None and subject.potential.fixed_topology
    for name in wanted:
        if fixed and name in REARRANGING:
            checks.append(Check.skipped(name, "atoms of a fixed topology keep their order and neighbours"))
        elif name in PER_STRUCTURE:
            for label, atoms in structures.items():
                checks += _made(name, PER_STRUCTURE[name], subject, label, atoms)
        elif name in ONCE:
            checks += _made(name, ONCE[name], subject, *first)
        elif name == "cost":
            checks += _made(name, locality.cost, subject, *(crystals[0] if crystals else first))
        else:
            symbols = sorted({s for a in structures.values() for s in a.get_chemical_symbols()})
            found, figure = short_range.dimer_scans(subject, symbols)
            checks += found
            figures.append(figure)
    return checks, figures


def _made(name: str, check: One, subject: Subject, label: str, atoms: Atoms) -> list[Check]:
    try:
        found = check(subject, atoms)
    except (ArithmeticError, RuntimeError, ValueError) as error:
        text = f"{type(error).__name__}: {error}"
        return [Check(name=name, passed=False, value=float("nan"), threshold=0.0, structure=label, note=text)]
    return [replace(c, structure=label) for c in ([found] if isinstance(found, Check) else found)]


def physics_battery(
    model: Potential | Calculator | AseCalculator,
    structures: Mapping[str, Atoms] | Sequence[Atoms] | None = None,
    *,
    checks: Sequence[str] | None = None,
    elements: Sequence[str] | None = None,
    cutoff: float | None = None,
    receptive_field: float | None = None,
    precision: Precision | None = None,
    name: str = "",
) -> Record:
    """Physics that any potential must obey, checked on `model`; the verdict is 'fail' if one check fails.

    Args:
        model: a rikiba potential or calculator, or an ASE calculator.
        structures: what to check on, of the kind it is meant for; random ones of its elements if not given.
        checks: names from `ALL`, or just "all"; `DEFAULT`, all but hot_dynamics and cost, if not given.
        elements: needed where no structures are given and the calculator does not tell.
        cutoff: Å, for calculators that do not tell; the scan through the cutoff needs it.
        receptive_field: Å, likewise.
        precision: 'float64', 'float32' or 'iterative' (self-consistent), which sets the thresholds.
        name: what to call the model.
    """
    subject = Subject.of(
        model,
        elements=elements,
        cutoff=cutoff,
        receptive_field=receptive_field,
        precision=precision,
        name=name,
    )
    found = structures_for(subject) if structures is None else named(structures)
    if not found:
        raise ValueError("The physics battery needs at least one structure.")
    made, figures = run_checks(subject, found, DEFAULT if checks is None else checks)
    return as_record(subject, made, figures)


def structures_for(subject: Subject) -> dict[str, Atoms]:
    """What to check on where nothing is given: the potential's own structures, or random ones."""
    own = None if subject.potential is None else subject.potential.trial_structures()
    cutoff = subject.cutoff or None  # 0 of what reads positions alone
    return default_structures(subject.elements, cutoff) if own is None else named(own)


def as_record(subject: Subject, checks: Sequence[Check], figures: Sequence[Figure] = ()) -> Record:
    """Checks as a Record: one table, the worst result of each check among the values."""
    words = ("fail", "pass", "not applicable")
    verdicts = {
        n: min((c.word for c in checks if c.name == n), key=words.index)
        for n in dict.fromkeys(c.name for c in checks)
    }
    failed = [n for n, v in verdicts.items() if v == "fail"]
    rows = tuple((c.name, c.structure, c.word, c.value, c.threshold, c.unit, c.note) for c in checks)
    notes = [f"Thresholds are those of a {subject.precision} calculator."]
    notes += [f"Failed: {', '.join(failed)}."] if failed else []
    return Record(
        name="physics",
        title=f"Physics battery: {subject.name}",
        values={
            "n_passed": sum(c.passed is True for c in checks),
            "n_failed": sum(c.passed is False for c in checks),
            "n_not_applicable": sum(c.passed is None for c in checks),
            "precision": subject.precision,
            "verdicts": [f"{n}: {v}" for n, v in verdicts.items()],
            "failed": failed,
        },
        tables=(
            Table(
                title="Checks",
                columns=("check", "structure", "verdict", "value", "threshold", "unit", "note"),
                rows=rows,
            ),
        ),
        figures=tuple(figures),
        notes=tuple(notes),
        verdict="fail" if failed else "pass",
    )
