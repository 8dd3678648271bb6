"""Least squares: planted coefficients, the normal equations, what the data leave open."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from rikiba.calculators.autograd import evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.data.batching import collate
from rikiba.data.dataset import Dataset
from rikiba.potentials.pair_basis import PairBasis
from rikiba.potentials.sum import Sum
from rikiba.potentials.zbl import Zbl
from rikiba.training.least_squares import LeastSquares, UndeterminedWarning

from labelled_frames import dataset  # isort: skip


def model(seed: int = 0, **options) -> PairBasis:
    return PairBasis(elements=("O", "Si"), cutoff=4.0, **{"n_basis": 4, "seed": seed, **options})


def planted(frames: Dataset, source: PairBasis) -> Dataset:
    """The same structures with labels from a linear potential."""
    out = []
    for frame in frames:
        stress = frame.results.stress is not None
        results = evaluate(source, frame.system, find_pairs(frame.system, source.cutoff), stress=stress)
        out.append(replace(frame, results=results.replace(energies=None)))
    return Dataset(out)


@pytest.mark.parametrize("solver", ["qr", "normal"])
@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 5.0, 100.0)])
def test_planted_coefficients_are_found(solver: str, weights: tuple[float, float, float]) -> None:
    source = model(seed=7)
    data = planted(dataset(24, seed=2), source)
    names = dict(zip(("energy_weight", "forces_weight", "stress_weight"), weights, strict=True))
    fit = LeastSquares(solver=solver, batch_size=5, **names).fit(model(seed=1), data)
    tolerance = 1e-10 if solver == "qr" else 1e-6
    torch.testing.assert_close(fit.potential.coefficients, source.coefficients, rtol=0, atol=tolerance)
    assert fit.rank == len(source.coefficients) and not fit.notes
    assert fit.objective < 1e-15


def reference_solution(data: Dataset, potential: PairBasis, w: tuple, ridge: float) -> np.ndarray:
    """Dense normal equations, written out here from the definition of the loss."""
    batch = collate(data.frames, cutoff=potential.cutoff)
    design = potential.design(batch.system, batch.pairs, forces=True, stress=True)
    n = len(potential.coefficients)
    e = design.energy.detach() / batch.system.counts[:, None]
    t = (batch.labels.energy - design.offset) / batch.system.counts
    blocks = [(e, t, w[0]), (design.forces.reshape(-1, n), batch.labels.forces.reshape(-1), w[1])]
    has = ~batch.labels.stress.isnan().any(-1).any(-1)
    blocks.append((design.stress[has].reshape(-1, n), batch.labels.stress[has].reshape(-1), w[2]))
    square, right = np.zeros((n, n)), np.zeros(n)
    for a, b, weight in blocks:
        a, b = a.numpy(), b.numpy()
        square += weight * a.T @ a / len(b)
        right += weight * a.T @ b / len(b)
    return np.linalg.solve(square + ridge * np.eye(n), right)


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_solution_is_that_of_the_normal_equations(ridge: float) -> None:
    data = dataset(20, seed=3)
    for solver in ("qr", "normal"):
        options = {"energy_weight": 1.0, "forces_weight": 2.0, "stress_weight": 30.0}
        fit = LeastSquares(solver=solver, ridge=ridge, batch_size=3, **options).fit(model(), data)
        expected = reference_solution(data, model(), (1.0, 2.0, 30.0), ridge)
        np.testing.assert_allclose(
            fit.potential.coefficients.detach().numpy(), expected, rtol=1e-7, atol=1e-9
        )
    # negative control: another force weight is another solution
    other = reference_solution(data, model(), (1.0, 20.0, 30.0), ridge)
    assert np.abs(other - expected).max() > 1e-4


def test_blocks_do_not_matter() -> None:
    data = dataset(16, seed=4)
    one = LeastSquares(batch_size=16).fit(model(), data).potential.coefficients
    many = LeastSquares(batch_size=1).fit(model(), data).potential.coefficients
    torch.testing.assert_close(one, many, rtol=0, atol=1e-11)


def test_frame_weights_act_like_repetition() -> None:
    data = dataset(8, seed=5)
    frames = list(data.frames)
    doubled = Dataset([replace(frames[0], weights={"energy": 2.0, "forces": 2.0}), *frames[1:]])
    one = LeastSquares(ridge=1e-12).fit(model(), doubled).potential.coefficients
    repeated = Dataset([frames[0], *frames])
    # repetition also changes the counts that each term is divided by: undo it in the weights
    atoms = [f.system.n_atoms for f in frames]
    options = {"energy_weight": 9 / 8, "forces_weight": (sum(atoms) + atoms[0]) / sum(atoms)}
    two = LeastSquares(ridge=1e-12, **options).fit(model(), repeated).potential.coefficients
    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-9)
    plain = LeastSquares(ridge=1e-12).fit(model(), data).potential.coefficients
    assert not torch.allclose(one, plain, rtol=1e-4)


def test_undetermined_coefficients_are_smallest_and_warned_of() -> None:
    """One composition only: the two one-body constants cannot be told apart."""
    frames = []
    for frame in dataset(12, seed=6, molecules=False):
        numbers = torch.tensor([8, 8, 8, 8, 14, 14, 14, 14])
        system = frame.system.replace(numbers=numbers)
        energy = torch.tensor([4 * 1.0 + 4 * 3.0], dtype=torch.float64)
        frames.append(replace(frame, system=system, results=Results(energy=energy)))
    # so few coefficients of pairs that energies determine them; energies are constants, so they come out zero
    start = model(n_basis=1, one_body=True)
    with pytest.warns(UndeterminedWarning, match="4 of 5"):
        fit = LeastSquares(forces_weight=0.0).fit(start, Dataset(frames))
    assert fit.rank == 4 and fit.notes
    # 4a + 4b = 16 of smallest norm is a = b = 2
    np.testing.assert_allclose(fit.potential.coefficients.detach()[-2:].numpy(), [2.0, 2.0], atol=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UndeterminedWarning)
        LeastSquares(forces_weight=0.0, ridge=1e-8).fit(start, Dataset(frames))


def test_missing_labels_and_bad_settings_are_refused() -> None:
    data = dataset(4, seed=9, stress=False)
    with pytest.raises(ValueError, match="stress_weight"):
        LeastSquares(stress_weight=1.0).fit(model(), data)
    for options in ({"solver": "lu"}, {"ridge": -1.0}, {"batch_size": 0}, {"energy_weight": -1.0}):
        with pytest.raises(ValueError):
            LeastSquares(**options)


def test_record_holds_rank_condition_and_errors() -> None:
    fit = LeastSquares().fit(model(), dataset(12, seed=10), dataset(4, seed=11))
    record = fit.record()
    assert record["rank"] == record["coefficients"] == 12 and record["condition_number"] >= 1
    assert record["valid_forces_rmse_meV_per_A"] >= record["valid_forces_mae_meV_per_A"] > 0


def test_fewer_equations_than_coefficients_with_a_ridge() -> None:
    """As many rows as one frame has: the solution is that of the normal equations all the same."""
    data, wide = dataset(1, seed=3, molecules=False), model(n_basis=40)
    ridge = 1e-3
    options = {"forces_weight": 2.0, "ridge": ridge}
    fit = LeastSquares(**options).fit(wide, data)
    assert fit.rows < fit.rank == len(wide.coefficients)
    expected = reference_solution(data, wide, (1.0, 2.0, 0.0), ridge)
    np.testing.assert_allclose(fit.potential.coefficients.detach().numpy(), expected, rtol=1e-7, atol=1e-10)
    weak = LeastSquares(**options | {"ridge": ridge / 2}).fit(wide, data).potential.coefficients
    assert np.abs(weak.detach().numpy() - expected).max() > 1e-5


def test_classical_terms_of_a_sum_stay_and_the_linear_one_learns_the_rest() -> None:
    source, core = model(seed=7), Zbl(elements=("O", "Si"), covalent_fraction=1.2)
    data = planted(dataset(24, seed=2), Sum(terms=[source, core]))
    options = {"stress_weight": 100.0, "batch_size": 5}
    fit = LeastSquares(**options).fit(Sum(terms=[core, model(seed=1)]), data)
    found = fit.potential.terms[1].coefficients
    torch.testing.assert_close(found, source.coefficients, rtol=0, atol=1e-9)
    assert fit.coefficients == len(source.coefficients) and fit.objective < 1e-14
    # without the core the same coefficients cannot tell the labels
    assert LeastSquares(**options).fit(model(seed=1), data).objective > 1e-6
    for terms in ([core, core], [model(), model()]):
        with pytest.raises(ValueError, match="one potential that is linear"):
            LeastSquares().fit(Sum(terms=terms), data)
