"""M3GNet's program where it differs from the other networks' (those: test_filter_programs)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials.m3gnet import M3GNet

from network_checks import bent, both, difference, ethanol, with_biases  # isort: skip

SMALL: dict[str, Any] = {
    "elements": ("H", "C", "O"), "cutoff": 4.0, "three_body_cutoff": 3.0, "channels": 16, "n_layers": 2,
    "n_max": 2, "scale": 0.8, "shift": 0.1,
}  # fmt: skip


def build(**more: Any) -> M3GNet:
    return with_biases(M3GNet(**(SMALL | more)))


def crystal() -> Atoms:
    atoms = bulk("C", "diamond", 3.57, cubic=True)
    atoms.symbols[1] = "O"
    atoms.rattle(0.1, seed=2)
    return atoms


@pytest.mark.parametrize("to", ["centre", "neighbour"])
def test_what_is_not_kept_is_made_again(to: str) -> None:
    """Several chunks of pairs; every number is that of the sweep that keeps all."""
    model, system = build(messages_to=to), System.from_ase([crystal(), ethanol(1)])
    pairs = find_pairs(system, model.cutoff)
    assert len(pairs) > 300
    kept, again = (model.program(tabulate=False) for _ in range(2))
    again.most_kept = 0  # type: ignore[union-attr]
    vectors = pairs.vectors(system)
    assert kept is not None and again is not None
    for a, b in zip(kept(system, pairs, vectors), again(system, pairs, vectors), strict=True):
        assert torch.equal(a, b)
    exact = evaluate(model, system, pairs)
    found = run_program(again, system, pairs)
    torch.testing.assert_close(found.need("forces"), exact.need("forces"), rtol=0, atol=1e-11)


def test_a_call_leaves_nothing_to_the_next() -> None:
    """Larger, smaller and empty systems in turn; the same numbers each time, bit by bit."""
    program = build().program(tabulate=False)
    assert program is not None
    systems = [System.from_ase(x) for x in (crystal(), Atoms("O"), ethanol(2), [Atoms("C"), crystal()])]
    lists = [find_pairs(s, 4.0) for s in systems]
    first = [program(s, p, p.vectors(s)) for s, p in zip(systems, lists, strict=True)]
    for s, p, (energies, gradient) in reversed(list(zip(systems, lists, first, strict=True))):
        found = program(s, p, p.vectors(s))
        assert torch.equal(found[0], energies) and torch.equal(found[1], gradient)


def test_pairs_in_any_order() -> None:
    model, system = build(), System.from_ase(crystal())
    pairs, program = find_pairs(system, 4.0), model.program(tabulate=False)
    assert program is not None
    vectors = pairs.vectors(system)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
    mixed = replace(pairs, i=pairs.i[order], j=pairs.j[order], shift=pairs.shift[order])
    right, found = program(system, pairs, vectors), program(system, mixed, vectors[order])
    torch.testing.assert_close(found[0], right[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], right[1][order], rtol=0, atol=1e-12)


def test_three_body_terms_with_and_without_neighbours() -> None:
    """Pairs beyond the three-body cutoff, one near neighbour (no angle), two; straight angles."""
    model = build()
    far, one = Atoms("CO", [[0, 0, 0], [0, 0, 3.5]]), Atoms("CO", [[0, 0, 0], [0, 0, 1.5]])
    for atoms in (far, one, bent(95), bent(180), Atoms("COO", [[0, 0, 0], [0, 0, 1.2], [0, 0, 3.4]])):
        found = both(model, [atoms], tabulate=False)
        assert difference(found, "energies") < 1e-12 and difference(found, "forces") < 1e-12
    # negative control: without the angular networks the bent molecules differ from the model's
    blind = build()
    with torch.no_grad():
        for layer in blind.layers:
            for p in layer.angular.parameters():  # type: ignore[union-attr]
                p.zero_()
    program = blind.program(tabulate=False)
    system = System.from_ase(bent(95))
    pairs = find_pairs(system, 4.0)
    assert program is not None
    wrong = run_program(program, system, pairs).need("forces")
    assert float((wrong - evaluate(model, system, pairs).need("forces")).abs().max()) > 1e-6


def test_second_derivatives_and_training_go_by_the_definition() -> None:
    model, system = build(), System.from_ase(ethanol(1))
    calculator = PotentialCalculator(model)
    before = calculator(system).need("forces")
    pairs = find_pairs(system, 4.0)
    vectors = pairs.vectors(system).detach().requires_grad_()
    energies = model(system, pairs.with_vectors(vectors)).need("energies")
    (first,) = torch.autograd.grad(energies.sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), vectors)
    assert bool(second.isfinite().all()) and float(second.abs().max()) > 0.0
    with torch.no_grad():
        model.embedding.mul_(1.1)
    assert float((calculator(system).need("forces") - before).abs().max()) > 1e-6


def test_both_precisions_and_no_others() -> None:
    model = build(channels=9).float()
    found = both(model, [ethanol(1), crystal()])
    exact = both(model.double(), [ethanol(1), crystal()], tabulate=False)[0]
    for result in found:
        assert float((result.need("forces") - exact.need("forces")).abs().max()) < 1e-4
    assert float((found[1].need("forces") - exact.need("forces")).abs().max()) > 0.0
    assert build().to(torch.bfloat16).program() is None


WIDE: dict[str, Any] = {"elements": ("H", "C", "N", "O", "Si"), "three_body_cutoff": 2.5}


def mixed(letters: str, seed: int) -> System:
    """Ten atoms in a box of 6 Å, most pairs too far for angles."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)[rng.permutation(27)[:10]]
    positions = 2.0 * grid + rng.normal(0, 0.15, (10, 3))
    symbols = [{"S": "Si"}.get(s, s) for s in letters] * 2
    return System.from_ase(Atoms(symbols, positions, cell=[6.0] * 3, pbc=True))


@pytest.mark.parametrize("to", ["centre", "neighbour"])
def test_pairs_without_angles_leave_the_first_block_by_tables(to: str) -> None:
    """Four types or fewer by tables, five without; numbers of the definition, whatever came before."""
    model = build(messages_to=to, **WIDE)
    program = model.program(tabulate=True, tolerance=1e-6)
    assert program is not None
    far, first = program._far, {}  # type: ignore[attr-defined]
    systems = [mixed(s, k) for k, s in enumerate(("CHOOH", "HCNOC", "NNNNN", "HCNOS"))]
    for k, system in enumerate(systems):
        pairs = find_pairs(system, model.cutoff)
        vectors = pairs.vectors(system)
        assert int((vectors.norm(dim=1) > model.three_body_cutoff).sum()) > 50
        exact, found = evaluate(model, system, pairs), run_program(program, system, pairs)
        for name in ("energies", "forces"):
            torch.testing.assert_close(found.need(name), exact.need(name), rtol=0, atol=1e-6)
        first[k] = program(system, pairs, vectors)
        assert (far.find(model.types(system).numpy()) is not None) == (k < 3)
    for k, system in reversed(list(enumerate(systems))):
        pairs = find_pairs(system, model.cutoff)
        found = program(system, pairs, pairs.vectors(system))
        assert all(torch.equal(a, b) for a, b in zip(found, first[k], strict=True))
    # negative control: tables that are wrong
    far.find(model.types(systems[0]).numpy())[:] *= 1.1
    pairs = find_pairs(systems[0], model.cutoff)
    wrong = program(systems[0], pairs, pairs.vectors(systems[0]))
    assert float((wrong[1] - first[0][1]).abs().max()) > 1e-5
