"""Print a commented TOML table: every key of a class with its type, default and meaning."""

import argparse

from rikiba import config


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("room", help="e.g. potential")
    parser.add_argument("name", help="e.g. lennard_jones; `rikiba list` prints them")


def execute(arguments: argparse.Namespace) -> None:
    print(config.explain(config.find_room(arguments.room), arguments.name), end="")
