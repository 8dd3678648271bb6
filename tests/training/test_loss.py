"""The loss: a batch worked out by hand, gradients, missing labels, frame weights."""

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.batching import collate
from rikiba.potentials.pair_basis import PairBasis
from rikiba.training.loss import TERMS, Loss, counts, error_sums

from labelled_frames import dataset  # isort: skip

NAN = float("nan")


def by_hand() -> tuple[Results, Results, System]:
    """Two structures of 2 and 1 atoms; the second lacks forces of nothing but has no stress label."""
    system = System.from_ase([Atoms("H2", positions=[[0, 0, 0], [0, 0, 1]]), Atoms("O")])
    predicted = Results(
        energy=torch.tensor([1.0, 5.0], dtype=torch.float64),
        forces=torch.tensor([[0.1, 0, 0], [0, -0.3, 0], [0, 0, 0.5]], dtype=torch.float64),
        stress=torch.full((2, 3, 3), 0.02, dtype=torch.float64),
        charges=torch.tensor([0.1, 0.3, -0.2], dtype=torch.float64),
        magmoms=torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64),
    )
    labels = Results(
        energy=torch.tensor([0.0, 2.0], dtype=torch.float64),
        forces=torch.zeros(3, 3, dtype=torch.float64),
        stress=torch.stack([torch.zeros(3, 3), torch.full((3, 3), NAN)]).double(),
        charges=torch.tensor([0.2, 0.1, NAN], dtype=torch.float64),
        magmoms=torch.tensor([NAN, NAN, -1.0], dtype=torch.float64),
    )
    return predicted, labels, system


def test_terms_and_total_of_a_batch_worked_out_by_hand() -> None:
    weights = (2.0, 10.0, 100.0, 5.0, 0.5)
    loss = Loss(**{f"{term}_weight": w for term, w in zip(TERMS, weights, strict=True)})
    total, terms = loss(*by_hand())
    # energy: ((1/2)² + (3/1)²)/2; forces: (0.01 + 0.09 + 0.25)/9; stress: nine times 0.02², over nine;
    # charges: (0.1² + 0.2²)/2; magnetic moments: 2²
    expected = [(0.25 + 9.0) / 2, 0.35 / 9, 0.0004, 0.025, 4.0]
    assert terms.tolist() == pytest.approx(expected, abs=1e-15)
    by_weight = sum(w * x for w, x in zip(weights, expected, strict=True))
    assert float(total) == pytest.approx(by_weight, abs=1e-14)
    # without a weight of their own, charges and moments neither count nor need to be predicted
    lacking = by_hand()[0].replace(charges=None, magmoms=None)
    assert Loss()(lacking, *by_hand()[1:])[1].tolist() == pytest.approx([*expected[:2], 0, 0, 0], abs=1e-15)
    with pytest.raises(ValueError, match="'charges' is needed"):
        loss(lacking, *by_hand()[1:])


def test_huber_by_hand_and_its_limits() -> None:
    loss = Loss(form="huber", energy_delta=1.0, forces_delta=0.2, stress_delta=1.0, stress_weight=1.0)
    _, terms = loss(*by_hand())
    # |x| ≤ δ: x²; beyond: δ(2|x| − δ)
    expected = [(0.25 + 1.0 * (6.0 - 1.0)) / 2, (0.01 + 0.2 * (0.6 - 0.2) + 0.2 * (1.0 - 0.2)) / 9, 0.0004]
    assert terms[:3].tolist() == pytest.approx(expected, abs=1e-15)
    wide = Loss(form="huber", energy_delta=1e3, forces_delta=1e3, stress_delta=1e3, stress_weight=1.0)
    assert torch.equal(wide(*by_hand())[1], Loss(stress_weight=1.0)(*by_hand())[1])
    # weights stay outside: ten times the weight is ten times the loss, wherever the corner lies
    heavy = Loss(form="huber", energy_delta=1.0, forces_delta=0.2, energy_weight=10.0, forces_weight=1000.0)
    light = Loss(form="huber", energy_delta=1.0, forces_delta=0.2)
    assert float(heavy(*by_hand())[0]) == pytest.approx(10 * float(light(*by_hand())[0]), rel=1e-14)


