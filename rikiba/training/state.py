"""Where a training stands: all that a resumed run needs to go on as if it had never stopped."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from rikiba.potentials.base import Potential

from .averaging import Average
from .checkpoint import FORMAT_VERSION, TRAINING_STATE, CheckpointError, read_archive, write_archive
from .loss import TERMS

_COUNTERS = ("epoch", "batch", "step", "stage", "stage_began", "seconds", "best_epoch")


@final
class TrainingState:
    """Parameters, optimiser, average, counters, history and the best weights so far.

    The order of batches follows from (seed, epoch), so no random stream is part of it.
    """

    def __init__(self, potential: Potential, optimizer: Optimizer, average: Average) -> None:
        self.potential = potential
        self.optimizer = optimizer
        self.average = average
        self.parameters = average.parameters
        self.epoch = 0
        """Epochs completed."""
        self.batch = 0
        """Batches done of the epoch under way."""
        self.step = 0
        self.stage = 1
        self.stage_began = 0
        self.seconds = 0.0
        self.sums = torch.zeros(len(TERMS), dtype=torch.float64)
        """Per term, Σ of the epoch under way, and its number of labels."""
        self.counts = torch.zeros(len(TERMS), dtype=torch.float64)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}
        self.best_loss = math.inf
        self.best_epoch: float = 0

    @property
    def losses(self) -> list[float]:
        """Validation losses of the present stage."""
        rows = self.history[self.stage_began :]
        return [row["valid_loss"] for row in rows if row["valid_loss"] is not None]

    def averaged(self) -> dict[str, Tensor]:
        """A copy of the potential's tensors with averaged parameters."""
        with self.average.applied():
            return {k: v.detach().clone() for k, v in self.potential.state_dict().items()}

    def keep_best(self, loss: float, epoch: float) -> None:
        """Remember the averaged weights if their validation loss is the lowest of this stage."""
        if loss < self.best_loss:
            self.best_loss, self.best_epoch, self.best = loss, epoch, self.averaged()

    def enter_stage_two(self) -> None:
        """From here other loss weights hold: losses, and so the best one, are counted anew."""
        self.stage, self.stage_began = 2, len(self.history)
        self.best_loss = math.inf

    def save(self, path: Path, settings: Mapping[str, Any]) -> None:
        tensors: dict[str, Tensor] = {"sums": self.sums, "counts": self.counts}
        tensors |= {f"model/{k}": v for k, v in self.potential.state_dict().items()}
        tensors |= {f"best/{k}": v for k, v in self.best.items()}
        tensors |= {f"average/{k}": v for k, v in enumerate(self.average.values)}
        for k, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{k}/{name}": torch.as_tensor(v) for name, v in moments.items()}
        header = {
            "format": TRAINING_STATE,
            "format_version": FORMAT_VERSION,
            "settings": dict(settings),
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "average_updates": self.average.updates,
            "history": self.history,
        }
        write_archive(path, header, tensors)

    def restore(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Take everything from a file; raises CheckpointError where it belongs to another kind of run."""
        header, tensors = read_archive(path, TRAINING_STATE)
        changed = [f"{k} ({v} → {settings[k]})" for k, v in header["settings"].items() if settings[k] != v]
        if changed:
            raise CheckpointError(
                f"{path} was written by a run with other settings: {', '.join(changed)}. Restore these, or "
                f"start afresh in another folder."
            )
        device = self.parameters[0].device

        def part(prefix: str) -> dict[str, Tensor]:
            found = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            return {k: t.to(device) for k, t in found.items()}

        try:
            self.potential.load_state_dict(part("model/"))
        except RuntimeError as error:
            raise CheckpointError(f"{path} belongs to another potential: {error}") from error
        self.best = part("best/")
        self.average.values = [t for _, t in sorted(part("average/").items(), key=lambda item: int(item[0]))]
        self.average.updates = header["average_updates"]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, t in part("optimizer/").items():
            index, _, key = name.partition("/")
            moments.setdefault(int(index), {})[key] = t
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.sums, self.counts = tensors["sums"], tensors["counts"]
        for name in _COUNTERS:
            setattr(self, name, header["counters"][name])
        self.best_loss = math.inf if header["best_loss"] is None else header["best_loss"]
        self.history = header["history"]
