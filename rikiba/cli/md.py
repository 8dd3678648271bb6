"""Run molecular dynamics of one or many copies of a structure."""

import argparse

from rikiba import config

from . import arguments as common
from .progress import progress

TABLES = ("structure", "potential", "calculator", "ensemble", "md")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")


def execute(arguments: argparse.Namespace) -> None:
    from . import sources
    from .output import write_run
    from .simulation import simulate

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    with progress() as show:
        computed = {
            "calculator": sources.calculator(tables, folder),
            "frames": sources.structures(tables.get("structure", {}), folder),
            "ensemble": config.build_kind("md.ensembles", tables.get("ensemble", {}), where="[ensemble]"),
            "out": out,
            "resume": arguments.resume,
            "show": show,
        }
        record = config.build(simulate, tables.get("md", {}), where="[md]", computed=computed)
    write_run(arguments, tables, [record], out, seeds={"md": tables.get("md", {}).get("seed", 0)})
