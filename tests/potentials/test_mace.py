"""MACE: symmetry, smoothness, limits, precision. Equality with mace-torch is in tests/interop."""

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
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.so3 import rotation_matrix
from rikiba.potentials.mace import MACE, MACELayer

SMALL: dict[str, Any] = {
    "elements": ("H", "C", "O"),
    "cutoff": 4.0,
    "channels": 4,
    "radial_widths": (8, 8),
    "avg_num_neighbors": 6.0,
}
VARIANTS: list[dict[str, Any]] = [
    {"max_L": 0, "l_max": 2, "correlation": 3},
    {"max_L": 1, "l_max": 3, "correlation": 2},
    {"max_L": 2, "l_max": 2, "correlation": 3, "zbl": True, "first_residual": True},
    {"max_L": 1, "l_max": 1, "correlation": 4, "n_layers": 1},
    {"max_L": 1, "l_max": 2, "correlation": [3, 1, 2], "n_layers": 3, "density_normalised": True},
    {
        "max_L": 1,
        "l_max": 2,
        "correlation": 2,
        "distance_transform": "agnesi",
        "envelope_after_network": True,
    },
]


def build(**more: Any) -> MACE:
    return MACE(**(SMALL | {"scale": 0.8, "shift": 0.1} | more)).double()


def answer(model: MACE, atoms: Atoms | list[Atoms], *, stress: bool = False) -> Results:
    system = System.from_ase(atoms)
    return evaluate(model, system, find_pairs(system, model.cutoff), forces=True, stress=stress)


def ethanol(seed: int = 0, amplitude: float = 0.1) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.positions += np.random.default_rng(seed).normal(0, amplitude, atoms.positions.shape)
    return atoms


def orthogonal(seed: int, improper: bool) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q)) * (-1 if improper else 1)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_forces_and_stress_are_derivatives(variant: dict[str, Any]) -> None:
    atoms = bulk("C", "diamond", 3.6, cubic=True)
    atoms.symbols[0] = "O"
    atoms.rattle(0.1, seed=1)
    model = build(**variant)
    found = answer(model, atoms, stress=True)
    h, direction = 2e-5, np.random.default_rng(0).normal(size=atoms.positions.shape)
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * h * direction
        energies.append(float(answer(model, moved).need("energy")))
    slope = (energies[0] - energies[1]) / (2 * h)
    assert slope == pytest.approx(
        -float((found.need("forces").numpy() * direction).sum()), rel=1e-6, abs=1e-7
    )
    strain = np.array([[0.3, 0.2, 0.0], [0.2, -0.4, 0.1], [0.0, 0.1, 0.5]])
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ (np.eye(3) + sign * h * strain), scale_atoms=True)
        energies.append(float(answer(model, moved).need("energy")))
    slope = (energies[0] - energies[1]) / (2 * h)
    virial = float((found.need("stress")[0].numpy() * strain).sum()) * atoms.get_volume()
    assert slope == pytest.approx(virial, rel=1e-6, abs=1e-7)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), improper=st.booleans(), variant=st.sampled_from(VARIANTS))
def test_energy_is_invariant_and_forces_turn(seed: int, improper: bool, variant: dict[str, Any]) -> None:
    model, atoms, r = build(**variant), ethanol(seed), orthogonal(seed, improper)
    turned = atoms.copy()
    turned.positions = atoms.positions @ r.T + 3.0
    first, second = answer(model, atoms), answer(model, turned)
    torch.testing.assert_close(first.energies, second.energies, rtol=0, atol=1e-10)
    expected = first.need("forces") @ torch.from_numpy(r).T
    torch.testing.assert_close(second.need("forces"), expected, rtol=1e-9, atol=1e-9)
    stretched = atoms.copy()
    stretched.positions = atoms.positions * [1.0, 1.0, 1.05]
    assert not torch.allclose(first.need("energy"), answer(model, stretched).need("energy"), atol=1e-6)


