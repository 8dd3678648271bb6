"""Relax structures to the nearest minimum, with or without their cells: relaxed.xyz."""

import argparse

from rikiba import config

from . import arguments as common
from .progress import progress

TABLES = ("structure", "potential", "calculator", "relaxation")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)


def execute(arguments: argparse.Namespace) -> None:
    from ase.io import write

    from rikiba.core.system import System

    from . import sources
    from .output import write_run

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    minimiser = config.build_kind(
        "relaxation", tables.get("relaxation", {}), where="[relaxation]", default="lbfgs"
    )
    system = System.from_ase(sources.structures(tables.get("structure", {}), folder))
    calculator = sources.calculator(tables, folder)
    with progress() as show:
        relaxed = minimiser.relax(
            calculator, system, progress=lambda done, most: show("Relaxation", done, most)
        )
    out.mkdir(parents=True, exist_ok=True)
    write(out / "relaxed.xyz", relaxed.to_ase(), format="extxyz")
    write_run(arguments, tables, [relaxed.record()], out)
    relaxed.require_converged()
