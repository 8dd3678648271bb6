"""NequIP's compiled program: equal to automatic differentiation, exactly or within the stated table error."""

import math
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from network_checks import ethanol
from program_checks import (
    SMALL,
    a_batch_is_its_parts,
    assert_equal,
    batch,
    both,
    calculator_follows_the_weights,
    crystal,
    longer_lists_short_distances_and_empty_systems,
    many_atoms_take_several_chunks,
    same_bits_each_time,
    tables_are_refused_where_they_fail,
    tables_keep_their_promise,
)

from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials import nequip_program
from rikiba.potentials.nequip import NequIP

NEQUIP: dict[str, Any] = SMALL | {"n_layers": 2, "n_bessel": 5}
PER_ELEMENT: dict[str, Any] = {
    "avg_num_neighbors": {"H": 2.0, "C": 4.0, "O": 3.0},
    "scale": {"H": 20.0, "C": 10.0, "O": 30.0},
}
SEVENNET: dict[str, Any] = {
    "parity": "ignored",
    "first_self_connection": True,
    "bessel_trainable": True,
    "readout_widths": (6,),
    "readout_activation": "identity",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "natural": {"l_max": 1, "n_layers": 4},
    "unequal channels": {"l_max": 2, "channels": (40, 7, 3), "n_layers": 3},
    "both parities": {"l_max": 1, "n_layers": 6, "parity": "both", "channels": 6},
    "both parities, weights by type": {
        "l_max": 2,
        "n_layers": 4,
        "parity": "both",
        "channels": (8, 6, 4),
        "self_connection": "types",
        "first_self_connection": True,
    },
    "sevennet": SEVENNET
    | {
        "l_max": 2,
        "channels": (8, 4, 4),
        "n_layers": 3,
        "self_connection": "linear",
        "envelope": "xplor",
        "xplor_start": 3.0,
    },
    "sevennet of several data sets": SEVENNET
    | {"l_max": 3, "self_connection": "types", "scalar_biases": True, "n_layers": 3},
    "solid harmonics": {"l_max": 2, "max_L": 1, "solid_harmonics": True, "parity": "ignored"},
    "repulsion": {"l_max": 1, "zbl": True, "self_connection": "none"},
    "one layer": {"l_max": 0, "n_layers": 1},
    "one layer, given": {"l_max": 2, "n_layers": 1, "first_self_connection": True, "scalar_biases": True},
    "scalars of higher harmonics": {"l_max": 3, "max_L": 0, "activation": "tanh"},
    "mixed gates": {"l_max": 1, "n_layers": 3, "activation": "tanh", "gate_activation": "sigmoid"},
    "by element": PER_ELEMENT
    | {"l_max": 2, "gate_activation": "tanh", "readout_widths": (6, 4), "readout_activation": "mish"},
    "deep readout": {"l_max": 1, "readout_widths": (5,), "readout_activation": "gelu"},
}


def build(seed: int = 0, **more: Any) -> NequIP:
    model = NequIP(**(NEQUIP | more), seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "bias" in name:  # zero at the start
                p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_without_tables_the_program_is_exact(name: str) -> None:
    model = build(**VARIANTS[name])
    found, expected = both(model, model.program(), batch())
    assert_equal(found, expected, 2e-12 * max(1.0, float(expected.need("forces").abs().max())))
    assert float(expected.need("forces").abs().max()) > 0.1


@pytest.mark.parametrize("name", ["sevennet", "both parities, weights by type", "by element"])
def test_every_weight_counts(name: str) -> None:
    """Negative control: a change of any tensor in the snapshot makes it another potential's."""
    model = build(**VARIANTS[name])
    system = batch()
    _, expected = both(model, model.program(), system)
    for parameter in [*model.parameters(), *model.shift.buffers(), model.scale]:
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.mul_(1.01)
        found = both(model, model.program(), system)[0]
        with torch.no_grad():
            parameter.copy_(kept)
        difference = max(
            float((found.need(k) - expected.need(k)).abs().max()) for k in ("energies", "forces")
        )
        assert difference > 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["natural", "sevennet", "both parities, weights by type", "solid harmonics"])
def test_tables_keep_their_promise(name: str, dtype: torch.dtype) -> None:
    model = build(**VARIANTS[name]).to(dtype)
    program = model.program(tabulate=True)
    tables_keep_their_promise(build(**VARIANTS[name]), model, batch(), program)
    assert 0.0 < program.table_error < 1e-5  # type: ignore[union-attr]


def test_tables_hold_on_both_sides_of_a_kink() -> None:
    """The xplor envelope has a jump in its second derivative where it begins; so has the table."""
    model = build(**VARIANTS["sevennet"])
    program = model.program(tabulate=True)
    assert program is not None
    for r in (0.3, 2.9999999, 3.0, 3.0000001, 3.2, 3.99):
        system = System.from_ase(Atoms("CO", [[0, 0, 0], [0.6 * r, 0, 0.8 * r]]))
        found, expected = both(model, program, system)
        torch.testing.assert_close(found.need("forces"), expected.need("forces"), rtol=0, atol=1e-5)


def test_many_atoms_take_several_chunks() -> None:
    many_atoms_take_several_chunks(build(l_max=1, n_layers=3))


def test_same_bits_each_time_whatever_ran_before() -> None:
    same_bits_each_time(build(l_max=2).float(), batch(), System.from_ase(crystal()))


def test_a_batch_is_its_parts_whatever_their_elements() -> None:
    """The first layer's tables grow with the elements met."""
    a_batch_is_its_parts(build(l_max=2), [molecule("H2"), crystal(), ethanol()])


def test_longer_lists_short_distances_and_empty_systems() -> None:
    longer_lists_short_distances_and_empty_systems(build(l_max=2))


def test_distances_that_are_no_numbers_are_not_hidden() -> None:
    model = build(l_max=1)
    system = System.from_ase(ethanol())
    pairs = find_pairs(system, model.cutoff)
    vectors = pairs.vectors(system)
    vectors[3] = math.nan
    for tabulate in (False, True):
        program = model.program(tabulate=tabulate)
        assert program is not None
        energies, _ = program(system, pairs, vectors)
        assert bool(energies.isnan().any())


def test_tables_are_refused_where_they_fail() -> None:
    rough, wrong = build(l_max=1), build(l_max=2)
    tables_are_refused_where_they_fail(rough, wrong, nequip_program, lambda tables: tables.coefficients[1])


def test_calculator_follows_the_weights() -> None:
    calculator_follows_the_weights(build(l_max=1))


def test_no_program_where_there_is_none() -> None:
    assert build(l_max=1).half().program() is None
