"""Regularisers found from the data: the fixed points, planted zeros, covariance."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rikiba.calculators.autograd import evaluate
from rikiba.core.pairs import find_pairs
from rikiba.data.dataset import Dataset
from rikiba.potentials.pair_basis import PairBasis
from rikiba.training.evidence import automatic_relevance, bayesian_ridge
from rikiba.training.least_squares import LeastSquares

from labelled_frames import dataset  # isort: skip


def problem(seed: int, rows: int = 400, columns: int = 12, noise: float = 0.1, zeros: int = 0):
    """(matrix, right-hand side, planted coefficients, triangular factor)."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(rows, columns)) * 10.0 ** rng.uniform(-1, 1, columns)
    planted = rng.normal(size=columns)
    planted[:zeros] = 0.0
    b = a @ planted + noise * rng.normal(size=rows)
    return a, b, planted, np.linalg.qr(np.column_stack([a, b]), mode="r")


def test_ridge_is_at_its_fixed_point() -> None:
    """α, β and γ satisfy MacKay's equations, written out here with the whole matrix."""
    a, b, _, factor = problem(1, noise=1.0)
    found = bayesian_ridge(factor, len(b), tolerance=1e-12)
    beta = found.noise_precision
    alpha = found.strength[0] * beta
    precision = alpha * np.eye(a.shape[1]) + beta * a.T @ a
    z = np.linalg.solve(precision, beta * a.T @ b)
    np.testing.assert_allclose(found.solution, z, rtol=1e-8)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(precision), rtol=1e-8, atol=1e-14)
    gamma = a.shape[1] - alpha * np.trace(np.linalg.inv(precision))
    assert found.effective == pytest.approx(gamma, rel=1e-8)
    assert alpha == pytest.approx(gamma / (z @ z), rel=1e-6)
    assert beta == pytest.approx((len(b) - gamma) / np.sum((a @ z - b) ** 2), rel=1e-6)
    assert beta == pytest.approx(1.0, rel=0.2)


def test_relevance_finds_planted_zeros_and_noise() -> None:
    a, b, planted, factor = problem(2, zeros=6)
    found = automatic_relevance(factor, len(b))
    assert found.noise_precision == pytest.approx(100.0, rel=0.2)
    shrunk = np.abs(found.solution[:6]) * np.linalg.norm(a[:, :6], axis=0)
    assert shrunk.max() < 0.2  # plain least squares leaves about one noise of 0.1 times a few
    np.testing.assert_allclose(found.solution[6:], planted[6:], atol=0.05)
    plain = np.linalg.lstsq(a, b, rcond=None)[0]
    error = lambda x: np.sum((a @ (x - planted)) ** 2)  # noqa: E731
    assert error(found.solution) < error(plain)
    ridge = bayesian_ridge(factor, len(b))
    assert found.effective < ridge.effective - 2


def test_covariance_says_how_far_off_the_coefficients_are() -> None:
    """Normalised errors of many problems have variance 1; with a wrong noise they do not."""
    scores = []
    for seed in range(60):
        _, b, planted, factor = problem(seed, rows=100, columns=5)
        found = bayesian_ridge(factor, len(b))
        scores.append((found.solution - planted) / np.sqrt(np.diag(found.covariance)))
    assert 0.8 < np.mean(np.square(scores)) < 1.25
    assert not 0.8 < np.mean(np.square(scores) * 4.0) < 1.25


def test_too_few_rows_and_no_labels_are_refused() -> None:
    *_, factor = problem(3)
    for method in (bayesian_ridge, automatic_relevance):
        with pytest.raises(ValueError, match="equations"):
            method(factor, 12)
        with pytest.raises(ValueError, match="zero"):
            method(np.column_stack([factor[:, :-1], np.zeros(len(factor))]), 400)


def model(**options) -> PairBasis:
    return PairBasis(elements=("O", "Si"), cutoff=4.0, n_basis=5, **options)


