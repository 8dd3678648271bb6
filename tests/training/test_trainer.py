"""The trainer: it learns, it stops, it resumes bit for bit, and it names the frame that breaks it."""

import json
import os
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rikiba.calculators.autograd import evaluate
from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.batching import Loader, collate
from rikiba.data.dataset import Dataset
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.pair_basis import PairBasis
from rikiba.training.checkpoint import CheckpointError
from rikiba.training.distributed import Processes
from rikiba.training.least_squares import LeastSquares
from rikiba.training.loop import HISTORY_FILE, STATE_FILE, Progress
from rikiba.training.loss import Loss
from rikiba.training.step import NonFiniteLossError, validate
from rikiba.training.trainer import Trainer

from labelled_frames import dataset, same  # isort: skip

TRAIN, VALID = dataset(14, seed=1), dataset(5, seed=2)


def model(**options) -> PairBasis:
    return PairBasis(elements=("O", "Si"), **{"cutoff": 4.0, "n_basis": 5, **options})


def trainer(**options) -> Trainer:
    defaults = {"batch_size": 4, "max_epochs": 6, "learning_rate": 0.02, "stress_weight": 10.0}
    return Trainer(**{**defaults, **options})


def timeless(history: Iterable) -> list:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def tensors(result) -> dict[str, torch.Tensor]:
    return dict(result.potential.state_dict())


def test_it_learns_and_leaves_the_given_potential_alone() -> None:
    start = BehlerParrinello(elements=("O", "Si"), cutoff=4.5, n_radial=8, hidden=(16,)).double()
    before = {k: v.clone() for k, v in start.state_dict().items()}
    result = trainer(max_epochs=60, learning_rate=0.01).fit(start, TRAIN, VALID)
    rows = result.history
    assert rows[-1]["train_loss"] < 0.05 * rows[0]["train_loss"]
    assert rows[-1]["valid_forces_rmse_meV_per_A"] < 0.6 * rows[0]["valid_forces_rmse_meV_per_A"]
    assert same(before, dict(start.state_dict())) and start.dtype == torch.float64
    assert result.stopped == "max_epochs" and result.potential.dtype == torch.float32


def test_gradient_descent_ends_where_least_squares_does() -> None:
    """Two independent ways to one minimum: full batches of a linear potential."""
    weights = {"energy_weight": 1.0, "forces_weight": 10.0, "stress_weight": 10.0}
    exact = LeastSquares(**weights).fit(model(n_basis=2), TRAIN)
    options = {
        "batch_size": len(TRAIN),
        "max_epochs": 800,
        "learning_rate": 0.1,
        "dtype": "float64",
        "ema_decay": None,
        **weights,
    }
    found = trainer(**options, gradient_clip=None, final_learning_rate_factor=1e-4).fit(
        model(n_basis=2), TRAIN
    )
    batch = collate(TRAIN.frames, cutoff=4.0)

    def objective(potential: PairBasis) -> float:
        predicted = evaluate(potential, batch.system, batch.pairs, stress=True)
        return float(Loss(**weights)(predicted, batch.labels, batch.system)[0])

    assert objective(exact.potential) == pytest.approx(exact.objective, rel=1e-10)
    assert objective(found.potential) == pytest.approx(exact.objective, rel=1e-4)
    assert objective(found.potential) >= exact.objective
    assert objective(model(n_basis=2)) > 1.5 * exact.objective


def test_history_holds_what_an_evaluation_of_the_result_gives() -> None:
    result = trainer(dtype="float64", ema_decay=0.9).fit(model(), TRAIN, VALID)
    batch = collate(VALID.frames, cutoff=4.0)
    predicted = evaluate(result.potential, batch.system, batch.pairs, stress=True)
    loss = Loss(stress_weight=10.0)
    assert float(loss(predicted, batch.labels, batch.system)[0]) == pytest.approx(
        result.best["valid_loss"], rel=1e-12
    )
    error = 1e3 * float((predicted.forces - batch.labels.forces).abs().mean())
    assert error == pytest.approx(result.best["valid_forces_mae_meV_per_A"], rel=1e-12)


