"""MACE's compiled program: equal to automatic differentiation, exactly or within the stated table error."""

import warnings
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
from rikiba.potentials.base import Program
from rikiba.potentials.mace import MACE

SMALL: dict[str, Any] = {
    "elements": ("H", "C", "O"),
    "cutoff": 4.0,
    "channels": 8,
    "radial_widths": (8, 8),
    "avg_num_neighbors": 3.0,
    "atomic_energies": {"H": -13.6, "C": -1030.0, "O": -2040.0},
    "scale": 20.0,
    "shift": 0.1,
}
VARIANTS: list[dict[str, Any]] = [
    {"max_L": 0, "l_max": 3, "correlation": 3, "channels": 40},
    {"max_L": 1, "l_max": 3, "correlation": 2},
    {"max_L": 2, "l_max": 2, "correlation": 3, "zbl": True, "first_residual": True},
    {"max_L": 1, "l_max": 1, "correlation": 4, "n_layers": 1},
    {"max_L": 0, "l_max": 2, "correlation": 1, "n_layers": 1, "first_residual": True},
    {"max_L": 1, "l_max": 2, "correlation": [3, 1, 2], "n_layers": 3, "density_normalised": True},
    {
        "max_L": 1,
        "l_max": 2,
        "correlation": 2,
        "distance_transform": "agnesi",
        "envelope_after_network": True,
        "density_normalised": True,
    },
    {"max_L": 0, "l_max": 0, "correlation": 2, "activation": "tanh"},
    {"max_L": 1, "l_max": 2, "last_readout_only": True, "shared_product": True},
]


def build(**more: Any) -> MACE:
    return MACE(**(SMALL | more)).double()


def ethanol(seed: int = 0) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.positions += np.random.default_rng(seed).normal(0, 0.1, atoms.positions.shape)
    return atoms


def crystal() -> Atoms:
    """Periodic, triclinic, smaller than the cutoff, two elements."""
    atoms = bulk("CO", "rocksalt", a=3.6)
    atoms.rattle(0.1, seed=3)
    return atoms


def batch() -> System:
    """Structures of all kinds, an isolated atom among them."""
    return System.from_ase([ethanol(), Atoms("O"), crystal(), molecule("H2"), ethanol(1)])


def both(model: MACE, program: Program | None, system: System, reference: MACE | None = None) -> Any:
    pairs = find_pairs(system, model.cutoff)
    assert program is not None
    return (
        run_program(program, system, pairs, stress=True),
        evaluate(reference or model, system, pairs, stress=True),
    )


def assert_equal(found: Results, expected: Results, tolerance: float) -> None:
    for name in ("energies", "energy", "forces", "stress"):
        a, b = found.need(name), expected.need(name)
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("variant", VARIANTS, ids=range(len(VARIANTS)))
def test_without_tables_the_program_is_exact(variant: dict[str, Any]) -> None:
    model = build(**variant)
    found, expected = both(model, model.program(), batch())
    assert_equal(found, expected, 2e-12)
    assert float(expected.need("forces").abs().max()) > 1.0
    other = build(**variant, seed=1)  # the comparison tells weights apart
    assert float((both(other, other.program(), batch())[0].energies - expected.energies).abs().max()) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", [0, 1, 2, 5, 6])
def test_tables_keep_their_promise(number: int, dtype: torch.dtype) -> None:
    """Forces within 1e-5 eV/Å of the networks' in float64, or twice float32's own rounding if larger."""
    reference = build(**VARIANTS[number])
    model = build(**VARIANTS[number]).to(dtype)
    found, exact = both(model, model.program(tabulate=True), batch(), reference)
    rounding = 0.0
    if dtype == torch.float32:
        rounded = both(model, model.program(tabulate=False), batch())[1]
        rounding = float((rounded.need("forces") - exact.need("forces")).abs().max())
    error = float((found.need("forces") - exact.need("forces")).abs().max())
    assert error < max(1e-5, 2.0 * rounding)
    assert float((found.need("energies") - exact.need("energies")).abs().max()) < 1e-4


def test_many_atoms_take_several_chunks() -> None:
    model = build(max_L=1, l_max=2, correlation=2)
    atoms = bulk("CO", "rocksalt", a=4.2).repeat((8, 8, 5))
    atoms.rattle(0.05, seed=1)
    system = System.from_ase(atoms)
    assert system.n_atoms > 512
    assert_equal(*both(model, model.program(), system), 2e-11)


