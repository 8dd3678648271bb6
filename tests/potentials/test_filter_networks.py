"""SchNet and PaiNN: symmetry, smoothness, limits, precision, training. Their peers are in tests/peers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from rikiba.calculators.autograd import evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials.painn import PaiNN
from rikiba.potentials.schnet import SchNet
from rikiba.training.checkpoint import load_potential, save_potential
from rikiba.training.trainer import Trainer

from network_checks import (  # isort: skip
    answer, derivatives_of_pair, differences, energy, ethanol, labelled, orthogonal, with_biases,
)  # fmt: skip

FAMILIES: dict[str, type[SchNet] | type[PaiNN]] = {"SchNet": SchNet, "PaiNN": PaiNN}
SMALL: dict[str, Any] = {"elements": ("H", "C", "O"), "cutoff": 4.0, "channels": 8, "n_radial": 8}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("SchNet", {}),
    ("SchNet", {"radial_basis": "bessel", "n_layers": 1, "n_filters": 5}),
    ("SchNet", {"gamma": 10.0, "n_radial": 20, "filter_activation": True, "n_layers": 2}),
    (
        "SchNet",
        {
            "envelope": "cosine",
            "isolated_limit": False,
            "readout_activation": "silu",
            "readout_widths": (6, 3),
        },
    ),
    ("PaiNN", {}),
    ("PaiNN", {"radial_basis": "gaussian", "n_layers": 1, "gamma": 3.0}),
    ("PaiNN", {"n_layers": 2, "norm_epsilon": 0.1, "readout_widths": (6, 3)}),
    (
        "PaiNN",
        {
            "envelope": "cosine",
            "isolated_limit": False,
            "readout_activation": "shifted_softplus",
            "n_layers": 2,
        },
    ),
]


def build(family: str, **more: Any) -> SchNet | PaiNN:
    return with_biases(FAMILIES[family](**(SMALL | {"scale": 0.8, "shift": 0.1} | more)))


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=str)
def test_forces_and_stress_are_derivatives(family: str, variant: dict[str, Any]) -> None:
    atoms = bulk("C", "diamond", 3.6, cubic=True)
    atoms.symbols[0] = "O"
    atoms.rattle(0.1, seed=1)
    model = build(family, **variant)
    found = answer(model, atoms, stress=True)
    direction = np.random.default_rng(0).normal(size=atoms.positions.shape)
    strain = np.array([[0.3, 0.2, 0.0], [0.2, -0.4, 0.1], [0.0, 0.1, 0.5]])
    along, strained = differences(model, atoms, direction, strain)
    assert along == pytest.approx(
        -float((found.need("forces").numpy() * direction).sum()), rel=1e-6, abs=1e-7
    )
    virial = float((found.need("stress")[0].numpy() * strain).sum()) * atoms.get_volume()
    assert strained == pytest.approx(virial, rel=1e-6, abs=1e-7)
    assert abs(along) > 1e-3


@settings(max_examples=24, deadline=None)
@given(seed=st.integers(0, 10**6), improper=st.booleans(), case=st.sampled_from(VARIANTS))
def test_energy_is_invariant_and_forces_turn(
    seed: int, improper: bool, case: tuple[str, dict[str, Any]]
) -> None:
    model, atoms, r = build(case[0], **case[1]), ethanol(seed), orthogonal(seed, improper)
    turned = atoms.copy()
    turned.positions = atoms.positions @ r.T + 3.0
    first, second = answer(model, atoms), answer(model, turned)
    torch.testing.assert_close(first.energies, second.energies, rtol=0, atol=1e-10)
    expected = first.need("forces") @ torch.from_numpy(r).T
    torch.testing.assert_close(second.need("forces"), expected, rtol=1e-9, atol=1e-9)
    stretched = atoms.copy()
    stretched.positions = atoms.positions * [1.0, 1.0, 1.05]
    assert abs(float(first.need("energy")) - energy(model, stretched)) > 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_permutation_and_batching_change_nothing(family: str) -> None:
    model = build(family)
    frames = [ethanol(1), molecule("CH4"), Atoms("O"), ethanol(2), molecule("H2O")]
    together = answer(model, frames)
    alone = [answer(model, a) for a in frames]
    for name in ("energy", "forces"):
        expected = torch.cat([a.need(name) for a in alone])
        torch.testing.assert_close(together.need(name), expected, rtol=0, atol=1e-12)
    order = np.random.default_rng(0).permutation(9)
    shuffled = answer(model, frames[0][order])
    torch.testing.assert_close(shuffled.need("forces"), alone[0].need("forces")[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_supercell_is_extensive(family: str) -> None:
    cell = bulk("C", "diamond", 3.57)
    cell.rattle(0.05, seed=3)
    assert energy(build(family), cell * (2, 1, 2)) == pytest.approx(
        4 * energy(build(family), cell), abs=1e-10
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_isolated_atom_has_its_own_energy(family: str) -> None:
    energies = {"H": -13.6, "C": -1030.123456789, "O": -2041.0}
    found = answer(build(family, atomic_energies=energies), Atoms("C"))
    assert float(found.need("energy")) == pytest.approx(-1030.123456789 + 0.1, abs=1e-10)
    assert found.need("forces").eq(0).all()
    far = Atoms("COH", [[0, 0, 0], [0, 0, 4.1], [0, 9.0, 0]])
    assert energy(build(family, atomic_energies=energies), far) == pytest.approx(
        sum(energies.values()) + 0.3, abs=1e-9
    )
    # the published form has not
    published = build(family, atomic_energies=energies, isolated_limit=False)
    assert abs(energy(published, Atoms("C")) - (-1030.123456789 + 0.1)) > 1e-3
    # and the energies stay exact in single precision
    single = FAMILIES[family](**(SMALL | {"atomic_energies": energies}))
    assert energy(single, Atoms("C")) == pytest.approx(-1030.123456789, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_limit_shifts_each_element_by_a_constant(family: str) -> None:
    a, b = build(family), build(family, isolated_limit=False)
    forces = (answer(m, ethanol()).need("forces") for m in (a, b))
    torch.testing.assert_close(*forces, rtol=0, atol=1e-13)
    assert energy(b, ethanol()) - energy(a, ethanol()) == pytest.approx(
        sum(energy(b, Atoms(s)) - 0.1 for s in ethanol().symbols), abs=1e-10
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("envelope", "smooth"), [("polynomial", 2), ("cosine", 1)])
@pytest.mark.parametrize("basis", ["gaussian", "bessel"])
def test_smoothness_at_the_cutoff(family: str, envelope: str, smooth: int, basis: str) -> None:
    """C² by default, C¹ with the cosine: derivatives up to there vanish, and the next does not."""
    model = build(family, envelope=envelope, radial_basis=basis)
    near = derivatives_of_pair(model, "CO", 4.0 - 1e-7, 3)
    inside = derivatives_of_pair(model, "CO", 3.0, 3)
    assert near[0] == pytest.approx(energy(model, Atoms("CO", [[0, 0, 0], [0, 0, 50.0]])), abs=1e-12)
    for order in range(1, smooth + 1):
        assert abs(near[order]) < 1e-5 * abs(inside[order])
    assert abs(near[smooth + 1]) > 1e-3 * abs(inside[smooth + 1])


@pytest.mark.parametrize("family", FAMILIES)
def test_longer_pair_list_changes_nothing(family: str) -> None:
    model, system = build(family), System.from_ase(ethanol())
    near = model(system, find_pairs(system, 4.0)).need("energies")
    further = model(system, find_pairs(system, 6.0)).need("energies")
    torch.testing.assert_close(further, near, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_single_precision_is_close_and_seeds_decide(family: str) -> None:
    double, single = build(family), build(family).float()
    a, b = answer(double, ethanol()), answer(single, ethanol())
    torch.testing.assert_close(a.need("forces"), b.need("forces").double(), rtol=1e-4, atol=1e-5)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    same, again, other = (FAMILIES[family](**SMALL, seed=k) for k in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(same.parameters(), again.parameters(), strict=True))
    assert not torch.equal(same.embedding, other.embedding)


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=str)
def test_force_loss_reaches_every_parameter(family: str, variant: dict[str, Any]) -> None:
    model, system = build(family, **variant), System.from_ase([ethanol(4), ethanol(5)])
    pairs = find_pairs(system, model.cutoff)

    def loss() -> torch.Tensor:
        found = evaluate(model, system, pairs, forces=True, create_graph=True)
        return found.need("forces").square().sum() + found.need("energy").square().sum()

    names = [n for n, _ in model.named_parameters()]
    gradients = torch.autograd.grad(loss(), list(model.parameters()))
    for name, g in zip(names, gradients, strict=True):
        # the last bias of the readout cancels where the isolated atom is subtracted
        silent = model.isolated_limit and name == f"readout.layers.{len(model.readout.layers) - 1}.bias"
        assert bool(g.isfinite().all()) and (float(g.abs().sum()) > 1e-10) != silent, name
    weight = model.filters.weights[0]
    direction, losses = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).double(), []
    for sign in (1, -2):
        with torch.no_grad():
            weight.add_(sign * 1e-6 * direction)
        losses.append(float(loss().detach()))
    expected = float((gradients[names.index("filters.weights.0")] * direction).sum())
    assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_receptive_field_is_layers_times_cutoff(family: str) -> None:
    chain = Atoms("CCC", [[0, 0, 0], [0, 0, 2.5], [0, 0, 5.0]])
    moved = chain.copy()
    moved.positions[2, 0] += 0.2
    for layers, seen in ((1, False), (2, True)):
        model = build(family, n_layers=layers)
        change = (answer(model, chain).need("energies") - answer(model, moved).need("energies"))[0].abs()
        assert model.receptive_field == 4.0 * layers
        assert (float(change) > 1e-8) == seen


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=str)
def test_a_checkpoint_brings_it_back(family: str, variant: dict[str, Any], tmp_path: Path) -> None:
    model = build(family, **variant)
    back = load_potential(save_potential(tmp_path / "a.npz", model))
    assert isinstance(back, FAMILIES[family])
    assert torch.equal(answer(model, ethanol()).need("forces"), answer(back, ethanol()).need("forces"))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_learns(family: str) -> None:
    model = FAMILIES[family](elements=("O", "Si"), cutoff=4.0, channels=16, n_layers=2, n_radial=10)
    trainer = Trainer(batch_size=5, max_epochs=25, learning_rate=0.01, weight_decay=1e-4, optimizer="adamw")
    rows = trainer.fit(model, labelled(20, 1), labelled(5, 2)).history
    assert rows[-1]["train_loss"] < 0.2 * rows[0]["train_loss"]
    assert rows[-1]["valid_forces_rmse_meV_per_A"] < 0.5 * rows[0]["valid_forces_rmse_meV_per_A"]


@pytest.mark.parametrize("family", FAMILIES)
def test_weight_decay_is_for_matrices(family: str) -> None:
    model = build(family)
    decayed, all_names = set(model.decayed_parameters()), {n for n, _ in model.named_parameters()}
    assert all_names - decayed == {n for n in all_names if "bias" in n or n == "embedding"}
    assert decayed and all(dict(model.named_parameters())[n].ndim >= 2 for n in decayed)


@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_element_is_refused(family: str) -> None:
    with pytest.raises(ValueError, match="Si"):
        answer(build(family), Atoms("Si"))