def noisy(n: int, sigma: float) -> tuple[Dataset, PairBasis]:
    """Labels from a linear potential, with noise on the forces."""
    source, out = model(seed=7), []
    generator = torch.Generator().manual_seed(5)
    for frame in dataset(n, seed=8):
        results = evaluate(source, frame.system, find_pairs(frame.system, source.cutoff))
        forces = results.need("forces")
        noise = sigma * torch.randn(forces.shape, generator=generator, dtype=torch.float64)
        out.append(replace(frame, results=results.replace(energies=None, forces=forces + noise)))
    return Dataset(out), source


@pytest.mark.parametrize("regulariser", ["bayesian_ridge", "ard"])
def test_fit_with_a_regulariser_from_the_data(regulariser: str) -> None:
    data, source = noisy(30, 0.02)
    fit = LeastSquares(energy_weight=0.0, regulariser=regulariser).fit(model(), data)
    difference = (fit.potential.coefficients - source.coefficients).detach().numpy()
    assert fit.covariance is not None
    if regulariser == "bayesian_ridge":
        score = difference @ np.linalg.pinv(fit.covariance, rcond=1e-10) @ difference / len(difference)
        assert 0.2 < score < 3.0
    # forces are nearer to those without noise than the labels are
    errors = []
    for frame in data:
        pairs = find_pairs(frame.system, source.cutoff)
        a, b = (evaluate(p, frame.system, pairs).need("forces") for p in (fit.potential, source))
        errors.append(float((a - b).square().mean().sqrt()))
    assert max(errors) < 0.015
    assert 0 < fit.effective_parameters <= len(source.coefficients) + 1e-9
    assert fit.record()["effective_parameters"] == fit.effective_parameters


def test_scaled_columns_do_not_see_units() -> None:
    """With scaled columns a ridge gives the same potential whatever the prior of the coefficients."""

    class InOtherUnits(PairBasis):
        def prior(self) -> torch.Tensor:
            return torch.logspace(-3, 3, len(self.coefficients), dtype=torch.float64)

    data, _ = noisy(12, 0.01)
    other = InOtherUnits(elements=("O", "Si"), cutoff=4.0, n_basis=5)
    for solver in ("qr", "normal"):
        options = {"ridge": 1e-2, "solver": solver}
        same = [
            LeastSquares(scale_columns=True, **options).fit(p, data).potential.coefficients
            for p in (model(), other)
        ]
        torch.testing.assert_close(*same, rtol=1e-6, atol=1e-9)
        differs = [LeastSquares(**options).fit(p, data).potential.coefficients for p in (model(), other)]
        assert not torch.allclose(*differs, rtol=1e-2)


def test_group_weights_are_frame_weights() -> None:
    data, _ = noisy(12, 0.05)
    grouped = Dataset([replace(f, group="a" if k < 4 else "b") for k, f in enumerate(data)])
    weights = {"energy": 4.0, "forces": 9.0}
    by_frame = Dataset([replace(f, weights=weights if k < 4 else {}) for k, f in enumerate(data)])
    one = LeastSquares(group_weights={"a": weights}).fit(model(), grouped).potential.coefficients
    two = LeastSquares().fit(model(), by_frame).potential.coefficients
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
    plain = LeastSquares().fit(model(), grouped).potential.coefficients
    assert not torch.allclose(one, plain, rtol=1e-3)
    refused = (({"c": 1.0}, "no frame"), ({"a": {"colour": 1.0}}, "may have"), ({"a": -1.0}, "≥ 0"))
    for wrong, message in refused:
        with pytest.raises(ValueError, match=message):
            LeastSquares(group_weights=wrong).fit(model(), grouped)


def test_contradicting_settings_are_refused() -> None:
    ard = {"regulariser": "ard"}
    for options in ({"regulariser": "lasso"}, ard | {"ridge": 1.0}, ard | {"solver": "normal"}):
        with pytest.raises(ValueError):
            LeastSquares(**options)
