"""Stage: labelled frames, explored and labelled by a reference or read from files, divided without leaks."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from ase import Atoms

from rikiba.active.explorers.base import Explorer
from rikiba.calculators.ase import FromASE
from rikiba.core.record import Record, Table
from rikiba.data.checks import check_dataset
from rikiba.data.dataset import Dataset
from rikiba.data.formats import from_ase, read, write
from rikiba.data.splits import find_leaks, split_by_group
from rikiba.data.statistics import computed_arguments
from rikiba.data.streaming import open_store, write_store
from rikiba.execution.processes import Job, run_jobs
from rikiba.execution.progress import Progress
from rikiba.potentials.base import Potential
from rikiba.reference.base import Failure, Reference
from rikiba.reference.cache import Cached
from rikiba.reference.isolated_atoms import isolated_atoms
from rikiba.training.fixed_terms import left_to_learn

from .plan import Plan

PARTS = ("training", "validation", "test")


@final
@dataclass(frozen=True, kw_only=True)
class Frames:
    """The divided data and what is known about it; parts are stores, which processes can share."""

    training: Dataset
    validation: Dataset
    test: Dataset
    isolated: dict[str, float] | None
    records: tuple[Record, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the training and validation structures and labels."""
        sha = hashlib.sha256()
        for frame in (*self.training, *self.validation):
            for tensor in (
                frame.system.numbers,
                frame.system.positions,
                frame.system.cell,
                frame.results.energy,
            ):
                if tensor is not None:
                    sha.update(np.ascontiguousarray(tensor.numpy()).tobytes())
            if frame.results.forces is not None:
                sha.update(np.ascontiguousarray(frame.results.forces.numpy()).tobytes())
        return sha.hexdigest()

    def computed_arguments(self, cutoff: float, potential: Potential) -> dict[str, Any]:
        """What the training data says about a potential's constructor, less a sum's terms that do not learn.

        Where E0 come from isolated atoms the shift is 0: a shift would give an isolated atom another energy
        than its E0.
        """
        left = left_to_learn(potential, self.training)
        found = computed_arguments(left, cutoff, isolated=self.isolated)
        return found if self.isolated is None else found | {"shift": 0.0}


def frames(plan: Plan, out: Path, progress: Progress) -> Frames:
    """Get, check and divide the data; everything found is in the records, nothing is repaired in silence."""
    if plan.data is not None:
        found = _from_files(plan)
    else:
        found = _explored(plan, out, progress)
    folder = out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    stored: dict[str, Dataset] = {}
    for name in PARTS:
        part: Dataset = getattr(found, name)
        stored[name] = part
        if len(part):
            write(folder / f"{name}.xyz", part)
            write_store(part, folder / f"{name}.store")
            stored[name] = open_store(folder / f"{name}.store")
    return replace(found, training=stored["training"], validation=stored["validation"], test=stored["test"])


def explore_and_label(
    explorer: Explorer,
    reference: Reference,
    seeds: Sequence[Atoms],
    number: int,
    total: int,
    progress: Progress,
) -> list[Atoms | Failure]:
    """One piece of exploration with the reference itself as calculator; top-level, so that it can be sent."""
    calculator = FromASE(reference.ase_calculator())  # type: ignore[attr-defined]
    found = explorer.explore(calculator, seeds)
    answers = reference.label(found)
    progress(f"Labelled {len(answers)} frames, part {number} of {total}")
    return answers