def test_equal_input_gives_equal_bits_and_another_seed_does_not() -> None:
    one, two = (trainer().fit(model(), TRAIN, VALID) for _ in range(2))
    assert same(tensors(one), tensors(two)) and timeless(one.history) == timeless(two.history)
    other = trainer(seed=1).fit(model(), TRAIN, VALID)
    assert not same(tensors(one), tensors(other))


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize("cut", ["epoch", "step"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    schedule: str, cut: str, tmp_path: Path
) -> None:
    """Stopped by a signal after an epoch, or in the middle of one."""
    options = {
        "schedule": schedule, "plateau_patience_epochs": 1, "warmup_steps": 5, "max_epochs": 8,
        "stage_two_start": 0.6, "stage_two_stress_weight": 20.0,
    }  # fmt: skip
    whole = trainer(**options).fit(model(), TRAIN, VALID, folder=tmp_path / "whole")

    def stop_there(progress: Progress) -> None:
        there = progress.row is not None if cut == "epoch" else progress.row is None and progress.batch == 2
        if progress.epoch == 3 and there:
            os.kill(os.getpid(), signal.SIGTERM)

    folder = tmp_path / "parts"
    part = trainer(**options).fit(model(), TRAIN, VALID, folder=folder, callbacks=[stop_there])
    assert part.stopped == "interrupted" and part.history[-1]["epoch"] < 8
    rest = trainer(**options).fit(model(), TRAIN, VALID, folder=folder, resume=True)
    assert same(tensors(whole), tensors(rest)) and timeless(whole.history) == timeless(rest.history)
    assert whole.best_epoch == rest.best_epoch and rest.stopped == "max_epochs"
    written = [json.loads(line) for line in (folder / HISTORY_FILE).read_text().splitlines()]
    assert timeless(written) == timeless(rest.history)
    # negative control: starting afresh for the remaining epochs is another run
    fresh = trainer(**{**options, "max_epochs": 5}).fit(part.potential, TRAIN, VALID)
    assert not same(tensors(whole), tensors(fresh))


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    trainer(max_epochs=1).fit(model(), TRAIN, VALID, folder=tmp_path)
    with pytest.raises(CheckpointError, match="batch_size"):
        trainer(batch_size=3).fit(model(), TRAIN, VALID, folder=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="another potential"):
        trainer().fit(model(n_basis=3), TRAIN, VALID, folder=tmp_path, resume=True)


def test_early_stop_keeps_the_best_weights() -> None:
    """A learning rate that ruins the fit: validation rises from the start on."""
    good = trainer(max_epochs=40).fit(model(), TRAIN, VALID).potential
    spoiled = trainer(
        learning_rate=3.0, schedule="constant", patience_epochs=3, max_epochs=50, ema_decay=None
    )
    result = spoiled.fit(good, TRAIN, VALID)
    assert result.stopped == "patience"
    losses = [row["valid_loss"] for row in result.history]
    assert len(losses) == result.best_epoch + 3 and min(losses) == result.best["valid_loss"]
    batch = collate(VALID.frames, cutoff=4.0)
    predicted = evaluate(result.potential, batch.system, batch.pairs, stress=True)
    value = float(Loss(stress_weight=10.0)(predicted, batch.labels, batch.system)[0])
    assert value == pytest.approx(min(losses), rel=1e-6)


def test_stage_two_changes_the_weights_and_counts_the_best_anew() -> None:
    options = {"max_epochs": 8, "stage_two_start": 0.5, "stage_two_energy_weight": 500.0}
    result = trainer(**options, stage_two_learning_rate=0.003).fit(model(), TRAIN, VALID)
    assert [row["stage"] for row in result.history] == [1] * 4 + [2] * 4
    assert result.history[4]["learning_rate"] == 0.003 and result.best_epoch > 4
    row = result.history[5]
    expected = 500 * row["valid_energy"] + 100 * row["valid_forces"] + 10 * row["valid_stress"]
    assert row["valid_loss"] == pytest.approx(expected, rel=1e-12)
    # patience in stage one leads to stage two, not to the end
    short = trainer(**options, learning_rate=3.0, patience_epochs=1, ema_decay=None).fit(
        model(), TRAIN, VALID
    )
    assert short.history[-1]["stage"] == 2


def test_wall_time_ends_the_run_with_what_there_is() -> None:
    result = trainer(max_epochs=10**6, max_seconds=1.0, schedule_follows="time").fit(model(), TRAIN, VALID)
    assert result.stopped == "max_seconds" and 0.9 < result.seconds < 5.0
    assert result.history[-1]["learning_rate"] < 0.1 * result.history[0]["learning_rate"]
    assert result.best["valid_loss"] < result.history[0]["valid_loss"]


class Fragile(PairBasis):
    """Gives no number where an atom is closer to another than 0.5 Å."""

    def forward(self, system: System, pairs: Pairs) -> Results:
        results = super().forward(system, pairs)
        near = bool((pairs.vectors(system).norm(dim=-1) < 0.5).any())
        return results.replace(energies=results.energies * (float("inf") if near else 1.0))


def test_a_loss_that_is_no_number_names_the_frame() -> None:
    frames = list(TRAIN.frames)
    clash = frames[9].system.positions.clone()
    clash[1] = clash[0] + 0.2
    frames[9] = replace(frames[9], system=frames[9].system.replace(positions=clash))
    fragile = Fragile(elements=("O", "Si"), cutoff=4.0)
    with pytest.raises(NonFiniteLossError, match=r"frame 9 \(made:9\)"):
        trainer().fit(fragile, Dataset(frames), VALID)
    trainer(max_epochs=1).fit(fragile, TRAIN, VALID)


def test_labels_that_are_missing_are_said_or_refused() -> None:
    bare = Dataset([replace(f, results=Results(energy=f.results.energy)) for f in TRAIN])
    with pytest.raises(ValueError, match="forces_weight is 100"):
        trainer(stress_weight=0.0).fit(model(), bare)
    result = trainer(stress_weight=0.0, forces_weight=0.0, max_epochs=2).fit(model(), bare)
    assert result.history[-1]["train_energy"] < result.history[0]["train_energy"]
    half = Dataset([*bare.frames[:7], *TRAIN.frames[7:]])
    notes = trainer(max_epochs=1).fit(model(), half, VALID).notes
    assert any("7 of 14 training frames have a label for forces" in n for n in notes)
    notes = trainer(stress_weight=0.0, max_epochs=1).fit(model(), TRAIN).notes
    assert notes == ("The stress labels of the training frames are not used (weight 0).",)


def test_only_named_parameters_decay() -> None:
    class Decaying(PairBasis):
        def decayed_parameters(self) -> list[str]:
            return ["coefficients"]

    options = {"optimizer": "adamw", "weight_decay": 5.0, "max_epochs": 3}
    plain = trainer(**options).fit(model(), TRAIN)
    decayed = trainer(**options).fit(Decaying(elements=("O", "Si"), cutoff=4.0, n_basis=5), TRAIN)
    free = trainer(optimizer="adamw", max_epochs=3).fit(model(), TRAIN)
    assert same(tensors(plain), tensors(free)) and not same(tensors(decayed), tensors(free))


def test_prepare_is_called_once_and_not_for_a_trained_potential() -> None:
    class Prepared(PairBasis):
        seen = 0

        def prepare(self, structures: Iterable[tuple[System, Pairs]]) -> None:
            type(self).seen += sum(s.n_systems for s, _ in structures)

    start = Prepared(elements=("O", "Si"), cutoff=4.0)
    trainer(max_epochs=2).fit(start, TRAIN)
    assert Prepared.seen == len(TRAIN)
    trainer(max_epochs=2).fit(start, TRAIN, prepare=False)
    assert Prepared.seen == len(TRAIN)


def test_record_has_learning_curves_and_survives_json(tmp_path: Path) -> None:
    seen: list[Progress] = []
    result = trainer().fit(model(), TRAIN, VALID, folder=tmp_path, callbacks=[seen.append])
    record = type(result.record()).from_json(result.record().to_json())
    assert record["epochs"] == 6 and record["valid_energy_mae_meV_per_atom"] > 0
    titles = [f.title for f in record.figures]
    assert titles[0] == "Learning curve" and "Validation error: stress" in titles
    assert len(record.figures[0].curves[0].x) == 6
    assert sum(p.row is not None for p in seen) == 6 and sum(p.row is None for p in seen) == 6 * 4
    assert (tmp_path / STATE_FILE).exists()


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0}, {"max_epochs": 0}, {"learning_rate": -1.0}, {"ema_decay": 1.0},
        {"optimizer": "sgd"},
        {"schedule": "step"}, {"schedule_follows": "time"}, {"stage_two_start": 1.5}, {"dtype": "float16"},
        {"loss": "l1"}, {"max_seconds": 0.0}, {"weight_decay": -1.0}, {"gradient_clip": 0.0},
    ],
)  # fmt: skip
def test_bad_settings_are_refused(options: dict) -> None:
    with pytest.raises(ValueError):
        trainer(**options)


