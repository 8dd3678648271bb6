"""GAP: program and design against automatic differentiation, the regression against exact ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.dataset import Dataset, Labelled
from rikiba.data.formats import read
from rikiba.data.statistics import computed_arguments
from rikiba.potentials.gap import Gap
from rikiba.potentials.snap import Snap
from rikiba.potentials.sparse_points import choose, farthest, leverage
from rikiba.potentials.sum import Sum
from rikiba.potentials.zbl import Zbl
from rikiba.training.checkpoint import load_potential, save_potential
from rikiba.training.gaussian_process import SparseGaussianProcess
from rikiba.validation.errors import errors

SILICON = Path(__file__).parents[2] / "examples" / "silicon" / "data"
SOAP = {"kind": "soap", "cutoff": 3.6, "n_max": 3, "l_max": 2, "n_sparse": 7, "delta": 3.0}
KINDS = {
    "soap": [SOAP],
    "soap of one": [SOAP | {"centre": "Si", "neighbours": ["Si"], "zeta": 2, "central_weight": 0.7}],
    "pairs": [{"kind": "distance_2b", "cutoff": 4.0, "n_sparse": 8}],
    "triplets": [{"kind": "angle_3b", "cutoff": 3.0, "n_sparse": 9, "theta": [0.8, 1.1, 0.6]}],
}


def potential(kind: str, **more) -> Gap:
    energies = {"O": -3.0, "Si": -5.0}
    return Gap(elements=("O", "Si"), terms=KINDS[kind], atomic_energies=energies, jitter=1e-6, **more)


def structures(seed: int) -> System:
    """A triclinic cell smaller than the cutoff, a slab, a molecule, an isolated atom."""
    rng = np.random.default_rng(seed)
    out = [Atoms("Si"), Atoms("OSi", [[0, 0, 0], [9.0, 0, 0]])]
    for n, pbc in ((3, True), (5, (True, True, False)), (10, False)):
        cell = np.diag([3.5, 4.0, 5.0]) * (1.0 if n < 10 else 1.5) + 0.5 * rng.normal(size=(3, 3))
        symbols = rng.choice(["Si", "O"], n)
        out.append(Atoms(symbols, scaled_positions=rng.random((n, 3)), cell=cell, pbc=pbc))
    return System.from_ase(out)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> bool:
    scale = max(float(b.nan_to_num().abs().max()), 1.0)
    return float((a - b).nan_to_num().abs().max()) < tolerance * scale


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10**6), whole=st.booleans())
def test_program_and_design_are_the_definition(kind: str, seed: int, whole: bool) -> None:
    system, model = structures(seed), potential(kind, seed=seed, subtract_isolated=not whole)
    pairs = find_pairs(system, model.cutoff + 0.4)
    expected = evaluate(model, system, pairs, stress=True)
    found = run_program(model.program(), system, pairs, stress=True)
    for name in ("energies", "forces", "stress"):
        assert close(found.need(name), expected.need(name), 1e-10), name
    design = model.design(system, pairs, forces=True, stress=True)
    c = model.coefficients.detach()
    assert close(design.energy @ c + design.offset, expected.need("energy"), 1e-10)
    assert close(design.forces @ c, expected.need("forces"), 1e-10)
    assert close(design.stress @ c, expected.need("stress"), 1e-10)
    assert float(design.forces.abs().max()) > 1e-3 and float(expected.forces.abs().max()) > 1e-3


def test_isolated_atoms() -> None:
    system = System.from_ase([Atoms("O"), Atoms("Si")])
    for whole in (False, True):
        model = potential("soap", subtract_isolated=not whole)
        energy = PotentialCalculator(model)(system, forces=False).energy
        assert close(energy, torch.tensor([-3.0, -5.0]).double(), 1e-12) != whole


def dimers(r: np.ndarray, energy: np.ndarray, slope: np.ndarray, group: str = "") -> Dataset:
    """Pairs of atoms of energy E(r) and forces −dE/dr; a NaN slope is no label."""
    out = []
    for x, e, d in zip(r, energy, slope, strict=True):
        system = System.from_ase(Atoms("Si2", [[0, 0, 0], [0, 0, x]]))
        forces = None if np.isnan(d) else torch.tensor([[0, 0, d], [0, 0, -d]], dtype=torch.float64)
        results = Results(energy=torch.tensor([e], dtype=torch.float64), forces=forces)
        out.append(Labelled(system=system, results=results, level_of_theory="a curve", group=group))
    return Dataset(out)


def line(n_sparse: int = 40, **more) -> Gap:
    term = {"kind": "distance_2b", "cutoff": 9.0, "transition_width": 0.1, "theta": 0.9, "delta": 0.7}
    return Gap(elements=["Si"], terms=[term | {"n_sparse": n_sparse}], jitter=1e-12, **more)


def test_it_is_the_exact_process_on_a_line() -> None:
    """Values and derivatives of a curve: mean and variance of the exact Gaussian process (all by hand)."""
    r = np.array([1.5, 2.0, 2.4, 3.5, 5.0])
    labels = np.cos(r), -np.sin(r)
    model = line(variance="posterior")
    with torch.no_grad():
        model.processes[0].sparse.copy_(torch.linspace(0.5, 6.5, 40).double()[:, None])
    sigma_e, sigma_f = 0.02, 0.05
    fit = SparseGaussianProcess(
        energy_sigma=sigma_e, forces_sigma=sigma_f, virial_sigma=None, choose_points=False
    ).fit(model, dimers(r, *labels))
    # E(r) = 2 ε(r); labels: E with variance 2 σ_E², ±E' along z with variance σ_F² on two atoms
    length, delta = 0.9, 0.7

    def k(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
        """cov(E, E), cov(E, E'), cov(E', E')."""
        d = (a[:, None] - b[None, :]) / length
        value = 4.0 * delta**2 * np.exp(-0.5 * d * d)
        return value, value * d / length, value * (1.0 - d * d) / length**2

    value, mixed, double = k(r, r)
    covariance = np.block([[value, mixed], [mixed.T, double]])
    covariance += np.diag(np.repeat([2.0 * sigma_e**2, 0.5 * sigma_f**2], len(r)))
    x = np.array([1.7, 3.0, 4.4, 5.8])
    across = np.concatenate(k(x, r)[:2], 1)
    mean = across @ np.linalg.solve(covariance, np.concatenate(labels))
    variance = k(x, x)[0].diagonal() - np.einsum("ij,ji->i", across, np.linalg.solve(covariance, across.T))
    at = dimers(x, x, x)
    for k_, frame in enumerate(at):
        found = PotentialCalculator(fit.potential)(frame.system)
        assert float(found.energy) == pytest.approx(mean[k_], abs=1e-6)
        assert float(found.spread.energy) ** 2 == pytest.approx(variance[k_], rel=1e-3, abs=1e-6)
    assert variance[3] > 30 * variance[0] and fit.effective_parameters < 10
    # negative control: without the slopes it is another curve
    values = SparseGaussianProcess(
        energy_sigma=sigma_e, forces_sigma=None, virial_sigma=None, choose_points=False
    )
    other = PotentialCalculator(values.fit(model, dimers(r, *labels)).potential)(at[2].system)
    assert abs(float(other.energy) - mean[2]) > 1e-3


def test_points_at_every_environment_are_kernel_ridge_regression() -> None:
    """(K + Λ)⁻¹ y in closed form, K summed over the atoms of each structure."""
    rng = np.random.default_rng(4)
    frames = [Atoms("Si4", rng.random((4, 3)) * 3.0) for _ in range(6)]
    system = System.from_ase(frames)
    term = SOAP | {"n_sparse": 24, "delta": 1.0}
    model = Gap(elements=["Si"], terms=[term], jitter=1e-12, subtract_isolated=False)
    y = torch.from_numpy(rng.normal(size=6))
    data = Dataset(
        [
            Labelled(system=system[k], results=Results(energy=y[k : k + 1]), level_of_theory="noise")
            for k in range(6)
        ]
    )
    sigma = 0.03
    fit = SparseGaussianProcess(energy_sigma=sigma, forces_sigma=None, virial_sigma=None).fit(model, data)
    soap = fit.potential.processes[0]
    p = soap.environments(
        find_pairs(system, 3.6).vectors(system), find_pairs(system, 3.6), torch.zeros(24).long()
    )
    kernel = soap.kernel(p.features, p.features).reshape(6, 4, 6, 4).sum((1, 3))
    expected = kernel @ torch.linalg.solve(kernel + 4.0 * sigma**2 * torch.eye(6), y)
    found = PotentialCalculator(fit.potential)(system).energy
    assert close(found, expected, 1e-5)
    assert not close(found, y, 1e-2)


def test_noise_of_groups_and_of_labels() -> None:
    """Two groups that contradict each other: the mean weighs them by 1/σ²."""
    r = np.array([2.0])
    nothing = np.array([np.nan])
    both = dimers(r, np.array([1.0]), nothing, "good") + dimers(r, np.array([2.0]), nothing, "bad")
    rule = SparseGaussianProcess(
        energy_sigma=0.001,
        forces_sigma=None,
        virial_sigma=None,
        group_sigmas={"bad": {"energy_sigma": 0.002}},
        choose_points=False,
    )

    def predicted(data: Dataset) -> float:
        return float(PotentialCalculator(rule.fit(line(), data).potential)(data[0].system).energy)

    assert predicted(both) == pytest.approx(1.2, abs=1e-3)
    noisy = Dataset([both[0], replace(both[1], noise={"energy": 0.001 * np.sqrt(10.0)})])
    assert predicted(noisy) == pytest.approx(1.0 + 1.0 / 10.0, abs=1e-3)
    with pytest.raises(ValueError, match="no frame has such a group"):
        replace(rule, group_sigmas={"other": {}}).fit(line(), both)
    with pytest.raises(ValueError, match="must be positive"):
        replace(rule, energy_sigma=0.0)
    with pytest.raises(ValueError, match="may name"):
        replace(rule, group_sigmas={"bad": {"sigma": 1.0}})


def test_on_a_repulsive_core_it_learns_what_is_left() -> None:
    core = Zbl(elements=["Si"], cutoff=2.5)
    frames = dimers(np.array([1.2, 1.6, 2.0]), np.zeros(3), np.zeros(3))
    answers = [PotentialCalculator(core)(f.system) for f in frames]
    data = Dataset(
        [replace(f, results=r.replace(energies=None)) for f, r in zip(frames, answers, strict=True)]
    )
    rule = SparseGaussianProcess(virial_sigma=None, choose_points=False)
    fit = rule.fit(Sum(terms=[line(), core]), data)
    alone = rule.fit(line(), data)
    assert float(fit.potential.terms[0].coefficients.detach().abs().max()) < 1e-6
    assert float(alone.potential.coefficients.detach().abs().max()) > 1.0
    with pytest.raises(ValueError, match="fits a Gap"):
        rule.fit(Snap(elements=["Si"], twojmax=2), data)


def test_choosing_points() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((300, 3), generator=generator, dtype=torch.float64) * 1e-2 + 1.0
    x[17], x[200] = torch.tensor([1.0, -1.0, 0.5]), torch.tensor([-1.0, 0.3, 2.0])
    assert {17, 200} <= set(farthest(x, 3).tolist())
    assert set(leverage(x, 3).topk(2).indices.tolist()) == {17, 200}
    for method, sees in (("cur", True), ("fps", True), ("random", False)):
        points = choose(x, 6, method, torch.Generator().manual_seed(1), None)
        assert points.shape == (6, 3)
        assert bool((points == x[17]).all(1).any() and (points == x[200]).all(1).any()) == sees, method
    grid = choose(torch.rand((50, 1)).double(), 5, "uniform", generator)
    assert close(grid.diff(dim=0), grid.diff(dim=0).mean().expand(4, 1), 1e-12)
    with pytest.raises(ValueError, match="one component"):
        choose(x, 5, "uniform", generator)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_leverage_is_that_of_the_leading_singular_vectors(shape: tuple[int, int]) -> None:
    """Of tall and of wide matrices, against NumPy's decomposition."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=shape))
    left = np.linalg.svd(x.numpy(), full_matrices=False)[0][:, :5]
    assert np.abs(leverage(x, 5).numpy() - (left**2).sum(1)).max() < 1e-10


def test_too_few_environments_leave_points_unused(tmp_path: Path) -> None:
    data = dimers(np.array([2.0, 2.5]), np.array([1.0, 0.5]), np.array([-1.0, -1.0]))
    model = Gap(elements=["Si"], terms=[SOAP])
    with pytest.warns(UserWarning, match="2 different environments"):
        fit = SparseGaussianProcess(forces_sigma=None, virial_sigma=None).fit(model, data)
    assert int(fit.potential.processes[0].sparse_weight.sum()) == 2
    save_potential(tmp_path / "gap.npz", fit.potential)
    a, b = (
        PotentialCalculator(p)(data[0].system) for p in (fit.potential, load_potential(tmp_path / "gap.npz"))
    )
    assert torch.equal(a.energy, b.energy) and torch.equal(a.forces, b.forces)
    assert float(a.energy) == pytest.approx(1.0, abs=0.02)


def test_it_learns_silicon_and_knows_what_it_has_not_seen() -> None:
    data = read(SILICON / "train.xyz", level_of_theory="PBE (VASP)", stress_key="stress")
    small = data[sorted(range(len(data)), key=lambda k: data[k].system.n_atoms)[:30]]
    term = SOAP | {"cutoff": 4.5, "n_max": 5, "l_max": 4, "n_sparse": 40}
    computed = {k: computed_arguments(small, 4.5)[k] for k in ("elements", "atomic_energies")}
    model = Gap(terms=[term], variance="sparse", **computed)
    fit = SparseGaussianProcess().fit(model, small[::2])
    plain = Gap(**fit.potential.arguments | {"variance": "none"})
    plain.load_state_dict(fit.potential.state_dict())
    found, before = (errors(PotentialCalculator(p), small[1::2]).values for p in (plain, model))
    assert found["forces_mae_meV_per_A"] < 0.6 * before["forces_mae_meV_per_A"]
    seen = small[0].system
    squeezed = seen.replace(positions=seen.positions * 0.8, cell=seen.cell * 0.8)
    a, b = (PotentialCalculator(fit.potential)(s).spread.energies for s in (seen, squeezed))
    assert float(b.mean()) > 2.0 * float(a.mean())


@pytest.mark.parametrize(
    ("terms", "word"),
    [
        ([{"kind": "turbo"}], "kind is"),
        ([{"kind": "soap", "sigma": 1.0}], "no sigma"),
        ([{"kind": "soap", "centre": "Si", "neighbours": ["O"]}], "must see Si"),
        ([{"kind": "distance_2b", "pair": ["Si", "C"]}], "potential knows"),
        ([{"kind": "soap", "zeta": 0.5}], "zeta"),
        ([], "at least one"),
    ],
)
def test_wrong_terms_are_refused(terms: list, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Gap(elements=["Si", "O"], terms=terms)