def test_one_element_and_large_tables() -> None:
    """Alone in its table, or too many pairs of elements to fold the first layer's products into it."""
    import rikiba.potentials.mace_program as program

    for limit in (0, 2**30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(program, "_FOLDED_BYTES", limit)
            model = build(max_L=0, l_max=2, elements=("C", "O"), atomic_energies=None)
            compiled = model.program(tabulate=True)
        system = System.from_ase([crystal(), molecule("CO")])
        assert_equal(*both(model, compiled, system), 1e-6)


def test_same_bits_each_time_whatever_ran_before() -> None:
    model = build(max_L=1, l_max=2).float()
    program = model.program()
    first = both(model, program, batch())[0]
    both(model, program, System.from_ase(crystal()))
    again = both(model, program, batch())[0]
    assert torch.equal(first.need("forces"), again.need("forces"))
    assert torch.equal(first.need("energy"), again.need("energy"))


@pytest.mark.parametrize("tabulate", [True, False])
@pytest.mark.parametrize("number", [1, 2, 5, 6])
def test_several_threads(number: int, tabulate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same bits at equal thread counts; between counts only sums of neighbours' shares are ordered anew."""
    import rikiba.potentials.mace_program as module

    used: list[int] = []
    plain = module.in_threads
    monkeypatch.setattr(module, "in_threads", lambda task, n: (used.append(n), plain(task, n)))
    monkeypatch.setattr(module, "_PAIRS_A_THREAD", 4)
    model = build(**VARIANTS[number])
    program = model.program(tabulate=tabulate)
    atoms = bulk("CO", "rocksalt", a=4.2).repeat((4, 3, 2))
    atoms.rattle(0.1, seed=2)
    system = System.from_ase([atoms, ethanol(), Atoms("O")])
    threads = torch.get_num_threads()
    found: dict[int, Results] = {}
    try:
        for count in (1, 2, 3, 2, 3):
            torch.set_num_threads(count)
            used.clear()
            pairs = find_pairs(system, model.cutoff)
            assert program is not None
            result = run_program(program, system, pairs, stress=True)
            assert set(used) == {count} and torch.get_num_threads() == count
            if count in found:
                assert torch.equal(result.need("forces"), found[count].need("forces"))
                assert torch.equal(result.need("energies"), found[count].need("energies"))
            found[count] = result
    finally:
        torch.set_num_threads(threads)
    largest = float(found[1].need("forces").abs().max())
    for count in (2, 3):
        assert_equal(found[count], found[1], 1e-12 * max(1.0, largest))


def test_a_batch_is_its_parts() -> None:
    model = build(max_L=0, l_max=2)
    program = model.program(tabulate=True)
    whole = both(model, program, System.from_ase([ethanol(), crystal()]))[0]
    parts = [both(model, program, System.from_ase(a))[0] for a in (ethanol(), crystal())]
    for n, part in enumerate(parts):
        assert float(whole.need("energy")[n]) == pytest.approx(float(part.need("energy")), abs=1e-10)


def test_longer_lists_short_distances_and_empty_systems() -> None:
    model = build(max_L=0, l_max=2)
    program = model.program(tabulate=True)
    assert program is not None
    system = System.from_ase(ethanol())
    near, far = (run_program(program, system, find_pairs(system, rc)) for rc in (4.0, 6.0))
    torch.testing.assert_close(near.need("forces"), far.need("forces"), rtol=0, atol=1e-12)
    close = System.from_ase(Atoms("CO", [[0, 0, 0], [0, 0, 0.1]]))  # nearer than the table reaches
    found, expected = both(model, program, close)
    torch.testing.assert_close(found.need("forces"), expected.need("forces"), rtol=0, atol=1e-12)
    alone = both(model, program, System.from_ase(Atoms("O")))
    assert float(alone[0].need("energy")) == pytest.approx(float(alone[1].need("energy")), abs=1e-12)
    with pytest.raises(ValueError, match="Si"):
        both(model, program, System.from_ase(Atoms("Si")))


def test_tables_are_refused_where_they_fail() -> None:
    model = build(max_L=0, l_max=1)
    with torch.no_grad():
        model.layers[0].radial.weights[0].mul_(1e4)  # far from smooth
    with pytest.raises(ValueError, match="cannot be tabulated"):
        model.program(tabulate=True)
    with pytest.warns(RuntimeWarning, match="networks are kept"):
        program = model.float().program()
    assert program is not None
    wrong = build(max_L=0, l_max=2)
    with pytest.raises(ValueError, match="off by"):
        _with_wrong_table(wrong)


def _with_wrong_table(model: MACE) -> None:
    import rikiba.potentials.mace_program as program

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        tables = original(*args, **kwargs)
        tables[1].coefficients[:] *= 1.001
        return tables

    original = program.tables_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "tables_of", spoiled)
        model.program(tabulate=True)


def test_calculator_follows_the_weights() -> None:
    model, system = build(max_L=0, l_max=2), System.from_ase(ethanol())
    calculator, plain = PotentialCalculator(model), PotentialCalculator(model, use_program=False)
    for change in range(3):
        assert_equal(*(c(system).replace(stress=torch.zeros(1)) for c in (calculator, plain)), 1e-11)
        with torch.no_grad():
            if change == 0:
                model.embedding.mul_(1.5)
            else:
                model.embedding.data = model.embedding.data * 0.7
    kept = PotentialCalculator(model, use_program=model.program(tabulate=True))
    before = kept(system).need("energy")
    with torch.no_grad():
        model.embedding.mul_(1.5)
    assert torch.equal(kept(system).need("energy"), before)
    assert not torch.allclose(calculator(system).need("energy"), before)


def test_no_program_where_there_is_none() -> None:
    assert build(activation="gelu").program() is None
    assert build().half().program() is None


def test_numba_is_not_needed_to_import() -> None:
    import subprocess
    import sys

    code = (
        "import sys, rikiba.potentials.mace, rikiba.calculators.autograd; assert 'numba' not in sys.modules"
    )
    with warnings.catch_warnings():
        subprocess.run([sys.executable, "-c", code], check=True)