def test_energies_of_large_offset_keep_their_digits_in_float32() -> None:
    """E0 of −10⁴ eV: float32 would round energies to 1e-3 eV; sums in float64 do not."""
    e0 = {"O": -12345.678, "Si": -7890.123}
    shifted = Dataset(
        [
            replace(f, results=f.results.replace(energy=f.results.energy + sum(
                e0["O" if int(z) == 8 else "Si"] for z in f.system.numbers)))
            for f in TRAIN
        ]
    )  # fmt: skip
    one = trainer(max_epochs=3).fit(model(), TRAIN).history[-1]["train_loss"]
    two = trainer(max_epochs=3).fit(model(atomic_energies=e0), shifted).history[-1]["train_loss"]
    assert two == pytest.approx(one, rel=1e-5)
    frame = TRAIN[0].system
    assert evaluate(model(), frame, find_pairs(frame, 4.0)).energy.dtype == torch.float64


@pytest.mark.parametrize("options", [{"patience_epochs": 2}, {"schedule": "plateau"}])
def test_waiting_for_a_validation_that_is_not_there_is_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="need validation frames"):
        trainer(**options).fit(model(), TRAIN)


def test_no_time_at_all_says_so() -> None:
    result = trainer(max_seconds=1e-9).fit(model(), TRAIN, VALID)
    assert result.stopped == "max_seconds" and not result.history
    assert any("before its first step" in note for note in result.notes)
    assert result.record().values["epochs"] == 0


def test_one_frame_and_a_batch_larger_than_the_set() -> None:
    result = trainer(batch_size=100, max_epochs=3).fit(model(), TRAIN[:1], VALID[:1])
    assert [row["epoch"] for row in result.history] == [1, 2, 3]


def test_a_finished_run_resumed_is_the_same(tmp_path: Path) -> None:
    first = trainer().fit(model(), TRAIN, VALID, folder=tmp_path)
    again = trainer().fit(model(), TRAIN, VALID, folder=tmp_path, resume=True)
    assert same(tensors(first), tensors(again)) and timeless(first.history) == timeless(again.history)
    assert again.stopped == "max_epochs"


def test_validation_that_is_not_finite_names_its_frames() -> None:
    class Breaks(PairBasis):
        def forward(self, system: System, pairs: Pairs) -> Results:
            return super().forward(system, pairs) * float("nan")

    potential = Breaks(elements=("O", "Si"), cutoff=4.0, n_basis=3)
    checks = Loader(VALID, batch_size=2, cutoff=4.0, shuffle=False)
    with pytest.raises(NonFiniteLossError, match=r"frames \[0, 1\]"):
        validate(potential, checks.batches(0), Loss(), Processes())
