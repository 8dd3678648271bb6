"""Arguments that every verb with a configuration takes."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from rikiba import config


def add_config(parser: argparse.ArgumentParser) -> None:
    """The file, `--set` and `--out`."""
    parser.add_argument("file", type=Path, help="configuration, TOML")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="TABLE.KEY=VALUE",
        help="change one value of the file; may be repeated",
    )
    parser.add_argument("--out", type=Path, help="folder to write (default runs/NAME of the file)")


def load_config(arguments: argparse.Namespace) -> dict[str, Any]:
    """The file's tables with the settings put in."""
    return config.apply_settings(config.read(arguments.file), arguments.settings)


def out_folder(arguments: argparse.Namespace) -> Path:
    """The folder that the run writes, not made yet. Raises ConfigError where it cannot be written."""
    out: Path = arguments.out or Path("runs") / arguments.file.stem
    try:
        there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise config.ConfigError(
            f"The folder '{out}' cannot be written: {error.strerror}. Name another with --out FOLDER."
        ) from error
    return out
