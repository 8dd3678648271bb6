"""Fitting a potential by gradient descent: the settings, and what happens before and after the loop."""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, final

import torch

from rikiba.calculators.autograd import evaluate
from rikiba.data.batching import Loader
from rikiba.data.dataset import Dataset
from rikiba.potentials.base import Potential

from .averaging import Average
from .distributed import Processes
from .interruption import Interruption
from .loop import STATE_FILE, Callback, Loop
from .loss import ENERGY_TERMS, TERMS, Loss
from .prefactors import tied
from .result import TrainingResult
from .schedules import Kind
from .schedules import schedule as make_schedule
from .state import TrainingState


@final
@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Fits a potential to labelled frames by Adam, and keeps the averaged weights that validate best.

    Validation, early stop and the result use the exponential moving average of the weights. Batches follow
    from (seed, epoch); on a CPU equal input gives equal bits, a resumed run those of an uninterrupted one.
    Adam: arXiv:1412.6980; AMSGrad: arXiv:1904.09237; decoupled weight decay: arXiv:1711.05101.

    Args:
        batch_size: frames in a step, over all processes
        max_epochs: passes through the training set
        learning_rate: of the optimiser, before schedule and warm-up
        energy_weight: weight of the squared energy error per atom, per (eV/atom)²
        forces_weight: weight of the mean squared force component error, per (eV/Å)²
        stress_weight: weight of the mean squared stress component error, per (eV/Å³)²
        charges_weight: weight of the mean squared error of atomic charges, per e²
        magmoms_weight: weight of the mean squared error of magnetic moments, per μB²
        loss: 'square', or 'huber' beyond the deltas
        energy_delta: Huber's delta for energies, eV/atom
        forces_delta: Huber's delta for forces, eV/Å
        stress_delta: Huber's delta for stress, eV/Å³
        charges_delta: Huber's delta for charges, e
        magmoms_delta: Huber's delta for magnetic moments, μB
        optimizer: 'adam' (weight decay as L2 term) or 'adamw' (decoupled weight decay)
        amsgrad: keep the maximum of the second moment
        weight_decay: on the parameters that the potential names in `decayed_parameters()`, otherwise on none
        gradient_clip: largest norm of the whole gradient; none does not clip
        ema_decay: decay of the moving average of the weights; none uses the weights as they are
        schedule: 'constant', 'exponential', 'cosine' or 'plateau', applied epoch by epoch
        final_learning_rate_factor: factor on learning_rate at the end of exponential and cosine
        plateau_factor: factor on the learning rate at each plateau of the validation loss
        plateau_patience_epochs: epochs without a record before that
        schedule_follows: 'epochs', or 'time' where max_seconds is to end the run (then not reproducible)
        warmup_steps: steps of linear rise of the learning rate
        start_energy_weight: energy weight at the start, which goes over to energy_weight as the learning rate
            falls, p + (p_start − p)·rate/learning_rate; none has energy_weight throughout. Stage one only
        start_forces_weight: forces weight at the start, likewise
        start_stress_weight: stress weight at the start, likewise
        stage_two_start: fraction of the training after which the stage-two weights hold; none has one stage
        stage_two_energy_weight: energy weight of stage two; none leaves it
        stage_two_forces_weight: forces weight of stage two; none leaves it
        stage_two_stress_weight: stress weight of stage two; none leaves it
        stage_two_learning_rate: learning rate of stage two, constant; none goes on with the schedule
        patience_epochs: stop after so many epochs without a lower validation loss; none never does
        max_seconds: time after which training stops and keeps what it has; none is no limit
        clock: what max_seconds counts: 'wall' time, or 'processor' time, which leaves out what other
            processes on a busy machine take
        validation_interval_epochs: validate after every so many epochs
        checkpoint_interval_s: seconds between saves of the training state, where a folder is given
        seed: seed of the order of batches
        radial_intervals: intervals of the spline by whose knots radial networks are evaluated while training,
            where the architecture can, instead of at every pair; none evaluates them at every pair
        dtype: precision of the potential while training; energies are summed in float64 always
        device: where to train, e.g. 'cpu' or 'cuda'
    """

    batch_size: int = 10
    max_epochs: int = 500
    learning_rate: float = 0.01
    energy_weight: float = 1.0
    forces_weight: float = 100.0
    stress_weight: float = 0.0
    charges_weight: float = 0.0
    magmoms_weight: float = 0.0
    loss: Literal["square", "huber"] = "square"
    energy_delta: float = 0.01
    forces_delta: float = 0.1
    stress_delta: float = 0.001
    charges_delta: float = 0.01
    magmoms_delta: float = 0.1
    optimizer: Literal["adam", "adamw"] = "adam"
    amsgrad: bool = True
    weight_decay: float = 0.0
    gradient_clip: float | None = 10.0
    ema_decay: float | None = 0.99
    schedule: Kind = "cosine"
    final_learning_rate_factor: float = 0.01
    plateau_factor: float = 0.8
    plateau_patience_epochs: int = 50
    schedule_follows: Literal["epochs", "time"] = "epochs"
    warmup_steps: int = 0
    start_energy_weight: float | None = None
    start_forces_weight: float | None = None
    start_stress_weight: float | None = None
    stage_two_start: float | None = None
    stage_two_energy_weight: float | None = 1000.0
    stage_two_forces_weight: float | None = None
    stage_two_stress_weight: float | None = None
    stage_two_learning_rate: float | None = 0.001
    patience_epochs: int | None = None
    max_seconds: float | None = None
    clock: Literal["wall", "processor"] = "wall"
    validation_interval_epochs: int = 1
    checkpoint_interval_s: float = 30.0
    seed: int = 0
    radial_intervals: int | None = 128
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        _check(self)

    def fit(
        self,
        potential: Potential,
        training: Dataset,
        validation: Dataset | None = None,
        *,
        folder: str | Path | None = None,
        resume: bool = False,
        prepare: bool = True,
        callbacks: Sequence[Callback] = (),
        processes: Processes | None = None,
    ) -> TrainingResult:
        """Train a copy of `potential`; the one given stays as it is.

        `folder` receives the training state and `history.jsonl`; with `resume` the run goes on from there
        where a state exists. `prepare` lets the potential set its scaling from the training structures (not
        wanted for one that is trained already). Under `torchrun` all processes call this alike.

        Raises ValueError where a weighted label is absent from the data and where `patience_epochs` or the
        plateau schedule would wait for a validation that there is not, `NonFiniteLossError` with the frame
        named, `CheckpointError` where the state belongs to another run.
        """
        if validation is None and (self.patience_epochs is not None or self.schedule == "plateau"):
            raise ValueError(
                "patience_epochs and schedule = 'plateau' need validation frames; none are given."
            )
        processes = processes or Processes.from_environment()
        notes = self._label_notes(training, validation)
        state = self._begin(potential)
        loader = self._loader(training, state, processes, shuffle=True)
        checks = None if validation is None else self._loader(validation, state, processes, shuffle=False)
        file = None if folder is None else Path(folder) / STATE_FILE
        identity = {**{k: getattr(self, k) for k in _IDENTITY}, "frames": len(training)}
        if resume and file is not None and file.exists():
            state.restore(file, identity)
        else:
            if prepare:
                whole = (b.to(self.device) for b in self._whole(training, state).batches(0))
                state.potential.prepare((b.system, b.pairs) for b in whole)
            processes.copy_from_first(list(state.potential.state_dict().values()))
            state.average.restart()
        with Interruption() as interrupted:
            loop = Loop(self, state, loader, checks, file, identity, callbacks, processes, interrupted)
            stopped = loop.run()
        if state.step == 0:
            notes += ("Training ended before its first step: the potential has its initial weights.",)
        state.potential.load_state_dict(state.best or state.averaged())
        notes += self._spline_notes(training, state)
        state.potential.interpolate_radial(None)
        return TrainingResult(
            potential=state.potential.eval(),
            history=tuple(state.history),
            best_epoch=state.best_epoch,
            seconds=state.seconds,
            stopped=stopped,
            settings=asdict(self),
            notes=notes,
        )

    def loss_of_stage(self, stage: int) -> Loss:
        """The loss of stage 1 or 2."""
        return Loss(
            **{f"{term}_weight": self._weight(term, stage) for term in TERMS},
            **{f"{term}_delta": getattr(self, f"{term}_delta") for term in TERMS},
            form=self.loss,
        )

    def _weight(self, term: str, stage: int) -> float:
        later = getattr(self, f"stage_two_{term}_weight", None)
        return getattr(self, f"{term}_weight") if stage == 1 or later is None else later

    def minimised(self, stage: int, rate: float) -> Loss:
        """The loss of an epoch: that of the stage, with weights tied to the learning rate where they are."""
        loss = self.loss_of_stage(stage)
        return loss if stage == 2 else tied(loss, self._start_weights(), rate / self.learning_rate)

    def _start_weights(self) -> tuple[float | None, ...]:
        return tuple(getattr(self, f"start_{term}_weight") for term in ENERGY_TERMS)

    def rate(self, stage: int, fraction: float, losses: Sequence[float]) -> float:
        """Learning rate of an epoch, before warm-up."""
        if stage == 2 and self.stage_two_learning_rate is not None:
            return self.stage_two_learning_rate
        chosen = make_schedule(
            self.schedule,
            final=self.final_learning_rate_factor,
            plateau_factor=self.plateau_factor,
            plateau_patience=self.plateau_patience_epochs,
        )
        return self.learning_rate * chosen(fraction, losses)

    def _begin(self, potential: Potential) -> TrainingState:
        potential = copy.deepcopy(potential).to(device=self.device, dtype=getattr(torch, self.dtype)).train()
        potential.interpolate_radial(self.radial_intervals)
        named = {k: p for k, p in potential.named_parameters() if p.requires_grad}
        if not named:
            raise ValueError(f"{type(potential).__name__} has no trainable parameters.")
        decayed = set(getattr(potential, "decayed_parameters", tuple)())
        groups = [
            {"params": [p for k, p in named.items() if k in decayed], "weight_decay": self.weight_decay},
            {"params": [p for k, p in named.items() if k not in decayed], "weight_decay": 0.0},
        ]
        cls = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        # fused: one call for all parameters, which counts where potentials are small
        optimizer = cls(
            [g for g in groups if g["params"]], lr=self.learning_rate, amsgrad=self.amsgrad, fused=True
        )
        return TrainingState(potential, optimizer, Average(list(named.values()), self.ema_decay))

    def _loader(
        self, dataset: Dataset, state: TrainingState, processes: Processes, *, shuffle: bool
    ) -> Loader:
        return Loader(
            dataset,
            batch_size=self.batch_size,
            cutoff=state.potential.cutoff,
            shuffle=shuffle,
            seed=self.seed,
            rank=processes.rank,
            world_size=processes.world_size,
        )

    def _whole(self, dataset: Dataset, state: TrainingState) -> Loader:
        return self._loader(dataset, state, Processes(), shuffle=False)

    def _spline_notes(self, dataset: Dataset, state: TrainingState) -> tuple[str, ...]:
        """Say so where interpolated radial networks are visibly not the networks: weigh on the forces."""
        if not state.potential.interpolate_radial(self.radial_intervals) or self.radial_intervals is None:
            return ()
        batch = next(self._whole(dataset, state).batches(0)).to(self.device)
        found = evaluate(state.potential, batch.system, batch.pairs).need("forces")
        state.potential.interpolate_radial(None)
        exact = evaluate(state.potential, batch.system, batch.pairs).need("forces")
        error, size = float((found - exact).abs().max()), float(exact.square().mean().sqrt())
        if error <= max(1e-3 * size, 1e-3):
            return ()
        return (
            f"With radial_intervals = {self.radial_intervals} forces differ by up to {error:.1e} eV/Å from "
            f"those of the radial networks themselves (root mean square {size:.1e}); use more intervals.",
        )

    def _label_notes(self, training: Dataset, validation: Dataset | None) -> tuple[str, ...]:
        """Say which labels are used; raise where one that has a weight is nowhere to be found."""
        notes = []
        sets = [(name, data) for name, data in (("training", training), ("validation", validation)) if data]
        labels = {name: _label_counts(data) for name, data in sets}
        for term in TERMS:
            stages = (1,) if self.stage_two_start is None else (1, 2)
            weights = [self._weight(term, stage) for stage in stages]
            weights.append(getattr(self, f"start_{term}_weight", None) or 0.0)
            for name, data in sets:
                found = labels[name][term]
                if max(weights) > 0 and found == 0:
                    raise ValueError(
                        f"{term}_weight is {max(weights)}, but none of the {len(data)} {name} frames has a "
                        f"label for {term}. Give the labels, or set the weight to 0."
                    )
                if max(weights) > 0 and found < len(data):
                    notes.append(f"{found} of {len(data)} {name} frames have a label for {term}.")
                if max(weights) == 0 and found:
                    notes.append(f"The {term} labels of the {name} frames are not used (weight 0).")
        return tuple(notes)


def _label_counts(data: Dataset) -> dict[str, int]:
    """How many frames have a label of each term, in one pass."""
    found = dict.fromkeys(TERMS, 0)
    for frame in data:
        for term in TERMS:
            found[term] += getattr(frame.results, term) is not None
    return found


_IDENTITY = ("batch_size", "optimizer", "amsgrad", "ema_decay", "seed", "radial_intervals", "dtype")
"""Settings that a resumed run must share with the one that wrote the state."""


def _check(t: Trainer) -> None:
    """Raise ValueError for a setting out of its range."""
    whole = {"batch_size": t.batch_size, "max_epochs": t.max_epochs}
    whole |= {"validation_interval_epochs": t.validation_interval_epochs}
    for name, value in whole.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1; given {value}.")
    positive = {
        "learning_rate": t.learning_rate,
        "gradient_clip": t.gradient_clip,
        "max_seconds": t.max_seconds,
    }
    for name, limit in positive.items():
        if limit is not None and not (limit > 0 and math.isfinite(limit)):
            raise ValueError(f"{name} must be a positive number; given {limit}.")
    choices = {"optimizer": ("adam", "adamw"), "schedule_follows": ("epochs", "time")}
    choices |= {"dtype": ("float32", "float64"), "clock": ("wall", "processor")}
    for name, allowed in choices.items():
        if getattr(t, name) not in allowed:
            raise ValueError(f"{name} is one of {', '.join(allowed)}; given '{getattr(t, name)}'.")
    if t.schedule_follows == "time" and t.max_seconds is None:
        raise ValueError("schedule_follows = 'time' needs max_seconds.")
    if t.stage_two_start is not None and not 0 < t.stage_two_start < 1:
        raise ValueError(f"stage_two_start is a fraction between 0 and 1; given {t.stage_two_start}.")
    if t.radial_intervals is not None and t.radial_intervals < 8:
        raise ValueError(f"radial_intervals is at least 8, or none; given {t.radial_intervals}.")
    if t.weight_decay < 0:
        raise ValueError(f"weight_decay must be at least 0; given {t.weight_decay}.")
    # the parts check the rest
    t.loss_of_stage(1), t.loss_of_stage(2), t.rate(1, 0.0, ()), Average((), t.ema_decay)
    t.minimised(1, t.learning_rate)
