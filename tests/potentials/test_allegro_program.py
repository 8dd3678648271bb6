"""Allegro's compiled program: equal to automatic differentiation, with tables and without; many elements."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import chemical_symbols
from network_checks import ethanol
from program_checks import (
    a_batch_is_its_parts,
    assert_equal,
    both,
    same_bits_each_time,
    tables_keep_their_promise,
)

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials import allegro_tables
from rikiba.potentials.allegro import Allegro
from rikiba.potentials.allegro_program import CompiledAllegro
from rikiba.training.checkpoint import load_potential, save_potential

SMALL: dict[str, Any] = {
    "elements": ("H", "C", "O"),
    "cutoff": 3.0,
    "scalar_channels": 8,
    "tensor_channels": 4,
    "embedding_widths": (8,),
    "latent_widths": (8,),
    "readout_widths": (6,),
    "avg_num_neighbors": {"H": 3.0, "C": 6.0, "O": 8.0},
    "scale": {"H": 1.0, "C": 0.7, "O": 0.9},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "two layers": {},
    "wide": {"n_layers": 3, "latent_widths": (5, 18), "readout_widths": (), "tensor_channels": 17},
    "deep": {"embedding_widths": (9, 40), "readout_widths": (7, 9), "l_max": 3},
    "linear": {"embedding_widths": (), "l_max": 0},
    "splines": {
        "l_max": 1,
        "radial_embedding": "spline",
        "path_weights": "shared",
        "zbl": True,
        "n_layers": 1,
    },
}
MANY: dict[str, Any] = {
    "elements": chemical_symbols[1:97],
    "l_max": 1,
    "avg_num_neighbors": 12.0,
    "scale": 1.0,
}
MANY_VARIANTS = pytest.mark.parametrize(
    "variant",
    [{}, {"radial_embedding": "spline", "n_splines": 6, "spline_span": 4}],
    ids=["bessel", "splines"],
)


def build(**more: Any) -> Allegro:
    return Allegro(**(SMALL | more)).double()


def diamond(symbols: Sequence[str]) -> Atoms:
    """Eight rattled sites, the elements in turn."""
    atoms = bulk("C", "diamond", 4.0, cubic=True)
    atoms.symbols = np.resize(symbols, len(atoms))
    atoms.rattle(0.08, seed=1)
    return atoms


def batch() -> System:
    """Structures of all kinds, isolated atoms among them."""
    return System.from_ase([diamond(list("OCCCO")), Atoms("O"), ethanol(), molecule("H2"), Atoms("H")])


def tabulated(model: Allegro, **options: Any) -> CompiledAllegro:
    program = model.program(tabulate=True, **options)
    assert isinstance(program, CompiledAllegro)
    return program


@pytest.mark.parametrize("name", VARIANTS)
def test_without_tables_the_program_is_exact(name: str) -> None:
    model = build(**VARIANTS[name])
    found, expected = both(model, model.program(), batch())
    assert_equal(found, expected, 1e-12 * max(1.0, float(expected.need("forces").abs().max())))
    assert float(expected.need("forces").abs().max()) > 1e-2


@pytest.mark.parametrize("name", ["wide", "deep", "splines"])
def test_every_weight_counts(name: str) -> None:
    """Negative control: a change of any tensor in the snapshot makes it another potential's."""
    model = build(**VARIANTS[name])
    system = batch()
    expected = both(model, model.program(), system)[1]
    for label, parameter in [
        *model.named_parameters(),
        ("shift", model.shift.values),
        ("scale", model.scale),
    ]:
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.mul_(1.01).add_(1e-3)
        found = both(model, model.program(), system)[0]
        with torch.no_grad():
            parameter.copy_(kept)
        assert float((found.need("energies") - expected.need("energies")).abs().max()) > 1e-9, label


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["two layers", "splines"])
def test_tables_keep_their_promise(name: str, dtype: torch.dtype) -> None:
    model = build(**VARIANTS[name]).to(dtype)
    program = tabulated(model)
    tables_keep_their_promise(build(**VARIANTS[name]), model, batch(), program)
    assert 0.0 < program.table_error < 1e-5 and program.intervals > 0


