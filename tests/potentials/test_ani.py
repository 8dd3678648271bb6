"""ANI: environment vectors by their definition, the compiled program, ensembles, limits, training."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.aev import AtomicEnvironment, mid_angles, shifts
from rikiba.potentials.ani import ANI
from rikiba.training.checkpoint import load_potential, save_potential
from rikiba.training.trainer import Trainer

from network_checks import energy, ethanol, labelled, with_biases  # isort: skip

FUNCTIONS: dict[str, Any] = {
    "n_elements": 2,
    "cutoff": 4.0,
    "angular_cutoff": 3.1,
    "eta_radial": 6.0,
    "radial_shifts": (0.8, 1.7),
    "eta_angular": 3.0,
    "angular_shifts": (1.0, 1.9),
    "zeta": 5.3,
    "angles": (0.6, 2.2),
}


def by_definition(atoms: Atoms, factor: float) -> np.ndarray:
    """Plain loops over images; the angle by its arccosine, the envelope the papers' cosine."""
    f, kinds = FUNCTIONS, (8, 14)
    images = [np.array(s) @ atoms.cell.array for s in itertools.product(range(-2, 3), repeat=3)]
    rows = []
    for centre in atoms.positions:
        around = [
            (int(z), p + s - centre)
            for z, p in zip(atoms.numbers, atoms.positions, strict=True)
            for s in (images if atoms.pbc.any() else images[62:63])
            if 1e-9 < np.linalg.norm(p + s - centre) < f["cutoff"]
        ]
        row = []
        for z in kinds:
            near = [np.linalg.norm(v) for k, v in around if k == z]
            row += [
                sum(math.exp(-f["eta_radial"] * (r - s) ** 2) * cosine(r, f["cutoff"]) for r in near)
                for s in f["radial_shifts"]
            ]
        for pair in itertools.combinations_with_replacement(kinds, 2):
            for s, angle in itertools.product(f["angular_shifts"], f["angles"]):
                total = 0.0
                for (z1, v1), (z2, v2) in itertools.combinations(around, 2):
                    r1, r2 = np.linalg.norm(v1), np.linalg.norm(v2)
                    if tuple(sorted((z1, z2))) != pair or max(r1, r2) >= f["angular_cutoff"]:
                        continue
                    theta = math.acos(factor * max(-1.0, min(1.0, v1 @ v2 / r1 / r2)))
                    value = 2 ** (1 - f["zeta"]) * (1 + math.cos(theta - angle)) ** f["zeta"]
                    value *= math.exp(-f["eta_angular"] * ((r1 + r2) / 2 - s) ** 2)
                    total += value * cosine(r1, f["angular_cutoff"]) * cosine(r2, f["angular_cutoff"])
                row.append(total)
        rows.append(row)
    return np.array(rows)


def cosine(r: float, cutoff: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * r / cutoff))


def cluster(periodic: bool) -> Atoms:
    rng = np.random.default_rng(0)
    cell = 4.2 * np.eye(3) + rng.normal(scale=0.3, size=(3, 3))
    return Atoms(numbers=[8, 14, 14, 8, 14], positions=rng.random((5, 3)) @ cell, cell=cell, pbc=periodic)


def environments(atoms: Atoms, **more: Any) -> np.ndarray:
    system = System.from_ase(atoms)
    model = AtomicEnvironment(**(FUNCTIONS | {"envelope": "cosine"} | more))
    types = (system.numbers == 14).long()
    return model(system, find_pairs(system, 4.0), types, torch.float64).numpy()


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("factor", [0.95, 1.0])
def test_environments_are_those_of_the_definition(periodic: bool, factor: float) -> None:
    atoms = cluster(periodic)
    expected = by_definition(atoms, factor)
    np.testing.assert_allclose(environments(atoms, cosine_factor=factor), expected, rtol=1e-9, atol=1e-12)
    assert np.abs(environments(atoms, cosine_factor=factor, zeta=5.2) - expected).max() > 1e-4


def test_grids_are_those_of_the_published_models() -> None:
    assert shifts(16, 0.9, 5.2)[1:3] == pytest.approx((1.16875, 1.4375))
    assert shifts(4, 0.9, 3.5) == pytest.approx((0.9, 1.55, 2.2, 2.85))
    assert mid_angles(8)[:2] == pytest.approx((0.19634954, 0.58904862))
    model = ANI(elements=("O", "H", "C", "N"))
    assert model.environment.n_features == 384 and model.elements == ("H", "C", "N", "O")
    assert [len(n.biases[0][0, 0]) for n in model.networks.networks] == [160, 144, 128, 128]


PROGRAMS: list[dict[str, Any]] = [
    {"n_members": 3, "hidden": {"H": (9, 40), "C": (33, 7), "O": (65, 3)}, "activation": "celu"},
    {"envelope": "cosine", "zeta": 14.1, "n_angular": 5, "n_angles": 3, "radial_factor": 0.25},
    {"envelope": "mollifier", "cosine_factor": 1.0, "n_radial": 19, "isolated_limit": False, "zeta": 7.0},
]


