"""Carry out a course of simulations: melt and quench, deformation, deposition."""

import argparse

from rikiba import config
from rikiba.config import ConfigError

from . import arguments as common
from .progress import progress

TABLES = ("structure", "potential", "calculator", "protocol")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoints")


def execute(arguments: argparse.Namespace) -> None:
    from . import sources
    from .output import write_run

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    course = config.build_kind("campaigns.protocols", tables.get("protocol", {}), where="[protocol]")
    frames = sources.structures(tables.get("structure", {}), folder)
    if len(frames) != 1:
        raise ConfigError(f"[structure] has {len(frames)} frames; a protocol starts from one: give index.")
    calculator = sources.calculator(tables, folder)
    with progress() as show:
        records = course.run(calculator, frames[0], out=out, resume=arguments.resume, progress=show)
    write_run(arguments, tables, records, out, seeds={"protocol": course.seed})