def test_atoms_with_more_pairs_than_are_taken_together() -> None:
    model = build(cutoff=6.5, elements=("C", "O"), avg_num_neighbors=150.0, scale=1.0)
    system = System.from_ase(diamond(["C", "O"]))
    assert len(find_pairs(system, model.cutoff)) / system.n_atoms > 96
    assert_equal(*both(model, model.program(), system), 1e-12)


def test_it_is_local_to_the_last_bit() -> None:
    """Of atoms in one block and in several, an energy changes only with what is within the cutoff."""
    program = tabulated(build().float())
    chain = Atoms("COCHCO" * 10, [[1.4 * k, 0.3 * (k % 2), 0] for k in range(60)])
    moved = chain.copy()
    moved.positions[5] += [-0.2, 0.1, -0.3]
    a, b = (both(build().float(), program, System.from_ase(x))[0].need("energies") for x in (chain, moved))
    near = np.array([x.get_distances(5, range(60)) < 3.0 for x in (chain, moved)])
    assert torch.equal(a[~near.any(0)], b[~near.any(0)]) and (~near.any(0)).sum() > 50
    assert not (a[near.any(0)] == b[near.any(0)]).any()
    longer = both(build().float(), program, System.from_ase(chain[3:]))[0].need("energies")
    assert torch.equal(longer[3:], a[6:])


def test_same_bits_each_time_and_batches_are_their_parts() -> None:
    same_bits_each_time(build().float(), batch(), System.from_ase(diamond(["C", "O"])))
    a_batch_is_its_parts(build(), [molecule("H2"), diamond(["C", "O"]), ethanol()])


def test_longer_lists_short_distances_and_numbers_that_are_none() -> None:
    model = build()
    program = tabulated(model)
    system = System.from_ase(ethanol())
    near, far = (program(system, p, p.vectors(system)) for p in (find_pairs(system, rc) for rc in (3.0, 5.0)))
    assert torch.equal(near[0], far[0])
    close = System.from_ase(Atoms("CO", [[0, 0, 0], [0, 0, 0.1]]))  # nearer than the table reaches
    found, expected = both(model, program, close)
    torch.testing.assert_close(found.need("forces"), expected.need("forces"), rtol=0, atol=1e-12)
    pairs = find_pairs(system, model.cutoff)
    vectors = pairs.vectors(system)
    vectors[3] = math.nan
    for one in (program, model.program(tabulate=False)):
        assert one is not None
        assert bool(one(system, pairs, vectors)[0].isnan().any())


def test_no_program_where_there_is_none() -> None:
    assert build(activation="tanh").program() is None
    assert build(latent_widths=()).program() is None


def test_a_calculator_follows_the_weights() -> None:
    model, system = build(), System.from_ase(ethanol())
    calculator, plain = PotentialCalculator(model), PotentialCalculator(model, use_program=False)
    before = calculator(system).need("energy")
    with torch.no_grad():
        model.two_body.weights[0].mul_(1.5)
    torch.testing.assert_close(
        calculator(system).need("forces"), plain(system).need("forces"), rtol=0, atol=1e-11
    )
    assert not torch.allclose(calculator(system).need("energy"), before)


@MANY_VARIANTS
def test_of_many_elements_those_at_hand_have_tables(variant: dict[str, Any]) -> None:
    exact = build(**(MANY | variant))
    model = build(**(MANY | variant)).float()
    program = tabulated(model)
    assert program.tables is not None and (program.tables.first < 0).all()
    for symbols, made in ((("Si", "C"), 4), (("C", "Si", "Cm"), 9), (("Si",), 9)):
        tables_keep_their_promise(exact, model, System.from_ase(diamond(symbols)), program)
        assert int((program.tables.first >= 0).sum()) == made
    program.tables.flat *= 1.001  # negative control
    with pytest.raises(AssertionError):
        tables_keep_their_promise(exact, model, System.from_ase(diamond(["Si"])), program)


