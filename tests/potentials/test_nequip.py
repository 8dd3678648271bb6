"""NequIP: symmetry, smoothness, limits, precision, options. Equality with nequip is in tests/peers."""

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
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.irreps import Irreps
from rikiba.nn.so3 import rotation_matrix
from rikiba.potentials.nequip import NequIP, NequIPLayer

SMALL: dict[str, Any] = {
    "elements": ("H", "C", "O"),
    "cutoff": 4.0,
    "channels": 3,
    "radial_widths": (8, 8),
    "avg_num_neighbors": 2.0,
}
VARIANTS: list[dict[str, Any]] = [
    {"l_max": 0, "n_layers": 2},
    {"l_max": 2, "n_layers": 2, "channels": (4, 3, 2), "embedding_channels": 5},
    {"l_max": 1, "n_layers": 6, "parity": "both", "self_connection": "types"},
    {"l_max": 2, "n_layers": 4, "parity": "both", "zbl": True, "self_connection": "linear"},
    {"l_max": 3, "max_L": 1, "n_layers": 3, "first_self_connection": True, "readout_widths": (4,)},
    {"l_max": 2, "max_L": 3, "n_layers": 2, "bessel_trainable": True, "self_connection": "none"},
    {"l_max": 1, "n_layers": 1, "envelope": "xplor", "xplor_start": 3.0, "gate_activation": "sigmoid"},
    {"l_max": 1, "n_layers": 3, "avg_num_neighbors": {"H": 3.0, "C": 5.0, "O": 4.0}, "activation": "tanh"},
    {"l_max": 2, "n_layers": 2, "parity": "ignored", "scalar_biases": True, "solid_harmonics": True},
]


def build(**more: Any) -> NequIP:
    return NequIP(**(SMALL | {"scale": {"H": 4.0, "C": 5.5, "O": 3.0}, "shift": 0.1} | more)).double()


def answer(model: NequIP, atoms: Atoms | list[Atoms], *, stress: bool = False) -> Results:
    system = System.from_ase(atoms)
    return evaluate(model, system, find_pairs(system, model.cutoff), forces=True, stress=stress)


def ethanol(seed: int = 0, amplitude: float = 0.1) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.positions += np.random.default_rng(seed).normal(0, amplitude, atoms.positions.shape)
    return atoms


def orthogonal(seed: int, improper: bool) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q)) * (-1 if improper else 1)


def wigner(irreps: Irreps, r: np.ndarray, *, parity: bool = True) -> list[torch.Tensor]:
    """One matrix per representation; without `parity`, as if all were even under inversion."""
    sign = float(np.sign(np.linalg.det(r)))
    proper = rotation_matrix(irreps.l_max, torch.from_numpy(sign * r))
    return [proper[ir.l] * (ir.p if sign < 0 and parity else 1) for _, ir in irreps.terms]


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
    expected = -float((found.need("forces").numpy() * direction).sum())
    assert slope == pytest.approx(expected, rel=1e-6, abs=1e-7)
    strain = np.array([[0.3, 0.2, 0.0], [0.2, -0.4, 0.1], [0.0, 0.1, 0.5]])
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ (np.eye(3) + sign * h * strain), scale_atoms=True)
        energies.append(float(answer(model, moved).need("energy")))
    slope = (energies[0] - energies[1]) / (2 * h)
    virial = float((found.need("stress")[0].numpy() * strain).sum()) * atoms.get_volume()
    assert slope == pytest.approx(virial, rel=1e-6, abs=1e-7)


