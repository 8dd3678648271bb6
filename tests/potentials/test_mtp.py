"""Moment tensor potentials: program, rows and parameter gradients against automatic differentiation; fits."""

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from network_checks import derivatives_of_pair, labelled, orthogonal

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.descriptors.moment_basis import moment_basis
from rikiba.potentials.mtp import Mtp
from rikiba.training.least_squares import LeastSquares
from rikiba.training.separable import SeparableLeastSquares, total_gradient
from rikiba.training.trainer import Trainer
from rikiba.validation.errors import errors

KINDS = {
    "default": {"level": 10},
    "papers": {"level": 8, "envelope_power": 2, "normalised": False, "n_radial": 5},
    "many_moments": {"level": 10, "max_moments": None, "n_radial": 3},
}


def potential(kind: str = "default", **more) -> Mtp:
    e0 = {"O": -3.0, "Si": -5.0}
    given = {"elements": ("O", "Si"), "cutoff": 4.0, "r_min": 1.0, "atomic_energies": e0}
    return Mtp(**(given | KINDS[kind] | more))


def structures(seed: int) -> System:
    """Triclinic cells smaller than the cutoff, a slab, a molecule, an isolated atom; 28 atoms."""
    rng = np.random.default_rng(seed)
    out = [Atoms("Si"), Atoms("OSi", [[0, 0, 0], [9.0, 0, 0]])]
    for n, pbc in ((3, True), (5, (True, True, False)), (17, False)):
        cell = np.diag([3.5, 4.0, 5.0]) * (1.0 if n < 10 else 1.8) + 0.5 * rng.normal(size=(3, 3))
        out.append(Atoms(rng.choice(["Si", "O"], n), scaled_positions=rng.random((n, 3)), cell=cell, pbc=pbc))
    return System.from_ase(out)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> bool:
    scale = max(float(b.detach().nan_to_num().abs().max()), 1.0)
    return float((a - b).detach().nan_to_num().abs().max()) < tolerance * scale


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_program_and_design_are_the_definition(kind: str, seed: int) -> None:
    system, model = structures(seed), potential(kind, seed=seed)
    pairs = find_pairs(system, model.cutoff + 0.4)
    expected = evaluate(model, system, pairs, stress=True)
    found = run_program(model.program(), system, pairs, stress=True)
    for name in ("energies", "forces", "stress"):
        assert close(found.need(name), expected.need(name)), name
    design = model.design(system, pairs, forces=True, stress=True)
    c = model.coefficients.detach()
    assert close(design.energy @ c + design.offset, expected.need("energy"))
    assert close(design.forces @ c, expected.need("forces"))
    assert close(design.stress @ c, expected.need("stress"))
    assert not close(design.forces @ c, (1.0 + 1e-6) * expected.need("forces"))


@pytest.mark.parametrize("kind", list(KINDS))
def test_parameter_gradients_are_those_of_the_definition(kind: str) -> None:
    system, model = structures(4), potential(kind)
    pairs, generator = find_pairs(system, model.cutoff), torch.Generator().manual_seed(1)
    vectors = pairs.vectors(system).requires_grad_()
    e = torch.randn(system.n_atoms, dtype=torch.float64, generator=generator)
    w = torch.randn(vectors.shape, dtype=torch.float64, generator=generator)
    energies = model(system, pairs.with_vectors(vectors)).need("energies")
    (slopes,) = torch.autograd.grad(energies.sum(), vectors, create_graph=True)
    parameters = dict(model.named_parameters())
    whole = torch.autograd.grad((e * energies).sum() + (w * slopes).sum(), list(parameters.values()))
    found = model.program().parameter_gradient(system, pairs, vectors, e, w)
    without = model.program().parameter_gradient(system, pairs, vectors, e, torch.zeros_like(w))
    for name, expected in zip(parameters, whole, strict=True):
        assert close(found[name], expected), name
        assert not close(without[name], expected, 1e-3), name