def test_frame_weights_multiply_and_do_not_change_the_counts() -> None:
    predicted, labels, system = by_hand()
    weights = {
        "energy": torch.tensor([1.0, 0.0], dtype=torch.float64),
        "forces": torch.tensor([3.0, 1.0], dtype=torch.float64),
    }
    _, terms = Loss()(predicted, labels, system, weights)
    assert terms.tolist() == pytest.approx([0.25 / 2, (0.3 + 0.25) / 9, 0.0, 0.0, 0.0], abs=1e-15)


def test_only_present_labels_count() -> None:
    predicted, labels, system = by_hand()
    forces = labels.forces.clone()
    forces[2] = NAN
    lacking = labels.replace(energy=torch.tensor([NAN, 2.0], dtype=torch.float64), forces=forces)
    _, terms = Loss(stress_weight=1.0)(predicted, lacking, system)
    assert terms.tolist() == pytest.approx([9.0, 0.1 / 6, 0.0004, 0.0, 0.0], abs=1e-15)
    assert counts(lacking).tolist() == [1, 6, 9, 2, 1]
    # negative control: a NaN prediction under a present label is not hidden
    bad = predicted.replace(energy=torch.tensor([1.0, NAN], dtype=torch.float64))
    assert Loss()(bad, lacking, system)[0].isnan()
    # and an infinite label is no missing label
    assert not Loss()(predicted, labels.replace(energy=labels.energy + float("inf")), system)[0].isfinite()


def test_errors_are_those_of_numpy() -> None:
    predicted, labels, system = by_hand()
    sums = error_sums(predicted, labels, system)
    number, absolute, square = sums[1].tolist()
    difference = (predicted.forces - labels.forces).numpy()
    assert absolute / number == pytest.approx(np.abs(difference).mean(), abs=1e-15)
    assert (square / number) ** 0.5 == pytest.approx(np.sqrt((difference**2).mean()), abs=1e-15)
    assert sums[3].tolist() == pytest.approx([2, 0.3, 0.05], abs=1e-15)


@pytest.mark.parametrize("form", ["square", "huber"])
def test_gradient_is_the_finite_difference(form: str) -> None:
    """∂L/∂c through energies, forces and stresses, with structures that have no stress among them."""
    model = PairBasis(elements=("O", "Si"), cutoff=4.0, n_basis=4, one_body=True)
    batch = collate(dataset(4, seed=1).frames, cutoff=model.cutoff)
    loss = Loss(energy_weight=1.0, forces_weight=3.0, stress_weight=50.0, form=form)

    def value() -> torch.Tensor:
        predicted = evaluate(model, batch.system, batch.pairs, stress=True, create_graph=True)
        return loss(predicted, batch.labels, batch.system, batch.weights)[0]

    value().backward()
    gradient = model.coefficients.grad.clone()
    h = 1e-5
    for k in range(len(gradient)):
        shifted = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                model.coefficients[k] += sign * h
            shifted.append(float(value().detach()))
            with torch.no_grad():
                model.coefficients[k] -= sign * h
        assert float(gradient[k]) == pytest.approx((shifted[0] - shifted[1]) / (2 * h), rel=1e-6, abs=1e-8)
    # negative control: without the force term the gradient is another
    model.coefficients.grad = None
    predicted = evaluate(model, batch.system, batch.pairs, stress=True, create_graph=True)
    Loss(forces_weight=0.0)(predicted, batch.labels, batch.system)[0].backward()
    assert not torch.allclose(model.coefficients.grad, gradient, rtol=1e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"energy_weight": -1.0},
        {"energy_weight": 0.0, "forces_weight": 0.0},
        {"form": "l1"},
        {"form": "huber", "forces_delta": 0.0},
        {"forces_weight": NAN},
    ],
)
def test_bad_settings_are_refused(options: dict) -> None:
    with pytest.raises(ValueError):
        Loss(**options)