def build(**more: Any) -> ANI:
    given = {"elements": ("H", "C", "O"), "cutoff": 4.3, "angular_cutoff": 3.0, "hidden": (12, 6)}
    energies = {"H": -13.0, "C": -1030.0, "O": -2041.0}
    return with_biases(ANI(**(given | {"atomic_energies": energies, "scale": 0.7, "shift": 0.1} | more)))


def frames() -> list[Atoms]:
    crystal = bulk("C", "diamond", 3.57)
    crystal.symbols[1] = "O"
    crystal.rattle(0.1, seed=2)
    return [ethanol(1), Atoms("O"), molecule("CH4"), crystal]


def both(model: ANI, atoms: list[Atoms], cutoff: float = 4.3) -> tuple[Results, Results]:
    system, program = System.from_ase(atoms), model.program()
    assert program is not None
    pairs = find_pairs(system, cutoff)
    return evaluate(model, system, pairs), run_program(program, system, pairs)


@pytest.mark.parametrize("more", PROGRAMS, ids=str)
def test_the_program_is_forward(more: dict[str, Any]) -> None:
    model = build(**more)
    a, b = both(model, frames())
    torch.testing.assert_close(b.need("energies"), a.need("energies"), rtol=0, atol=1e-10)
    torch.testing.assert_close(b.need("forces"), a.need("forces"), rtol=0, atol=1e-10)
    assert float(a.need("forces").abs().max()) > 1e-2
    if model.n_members > 1:
        assert a.spread is not None and b.spread is not None
        torch.testing.assert_close(b.spread.need("energy"), a.spread.need("energy"), rtol=0, atol=1e-11)
    single, fast = both(model.float(), frames())
    torch.testing.assert_close(fast.need("forces"), single.need("forces"), rtol=1e-4, atol=1e-4)


def test_longer_lists_and_activations_without_kernels() -> None:
    model = build()
    a, b = both(model, frames(), cutoff=6.0)
    torch.testing.assert_close(b.need("forces"), a.need("forces"), rtol=0, atol=1e-10)
    assert float((both(model, frames())[0].need("energies") - a.need("energies")).abs().max()) < 1e-10
    assert build(activation="gaussian").program() is None
    assert build(hidden={"H": (4,), "C": (3, 2), "O": ()}).program() is None


def test_the_mean_of_an_ensemble_and_its_spread() -> None:
    model, system = build(n_members=3), System.from_ase([ethanol(0), molecule("CH4")])
    found = PotentialCalculator(model)(system)
    members = []
    for k in range(3):
        one = build()
        state = {n: v[k : k + 1] if n.startswith("networks.") else v for n, v in model.state_dict().items()}
        one.load_state_dict(state)
        members.append(PotentialCalculator(one)(system))
    energies = torch.stack([m.need("energy") for m in members])
    torch.testing.assert_close(found.need("energy"), energies.mean(0), rtol=0, atol=1e-9)
    forces = torch.stack([m.need("forces") for m in members]).mean(0)
    torch.testing.assert_close(found.need("forces"), forces, rtol=0, atol=1e-9)
    assert found.spread is not None
    torch.testing.assert_close(found.spread.need("energy"), energies.std(0), rtol=0, atol=1e-9)
    assert float(found.spread.need("energy").min()) > 1e-3 and members[0].spread is None


def test_a_straight_angle_has_no_kink_by_default() -> None:
    """Negative control: the printed form has one."""
    slopes = {}
    for factor in (0.95, 1.0):
        model, h = build(cosine_factor=factor), 1e-3
        bent = [Atoms("OCO", [[-1.2, 0, 0], [0, y, 0], [1.2, 0, 0]]) for y in (0.0, h)]
        middle, high = (energy(model, a) for a in bent)
        slopes[factor] = abs(high - middle) / h
    assert slopes[0.95] < 1e-2 < slopes[1.0]


def test_published_form_and_isolated_atoms() -> None:
    assert energy(build(), Atoms("O")) == pytest.approx(-2040.9, abs=1e-12)
    assert abs(energy(build(isolated_limit=False), Atoms("O")) + 2040.9) > 1e-3


def test_it_learns_is_saved_and_loaded(tmp_path: Path) -> None:
    model = ANI(elements=("O", "Si"), cutoff=4.0, hidden=(16, 8), n_members=2, seed=1).double()
    trainer = Trainer(batch_size=5, max_epochs=15, learning_rate=0.01, weight_decay=1e-5, optimizer="adamw")
    rows = trainer.fit(model, labelled(20, 1), labelled(5, 2)).history
    assert rows[-1]["train_loss"] < 0.3 * rows[0]["train_loss"]
    again = load_potential(save_potential(tmp_path / "ani.rikiba", model))
    atoms = Atoms("OSi", [[0, 0, 0], [0, 0, 1.7]])
    assert energy(again, atoms) == energy(model, atoms)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"envelope": "step"}, "envelope"),
        ({"cosine_factor": 1.2}, "cosine_factor"),
        ({"angular_cutoff": 9.0}, "angular_cutoff"),
        ({"hidden": {"H": (3,)}}, "C is missing"),
        ({"activation": "step"}, "activation"),
        ({"n_members": 0}, "n_members"),
    ],
    ids=str,
)
def test_bad_arguments(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(**bad)
