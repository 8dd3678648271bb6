"""Write the page of a run's records again, or one page of several runs."""

import argparse
from pathlib import Path

from rikiba.config import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="+", help="folder of a run, or its records/")
    parser.add_argument("--out", type=Path, help="file to write (default report.html in the first folder)")
    parser.add_argument("--title", default="", help="heading of the page")


def execute(arguments: argparse.Namespace) -> None:
    from rikiba.report import read_records, write_page

    records = []
    for folder in arguments.folder:
        if not folder.is_dir():
            raise ConfigError(f"There is no folder '{folder}'; give that of a run, e.g. runs/ethanol.")
        records += read_records(folder / "records" if (folder / "records").is_dir() else folder)
    out = arguments.out or arguments.folder[0] / "report.html"
    try:
        print(write_page(records, out, title=arguments.title or arguments.folder[0].resolve().name))
    except OSError as error:
        raise ConfigError(
            f"'{out}' cannot be written: {error.strerror}. Name another file with --out."
        ) from error
