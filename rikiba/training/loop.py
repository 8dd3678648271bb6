"""The training loop, to be read from top to bottom: epochs of steps, validation, and when to stop."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

from rikiba.data.batching import Loader

from .distributed import Processes
from .interruption import Interruption
from .loss import TERMS, Loss, counts, mean
from .result import error_columns
from .schedules import warm_up
from .state import TrainingState
from .step import train_step, validate

if TYPE_CHECKING:
    from .trainer import Trainer

STATE_FILE, HISTORY_FILE = "training_state.npz", "history.jsonl"
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.monotonic, "processor": time.process_time}
"""What counts the seconds of a training, by its name among the settings."""


@final
@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a callback is told after every step, and with the new row of history after every epoch."""

    epoch: int
    max_epochs: int
    batch: int
    batches: int
    seconds: float
    row: Mapping[str, Any] | None


Callback = Callable[[Progress], None]


@final
class Loop:
    """One run of a trainer: `run` returns why it ended."""

    def __init__(
        self,
        trainer: "Trainer",
        state: TrainingState,
        loader: Loader,
        checks: Loader | None,
        file: Path | None,
        identity: Mapping[str, Any],
        callbacks: Sequence[Callback],
        processes: Processes,
        interrupted: Interruption,
    ) -> None:
        self.trainer, self.state, self.loader, self.checks = trainer, state, loader, checks
        self.file = file if processes.first else None
        self.identity, self.callbacks = identity, callbacks if processes.first else ()
        self.processes, self.interrupted = processes, interrupted
        self.now = CLOCKS[trainer.clock]
        self.began = self.now() - state.seconds
        self.saved = time.monotonic()

    def run(self) -> str:
        """Epoch after epoch until there is a reason to stop; returns it."""
        trainer, state = self.trainer, self.state
        self._write_history()
        while True:
            fraction = self._fraction()
            reason = self._reason(fraction)
            if reason:
                break
            if (
                state.stage == 1
                and trainer.stage_two_start is not None
                and fraction >= trainer.stage_two_start
            ):
                state.enter_stage_two()
            rate = trainer.rate(state.stage, fraction, state.losses)
            loss = trainer.minimised(state.stage, rate)
            reason = self._epoch(loss, rate)
            if reason:
                # mid-epoch: a resumed run goes on from this very step; the result takes what there is
                self._save()
                self._finish_epoch(loss, rate)
                return reason
            state.epoch, state.batch = state.epoch + 1, 0
            self._finish_epoch(loss, rate)
            if time.monotonic() - self.saved > trainer.checkpoint_interval_s:
                self._save()
        self._save()
        return reason

    def _epoch(self, loss: Loss, rate: float) -> str:
        """The steps of one epoch; why it was cut short, if it was."""
        trainer, state = self.trainer, self.state
        device = trainer.device
        for batch in self.loader.batches(state.epoch, start=state.batch):
            batch = batch.to(device) if device != "cpu" else batch
            number = counts(batch.labels)
            stop = number.new_tensor([bool(self.interrupted), self._out_of_time()])
            number = self.processes.sum(torch.cat([number, stop]))
            if number[-2:].any():
                return "interrupted" if number[-2] else "max_seconds"
            for group in state.optimizer.param_groups:
                group["lr"] = rate * warm_up(state.step, trainer.warmup_steps)
            train_step(state, batch, number[:-2], loss, self.processes, trainer.gradient_clip)
            state.batch, state.step = state.batch + 1, state.step + 1
            self._tell(None)
        return ""

    def _finish_epoch(self, loss: Loss, rate: float) -> None:
        """Validate, keep the best, add a row to the history."""
        trainer, state = self.trainer, self.state
        if not float(state.counts.sum()):
            return
        terms = mean(state.sums, state.counts)
        epoch = state.epoch + (state.batch / len(self.loader) if state.batch else 0)
        row: dict[str, Any] = {
            "epoch": epoch,
            "stage": state.stage,
            "learning_rate": rate,
            "train_loss": float(loss.combine(terms)),
            **{f"train_{t}": float(v) for t, v in zip(TERMS, terms, strict=True)},
        }
        due = state.batch or state.epoch % trainer.validation_interval_epochs == 0
        # validated by the weights of the stage, so that losses of all its epochs compare
        loss = trainer.loss_of_stage(state.stage)
        row |= self._validation(loss, epoch, bool(due or state.epoch == trainer.max_epochs))
        state.seconds = row["seconds"] = self.now() - self.began
        state.history.append(row)
        state.sums, state.counts = torch.zeros_like(state.sums), torch.zeros_like(state.counts)
        if self.file is not None:
            with open(self.file.parent / HISTORY_FILE, "a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
        self._tell(row)

    def _validation(self, loss: Loss, epoch: float, due: bool) -> dict[str, float | None]:
        state = self.state
        value, terms, errors = None, torch.full((len(TERMS),), math.nan), torch.zeros(len(TERMS), 3)
        if self.checks is not None and due:
            batches = (b.to(self.trainer.device) for b in self.checks.batches(0))
            with state.average.applied():
                value, terms, errors = validate(state.potential, batches, loss, self.processes)
            state.keep_best(value, epoch)
        named = {f"valid_{t}": None if value is None else float(v) for t, v in zip(TERMS, terms, strict=True)}
        return {"valid_loss": value, **named, **error_columns(errors)}

    def _reason(self, fraction: float) -> str:
        trainer, state = self.trainer, self.state
        if state.epoch >= trainer.max_epochs:
            return "max_epochs"
        if self.processes.agree(float(self._out_of_time()), trainer.device):
            return "max_seconds"
        waited = state.epoch - max(state.best_epoch, state.stage_began)
        if trainer.patience_epochs is None or self.checks is None or waited < trainer.patience_epochs:
            return ""
        if state.stage == 1 and trainer.stage_two_start is not None:
            state.enter_stage_two()
            return ""
        return "patience"

    def _fraction(self) -> float:
        """Part of the training that is done, the same number in every process."""
        trainer = self.trainer
        fraction = self.state.epoch / trainer.max_epochs
        if trainer.schedule_follows == "time" and trainer.max_seconds is not None:
            fraction = max(fraction, (self.now() - self.began) / trainer.max_seconds)
        return min(1.0, self.processes.agree(fraction, trainer.device))

    def _out_of_time(self) -> bool:
        limit = self.trainer.max_seconds
        return limit is not None and self.now() - self.began >= limit

    def _tell(self, row: Mapping[str, Any] | None) -> None:
        progress = Progress(
            epoch=self.state.epoch,
            max_epochs=self.trainer.max_epochs,
            batch=self.state.batch,
            batches=len(self.loader),
            seconds=self.now() - self.began,
            row=row,
        )
        for callback in self.callbacks:
            callback(progress)

    def _save(self) -> None:
        self.saved = time.monotonic()
        self.state.seconds = self.now() - self.began
        if self.file is not None:
            self.state.save(self.file, self.identity)

    def _write_history(self) -> None:
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(row) + "\n" for row in self.state.history]
            (self.file.parent / HISTORY_FILE).write_text("".join(lines), encoding="utf-8")
