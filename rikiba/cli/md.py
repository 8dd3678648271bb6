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
    config.check_tables(tables, TABLES)
    settings = config.build(Settings, tables.get("md", {}), where="[md]")
    ensemble = config.build_kind("md.ensembles", tables.get("ensemble", {}), where="[ensemble]")
    limits = config.build(Limits, tables.get("limits", {}), where="[limits]")
    reporters = [
        config.build_kind("md.reporters", _placed(table, out), where=f"[reporter.{name}]", default=name)
        for name, table in tables.get("reporter", {}).items()
    ]
    frames = sources.structures(tables.get("structure", {}), folder)
    constraints = sources.constraints(tables)
    calculator, level = sources.calculator_or_reference(tables, folder)
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


def _placed(table: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The table of a reporter with its file in the folder of the run."""
    return {**table, "path": str(out / str(table["path"]))} if "path" in table else dict(table)
