"""MACE's compiled program: equal to automatic differentiation, exactly or within the stated table error."""

import warnings
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
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

from rikiba.calculators.autograd import run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials import mace_program
from rikiba.potentials.mace import MACE

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
    model = build(**VARIANTS[number]).to(dtype)
    tables_keep_their_promise(build(**VARIANTS[number]), model, batch(), model.program(tabulate=True))


def test_many_atoms_take_several_chunks() -> None:
    many_atoms_take_several_chunks(build(max_L=1, l_max=2, correlation=2))


def test_one_element_and_large_tables() -> None:
    """Alone in its table, or too many pairs of elements to fold the first layer's products into it."""
    for limit in (0, 2**30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mace_program, "_FOLDED_BYTES", limit)
            model = build(max_L=0, l_max=2, elements=("C", "O"), atomic_energies=None)
            compiled = model.program(tabulate=True)
        system = System.from_ase([crystal(), molecule("CO")])
        assert_equal(*both(model, compiled, system), 1e-6)


def test_same_bits_each_time_whatever_ran_before() -> None:
    same_bits_each_time(build(max_L=1, l_max=2).float(), batch(), System.from_ase(crystal()))


@pytest.mark.parametrize("tabulate", [True, False])
@pytest.mark.parametrize("number", [1, 2, 5, 6])
def test_several_threads(number: int, tabulate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same bits at equal thread counts; between counts only sums of neighbours' shares are ordered anew."""
    used: list[int] = []
    plain = mace_program.in_threads
    monkeypatch.setattr(mace_program, "in_threads", lambda task, n: (used.append(n), plain(task, n)))
    monkeypatch.setattr(mace_program, "_PAIRS_A_THREAD", 4)
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
    a_batch_is_its_parts(build(max_L=0, l_max=2), [ethanol(), crystal()])


def test_longer_lists_short_distances_and_empty_systems() -> None:
    longer_lists_short_distances_and_empty_systems(build(max_L=0, l_max=2))


def test_tables_are_refused_where_they_fail() -> None:
    rough, wrong = build(max_L=0, l_max=1), build(max_L=0, l_max=2)
    tables_are_refused_where_they_fail(rough, wrong, mace_program, lambda tables: tables[1].coefficients)


def test_calculator_follows_the_weights() -> None:
    calculator_follows_the_weights(build(max_L=0, l_max=2))


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
