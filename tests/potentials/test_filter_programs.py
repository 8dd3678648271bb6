"""Compiled programs of networks of pairs: equal to `forward`, with and without tables."""

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials.base import Potential
from rikiba.potentials.equivariant_transformer import EquivariantTransformer
from rikiba.potentials.m3gnet import M3GNet
from rikiba.potentials.painn import PaiNN
from rikiba.potentials.schnet import SchNet
from rikiba.potentials.tensornet import TensorNet

from network_checks import both, difference, ethanol  # isort: skip

CASES: list[tuple[type, dict[str, Any]]] = [
    (SchNet, {"channels": 16}),
    (SchNet, {"channels": 9, "n_filters": 21, "radial_basis": "bessel", "n_layers": 1}),
    (
        SchNet,
        {"channels": 20, "filter_activation": True, "readout_activation": "silu", "readout_widths": (7, 5)},
    ),
    (SchNet, {"channels": 8, "isolated_limit": False, "envelope": "cosine"}),
    (PaiNN, {"channels": 16}),
    (PaiNN, {"channels": 9, "n_layers": 1, "readout_activation": "shifted_softplus"}),
    (PaiNN, {"channels": 20, "n_layers": 2, "radial_basis": "gaussian", "norm_epsilon": 1e-4}),
    (PaiNN, {"channels": 8, "isolated_limit": False, "envelope": "cosine", "readout_widths": ()}),
    (TensorNet, {"channels": 16}),
    (
        TensorNet,
        {"channels": 9, "n_layers": 1, "readout": "gated", "group": "SO(3)", "isolated_limit": False},
    ),
    (M3GNet, {"n_radial": None, "three_body_cutoff": 3.0, "channels": 16, "n_layers": 2}),
    (
        M3GNet,
        {
            "n_radial": None,
            "three_body_cutoff": 4.0,
            "channels": 40,
            "n_layers": 1,
            "l_max": 3,
            "n_max": 5,
            "three_body_basis": "smooth_bessel",
            "messages_to": "neighbour",
            "readout_layers": 3,
            "isolated_limit": False,
        },
    ),
    (
        M3GNet,
        {
            "n_radial": None,
            "three_body_cutoff": 2.0,
            "channels": 9,
            "l_max": 0,
            "n_max": 1,
            "radial_basis": "bessel_grid",
            "readout_layers": 0,
        },
    ),
    (EquivariantTransformer, {"channels": 16, "n_heads": 4, "n_layers": 2}),
    (EquivariantTransformer, {"channels": 24, "n_heads": 3, "n_layers": 1}),
    (
        EquivariantTransformer,
        {"channels": 32, "n_heads": 8, "envelope_on": "attention", "envelope": "cosine", "n_layers": 3}
        | {"isolated_limit": False},
    ),
]


def build(cls: type, **more: Any) -> Potential:
    given_values = {"elements": ("H", "C", "O"), "cutoff": 4.0, "n_radial": 8, "scale": 0.7, "shift": 0.1}
    energies = {"H": -13.0, "C": -1030.0, "O": -2041.0}
    wanted = given_values | {"atomic_energies": energies} | more
    model: Potential = cls(**{k: v for k, v in wanted.items() if v is not None})
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "bias" in name:
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return model.double()


def frames() -> list[list[Atoms]]:
    crystal = bulk("C", "diamond", 3.57)
    crystal.symbols[1] = "O"
    crystal.rattle(0.1, seed=2)
    return [[ethanol(1)], [crystal], [Atoms("C")], [molecule("CH4"), Atoms("O"), ethanol(3), crystal]]


@pytest.mark.parametrize(("cls", "more"), CASES, ids=str)
def test_without_tables_it_is_forward(cls: type, more: dict[str, Any]) -> None:
    model = build(cls, **more)
    for atoms in frames():
        found = both(model, atoms)
        assert difference(found, "energies") < 1e-11 and difference(found, "forces") < 1e-11
        if found[0].stress is not None:
            assert difference(found, "stress") < 1e-12
    assert float(both(model, [ethanol(1)])[0].need("forces").abs().max()) > 1e-2


