"""ACE: compiled program, rows of the design matrix, fits; the embedded expansion and its start from a fit."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_checks import close, derivatives_of_pair, labelled, structures

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.data.batching import Loader
from rikiba.data.dataset import Dataset
from rikiba.potentials.ace import ACE
from rikiba.potentials.embedded_ace import EmbeddedACE, root
from rikiba.training.least_squares import LeastSquares
from rikiba.training.trainer import Trainer
from rikiba.validation.errors import errors

E0 = {"O": -3.0, "Si": -5.0}
KINDS = {
    "fourth_order": {"cutoff": 4.5, "order": 4, "total_degree": (8, 7, 6.5, 7), "l_weight": 1.0},
    "fifth_order": {"cutoff": 4.0, "order": 5, "total_degree": (5, 5, 5, 5, 6), "radial": "bessel"},
    "pairs": {"cutoff": 4.0, "order": 1, "total_degree": 6, "radial": "chebyshev_exponential"},
}


def potential(kind: str, **more) -> ACE:
    return ACE(elements=("O", "Si"), atomic_energies=E0, **KINDS[kind] | more)


def embedded(**more) -> EmbeddedACE:
    options = {"cutoff": 4.5, "n_max": (4, 3, 2, 1), "l_max": (0, 2, 1, 1), "atomic_energies": E0}
    return EmbeddedACE(elements=("O", "Si"), **options | more).double()


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_program_and_design_are_the_definition(kind: str, seed: int) -> None:
    system, model = structures(seed), potential(kind, seed=seed)
    pairs = find_pairs(system, model.cutoff + 0.4)
    expected = evaluate(model, system, pairs, stress=True)
    found = run_program(model.program(), system, pairs, stress=True)
    for name in ("energies", "forces", "stress"):
        assert close(found.need(name), expected.need(name), 1e-11), name
    design = model.design(system, pairs, forces=True, stress=True)
    c = model.coefficients.detach()
    assert close(design.energy @ c + design.offset, expected.need("energy"), 1e-11)
    assert close(design.forces @ c, expected.need("forces"), 1e-11)
    assert close(design.stress @ c, expected.need("stress"), 1e-11)
    # negative control: other coefficients
    assert not close(design.forces @ (1.01 * c), expected.need("forces"), 1e-9)


def test_every_single_row_is_the_response_to_its_own_coefficient() -> None:
    system, model = structures(1), potential("fourth_order")
    pairs = find_pairs(system, model.cutoff)
    design = model.design(system, pairs, forces=True, stress=True)
    for k in range(0, len(model.coefficients), len(model.coefficients) // 10):
        with torch.no_grad():
            model.coefficients.zero_()
            model.coefficients[k] = 1.0
        results = evaluate(model, system, pairs, stress=True)
        assert float(results.need("forces").abs().max()) > 0
        assert close(design.energy[:, k], results.need("energy") - design.offset, 1e-11)
        assert close(design.forces[..., k], results.need("forces"), 1e-11)
        assert close(design.stress[..., k], results.need("stress"), 1e-11)


def test_planted_potential_is_found() -> None:
    source, frames = potential("pairs", seed=9), []
    for frame in labelled(30, 1):
        results = evaluate(source, frame.system, find_pairs(frame.system, source.cutoff))
        frames.append(replace(frame, results=results.replace(energies=None), level_of_theory="ACE"))
    data = Dataset(frames)
    fit = LeastSquares(scale_columns=True, ridge=1e-14).fit(potential("pairs"), data)
    found = errors(PotentialCalculator(fit.potential), data)
    assert found.values["forces_rmse_meV_per_A"] < 1e-2
    assert errors(PotentialCalculator(potential("pairs")), data).values["forces_rmse_meV_per_A"] > 1.0


def test_prior_prefers_smooth_functions() -> None:
    model = potential("fourth_order", smoothness=4.0)
    prior, channels = model.prior(), model.descriptor.channels
    assert len(prior) == model.coefficients.numel()
    expected = 1.0 + sum(n**4 + l**4 for _, n, l in channels[-1])
    assert float(prior[-1]) == pytest.approx(expected)
    assert float(potential("fourth_order", smoothness=0.0).prior()[0]) == 2.0 + 0.0**0.0


@pytest.mark.parametrize(
    "options", [{}, {"embedding": "shifted_scaled"}, {"fs_parameters": (1, 1, 0.5, 0.75)}]
)
def test_embedded_program_is_the_definition(options: dict) -> None:
    system, model = structures(4), embedded(**options)
    with torch.no_grad():
        model.coefficients.mul_(30.0)
    pairs = find_pairs(system, model.cutoff + 0.4)
    expected = evaluate(model, system, pairs, stress=True)
    found = run_program(model.program(), system, pairs, stress=True)
    for name in ("energies", "forces", "stress"):
        assert close(found.need(name), expected.need(name), 1e-11), name
    plain = embedded(**options | {"fs_parameters": (1.0, 1.0, 1.0, 1.0)})
    plain.load_state_dict(model.state_dict())
    assert not close(evaluate(plain, system, pairs).need("forces"), expected.need("forces"), 1e-3)


def test_embedding_functions() -> None:
    """Roots far from zero, zero at zero, odd; the smooth one has a second derivative there."""
    rho = torch.tensor([-50.0, 0.0, 50.0], dtype=torch.float64)
    for form in ("smooth", "shifted_scaled", "finnis_sinclair"):
        f = root(rho, 0.5, form)
        torch.testing.assert_close(f, rho.sign() * rho.abs().sqrt(), rtol=1e-3, atol=0)
    bends = {}
    for form in ("smooth", "shifted_scaled"):
        x = torch.tensor([-1e-7, 1e-7], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(root(x, 0.5, form).sum(), x, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), x)
        bends[form] = float(bend[1] - bend[0])
    assert abs(bends["smooth"]) < 1e-5 and abs(bends["shifted_scaled"]) == pytest.approx(2.75, abs=1e-4)


def test_embedded_starts_from_a_linear_fit_and_learns() -> None:
    data = labelled(24, 3)
    linear = ACE(elements=("O", "Si"), cutoff=4.0, order=3, total_degree=(5, 5, 4), atomic_energies=None)
    fit = LeastSquares(ridge=1e-4).fit(linear, data).potential
    batches = list(Loader(data, batch_size=8, cutoff=4.0, shuffle=False).batches(0))
    model = EmbeddedACE.from_linear(fit, [(b.system, b.pairs) for b in batches])
    system = data[0].system
    pairs = find_pairs(system, 4.0)
    before, linear_result = evaluate(model, system, pairs), evaluate(fit, system, pairs)
    assert close(before.need("forces"), linear_result.need("forces"), 1e-10)
    trainer = Trainer(max_epochs=15, batch_size=8, learning_rate=0.003, seed=0)
    history = trainer.fit(model, data).history
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    with pytest.raises(ValueError, match="w = m = 1"):
        EmbeddedACE.from_linear(fit, [], fs_parameters=(1.0, 0.5))


def test_two_derivatives_vanish_at_the_cutoff() -> None:
    for model in (potential("fourth_order"), embedded()):
        at = [derivatives_of_pair(model, "OSi", model.cutoff - h, 2) for h in (2e-3, 1e-3)]
        assert abs(at[1][2]) < 0.6 * abs(at[0][2]) and abs(at[1][1]) < 0.3 * abs(at[0][1])
        assert abs(derivatives_of_pair(model, "OSi", 2.0, 2)[2]) > 1e3 * abs(at[1][2])


@pytest.mark.parametrize(
    "options", [{"fs_parameters": (1.0,)}, {"fs_parameters": (1.0, -1.0)}, {"n_base": 2}]
)
def test_bad_arguments_are_refused(options: dict) -> None:
    with pytest.raises(ValueError):
        embedded(**options)
