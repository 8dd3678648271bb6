"""Label structures with a reference engine: labelled.xyz, and failures.xyz for those without a label."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from rikiba import config
from rikiba.core.record import Record, Table
from rikiba.reference.base import Failure, Reference

from . import arguments as common
from .progress import progress

TABLES = ("structure", "reference", "label")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)


def execute(arguments: argparse.Namespace) -> None:
    from . import sources
    from .output import write_run

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    frames = sources.structures(tables.get("structure", {}), folder)
    reference = config.build_kind("reference", tables.get("reference", {}), where="[reference]")
    reference = config.build(
        workers, tables.get("label", {}), where="[label]", computed={"reference": reference, "out": out}
    )
    with progress() as show:
        show(f"Labelling {len(frames)} structures with {reference.level_of_theory}")
        answers = reference.label(frames)
    write_run(arguments, tables, [write_answers(answers, reference.level_of_theory, out)], out)


def workers(*, reference: Reference, out: Path, processes: int = 1) -> Reference:
    """The reference in several processes, with its answers kept in the folder's labels.sqlite.

    Args:
        processes: labels made at a time.
    """
    from rikiba.reference.cache import Cached
    from rikiba.reference.processes import Parallel

    return Cached(reference=Parallel(reference=reference, workers=processes), folder=out)


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
