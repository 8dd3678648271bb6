"""Run a grid of conditions, temperature by pressure by replica, and tabulate its averages with error bars."""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rikiba import config

from . import arguments as common
from .progress import progress

TABLES = ("structure", "potential", "calculator", "ensemble", "grid")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)


def execute(arguments: argparse.Namespace) -> None:
    from rikiba.campaigns.grid import Bath, Grid
    from rikiba.campaigns.screening import screen

    from . import sources
    from .output import write_run

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    grid = config.build(Grid, tables.get("grid", {}), where="[grid]")
    ensemble = {"kind": "langevin" if grid.pressure_GPa is None else "npt", **tables.get("ensemble", {})}
    settings = {k: v for k, v in ensemble.items() if k != "kind"}
    bath = Bath(kind=ensemble["kind"], settings=settings, pressured=grid.pressure_GPa is not None)
    bath(grid.conditions(1))  # what it refuses is said before any work
    frames = sources.structures(tables.get("structure", {}), folder)
    make = partial(sources.calculator, tables, folder.absolute())
    make()
    with progress() as show:
        record = screen(make, frames, bath, grid, out=out, energies=_identity(tables, folder), progress=show)
    rooms = {"grid": Grid, "ensemble": None}  # the ensemble's temperature is not in its table
    write_run(
        arguments, {**tables, "ensemble": ensemble}, [record], out, rooms=rooms, seeds={"grid": grid.seed}
    )


def _identity(tables: Mapping[str, Any], folder: Path) -> str:
    """What gives the energies: the table, and the bytes of every file that it names."""
    from rikiba.campaigns.grid import digest
    from rikiba.execution.manifest import digest as digest_of_file

    from .output import input_files

    table = {name: tables[name] for name in ("potential", "calculator") if name in tables}
    return digest([table, [digest_of_file(f) for f in input_files(table, folder)]])
