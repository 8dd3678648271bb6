"""Train the models of a file: its frames and its training, without what `run` does afterwards."""

import argparse

from . import arguments as common
from .progress import progress


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)


def execute(arguments: argparse.Namespace) -> None:
    from rikiba.pipeline.fitting import fit
    from rikiba.pipeline.frames import frames
    from rikiba.pipeline.plan import Plan

    from .output import write_run

    tables, out = common.load_config(arguments), common.out_folder(arguments)
    plan = Plan.of(tables, arguments.file.parent)
    with progress() as show:
        found = frames(plan, out, show)
        models = fit(plan, found, out, show)
    records = [*found.records, *(r for model in models for r in model.records)]
    write_run(arguments, tables, records, out, seeds={"run": plan.run.seed})
    for model in models:
        print(f"{model.name}: {', '.join(map(str, model.files))}")
