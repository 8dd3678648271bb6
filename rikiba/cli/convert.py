"""Make a rikiba checkpoint of another program's file of weights; nothing in the file is ever run."""

import argparse
from pathlib import Path

from rikiba import config


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="weights of another program")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write, e.g. model.rikiba")
    parser.add_argument("--format", help="reader to use; found from the file's content if not given")
    precisions = ("float32", "float64")
    parser.add_argument("--precision", choices=precisions, default="float32", help="of its weights")
    parser.add_argument("--level-of-theory", default="", help="method of the labels that it was trained on")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="what the file does not say, e.g. elements or avg_num_neighbors; may be repeated",
    )


def execute(arguments: argparse.Namespace) -> None:
    import torch

    from rikiba.interop.foreign import build, read_foreign
    from rikiba.training.checkpoint import save_potential

    options = config.apply_settings({}, arguments.settings)
    if arguments.out.is_dir():
        raise config.ConfigError(f"--out '{arguments.out}' is a folder; name the file to write.")
    if arguments.out.exists() and arguments.out.samefile(arguments.file):
        raise config.ConfigError("--out is the file that is read; name another.")
    weights = read_foreign(arguments.file, format=arguments.format, options=options)
    potential = build(weights, getattr(torch, arguments.precision))
    save_potential(
        arguments.out,
        potential,
        level_of_theory=arguments.level_of_theory,
        converted_from=arguments.file.name,
    )
    n = sum(p.numel() for p in potential.parameters())
    print(f"{arguments.out}: {weights.class_name} of {len(potential.elements)} elements, {n:,} parameters")
