"""Answer questions about a structure, or about a trajectory: one table [property.NAME] for each."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rikiba import config
from rikiba.config import ConfigError
from rikiba.core.record import Record

from . import arguments as common
from .progress import progress

TABLES = ("structure", "potential", "calculator", "trajectory", "property")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)


def execute(arguments: argparse.Namespace) -> None:
    from .output import write_run
    from .sources import TrajectoryFile

    tables, out = common.load_config(arguments), common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    questions = {
        name: config.build_kind("properties", table, where=f"[property.{name}]", default=name)
        for name, table in tables.get("property", {}).items()
    }
    if not questions:
        raise ConfigError("There is no question; write a table such as [property.eos].")
    with progress() as show:
        records = []
        for k, (name, question) in enumerate(questions.items()):
            show("Properties", k, len(questions))
            records.append(answer(name, question, tables, arguments.file.parent))
        show("Properties", len(questions), len(questions))
    write_run(arguments, tables, records, out, rooms={"trajectory": TrajectoryFile})


def answer(name: str, question: Any, tables: Mapping[str, Any], folder: Path) -> Record:
    """The record of one property, with the spread over members where there are several."""
    from rikiba.properties.members import over_members

    from .sources import TrajectoryFile, calculators, structures

    if not hasattr(question, "compute"):
        _need(tables, "trajectory", name)
        file = config.build(TrajectoryFile, tables["trajectory"], where="[trajectory]")
        analysed: Record = question.analyse(file.read(folder))
        return analysed
    _need(tables, "structure", name)
    members, atoms = calculators(tables, folder), structures(tables["structure"], folder)
    if len(atoms) > 1:
        raise ConfigError(
            f"[structure] has {len(atoms)} frames; [property.{name}] answers for one: give index."
        )
    if len(members) > 1:
        return over_members(question, members, atoms[0])
    computed: Record = question.compute(members[0], atoms[0])
    return computed


def _need(tables: Mapping[str, Any], role: str, name: str) -> None:
    if role not in tables:
        raise ConfigError(f"[property.{name}] needs a table [{role}].")