@pytest.mark.parametrize(("cls", "more"), CASES, ids=str)
def test_with_tables_forces_are_within_the_stated_error(cls: type, more: dict[str, Any]) -> None:
    model = build(cls, **more)
    for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, 1e-5)):
        cast = model.to(dtype)
        found = both(cast, [ethanol(1)], tabulate=True, tolerance=tolerance)
        exact = evaluate(
            model.double(), System.from_ase(ethanol(1)), find_pairs(System.from_ase(ethanol(1)), 4.0)
        )
        assert float((found[1].need("forces") - exact.need("forces")).abs().max()) < 3 * tolerance
        assert found[1].need("energies").dtype == torch.float64


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), case=st.sampled_from([CASES[0], CASES[4], CASES[10]]))
def test_random_clusters(seed: int, case: tuple[type, dict[str, Any]]) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    atoms = Atoms(
        rng.choice(["H", "C", "O"], n), rng.uniform(0, 4, (n, 3)), cell=[4.5] * 3, pbc=rng.random(3) < 0.5
    )
    found = both(build(case[0], **case[1]), [atoms])
    scale = 1.0 + float(found[0].need("forces").abs().max())
    assert difference(found, "energies") < 1e-10 and difference(found, "forces") < 1e-10 * scale


def test_longer_pair_list_and_short_distances() -> None:
    for cls in (SchNet, PaiNN):
        model = build(cls, channels=16)
        assert difference(both(model, [ethanol(1)], cutoff=6.0), "forces") < 1e-11
        near = Atoms("CO", [[0, 0, 0], [0, 0, 0.15]])  # below the tables
        assert difference(both(model, [near], tabulate=True), "forces") < 1e-10


def test_bad_tables_are_refused_and_the_default_then_has_none() -> None:
    model = build(SchNet, channels=16, gamma=3e5)  # filters too sharp to be tabulated
    with pytest.raises(ValueError, match="tabulate=False"):
        model.program(tabulate=True)  # type: ignore[call-arg]
    single = build(SchNet, channels=16, gamma=3e5).float()
    assert difference(both(single, [ethanol(1)]), "forces") < 1e-3
    with pytest.warns(RuntimeWarning, match="networks are kept"):
        kept = single.program()
    assert kept.table_error == 0.0  # type: ignore[union-attr]
    smooth = build(SchNet, channels=16).float().program()
    assert 0.0 < smooth.table_error < 1e-6  # type: ignore[union-attr]


def test_one_lane_for_a_head() -> None:
    """One head is sixteen lanes together, sixteen heads are a lane each, more have no program."""
    for heads, channels in ((1, 6), (2, 8), (16, 32)):
        model = build(EquivariantTransformer, channels=channels, n_heads=heads, n_layers=2)
        assert difference(both(model, [ethanol(1)]), "forces") < 1e-11
        with torch.no_grad():
            kept = model.program(tabulate=False)  # type: ignore[call-arg]
            model.layers[1].query.bias[0] += 1.0  # type: ignore[index]
        system = System.from_ase(ethanol(1))
        pairs = find_pairs(system, model.cutoff)
        assert kept is not None
        moved = evaluate(model, system, pairs).need("forces") - run_program(kept, system, pairs).need(
            "forces"
        )
        assert float(moved.abs().max()) > 1e-7  # negative control: one query of one head
    assert build(EquivariantTransformer, channels=32, n_heads=32, n_layers=1).program() is None  # type: ignore[call-arg]


def test_a_program_is_a_snapshot() -> None:
    """Negative control: other weights give other numbers; the program keeps those that it was made of."""
    model = build(PaiNN, channels=16)
    system = System.from_ase(ethanol(1))
    program = model.program()  # type: ignore[call-arg]
    assert program is not None
    pairs = find_pairs(system, model.cutoff)
    calculator = PotentialCalculator(model)
    before, kept = calculator(system).need("energy"), run_program(program, system, pairs).need("energy")
    assert torch.equal(before, kept)
    with torch.no_grad():
        model.embedding.mul_(1.1)  # type: ignore[operator]
    assert torch.equal(run_program(program, system, pairs).need("energy"), before)
    assert abs(float(calculator(system).need("energy") - before)) > 1e-6  # the calculator makes a new one


def test_a_decomposed_system_goes_by_the_definition() -> None:
    model = build(SchNet, channels=16)
    system = System.from_ase(ethanol(1))
    pairs = find_pairs(system, 4.0)
    calls = []

    def exchange(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.shape)
        return x

    from dataclasses import replace

    program = model.program()
    assert program is not None
    found = program(system, replace(pairs, exchange=exchange), pairs.vectors(system))
    assert len(calls) == 3
    torch.testing.assert_close(found[0], model(system, pairs).need("energies").detach(), rtol=0, atol=1e-12)
