"""Print the names that a configuration can use, room by room."""

import argparse

from rikiba import config


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("room", nargs="?", help="one room only, e.g. potentials")


def execute(arguments: argparse.Namespace) -> None:
    print(config.listing(arguments.room), end="")