def test_enantiomers_have_equal_energy_and_diastereomers_do_not() -> None:
    model = build(max_L=1, l_max=3, correlation=3)
    hand = Atoms(
        "COCHHH",
        [[0, 0, 0], [1.3, 0.2, 0], [-0.4, 1.4, 0.1], [-0.5, -0.6, 0.8], [0.1, -0.5, -1.1], [2, 1, 1]],
    )
    mirror = hand.copy()
    mirror.positions[:, 2] *= -1
    other = hand.copy()
    other.positions[5, 2] *= -1
    energies = [float(answer(model, a).need("energy")) for a in (hand, mirror, other)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-10)
    assert abs(energies[0] - energies[2]) > 1e-6


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), improper=st.booleans())
def test_hidden_features_turn_with_wigner_matrices(seed: int, improper: bool) -> None:
    model, atoms, r = build(max_L=2, l_max=2, correlation=2), ethanol(seed), orthogonal(seed + 1, improper)
    kept: list[torch.Tensor] = []
    layer = model.layers[0]
    assert isinstance(layer, MACELayer)
    handle = layer.register_forward_hook(lambda _m, _i, out: kept.append(out.detach()))
    turned = atoms.copy()
    turned.positions = atoms.positions @ r.T
    for a in (atoms, turned):
        system = System.from_ase(a)
        model(system, find_pairs(system, model.cutoff))
    handle.remove()
    d = torch.block_diag(*rotation_matrix(2, torch.from_numpy(r)))
    torch.testing.assert_close(kept[1], d @ kept[0], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(kept[1][:, 1:], kept[0][:, 1:], atol=1e-4)


def test_permutation_and_batching_change_nothing() -> None:
    model = build(max_L=1, l_max=2, correlation=3)
    frames = [ethanol(1), molecule("CH4"), ethanol(2), molecule("H2O")]
    together = answer(model, frames)
    alone = [answer(model, a) for a in frames]
    torch.testing.assert_close(
        together.need("energy"), torch.cat([a.need("energy") for a in alone]), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        together.need("forces"), torch.cat([a.need("forces") for a in alone]), rtol=0, atol=1e-11
    )
    order = np.random.default_rng(0).permutation(9)
    shuffled = answer(model, frames[0][order])
    torch.testing.assert_close(shuffled.need("forces"), alone[0].need("forces")[order], rtol=0, atol=1e-11)


def test_supercell_is_extensive() -> None:
    model = build(max_L=1, l_max=2, correlation=2)
    cell = bulk("C", "diamond", 3.57)
    cell.rattle(0.05, seed=3)
    once, more = answer(model, cell), answer(model, cell * (2, 1, 2))
    assert float(more.need("energy")) == pytest.approx(4 * float(once.need("energy")), abs=1e-10)


def test_isolated_atom_has_its_own_energy() -> None:
    energies = {"H": -13.6, "C": -1030.123456789, "O": -2041.0}
    model = build(atomic_energies=energies)
    found = answer(model, Atoms("C"))
    assert float(found.need("energy")) == pytest.approx(-1030.123456789 + 0.1, abs=1e-9)
    assert found.need("forces").eq(0).all()
    # with a first self-connection this is lost, as in the original
    assert float(answer(build(atomic_energies=energies, first_residual=True), Atoms("C")).need("energy")) != (
        pytest.approx(-1030.123456789 + 0.1, abs=1e-6)
    )
    # and the energies stay exact in single precision
    single = MACE(**(SMALL | {"atomic_energies": energies})).to(torch.float32)
    assert float(answer(single, Atoms("C")).need("energy")) == pytest.approx(-1030.123456789, abs=1e-9)


def test_energy_is_smooth_at_the_cutoff() -> None:
    """C3: force, force constant and its slope go to zero with the pair at the cutoff."""
    model = build(n_layers=1, l_max=1, correlation=1)

    def pair(r: float) -> list[float]:
        system = System.from_ase(Atoms("CO", [[0, 0, 0], [0, 0, r]]))
        pairs = find_pairs(system, model.cutoff)
        vectors = pairs.vectors(system).detach()
        x = torch.tensor(r, dtype=torch.float64, requires_grad=True)
        moved = vectors.sign() * x
        value, found = model(system, pairs.with_vectors(moved)).need("energies").sum(), []
        for _ in range(5):
            found.append(float(value.detach()))
            (value,) = torch.autograd.grad(value, x, create_graph=True)
        return found

    near, inside = pair(4.0 - 1e-6), pair(3.0)
    bare = float(model(*_alone(model)).need("energies").detach().sum())
    assert near[0] == pytest.approx(bare, abs=1e-12)
    for order in (1, 2, 3):
        assert abs(near[order]) < 1e-3 * abs(inside[order])
    assert abs(near[4]) > 1e-3 * abs(inside[4])


def _alone(model: MACE) -> tuple[System, object]:
    system = System.from_ase(Atoms("CO", [[0, 0, 0], [0, 0, 50.0]]))
    return system, find_pairs(system, model.cutoff)


def test_longer_pair_list_changes_nothing() -> None:
    model, system = build(), System.from_ase(ethanol())
    near = model(system, find_pairs(system, 4.0)).need("energies")
    torch.testing.assert_close(
        model(system, find_pairs(system, 6.0)).need("energies"), near, rtol=0, atol=1e-12
    )


def test_single_precision_is_close_and_same_seed_same_weights() -> None:
    double, single = build(max_L=1, l_max=3, correlation=3), build(max_L=1, l_max=3, correlation=3).float()
    a, b = answer(double, ethanol()), answer(single, ethanol())
    torch.testing.assert_close(a.need("forces"), b.need("forces").double(), rtol=1e-4, atol=1e-4)
    other = build(max_L=1, l_max=3, correlation=3, seed=1)
    assert not torch.allclose(a.need("energy"), answer(other, ethanol()).need("energy"), atol=1e-3)


def test_force_loss_reaches_every_parameter() -> None:
    model, system = build(max_L=1, l_max=2, correlation=3), System.from_ase([ethanol(4), ethanol(5)])
    found = evaluate(model, system, find_pairs(system, model.cutoff), forces=True, create_graph=True)
    loss = found.need("forces").square().sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    for (name, p), g in zip(model.named_parameters(), gradients, strict=True):
        assert g is not None and g.shape == p.shape and bool(g.isfinite().all()), name
        assert float(g.abs().sum()) > 0, name
    weight = model.embedding
    direction = torch.randn_like(weight)
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * 1e-5 * direction)
        now = evaluate(model, system, find_pairs(system, model.cutoff), forces=True)
        losses.append(float(now.need("forces").square().sum()))
        with torch.no_grad():
            weight.sub_(sign * 1e-5 * direction)
    slope = (losses[0] - losses[1]) / 2e-5
    assert slope == pytest.approx(float((gradients[0] * direction).sum()), rel=1e-5)


def test_receptive_field_is_layers_times_cutoff() -> None:
    chain = Atoms("CCC", [[0, 0, 0], [0, 0, 2.5], [0, 0, 5.0]])
    moved = chain.copy()
    moved.positions[2, 0] += 0.2
    for layers, seen in ((1, False), (2, True)):
        model = build(n_layers=layers, l_max=2, correlation=2)
        change = (answer(model, chain).need("energies") - answer(model, moved).need("energies"))[0].abs()
        assert model.receptive_field == 4.0 * layers
        assert (float(change) > 1e-8) == seen


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"correlation": [3]}, "correlation must be"),
        ({"correlation": 0}, "correlation must be"),
        ({"max_L": -1}, "at least 0"),
        ({"elements": ("Xx",)}, "not a chemical symbol"),
        ({"cutoff": -1.0}, "cutoff must be"),
        ({"avg_num_neighbors": 0.0}, "avg_num_neighbors must be"),
        ({"distance_transform": "soft"}, "distance_transform is"),
        ({"activation": "swish"}, "No activation"),
    ],
)
def test_bad_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**wrong)


def test_unknown_element_is_refused() -> None:
    with pytest.raises(ValueError, match="Si"):
        answer(build(), Atoms("Si"))
