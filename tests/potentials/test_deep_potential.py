"""Deep Potential: statistics, limits, smoothness, training, program. Its peer is in tests/peers."""

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials.deep_potential import DeepPotential
from rikiba.training.trainer import Trainer

from network_checks import energy, labelled  # isort: skip

SMALL: dict[str, Any] = {
    "elements": ("O", "Si"),
    "cutoff": 4.0,
    "embedding": (6, 12),
    "axis_channels": 4,
    "fitting": (10, 10),
    "avg_num_neighbors": 12.0,
}


def build(**more: Any) -> DeepPotential:
    model = DeepPotential(**(SMALL | more)).double()
    model.descriptor.mean.copy_(torch.tensor([0.11, 0.13]))
    model.descriptor.deviation.copy_(torch.tensor([[0.12, 0.2], [0.15, 0.25]]))
    return model


def crystal(seed: int = 0) -> Atoms:
    atoms = bulk("Si", "diamond", 4.6, cubic=True)
    atoms.symbols[[1, 4, 6]] = "O"
    atoms.rattle(0.1, seed=seed)
    return atoms


def slots(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """s of every pair and its centre, from the definition."""
    from ase.neighborlist import neighbor_list

    i, r = neighbor_list("id", atoms, cutoff)
    u = np.clip((r - 0.5) / (cutoff - 0.5), 0.0, 1.0)
    return (1.0 - 10 * u**3 + 15 * u**4 - 6 * u**5) / r, i


def departure(model: DeepPotential, r: float) -> list[float]:
    """Energy and three derivatives where an atom leaves a pair; of a pair alone they would be smoother."""
    x = torch.tensor(r, dtype=torch.float64, requires_grad=True)
    atoms = Atoms("OSiSi", [[0, 0, 0], [0, 0, r], [1.7, 0, 0]])
    system = System.from_ase(atoms)
    pairs = find_pairs(system, model.cutoff)
    along = torch.tensor([[0, 0, 0], [0, 0, 1.0], [0, 0, 0]], dtype=torch.float64)
    moved = system.replace(positions=system.positions + (x - r) * along)
    value, found = model(moved, pairs).need("energies").sum(), []
    for _ in range(4):
        found.append(float(value.detach()))
        (value,) = torch.autograd.grad(value, x, create_graph=True, materialize_grads=True)
    return found


@pytest.mark.parametrize("sel", [None, {"O": 20, "Si": 30}], ids=["clean", "sel"])
def test_statistics_are_those_of_the_training_structures(sel: dict[str, int] | None) -> None:
    frames = [crystal(1), crystal(2), Atoms("Si")]
    model = DeepPotential(**SMALL, sel=sel)
    systems = [System.from_ase(a) for a in frames]
    model.prepare((s, find_pairs(s, 5.0)) for s in systems)
    for kind, symbol in enumerate(("O", "Si")):
        per_atom = []
        for atoms in frames:
            s, i = slots(atoms, 4.0)
            for a in np.flatnonzero(np.array(atoms.symbols) == symbol):
                own = s[i == a]
                per_atom.append(own if sel is None else np.concatenate([own, np.zeros(50 - len(own))]))
        values = np.concatenate(per_atom)
        assert float(model.descriptor.mean[kind]) == pytest.approx(values.mean(), rel=1e-12)
        assert float(model.descriptor.deviation[kind, 0]) == pytest.approx(values.std(), rel=1e-10)
        across = np.sqrt((values**2).mean() / 3.0)  # the squared components of s·r̂ add up to s²
        assert float(model.descriptor.deviation[kind, 1]) == pytest.approx(across, rel=1e-10)
    with pytest.raises(ValueError, match="contains O"):
        model.prepare([(systems[2], find_pairs(systems[2], 4.0))])


def test_isolated_atom_has_its_own_energy() -> None:
    energies = {"O": -2041.123456789, "Si": -1.0}
    model = build(atomic_energies=energies, shift=0.25)
    assert energy(model, Atoms("O")) == pytest.approx(-2040.873456789, abs=1e-10)
    assert energy(model.float(), Atoms("O")) == pytest.approx(-2040.873456789, abs=1e-6)
    published = build(atomic_energies=energies, shift=0.25, isolated_limit=False)
    assert abs(energy(published, Atoms("O")) + 2040.873456789) > 1e-3


@pytest.mark.parametrize(("switch", "smooth"), [("quintic", 2), ("cosine", 1)])
@pytest.mark.parametrize("sel", [None, {"O": 5, "Si": 5}], ids=["clean", "sel"])
def test_smoothness_at_the_cutoff(switch: str, smooth: int, sel: dict[str, int] | None) -> None:
    """C² by default, C¹ with the paper's cosine, also where environments are centred on a mean."""
    model = build(switch=switch, sel=sel)
    near, inside = (departure(model, r) for r in (4.0 - 1e-7, 2.0))
    assert near[0] == pytest.approx(departure(model, 50.0)[0], abs=1e-12)
    for order in range(1, smooth + 1):
        assert abs(near[order]) < 1e-4 * abs(inside[order])
    assert abs(near[smooth + 1]) > 1e-3 * abs(inside[smooth + 1])


def test_empty_slots_and_second_networks_count() -> None:
    """`sel` and networks for pairs of types change energies; equal networks for all centres do not."""
    atoms = crystal()
    one, more = build(sel={"O": 20, "Si": 20}), build(sel={"O": 30, "Si": 10})
    assert abs(energy(one, atoms) - energy(more, atoms)) > 1e-6
    both, side = build(one_side=False), build()
    assert abs(energy(both, atoms) - energy(side, atoms)) > 1e-6
    state = side.state_dict()
    for name, value in state.items():
        if name.startswith("descriptor.networks"):
            state[name] = value.repeat(2, *[1] * (value.ndim - 1))
    both.load_state_dict(state)
    assert energy(both, atoms) == pytest.approx(energy(side, atoms), abs=1e-12)


@pytest.mark.parametrize("one_side", [True, False])
def test_splines_in_training_are_the_networks(one_side: bool) -> None:
    model, system = build(one_side=one_side), System.from_ase([crystal(1), crystal(2)])
    pairs = find_pairs(system, 4.0)
    exact = evaluate(model, system, pairs).need("forces")
    errors = []
    for intervals in (64, 16):
        assert model.interpolate_radial(intervals)
        errors.append(float((evaluate(model, system, pairs).need("forces") - exact).abs().max()))
    assert errors[0] < 1e-5 * float(exact.abs().max()) < errors[1] * 1e3
    assert not DeepPotential(**SMALL | {"elements": ("H", "C", "N", "O", "S")}).interpolate_radial(64)


def test_it_learns() -> None:
    model = DeepPotential(**SMALL | {"embedding": (8, 16), "fitting": (20, 20)}, scale=0.5)
    trainer = Trainer(batch_size=5, max_epochs=30, learning_rate=0.01, start_forces_weight=1000.0)
    rows = trainer.fit(model, labelled(20, 1), labelled(5, 2)).history
    assert rows[-1]["train_forces"] < 0.2 * rows[0]["train_forces"]
    assert rows[-1]["valid_forces_rmse_meV_per_A"] < 0.5 * rows[0]["valid_forces_rmse_meV_per_A"]


PROGRAMS: list[dict[str, Any]] = [
    {"switch": "cosine", "scale": 0.7},
    {"axis_channels": 18, "embedding": (5, 20), "fitting": (360, 40, 40), "one_side": False},
    {"sel": {"O": 9, "Si": 11}, "fitting": (48, 7), "activation": "silu", "embedding_timesteps": True},
]


@pytest.mark.parametrize("more", PROGRAMS, ids=["cosine", "wide", "doubling"])
def test_program_is_the_potential(more: dict[str, Any]) -> None:
    model, system = build(**more), System.from_ase([crystal(3), crystal(4)])
    pairs = find_pairs(system, 4.0)
    exact = evaluate(model, system, pairs, stress=True)
    worst = {}
    for tabulate in (False, True):
        program = model.program(tabulate=tabulate)
        assert program is not None
        found = run_program(program, system, pairs, stress=True)
        worst[tabulate] = max(
            float((found.need(k) - exact.need(k)).abs().max()) for k in ("energy", "forces", "stress")
        )
    assert worst[False] < 1e-12 and 0.0 < worst[True] < 1e-5
    with torch.no_grad():
        model.networks.weights[0][0, 0, 0] += 0.1  # negative control; a snapshot does not follow
    assert (evaluate(model, system, pairs).need("energy") - exact.need("energy")).abs().max() > 1e-9


def test_program_in_single_precision_at_any_thread_count_and_distance() -> None:
    model, system = build().float(), System.from_ase(crystal() * (2, 2, 1))
    pairs = find_pairs(system, 4.0)
    program, exact = model.program(), evaluate(model.double(), system, pairs)
    assert program is not None
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(run_program(program, system, pairs))
    torch.set_num_threads(1)
    assert torch.equal(found[0].need("forces"), found[1].need("forces"))
    torch.testing.assert_close(found[0].need("forces"), exact.need("forces"), rtol=1e-4, atol=2e-5)
    close = System.from_ase(Atoms("OSi", [[0, 0, 0], [0, 0, 0.3]]))  # below the tables
    near = find_pairs(close, 4.0)
    expected = evaluate(model, close, near).need("forces")
    torch.testing.assert_close(
        run_program(program, close, near).need("forces"), expected, rtol=1e-4, atol=1e-5
    )
    assert build(activation="sigmoid").program() is None
    with pytest.raises(ValueError, match="larger tolerance"):
        build().program(tabulate=True, tolerance=1e-16)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"switch_start": 4.0}, "between 0 and the cutoff"),
        ({"axis_channels": 13}, "axis_channels"),
        ({"sel": {"O": 3}}, "each of O, Si"),
        ({"sel": {"O": 0, "Si": 0}}, "slots"),
        ({"activation": "relu"}, "activation is"),
        ({"switch": "none"}, "switch is"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changed)
