"""The whole run, stage by stage; every stage leaves its records in the folder before the next begins."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rikiba import config as tables
from rikiba.core.citations import bibtex
from rikiba.core.record import Record
from rikiba.execution.manifest import make_manifest, save_times
from rikiba.execution.progress import Progress, silent
from rikiba.report.page import write_page
from rikiba.report.store import write_records

from .answers import answer
from .comparison import compare
from .dynamics import simulate
from .fitting import computed_for, fit
from .frames import Frames
from .frames import frames as get_frames
from .learning_curves import check_sizes, learning_curves
from .parts import Transfer
from .plan import (
    Comparison,
    DataFiles,
    MolecularDynamicsPlan,
    Plan,
    Published,
    Run,
    Split,
    Validation,
    with_shared_training,
)
from .transfer import parts_of, transfer

ROLES = {
    "run": Run,
    "structure": "data.structures",
    "reference": "reference",
    "explorer": "active.explorers",
    "data": DataFiles,
    "split": Split,
    "model.*.potential": "potentials",
    "validation": Validation,
    "comparison": Comparison,
    "transfer": Transfer,
    "property.*": "properties",
    "simulation": MolecularDynamicsPlan,
    "constraint": "md.constraints",
    "published": Published,
}
"""Table → the class, or the room whose `kind` names the class, that reads it."""

SECTIONS = {
    "Summary": ["comparison", "learning_curves", "transfer", "errors", "summary"],
    "Side by side": ["compare_*"],
    "Data": ["labels*", "division*", "leaks*", "label_checks*"],
    "Training": ["training_*"],
    "Validation": ["errors_*", "physics_*"],
    "Dynamics": ["nvt_*", "drift_*", "bond_length_comparison_*", "vdos_comparison_*", "md_*"],
    "Properties": ["*"],
}
"""Headings of the page and the records under them, by name."""


def run_pipeline(
    config: Mapping[str, Any], *, out: Path, source: Path, progress: Progress = silent
) -> list[Record]:
    """Carry out a configuration: frames, training, answers, dynamics; report and records in `out`.

    Labels already made and potentials already trained from the same inputs are used again, so that a run
    that was cut off goes on where it was. Raises ConfigError before any work for what cannot be done.
    """
    plan = Plan.of(config, source.parent)
    config = with_shared_training(config)
    out.mkdir(parents=True, exist_ok=True)
    inputs = [source] + [p for p in _files(plan) if p is not None]
    make_manifest(inputs=inputs, seeds={"run": plan.run.seed}).save(out)
    began, stages = time.time(), dict[str, float]()
    records: list[Record] = []

    def stage(name: str, work: Callable[[], Any]) -> Any:
        started = time.time()
        result = work()
        stages[name] = round(time.time() - started, 2)
        save_times(out, began, stages)
        return result

    def keep(new: Sequence[Record]) -> None:
        records.extend(new)
        write_records(records, out / "records")

    frames = stage("frames", lambda: get_frames(plan, out, progress))
    plan.check_elements(frames.training.elements)
    if plan.comparison is not None:
        check_sizes(plan.comparison.training_sizes, frames)
    parts = None if plan.transfer is None else parts_of(plan, plan.transfer, frames)
    keep(frames.records)
    (out / "resolved.toml").write_text(_resolved(config, plan, frames), encoding="utf-8")
    models = stage("training", lambda: fit(plan, frames, out, progress))
    keep([r for m in models for r in m.records])
    keep(stage("answers", lambda: answer(plan, frames, models, progress)))
    if (side_by_side := plan.comparison) is not None:
        keep(stage("comparison", lambda: [compare(plan, side_by_side, frames, models, progress)]))
        if sizes := side_by_side.training_sizes:
            keep(
                stage(
                    "learning_curves",
                    lambda: [learning_curves(plan, sizes, frames, models, out, progress)],
                )
            )
    if (between := plan.transfer) is not None and parts is not None:
        keep(stage("transfer", lambda: [transfer(plan, between, parts, frames, models, out, progress)]))
    if plan.simulation is not None:
        keep(stage("dynamics", lambda: simulate(plan, models, out, progress)))
    keep([_summary(plan, records, stages)])
    records.insert(0, records.pop())
    dois = {doi for r in records for doi in r.references} | set(getattr(plan.reference, "references", ()))
    (out / "citations.bib").write_text(bibtex(dois), encoding="utf-8")
    level = frames.training.levels_of_theory
    stage(
        "report",
        lambda: write_page(
            records,
            out / "report.html",
            title=plan.run.title,
            subtitle=f"Labels: {', '.join(level)}",
            sections=_sections(records),
        ),
    )
    return records


def _sections(records: Sequence[Record]) -> dict[str, list[str]]:
    """SECTIONS without the names of records that this run has not."""
    names = {r.name for r in records}
    return {heading: [n for n in wanted if "*" in n or n in names] for heading, wanted in SECTIONS.items()}


def _resolved(config: Mapping[str, Any], plan: Plan, frames: Frames) -> str:
    """The configuration with every default, and with what the data gave, written out."""
    computed = {f"model.{m.name}.potential": computed_for(m, frames) for m in plan.models}
    training = {f"model.{m.name}.training": type(m.trainer) for m in plan.models}
    return tables.resolved(config, training | ROLES, computed=computed)


def _files(plan: Plan) -> list[Path | None]:
    return [plan.data.training, plan.data.validation, plan.data.test] if plan.data is not None else []


def _summary(plan: Plan, records: Sequence[Record], stages: Mapping[str, float]) -> Record:
    """Wall time of the stages and the verdicts."""
    judged = [r for r in records if r.verdict is not None]
    failed = [r.title for r in judged if r.verdict == "fail"]
    undecided = [r.title for r in judged if r.verdict == "undecided"]
    notes = [f"Failed: {'; '.join(failed)}."] if failed else []
    notes += [f"Undecided: {'; '.join(undecided)}."] if undecided else []
    values = {f"{name}_wall_time_s": t for name, t in stages.items()}
    values |= {
        "total_wall_time_s": round(sum(stages.values()), 1),
        "verdicts_passed": len(judged) - len(failed) - len(undecided),
    }
    values |= {"verdicts_failed": len(failed), "verdicts_undecided": len(undecided)}
    return replace(Record(name="summary", title=plan.run.title, values=values), notes=tuple(notes))
