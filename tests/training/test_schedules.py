"""Learning-rate schedules and the moving average of weights."""

import math

import pytest
import torch

from rikiba.training.averaging import Average
from rikiba.training.schedules import schedule, warm_up


def make(kind: str, final: float = 0.01, factor: float = 0.5, patience: int = 2):
    return schedule(kind, final=final, plateau_factor=factor, plateau_patience=patience)


def test_values_at_the_start_half_way_and_at_the_end() -> None:
    assert [make("constant")(t, ()) for t in (0, 0.5, 1)] == [1, 1, 1]
    assert [make("exponential")(t, ()) for t in (0, 0.5, 1)] == pytest.approx([1, 0.1, 0.01])
    assert [make("cosine")(t, ()) for t in (0, 0.5, 1)] == pytest.approx([1, 0.505, 0.01])


def test_plateau_equals_torchs() -> None:
    losses = [math.exp(-k / 5) if k < 8 else 0.3 + 0.01 * math.sin(3 * k) for k in range(40)]
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0.0)
    ours = make("plateau")
    for k, loss in enumerate(losses):
        peer.step(loss)
        assert ours(0.0, losses[: k + 1]) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert ours(0.0, losses) < 0.1


def test_warm_up_rises_to_one() -> None:
    assert [warm_up(k, 4) for k in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warm_up(0, 0) == 1.0


@pytest.mark.parametrize(
    "options", [{"kind": "step"}, {"kind": "cosine", "final": 0.0}, {"kind": "plateau", "factor": 1.5}]
)
def test_bad_schedules_are_refused(options: dict) -> None:
    with pytest.raises(ValueError):
        make(**options)


def test_average_follows_its_definition_and_swaps_back() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    average = Average([parameter], 0.9)
    expected = parameter.detach().clone()
    for t in range(1, 200):
        with torch.no_grad():
            parameter += 0.1 * t
        average.update()
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * parameter.detach()
    raw = parameter.detach().clone()
    with average.applied():
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-12, atol=0)
        assert not torch.allclose(parameter.detach(), raw)
    assert torch.equal(parameter.detach(), raw)


def test_without_decay_nothing_is_averaged() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    average = Average([parameter], None)
    average.update()
    with average.applied():
        assert torch.equal(parameter.detach(), torch.ones(2))
    with pytest.raises(ValueError):
        Average([parameter], 1.0)