@settings(max_examples=16, deadline=None)
@given(seed=st.integers(0, 10**6), improper=st.booleans(), variant=st.sampled_from(VARIANTS))
def test_energy_is_invariant_and_forces_turn(seed: int, improper: bool, variant: dict[str, Any]) -> None:
    improper = improper and variant.get("parity") != "ignored"
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


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), improper=st.booleans())
def test_hidden_features_turn_with_wigner_matrices(seed: int, improper: bool) -> None:
    """Every layer, 0o, 1e and 2o included; negative control: their parity shows under improper rotations."""
    model = build(l_max=2, parity="both", n_layers=6)
    assert {str(ir) for h in model.hidden for _, ir in h.terms} == {"0e", "0o", "1o", "1e", "2e", "2o"}
    atoms, r = ethanol(seed), orthogonal(seed + 1, improper)
    kept: list[list[torch.Tensor]] = []
    hooks = [layer.register_forward_hook(lambda _m, _i, out: kept.append(out)) for layer in model.layers]
    turned = atoms.copy()
    turned.positions = atoms.positions @ r.T
    with torch.no_grad():
        for a in (atoms, turned):
            system = System.from_ase(a)
            model(system, find_pairs(system, model.cutoff))
    for hook in hooks:
        hook.remove()
    wrong = 0
    for t in range(model.n_layers):
        irreps = model.hidden[t + 1]
        for k, d in enumerate(wigner(irreps, r)):
            before, after = kept[t][k], kept[model.n_layers + t][k]
            size = float(before.abs().max())
            assert size > 1e-9, f"layer {t}: {irreps.terms[k]} is nothing"
            torch.testing.assert_close(after, d @ before, rtol=0, atol=1e-5 * size)
            even = wigner(irreps, r, parity=False)[k] @ before
            wrong += not torch.allclose(after, even, rtol=0, atol=1e-2 * size)
    assert wrong == (sum(ir.p < 0 for h in model.hidden[1:] for _, ir in h.terms) if improper else 0)


@pytest.mark.parametrize("parity", ["natural", "both"])
def test_enantiomers_have_equal_energy_and_diastereomers_do_not(parity: str) -> None:
    model = build(l_max=2, parity=parity, n_layers=4)
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
    # negative control: with parity ignored the mirror image has another energy, the turned one has not
    model = build(l_max=2, parity="ignored", n_layers=4)
    turned = hand.copy()
    turned.positions = hand.positions @ orthogonal(3, improper=False).T
    energies = [float(answer(model, a).need("energy")) for a in (hand, mirror, turned)]
    assert abs(energies[0] - energies[1]) > 1e-6
    assert energies[0] == pytest.approx(energies[2], abs=1e-10)


def test_permutation_and_batching_change_nothing() -> None:
    model = build(l_max=2, n_layers=3)
    frames = [ethanol(1), molecule("CH4"), ethanol(2), molecule("H2O")]
    together = answer(model, frames)
    alone = [answer(model, a) for a in frames]
    for key, tolerance in (("energy", 1e-12), ("forces", 1e-11)):
        joined = torch.cat([a.need(key) for a in alone])
        torch.testing.assert_close(together.need(key), joined, rtol=0, atol=tolerance)
    order = np.random.default_rng(0).permutation(9)
    shuffled = answer(model, frames[0][order])
    torch.testing.assert_close(shuffled.need("forces"), alone[0].need("forces")[order], rtol=0, atol=1e-11)


def test_supercell_is_extensive() -> None:
    cell = bulk("C", "diamond", 3.57)
    cell.rattle(0.05, seed=3)
    model = build(l_max=1, n_layers=2)
    once, more = answer(model, cell), answer(model, cell * (2, 1, 2))
    assert float(more.need("energy")) == pytest.approx(4 * float(once.need("energy")), abs=1e-10)


def test_isolated_atom_has_its_own_energy() -> None:
    energies = {"H": -13.6, "C": -1030.123456789, "O": -2041.0}
    shift = {"H": 0.1, "C": -3.0625, "O": 0.3}
    found = answer(build(atomic_energies=energies, shift=shift), Atoms("C"))
    assert float(found.need("energy")) == pytest.approx(-1030.123456789 - 3.0625, abs=1e-9)
    assert found.need("forces").eq(0).all()
    # with a first self-connection this is lost, as in the paper
    first = build(atomic_energies=energies, shift=shift, first_self_connection=True)
    assert abs(float(answer(first, Atoms("C")).need("energy")) + 1030.123456789 + 3.0625) > 1e-6
    # and the energies stay exact in single precision
    single = build(atomic_energies=energies, shift=shift).to(torch.float32)
    energy = float(answer(single, Atoms("C")).need("energy"))
    assert energy == pytest.approx(-1030.123456789 - 3.0625, abs=1e-9)


