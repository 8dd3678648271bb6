"""Run a whole pipeline from one file: label, train, validate, simulate, answer, report."""

import argparse

from . import arguments as common
from .progress import progress


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)


def execute(arguments: argparse.Namespace) -> None:
    from rikiba.pipeline.run import run_pipeline

    config = common.load_config(arguments)
    out = common.out_folder(arguments)
    with progress() as show:
        records = run_pipeline(config, out=out, source=arguments.file, progress=show)
    for record in records:
        print(f"{record.title}: {record.verdict or 'done'}")
    print(f"Results in {out}")
