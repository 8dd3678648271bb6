"""Print a commented TOML table: every key with its type, default and meaning."""

import argparse
from typing import Any

from rikiba import config


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", help="e.g. potential, property, simulation, data")
    parser.add_argument("kind", nargs="?", help="e.g. lennard_jones, where a table has kinds")


def execute(arguments: argparse.Namespace) -> None:
    word, kind = arguments.table, arguments.kind
    plain = plain_tables()
    if kind is None and word in plain:
        print(config.explain_table(*plain[word]), end="")
        return
    try:
        room = config.find_room(word)
    except config.ConfigError as error:
        raise config.ConfigError(f"{error} Tables without a kind are {', '.join(plain)}.") from error
    if kind is None:
        print(config.listing(room) + f"\n`rikiba explain {word} NAME` prints the keys of one.")
    else:
        print(config.explain(room, kind), end="")


def plain_tables() -> dict[str, tuple[str, Any]]:
    """Word → the table's heading and the class that reads it, for tables that have no `kind`."""
    from rikiba.pipeline.parts import Transfer
    from rikiba.pipeline.plan import (
        Comparison,
        DataFiles,
        MolecularDynamicsPlan,
        Published,
        Run,
        Split,
        Validation,
    )
    from rikiba.training.gaussian_process import SparseGaussianProcess
    from rikiba.training.least_squares import LeastSquares
    from rikiba.training.separable import SeparableLeastSquares
    from rikiba.training.trainer import Trainer

    from .evaluate import Physics
    from .label import Settings as LabelSettings
    from .mc import Settings as MonteCarloSettings
    from .simulation import Settings as DynamicsSettings
    from .sources import TrajectoryFile

    return {
        "run": ("run", Run),
        "data": ("data", DataFiles),
        "split": ("split", Split),
        "training": ("model.NAME.training", Trainer),
        "least_squares": ("model.NAME.training", LeastSquares),
        "separable_least_squares": ("model.NAME.training", SeparableLeastSquares),
        "sparse_gaussian_process": ("model.NAME.training", SparseGaussianProcess),
        "validation": ("validation", Validation),
        "comparison": ("comparison", Comparison),
        "transfer": ("transfer", Transfer),
        "simulation": ("simulation", MolecularDynamicsPlan),
        "published": ("published", Published),
        "md": ("md", DynamicsSettings),
        "mc": ("mc", MonteCarloSettings),
        "label": ("label", LabelSettings),
        "physics": ("physics", Physics),
        "trajectory": ("trajectory", TrajectoryFile),
    }