def _explored(plan: Plan, out: Path, progress: Progress) -> Frames:
    assert plan.reference is not None and plan.structure is not None
    reference = Cached(reference=plan.reference, folder=out / "labels")
    progress(f"Exploring with {reference.level_of_theory}")
    answers: list[Atoms | Failure] = []
    seeds: list[Atoms] = [plan.structure]
    for explorer in plan.explorers:
        parts = explorer.parts()
        jobs = [
            Job(explore_and_label, (part, reference, seeds, k + 1, len(parts)))
            for k, part in enumerate(parts)
        ]
        new = [a for part in run_jobs(jobs, workers=plan.run.processes, progress=progress) for a in part]
        answers += new
        seeds = [a for a in answers if isinstance(a, Atoms)]
    good = [a for a in answers if isinstance(a, Atoms)]
    if not good:
        reasons = {a.reason for a in answers if isinstance(a, Failure)}
        raise ValueError(f"No frame could be labelled: {'; '.join(sorted(reasons)[:3])}.")
    everything = from_ase(good)
    isolated = isolated_atoms(reference, everything.elements)
    division = split_by_group(
        everything,
        validation_fraction=plan.split.validation_fraction,
        test_fraction=plan.split.test_fraction,
        seed=plan.split.seed,
    )
    label_record = _label_record(answers, everything, isolated, reference.level_of_theory)
    return _checked(division.training, division.validation, division.test, isolated, (label_record,))


def _from_files(plan: Plan) -> Frames:
    data = plan.data
    assert data is not None
    options: dict[str, Any] = {
        "level_of_theory": data.level_of_theory,
        "energy_key": data.energy_key,
        "forces_key": data.forces_key,
        "stress_key": data.stress_key,
        "group_key": data.group_key,
    }
    parts = {k: read(p, **options) for k in PARTS if (p := getattr(data, k))}
    training = parts["training"]
    fractions = {
        k: 0.0 if k in parts else getattr(plan.split, f"{k}_fraction") for k in ("validation", "test")
    }
    if any(fractions.values()):  # what the user divided is used as given
        division = split_by_group(
            training,
            validation_fraction=fractions["validation"],
            test_fraction=fractions["test"],
            seed=plan.split.seed,
        )
        training = division.training
        parts = {"validation": division.validation, "test": division.test} | parts
    empty = Dataset([])
    return _checked(
        training, parts.get("validation", empty), parts.get("test", empty), data.isolated_atoms, ()
    )


def _checked(
    training: Dataset,
    validation: Dataset,
    test: Dataset,
    isolated: dict[str, float] | None,
    records: tuple[Record, ...],
) -> Frames:
    everything = training + validation + test
    leaks = find_leaks(
        {k: d for k, d in {"training": training, "validation": validation, "test": test}.items() if len(d)}
    )
    return Frames(
        training=training,
        validation=validation,
        test=test,
        isolated=isolated,
        records=(*records, check_dataset(everything), leaks, _division(training, validation, test)),
    )


def _division(training: Dataset, validation: Dataset, test: Dataset) -> Record:
    parts = {"training": training, "validation": validation, "test": test}
    rows = tuple(
        (name, len(d), len(d.groups), sum(f.system.n_atoms for f in d), ", ".join(d.levels_of_theory))
        for name, d in parts.items()
    )
    return Record(
        name="division",
        title="Division of the data",
        values={f"n_{name}": len(d) for name, d in parts.items()},
        tables=(
            Table(title="Parts", columns=("part", "frames", "groups", "atoms", "level of theory"), rows=rows),
        ),
        notes=("Frames of one group (a trajectory, a parent structure) stand on one side only.",),
    )


def _label_record(
    answers: Sequence[Atoms | Failure], data: Dataset, isolated: dict[str, float], level: str
) -> Record:
    failures = [a for a in answers if isinstance(a, Failure)]
    per_group = Counter(f.group for f in data)
    rows = tuple((group, n) for group, n in sorted(per_group.items()))
    reasons = tuple((reason, n) for reason, n in Counter(f.reason for f in failures).most_common())
    listed = [Table(title="Frames of each group", columns=("group", "frames"), rows=rows)]
    if reasons:
        listed.append(Table(title="Failures", columns=("reason", "number"), rows=reasons))
    return Record(
        name="labels",
        title=f"Labels at {level}",
        values={
            "level_of_theory": level,
            "n_labelled": len(data),
            "n_failures": len(failures),
            **{f"E0_{s}_eV": e for s, e in isolated.items()},
        },
        tables=tuple(listed),
        notes=("A label that cannot be right is a failure and never enters the data.",),
    )
