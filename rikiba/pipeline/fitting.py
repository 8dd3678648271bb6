"""Stage: train every model, one member a process, and keep what is already trained."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from rikiba import config as tables
from rikiba.core.record import Record
from rikiba.data.dataset import Dataset
from rikiba.execution.processes import Job, run_jobs
from rikiba.execution.progress import Progress
from rikiba.potentials.base import Potential, seeded
from rikiba.training.checkpoint import load_potential, read_metadata, save_potential
from rikiba.training.least_squares import LinearFit
from rikiba.training.loop import Progress as TrainingProgress
from rikiba.training.result import TrainingResult
from rikiba.training.separable import SeparableFit
from rikiba.training.trainer import Trainer

from .frames import Frames
from .plan import Fitter, Model, Plan


@final
@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A model's trained members."""

    name: str
    files: tuple[Path, ...]
    records: tuple[Record, ...]

    def members(self) -> list[Potential]:
        return [load_potential(f) for f in self.files]


@final
@dataclass(frozen=True, kw_only=True)
class MemberJob:
    """Everything that one training needs."""

    label: str
    """Name of the model and number of the member."""
    name: str
    potential: Mapping[str, Any]
    computed: Mapping[str, Any]
    trainer: Fitter
    training: Dataset
    validation: Dataset
    folder: Path
    seed: int
    digest: str
    data_digest: str


def fit(plan: Plan, frames: Frames, out: Path, progress: Progress) -> list[Fitted]:
    """Train all members of all models; a member whose inputs have not changed is not trained again."""
    jobs = [job for model in plan.models for job in _jobs(model, plan, frames, out)]
    due = [job for job in jobs if not _is_done(job)]
    run_jobs([Job(train_member, (job,)) for job in due], workers=plan.run.processes, progress=progress)
    fitted = []
    for model in plan.models:
        own = [job for job in jobs if job.name == model.name]
        fitted.append(
            Fitted(
                name=model.name,
                files=tuple(_file(job) for job in own),
                records=tuple(Record.load(job.folder / "training.json") for job in own),
            )
        )
    return fitted


def train_member(job: MemberJob, progress: Progress) -> None:
    """Build, fit and save one member."""
    cls = tables.pick("potentials", job.potential)
    with seeded(job.seed):
        computed = dict(job.computed) | {"seed": job.seed}
        potential = tables.build(cls, job.potential, where=f"[model.{job.name}.potential]", computed=computed)
    job.folder.mkdir(parents=True, exist_ok=True)
    fit_it = _descend if isinstance(job.trainer, Trainer) else _solve
    clocks = time.monotonic, time.process_time
    began = [clock() for clock in clocks]
    result = fit_it(job, potential, progress)
    wall, processor = (round(clock() - t, 3) for clock, t in zip(clocks, began, strict=True))
    level = ", ".join(job.training.levels_of_theory)
    save_potential(
        _file(job),
        result.potential,
        level_of_theory=level,
        training_data=job.data_digest,
        inputs=job.digest,
        isolated_atoms=dict(job.computed["atomic_energies"]),
    )
    record = result.record(name=f"training_{job.label}", title=f"Training of {job.label}")
    values = {"wall_time_s": wall, "processor_time_s": processor, **record.values}
    replace(record, values=values, references=tuple(potential.references)).save(job.folder / "training.json")


def _solve(job: MemberJob, potential: Potential, progress: Progress) -> LinearFit[Potential] | SeparableFit:
    """By linear algebra, at once."""
    assert not isinstance(job.trainer, Trainer)
    progress(f"Fitting {job.label}", 0, 1)
    result = job.trainer.fit(potential, job.training, job.validation if len(job.validation) else None)
    progress(f"Fitting {job.label}", 1, 1)
    return result


def _descend(job: MemberJob, potential: Potential, progress: Progress) -> TrainingResult:
    """By gradient descent; resumes where an earlier run was cut off."""
    assert isinstance(job.trainer, Trainer)
    state, marker = job.folder / "training_state.npz", job.folder / "inputs.sha256"
    resume = state.exists() and marker.exists() and marker.read_text() == job.digest
    marker.write_text(job.digest)
    result = job.trainer.fit(
        potential,
        job.training,
        job.validation if len(job.validation) else None,
        folder=job.folder,
        resume=resume,
        callbacks=[_teller(job, job.trainer, progress)],
    )
    if result.stopped == "interrupted":
        raise KeyboardInterrupt(f"Training of {job.label} was interrupted; run again to go on.")
    return result


def _teller(job: MemberJob, trainer: Trainer, progress: Progress) -> Any:
    """Progress by epochs, or by seconds where the time is the limit."""
    limit = trainer.max_seconds
    text = f"Training {job.label}"

    def tell(p: TrainingProgress) -> None:
        if p.row is None:
            return
        if limit is not None and p.seconds / limit > p.epoch / p.max_epochs:
            progress(text, min(round(p.seconds), round(limit)), round(limit))
        else:
            progress(text, p.epoch, p.max_epochs)

    return tell


def _jobs(model: Model, plan: Plan, frames: Frames, out: Path) -> list[MemberJob]:
    computed = computed_for(model, frames)
    jobs = []
    for k in range(model.members):
        seed = plan.run.seed + 1 + 100 * k
        trainer = model.trainer
        if isinstance(trainer, Trainer):
            trainer = replace(trainer, seed=trainer.seed + seed)
        label = model.name if model.members == 1 else f"{model.name} {k + 1}"
        inputs = [dict(model.potential), computed, asdict(trainer), seed, frames.digest]
        text = json.dumps(inputs, sort_keys=True, default=str)
        jobs.append(
            MemberJob(
                label=label,
                name=model.name,
                potential=model.potential,
                computed=computed,
                trainer=trainer,
                training=frames.training,
                validation=frames.validation,
                folder=out / "models" / label.replace(" ", "_"),
                seed=seed,
                digest=hashlib.sha256(text.encode()).hexdigest(),
                data_digest=frames.digest,
            )
        )
    return jobs


def computed_for(model: Model, frames: Frames) -> dict[str, Any]:
    """What the data gives to a model's constructor, and to those of its terms.

    Neighbours are counted within the cutoff of the term that asks for their number. Raises ConfigError where
    two terms of a sum would both add the atomic energies.
    """
    where = f"[model.{model.name}.potential]"
    cls, stand_in = tables.pick("potentials", model.potential), {"elements": frames.training.elements}
    whole = tables.build(cls, model.potential, where=where, computed=stand_in)
    terms = [t for t in whole.modules() if isinstance(t, Potential)]
    parameters = {id(t): {p.name for p in tables.schema(type(t))} for t in terms}
    adding = [
        t for t in terms if "atomic_energies" in parameters[id(t)] and "atomic_energies" not in t.arguments
    ]
    if len(adding) > 1:
        raise tables.ConfigError(
            f"{where}: {len(adding)} terms would each add the atomic energies; give all but one of them "
            f"atomic_energies = {{{', '.join(f'{s} = 0.0' for s in frames.training.elements)}}}."
        )
    asking = [t for t in terms if "avg_num_neighbors" in parameters[id(t)]]
    return frames.computed_arguments(float((asking or [whole])[0].cutoff), whole)


def _file(job: MemberJob) -> Path:
    return job.folder / "potential.npz"


def _is_done(job: MemberJob) -> bool:
    if not _file(job).exists() or not (job.folder / "training.json").exists():
        return False
    return read_metadata(_file(job))["metadata"].get("inputs") == job.digest