def test_components_are_a_tensor_sum_over_all_indices() -> None:
    """Functions of level 12 that are named by their graphs, by numpy's own contraction."""
    rng, basis = np.random.default_rng(2), moment_basis(12)
    u, f = rng.normal(size=(5, 3)), rng.random((3, 5))
    m = [np.einsum("n,na->a", f[0], u), np.einsum("n,na,nb->ab", f[0], u, u)]
    m3 = np.einsum("n,na,nb,nc->abc", f[0], u, u, u)
    named = {
        "triangle": np.einsum("ab,bc,ca->", m[1], m[1], m[1]),
        "path": np.einsum("a,ab,b->", m[0], m[1], m[0]),
        "fork": np.einsum("abc,a,bc->", m3, m[0], m[1]),
        "radial": f[2].sum(),
    }
    components = np.array([np.sum(f[k] * np.prod(u ** np.array(p), axis=1)) for k, *p in basis.basic])
    values = basis.evaluate(components)
    for name, value in named.items():
        assert np.abs(values / value - 1.0).min() < 1e-12, name
    assert np.abs(values / (1.001 * named["triangle"]) - 1.0).min() > 1e-6


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), improper=st.booleans())
def test_energies_are_invariant(seed: int, improper: bool) -> None:
    model, rng = potential(seed=seed % 7), np.random.default_rng(seed)
    atoms = Atoms(rng.choice(["O", "Si"], 8), 4.0 * rng.random((8, 3)))
    turned = Atoms(atoms.numbers, atoms.positions @ orthogonal(seed, improper).T)
    sheared = Atoms(atoms.numbers, atoms.positions * [1.0, 1.0, 1.01])
    calculator = PotentialCalculator(model)
    a, b, c = (calculator(System.from_ase(x)).need("energies") for x in (atoms, turned, sheared))
    assert close(b, a, 1e-11) and not close(c, a, 1e-7)


def test_smooth_at_the_cutoff() -> None:
    """The default is C²; the papers' envelope has a second derivative that jumps."""
    end = [derivatives_of_pair(potential(k), "OSi", 4.0 - 1e-6, 2) for k in ("default", "papers")]
    e0 = -8.0
    assert abs(end[0][0] - e0) < 1e-12 and abs(end[0][1]) < 1e-9 and abs(end[0][2]) < 1e-5
    assert abs(end[1][1]) < 1e-5 and abs(end[1][2]) > 1e-3


def test_fit_error_falls_with_level_and_with_steps() -> None:
    data = labelled(25, seed=3)
    found, before = {}, None
    for level in (2, 6, 10):
        model = potential(level=level, n_radial=5, r_min=1.2)
        if before is not None:
            model.radial_coefficients.data[:, :, : before.shape[2]] = before
        linear = LeastSquares(ridge=1e-10, batch_size=20)
        start = linear.fit(model, data)
        fit = SeparableLeastSquares(linear=linear, rounds=1, iterations=15).fit(model, data)
        assert fit.objectives[0] == pytest.approx(start.objective, rel=1e-6)
        assert fit.linear.objective <= fit.objectives[-1] * (1 + 1e-6) < 0.9 * start.objective
        found[level] = fit.linear.objective
        before = fit.potential.get_parameter("radial_coefficients").detach()
    assert found[10] < 0.8 * found[6] and found[6] < 0.8 * found[2]


def test_planted_coefficients_are_found() -> None:
    source, data = potential(seed=9), labelled(30, seed=1)
    frames = []
    for frame in data:
        pairs = find_pairs(frame.system, source.cutoff)
        results = evaluate(source, frame.system, pairs).replace(energies=None)
        frames.append(type(frame)(system=frame.system, results=results, level_of_theory="MTP"))
    planted = type(data)(frames)
    fit = LeastSquares(scale_columns=True).fit(source, planted[:20])
    calculator = PotentialCalculator(fit.potential)
    assert errors(calculator, planted[20:]).values["forces_rmse_meV_per_A"] < 1e-3
    other = LeastSquares(scale_columns=True, ridge=1e-12).fit(potential(seed=8), planted[:20])
    # other radial functions span another space
    assert errors(PotentialCalculator(other.potential), planted[20:]).values["forces_rmse_meV_per_A"] > 0.1


def test_gradient_of_the_objective_by_autograd_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from rikiba.data.batching import Loader
    from rikiba.training.loss import Loss, counts

    model, data = potential(level=6, n_radial=3), labelled(4, seed=2)
    batches = list(Loader(data, batch_size=2, cutoff=model.cutoff, shuffle=False).batches(0))
    number = sum(counts(b.labels) for b in batches)
    compiled = total_gradient(model, batches, Loss(forces_weight=1.0), number)
    monkeypatch.setattr(Mtp, "program", lambda self: None)
    plain = total_gradient(model, batches, Loss(forces_weight=1.0), number)
    assert compiled[0] == pytest.approx(plain[0], rel=1e-12)
    assert all(close(compiled[1][n], plain[1][n]) for n in plain[1])


def test_trains_by_gradient_descent() -> None:
    data = labelled(8, seed=5)
    trainer = Trainer(max_epochs=12, batch_size=4, learning_rate=0.03, dtype="float64", ema_decay=None)
    result = trainer.fit(potential(level=6, n_radial=4), data, None)
    losses = [row["train_loss"] for row in result.history]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"level": 7}, "even"),
        ({"level": 30}, "28"),
        ({"envelope_power": 1}, "continuous"),
        ({"r_min": 4.0}, "below"),
    ],
)
def test_what_is_refused(arguments: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        potential(**arguments)
