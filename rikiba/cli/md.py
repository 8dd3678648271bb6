"""Run molecular dynamics of one or many copies of a structure."""

import argparse

from rikiba import config

from . import arguments as common
from .progress import progress

TABLES = ("structure", "potential", "calculator", "ensemble", "constraint", "md")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")


def execute(arguments: argparse.Namespace) -> None:
    from . import sources
    from .output import write_run
    from .simulation import Settings, simulate

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    settings = config.build(Settings, tables.get("md", {}), where="[md]")
    ensemble = config.build_kind("md.ensembles", tables.get("ensemble", {}), where="[ensemble]")
    frames = sources.structures(tables.get("structure", {}), folder)
    constraints = sources.constraints(tables)
    calculator = sources.calculator(tables, folder)
    with progress() as show:
        record = simulate(
            calculator,
            frames,
            ensemble,
            settings,
            constraints=constraints,
            out=out,
            resume=arguments.resume,
            show=show,
        )
    write_run(arguments, tables, [record], out, rooms={"md": Settings}, seeds={"md": settings.seed})
