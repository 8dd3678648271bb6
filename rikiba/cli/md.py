"""Run molecular dynamics of one or many copies of a structure."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rikiba import config

from . import arguments as common
from .progress import progress

TABLES = (
    "structure", "potential", "calculator", "reference", "ensemble", "constraint", "md", "limits", "reporter",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")


def execute(arguments: argparse.Namespace) -> None:
    from rikiba.md.limits import Limits

    from . import sources
    from .output import write_run
    from .simulation import Settings, simulate

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    mistakes = config.Mistakes()
    mistakes.among(config.check_tables, tables, TABLES)
    settings = mistakes.among(config.build, Settings, tables.get("md", {}), where="[md]")
    ensemble = mistakes.among(
        config.build_kind, "md.ensembles", tables.get("ensemble", {}), where="[ensemble]"
    )
    limits = mistakes.among(config.build, Limits, tables.get("limits", {}), where="[limits]")
    reporters = mistakes.among(_reporters, tables.get("reporter", {}), out)
    frames = mistakes.among(sources.structures, tables.get("structure", {}), folder)
    constraints = mistakes.among(sources.constraints, tables)
    source = mistakes.among(sources.calculator_or_reference, tables, folder)
    mistakes.check()
    calculator, level = source
    with progress() as show:
        record = simulate(
            calculator,
            frames,
            ensemble,
            settings,
            constraints=constraints,
            out=out,
            resume=arguments.resume,
            level_of_theory=level,
            show=show,
            limits=limits,
            reporters=reporters,
        )
    rooms = {"md": Settings, "limits": Limits}
    write_run(arguments, tables, [record], out, rooms=rooms, seeds={"md": settings.seed})


def _reporters(tables: Any, out: Path) -> list[Any]:
    """Those of the tables [reporter.NAME], with their files in the folder of the run."""
    if not isinstance(tables, Mapping):
        raise config.ConfigError(f"Reporters are tables [reporter.NAME]; given {tables!r}.")
    mistakes = config.Mistakes()
    found = [
        mistakes.among(
            config.build_kind, "md.reporters", _placed(table, out), where=f"[reporter.{name}]", default=name
        )
        for name, table in tables.items()
    ]
    mistakes.check()
    return found


def _placed(table: Any, out: Path) -> Any:
    """The table of a reporter with its file in the folder of the run."""
    if not isinstance(table, Mapping) or "path" not in table:
        return table
    return {**table, "path": str(out / str(table["path"]))}
