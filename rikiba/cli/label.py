"""Label structures with a reference engine: labelled.xyz, and failures.xyz for those without a label."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ase import Atoms

from rikiba import config
from rikiba.core.record import Record, Table
from rikiba.reference.base import Failure

from . import arguments as common
from .progress import progress

TABLES = ("structure", "reference", "label")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)


def execute(arguments: argparse.Namespace) -> None:
    from rikiba.reference.cache import Cached
    from rikiba.reference.processes import Parallel

    from . import sources
    from .output import write_run

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    frames = sources.structures(tables.get("structure", {}), folder)
    engine = config.build_kind("reference", tables.get("reference", {}), where="[reference]")
    settings = config.build(Settings, tables.get("label", {}), where="[label]")
    reference = Cached(reference=Parallel(reference=engine, workers=settings.processes), folder=out)
    with progress() as show:
        show(f"Labelling {len(frames)} structures with {reference.level_of_theory}")
        answers = reference.label(frames)
    record = write_answers(answers, reference.level_of_theory, out)
    write_run(arguments, tables, [record], out, rooms={"label": Settings})


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """The table [label]. Answers are kept in the folder's labels.sqlite, so that none is made twice.

    Args:
        processes: labels made at a time.
    """

    processes: int = 1


def write_answers(answers: Sequence[Atoms | Failure], level: str, out: Path) -> Record:
    """Write both files and count. Raises ValueError where nothing could be labelled."""
    from ase.io import write

    from rikiba.data.dataset import Dataset
    from rikiba.data.formats import write as write_labelled

    failures = [a for a in answers if isinstance(a, Failure)]
    good = [a for a in answers if isinstance(a, Atoms)]
    out.mkdir(parents=True, exist_ok=True)
    reasons = Counter(f.reason for f in failures)
    if failures:
        for failure in failures:
            failure.atoms.info["failure"] = failure.reason
        write(out / "failures.xyz", [f.atoms for f in failures], format="extxyz")
    if not good:
        raise ValueError(f"No structure could be labelled: {'; '.join(sorted(reasons)[:3])}.")
    write_labelled(out / "labelled.xyz", Dataset.from_ase(good))
    table = Table(title="Failures", columns=("reason", "number"), rows=tuple(reasons.most_common()))
    return Record(
        name="labels",
        title=f"Labels at {level}",
        values={"n_labelled": len(good), "n_failures": len(failures)},
        tables=(table,) if failures else (),
    )