@MANY_VARIANTS
def test_structures_of_many_elements_go_through_the_network(variant: dict[str, Any]) -> None:
    exact = build(**(MANY | variant))
    model = build(**(MANY | variant)).float()
    program, system = (
        tabulated(model),
        System.from_ase([diamond(chemical_symbols[k::12][:8]) for k in (1, 7)]),
    )
    assert len(set(system.numbers.tolist())) > 8
    tables_keep_their_promise(exact, model, system, program)
    assert program.tables is not None and (program.tables.first < 0).all()
    assert_equal(*both(exact, exact.program(), system), 1e-12)
    program._radial *= 1.001  # negative control
    with pytest.raises(AssertionError):
        tables_keep_their_promise(exact, model, system, program)


def test_answers_do_not_depend_on_what_was_met_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor on whether the model was saved in between or tables were forgotten: to the last bit."""
    model = build(**MANY).float()
    again = load_potential(save_potential(tmp_path / "a.npz", model))
    assert isinstance(again, Allegro)
    systems = [System.from_ase(diamond(s)) for s in (("Si", "O"), ("O",), ("Fe", "Si", "O"))]
    one, other = tabulated(model), tabulated(again)
    found = [both(model, one, s)[0] for s in systems]
    monkeypatch.setattr(allegro_tables, "_MOST_BYTES", 0)
    expected = [both(model, other, s)[0] for s in reversed(systems)][::-1]
    assert one.tables is not None and other.tables is not None
    assert (one.tables.first[one.tables.first >= 0] != other.tables.first[one.tables.first >= 0]).any()
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.need("energies"), b.need("energies"))
        assert torch.equal(a.need("forces"), b.need("forces"))
    other.tables.flat[::7] *= 1.0 + 1e-4  # negative control
    assert not torch.equal(both(model, other, systems[0])[0].need("forces"), found[0].need("forces"))


def test_pairs_whose_tables_fail_keep_the_network() -> None:
    """Said once; pairs of other elements have tables all the same."""
    exact, model = build(**MANY), build(**MANY).float()
    program = tabulated(model)
    assert program.tables is not None
    original = program.tables.of

    def spoiled(function: Any, kind: int) -> torch.Tensor:
        c, si = 5, 13
        return original(function, kind) * (1.01 if kind == c * 96 + si else 1.0)

    program.tables.of = spoiled  # type: ignore[method-assign]
    refused, fine = (System.from_ase(diamond(s)) for s in (("C", "Si"), ("O", "Si")))
    with pytest.warns(RuntimeWarning, match="forces are off by .* networks are kept"):
        tables_keep_their_promise(exact, model, refused, program)
    tables_keep_their_promise(exact, model, refused, program)  # no second warning, which would be an error
    tables_keep_their_promise(exact, model, fine, program)
    present = {s: program.model.elements.index(s) for s in ("C", "O", "Si")}
    assert not program.tables.ready(np.array([present["C"], present["Si"]]), program.check)
    assert program.tables.ready(np.array([present["O"], present["Si"]]), program.check)


def test_tables_are_refused_where_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    with pytest.raises(ValueError, match="cannot be tabulated"):
        model.program(tabulate=True, tolerance=1e-16)
    original = allegro_tables.PairTables.of
    monkeypatch.setattr(
        allegro_tables.PairTables, "of", lambda self, function, kind: original(self, function, kind) * 1.001
    )
    with pytest.raises(ValueError, match="off by"):
        model.program(tabulate=True)
    with pytest.warns(RuntimeWarning, match="networks are kept"):
        assert model.float().program() is not None
