"""Search for the lowest minima, by basin hopping or among random crystals: minima.xyz, ranked."""

import argparse

from rikiba import config
from rikiba.config import ConfigError

from . import arguments as common
from .progress import progress

TABLES = ("structure", "potential", "calculator", "search")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the folder's state")


def execute(arguments: argparse.Namespace) -> None:
    from rikiba.core.system import System
    from rikiba.data.extxyz import write_frame

    from . import sources
    from .output import write_run

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    search = config.build_kind("relaxation.searches", tables.get("search", {}), where="[search]")
    if search.needs_structure != ("structure" in tables):
        raise ConfigError(
            "This search starts from a structure: give a table [structure]."
            if search.needs_structure
            else "This search makes its own structures: leave the table [structure] out."
        )
    system = None
    if search.needs_structure:
        system = System.from_ase(sources.structures(tables["structure"], folder))
    calculator = sources.calculator(tables, folder)
    with progress() as show:
        minima = search.search(
            calculator,
            system,
            file=out / "search.json",
            resume=arguments.resume,
            progress=lambda done, total: show("Search", done, total),
        )
    record = minima.record()
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "minima.xyz", "w", encoding="utf-8") as file:
        for atoms in minima.to_ase():
            write_frame(file, atoms, atoms.info, {})
    write_run(arguments, tables, [record], out, rooms={"search": "relaxation.searches"})
