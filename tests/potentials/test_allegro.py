"""Allegro: locality to the last bit, smoothness, training. The peer is in tests/peers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms

from rikiba.potentials.allegro import Allegro
from rikiba.potentials.nequip import NequIP
from rikiba.training.checkpoint import load_potential, save_potential
from rikiba.training.trainer import Trainer

from network_checks import answer, derivatives_of_pair, ethanol, labelled, orthogonal  # isort: skip

SMALL: dict[str, Any] = {
    "elements": ("H", "C", "O"),
    "cutoff": 3.0,
    "scalar_channels": 8,
    "tensor_channels": 4,
    "embedding_widths": (8,),
    "latent_widths": (8,),
    "readout_widths": (6,),
    "avg_num_neighbors": 6.0,
}


def build(**more: Any) -> Allegro:
    return Allegro(**(SMALL | more)).double()


@pytest.mark.parametrize("improper", [False, True])
def test_energy_is_invariant_and_forces_turn(improper: bool) -> None:
    model = build(n_layers=3)
    atoms, r = ethanol(3), orthogonal(5, improper)
    turned = atoms.copy()
    turned.positions = atoms.positions @ r.T + 3.0
    first, second = answer(model, atoms), answer(model, turned)
    torch.testing.assert_close(first.energies, second.energies, rtol=0, atol=1e-11)
    expected = first.need("forces") @ torch.from_numpy(r).T
    torch.testing.assert_close(second.need("forces"), expected, rtol=0, atol=1e-10)
    assert float(expected.abs().max()) > 1e-2


def test_an_atom_sees_one_cutoff_far_to_the_last_bit() -> None:
    """INV-09 with three layers; with as many a message-passing network sees three times as far."""
    chain = Atoms("COCHCO", [[1.4 * k, 0.3 * (k % 2), 0] for k in range(6)])
    moved = chain.copy()
    moved.positions[5] += [-0.2, 0.1, -0.3]
    local = build(n_layers=3)
    assert local.receptive_field == local.cutoff == 3.0
    a, b = (answer(local, atoms).need("energies") for atoms in (chain, moved))
    unseen = chain.get_distances(5, range(6)) > 3.0
    assert unseen.sum() == 3 and (moved.get_distances(5, range(6)) > 3.0).tolist() == unseen.tolist()
    assert torch.equal(a[unseen], b[unseen])
    assert ((a - b)[~unseen].abs() > 1e-6).all()
    chained = NequIP(elements=("H", "C", "O"), cutoff=3.0, channels=4, n_layers=3).double()
    a, b = (answer(chained, atoms).need("energies") for atoms in (chain, moved))
    assert not torch.equal(a[unseen], b[unseen])


@pytest.mark.parametrize(
    ("variant", "smooth"),
    [({}, 3), ({"bessel_trainable": True}, 2), ({"radial_embedding": "spline"}, 3)],
    ids=str,
)
def test_smoothness_at_the_cutoff(variant: dict[str, Any], smooth: int) -> None:
    model = build(**variant)
    if "bessel_trainable" in variant:
        with torch.no_grad():
            model.embedding.basis.frequencies += 0.1  # type: ignore[union-attr]
    near = derivatives_of_pair(model, "CO", 3.0 - 1e-6, smooth + 1)
    inside = derivatives_of_pair(model, "CO", 2.5, smooth + 1)
    for order in range(smooth + 1):
        assert abs(near[order]) < 1e-4 * abs(inside[order])
    assert abs(near[smooth + 1]) > 1e-2 * abs(inside[smooth + 1])


def test_parity_matters_from_three_layers_on() -> None:
    assert build().tensors == build(parity="natural").tensors
    both, natural = build(n_layers=3), build(n_layers=3, parity="natural")
    assert [str(ir) for ir in both.tensors[1]] == ["0e", "1e", "1o", "2e", "2o"]
    assert [str(ir) for ir in natural.tensors[1]] == ["0e", "1o", "2e"]


def test_it_learns_and_files_keep_it(tmp_path: Path) -> None:
    model = Allegro(**(SMALL | {"elements": ("O", "Si"), "cutoff": 4.0}))
    trainer = Trainer(batch_size=5, max_epochs=16, learning_rate=0.02)
    rows = trainer.fit(model, labelled(15, 1), labelled(5, 2)).history
    assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
    again = load_potential(save_potential(tmp_path / "a.npz", model))
    atoms = Atoms("OSi", [[0, 0, 0], [0, 0, 1.7]])
    assert torch.equal(answer(again, atoms).need("energy"), answer(model, atoms).need("energy"))


@pytest.mark.parametrize(
    "wrong",
    [{"l_max": -1}, {"parity": "odd"}, {"path_weights": "none"}, {"radial_embedding": "gauss"},
     {"embedding_channels": 5}, {"n_layers": 0}, {"radial_embedding": "spline", "spline_span": 20}],
    ids=str,
)  # fmt: skip
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|is '|even|at least|between"):
        build(**wrong)