@pytest.mark.parametrize(
    ("more", "order"),
    [({}, 3), ({"bessel_trainable": True}, 2), ({"envelope": "xplor", "xplor_start": 2.0}, 2)],
    ids=["polynomial", "trained frequencies", "xplor"],
)
def test_energy_is_smooth_at_the_cutoff(more: dict[str, Any], order: int) -> None:
    """As many derivatives vanish with the pair at the cutoff as the class of the envelope says, and no more.

    A C2 envelope with frequencies that leave the cutoff's zero is C2, with fixed ones C3; XPLOR (C1) with the
    zero is C2.
    """
    model = build(n_layers=1, l_max=1, **more)
    if "bessel_trainable" in more:
        with torch.no_grad():
            model.radial_basis.frequencies.mul_(1.1)

    def pair(r: float) -> list[float]:
        system = System.from_ase(Atoms("CO", [[0, 0, 0], [0, 0, r]]))
        pairs = find_pairs(system, model.cutoff)
        x = torch.tensor(r, dtype=torch.float64, requires_grad=True)
        moved = pairs.vectors(system).detach().sign() * x
        value, found = model(system, pairs.with_vectors(moved)).need("energies").sum(), []
        for _ in range(5):
            found.append(float(value.detach()))
            (value,) = torch.autograd.grad(value, x, create_graph=True)
        return found

    near, inside = pair(4.0 - 1e-6), pair(3.0)
    apart = System.from_ase(Atoms("CO", [[0, 0, 0], [0, 0, 50.0]]))
    bare = float(model(apart, find_pairs(apart, model.cutoff)).need("energies").detach().sum())
    assert near[0] == pytest.approx(bare, abs=1e-12)
    for n in range(1, order + 1):
        assert abs(near[n]) < 1e-3 * abs(inside[n]), n
    assert abs(near[order + 1]) > 1e-3 * abs(inside[order + 1])


def test_longer_pair_list_changes_nothing() -> None:
    model, system = build(zbl=True), System.from_ase(ethanol())
    near = model(system, find_pairs(system, 4.0)).need("energies")
    far = model(system, find_pairs(system, 6.0)).need("energies")
    torch.testing.assert_close(far, near, rtol=0, atol=1e-12)


def test_repulsion_is_not_scaled() -> None:
    """E(scale, zbl) − E(scale) is the same at every scale, and large at short distance."""
    close = Atoms("CO", [[0, 0, 0], [0, 0, 0.4]])
    found = []
    for scale in (0.5, 2.0):
        with_it, without = (answer(build(scale=scale, zbl=z), close).need("energy") for z in (True, False))
        found.append(float(with_it - without))
    assert found[0] == pytest.approx(found[1], rel=1e-12) and found[0] > 100.0


