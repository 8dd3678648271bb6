"""Run a whole pipeline from one file: label or read, train, validate, answer, simulate, report."""

import argparse

from . import arguments as common
from .progress import progress


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)


def execute(arguments: argparse.Namespace) -> None:
    config, out = common.load_config(arguments), common.out_folder(arguments)

    from rikiba.pipeline.run import run_pipeline

    from .output import summary

    with progress() as show:
        records = run_pipeline(config, out=out, source=arguments.file, progress=show)
    print(summary(records[0]))
    print(f"Written: {out / 'report.html'}")
