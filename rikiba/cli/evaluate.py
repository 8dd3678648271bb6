"""Compare a potential with labelled frames, or (--physics) test what any potential must obey."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from rikiba import config
from rikiba.config import ConfigError
from rikiba.core.record import Record

from . import arguments as common

TABLES = ("potential", "calculator", "data", "structure", "physics")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)
    parser.add_argument("--physics", action="store_true", help="run the physics battery as well")


def execute(arguments: argparse.Namespace) -> None:
    from .output import write_run

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    records = [errors_on(tables, folder)] if "data" in tables else []
    if arguments.physics:
        records.append(physics(tables, folder))
    if not records:
        raise ConfigError(
            "There is nothing to evaluate: give a table [data] with labelled frames, or --physics."
        )
    rooms = {"physics": Physics}
    write_run(arguments, tables, records, out, rooms=rooms)


@final
@dataclass(frozen=True, kw_only=True)
class Physics:
    """The table [physics].

    Args:
        checks: names of checks, or just "all"; all but hot_dynamics (5000 K) and cost (a timing).
        elements: needed where no [structure] is given and the calculator does not tell.
        cutoff: Å, for a calculator that does not tell its own.
        precision: sets the thresholds; the calculator's own if not given.
    """

    checks: tuple[str, ...] | None = None
    elements: tuple[str, ...] | None = None
    cutoff: float | None = None
    precision: Literal["float64", "float32", "iterative"] | None = None


def errors_on(tables: Mapping[str, Any], folder: Path) -> Record:
    """Errors on the frames of [data], whose keys are those of `rikiba.read`."""
    from rikiba.data.formats import read
    from rikiba.validation.errors import errors

    from .sources import calculator

    table = tables["data"]
    if "path" not in table:
        raise ConfigError("[data] lacks 'path', the file of labelled frames.")
    given = table["path"] if isinstance(table["path"], list) else [table["path"]]
    dataset = config.build(read, {**table, "path": [str(folder / p) for p in given]}, where="[data]")
    found: Record = errors(calculator(tables, folder), dataset)
    return found


def physics(tables: Mapping[str, Any], folder: Path) -> Record:
    """The physics battery on [structure], or on random structures of the potential's elements."""
    from rikiba.validation.battery import physics_battery

    from .sources import calculators, structures

    settings = config.build(Physics, tables.get("physics", {}), where="[physics]")
    frames = structures(tables["structure"], folder) if "structure" in tables else None
    return physics_battery(calculators(tables, folder)[0], frames, **vars(settings))