def test_single_precision_is_close_and_same_seed_same_weights() -> None:
    more: dict[str, Any] = {"l_max": 3, "n_layers": 3}
    a, b = answer(build(**more), ethanol()), answer(build(**more).float(), ethanol())
    assert b.need("energies").dtype == torch.float64
    torch.testing.assert_close(a.need("forces"), b.need("forces").double(), rtol=1e-4, atol=1e-4)
    other = answer(build(seed=1, **more), ethanol())
    assert not torch.allclose(a.need("energy"), other.need("energy"), atol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_force_loss_reaches_every_parameter(variant: dict[str, Any]) -> None:
    model, system = build(**variant), System.from_ase([ethanol(4), ethanol(5)])
    found = evaluate(model, system, find_pairs(system, model.cutoff), forces=True, create_graph=True)
    loss = found.need("forces").square().sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    for (name, p), g in zip(model.named_parameters(), gradients, strict=True):
        assert g is not None and g.shape == p.shape and bool(g.isfinite().all()), name
        assert float(g.abs().sum()) > 0, name


def test_a_few_training_steps_reduce_the_loss() -> None:
    frames = [ethanol(s) for s in range(3)]
    target = answer(build(seed=7, n_layers=2), frames)
    system = System.from_ase(frames)
    model = build(n_layers=2, l_max=1)
    pairs = find_pairs(system, model.cutoff)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    for _ in range(25):
        found = evaluate(model, system, pairs, forces=True, create_graph=True)
        loss = (found.need("forces") - target.need("forces")).square().mean()
        loss = loss + (found.need("energy") - target.need("energy")).square().mean() / 81
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    from rikiba.training.checkpoint import load_potential, save_potential

    model = build(**VARIANTS[3])
    save_potential(tmp_path / "model.pt", model)
    again = load_potential(tmp_path / "model.pt")
    assert isinstance(again, NequIP)
    a, b = answer(model, ethanol()), answer(again, ethanol())
    assert torch.equal(a.need("energies"), b.need("energies"))


def test_one_hot_weights_are_weights_of_an_identity_embedding() -> None:
    """The paper's self-connection is the present one with elements embedded as unit vectors."""
    by_type = build(l_max=1, n_layers=3, self_connection="types", embedding_channels=3)
    mixed = build(l_max=1, n_layers=3, self_connection="embedding", embedding_channels=3)
    mixed.load_state_dict(by_type.state_dict())
    for model in (by_type, mixed):
        with torch.no_grad():
            model.embedding.copy_(torch.eye(3))
    a, b = answer(by_type, ethanol()), answer(mixed, ethanol())
    torch.testing.assert_close(a.need("energies"), b.need("energies"), rtol=0, atol=1e-12)
    with torch.no_grad():
        mixed.embedding.copy_(torch.eye(3).flip(0))
    assert not torch.allclose(a.need("energy"), answer(mixed, ethanol()).need("energy"), atol=1e-6)


def test_receptive_field_is_layers_times_cutoff() -> None:
    chain = Atoms("CCC", [[0, 0, 0], [0, 0, 2.5], [0, 0, 5.0]])
    moved = chain.copy()
    moved.positions[2, 0] += 0.2
    for layers, seen in ((1, False), (2, True)):
        model = build(n_layers=layers, l_max=1)
        change = (answer(model, chain).need("energies") - answer(model, moved).need("energies"))[0].abs()
        assert model.receptive_field == 4.0 * layers
        assert (float(change) > 1e-8) == seen


def test_both_parities_are_the_same_as_one_with_three_layers() -> None:
    one, both = build(l_max=2, n_layers=3), build(l_max=2, n_layers=3, parity="both")
    assert [str(h) for h in one.hidden] == [str(h) for h in both.hidden]
    assert isinstance(both.layers[0], NequIPLayer)
    assert any("1e" in str(h) for h in build(l_max=2, n_layers=4, parity="both").hidden)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": (3, 2, 1)}, "channels must be"),
        ({"channels": 0}, "channels must be"),
        ({"l_max": -1}, "at least 0"),
        ({"elements": ("Xx",)}, "not a chemical symbol"),
        ({"cutoff": -1.0}, "cutoff must be"),
        ({"n_layers": 0}, "n_layers must be"),
        ({"avg_num_neighbors": 0.0}, "avg_num_neighbors must be"),
        ({"avg_num_neighbors": {"H": 1.0}}, "also needed"),
        ({"scale": {"H": 1.0}}, "also needed"),
        ({"envelope": "cosine"}, "envelope is"),
        ({"envelope": "xplor"}, "xplor_start goes"),
        ({"xplor_start": 2.0}, "xplor_start goes"),
        ({"envelope": "xplor", "xplor_start": 4.5}, "between 0 and the cutoff"),
        ({"self_connection": "residual"}, "self_connection is"),
        ({"parity": "odd"}, "parity is"),
        ({"activation": "swish"}, "No activation"),
        ({"readout_activation": "swish"}, "No activation"),
    ],
)
def test_bad_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**wrong)


def test_unknown_element_is_refused() -> None:
    with pytest.raises(ValueError, match="Si"):
        answer(build(), Atoms("Si"))
