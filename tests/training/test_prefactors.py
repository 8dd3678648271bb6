"""Weights of the loss that follow the learning rate."""

import pytest

from rikiba.potentials.pair_basis import PairBasis
from rikiba.training.loss import Loss
from rikiba.training.prefactors import tied
from rikiba.training.trainer import Trainer

from labelled_frames import dataset  # isort: skip


def test_weights_go_over_with_the_learning_rate() -> None:
    loss = Loss(energy_weight=1.0, forces_weight=2.0, stress_weight=0.5, form="huber")
    half = tied(loss, (0.02, 1000.0, None), 0.5)
    assert half.weights[:3] == pytest.approx((0.51, 501.0, 0.5)) and half.form == "huber"
    assert tied(loss, (0.02, 1000.0, 0.0), 1.0).weights[:3] == pytest.approx((0.02, 1000.0, 0.0))
    assert tied(loss, (0.02, 1000.0, 0.0), 0.0).weights == loss.weights
    assert tied(loss, (None, None, None), 0.5) is loss


def test_the_trainer_minimises_them_and_validates_by_the_last() -> None:
    model = PairBasis(elements=("O", "Si"), cutoff=4.0, n_basis=5)
    options = {"batch_size": 4, "max_epochs": 4, "learning_rate": 1e-3, "ema_decay": None}
    options |= {"energy_weight": 3.0, "forces_weight": 1.0, "schedule": "exponential"}
    options |= {"start_energy_weight": 0.5, "start_forces_weight": 100.0}
    training, validation = dataset(8, seed=1), dataset(4, seed=2)
    rows = Trainer(**options).fit(model, training, validation).history
    for row in rows:
        share = row["learning_rate"] / 1e-3
        energy, forces = 3.0 - 2.5 * share, 1.0 + 99.0 * share
        expected = energy * row["train_energy"] + forces * row["train_forces"]
        assert row["train_loss"] == pytest.approx(expected, rel=1e-9)
        last = 3.0 * row["valid_energy"] + row["valid_forces"]
        assert row["valid_loss"] == pytest.approx(last, rel=1e-9)
    assert rows[0]["learning_rate"] > 10 * rows[-1]["learning_rate"]
    # negative control: without them the loss is that of the last weights in every epoch
    plain = Trainer(**options | {"start_energy_weight": None, "start_forces_weight": None})
    row = plain.fit(model, training, validation).history[0]
    assert row["train_loss"] == pytest.approx(3.0 * row["train_energy"] + row["train_forces"], rel=1e-9)


def test_start_weights_are_checked() -> None:
    with pytest.raises(ValueError, match="Loss weights"):
        Trainer(start_forces_weight=-1.0)
    model = PairBasis(elements=("O", "Si"), cutoff=4.0, n_basis=5)
    with pytest.raises(ValueError, match="stress"):
        Trainer(start_stress_weight=1.0, max_epochs=1).fit(model, dataset(4, seed=1, stress=False))
