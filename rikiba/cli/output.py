"""What every verb leaves in its folder: records, a page, the resolved file, a manifest, citations."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rikiba import config
from rikiba.core.record import Record

from .sources import names_file, publisher

ROOMS: Mapping[str, Any] = {
    "structure": "data.structures",
    "potential": "potentials",
    "reference": "reference",
    "ensemble": "md.ensembles",
    "constraint": "md.constraints",
    "relaxation": "relaxation",
    "property.*": "properties",
    "protocol": "campaigns.protocols",
    "reporter.*": "md.reporters",
}
"""Role of a table → room of its kinds."""


def write_run(
    arguments: argparse.Namespace,
    tables: Mapping[str, Any],
    records: Sequence[Record],
    out: Path,
    *,
    rooms: Mapping[str, Any] | None = None,
    seeds: Mapping[str, int] | None = None,
) -> None:
    """Write the folder of a finished run and print where it is; a role whose room is None stays as given."""
    from rikiba.core.citations import bibtex
    from rikiba.execution.manifest import make_manifest
    from rikiba.report import write_page, write_records

    out.mkdir(parents=True, exist_ok=True)
    known = {role: room for role, room in ROOMS.items() if not _stays_as_given(tables.get(role))}
    if (find := publisher(tables.get("potential"))) is not None:
        known["potential"] = find
    known = {role: room for role, room in {**known, **(rooms or {})}.items() if room is not None}
    (out / "resolved.toml").write_text(config.resolved(tables, known), encoding="utf-8")
    inputs = [arguments.file, *input_files(tables, arguments.file.parent)]
    make_manifest(inputs=inputs, seeds=seeds, command=command(arguments)).save(out)
    write_records(records, out / "records")
    (out / "citations.bib").write_text(bibtex(d for r in records for d in r.references), encoding="utf-8")
    write_page(records, out / "report.html", title=f"rikiba {arguments.verb}", subtitle=str(arguments.file))
    for record in records:
        print(summary(record))
    print(f"Written: {out / 'report.html'}", file=sys.stderr)


def command(arguments: argparse.Namespace) -> list[str]:
    """The command line that makes this run again."""
    settings = [word for s in arguments.settings for word in ("--set", s)]
    out = ["--out", str(arguments.out)] if arguments.out else []
    physics = ["--physics"] if getattr(arguments, "physics", False) else []
    return ["rikiba", arguments.verb, str(arguments.file), *settings, *out, *physics]


def input_files(content: Any, folder: Path) -> Iterator[Path]:
    """Every file that a configuration names."""
    if isinstance(content, Mapping):
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from input_files(item, folder)
    elif isinstance(content, str) and len(content) < 1000 and (folder / content).is_file():
        yield folder / content


def summary(record: Record) -> str:
    """A record's title, verdict, numbers and remarks, for a terminal."""
    from rikiba.report import split_key, value_text

    lines = [record.title + (f": {record.verdict}" if record.verdict else "")]
    for key, value in record.values.items():
        if isinstance(value, (list, tuple)) and (len(value) > 12 or any(isinstance(v, list) for v in value)):
            continue
        name, unit = split_key(key)
        text = value_text(value, record.spread.get(key))
        lines.append(f"  {name}: {text}{f' {unit}' if unit else ''}")
    return "\n".join([*lines, *(f"  Note: {note}" for note in record.notes)])


def _stays_as_given(table: Any) -> bool:
    """True for what no constructor reads: all frames of a file, checkpoints, other programs' parameters."""
    if not isinstance(table, Mapping):
        return False
    return table.get("index") == "all" or "checkpoint" in table or names_file(table)
