"""NequIP's compiled program: equal to automatic differentiation, exactly or within the stated table error."""

import math
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
from rikiba.potentials.nequip import NequIP

SMALL: dict[str, Any] = {
    "elements": ("H", "C", "O"),
    "cutoff": 4.0,
    "channels": 8,
    "n_layers": 2,
    "n_bessel": 5,
    "radial_widths": (8, 8),
    "avg_num_neighbors": 3.0,
    "atomic_energies": {"H": -13.6, "C": -1030.0, "O": -2040.0},
    "scale": 20.0,
    "shift": 0.1,
}
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
    model = NequIP(**(SMALL | more), seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "bias" in name:  # zero at the start
                p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


def ethanol(seed: int = 0) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.positions += np.random.default_rng(seed).normal(0, 0.1, atoms.positions.shape)
    return atoms


def crystal(seed: int = 3) -> Atoms:
    """Periodic, triclinic, smaller than the cutoff, two elements."""
    atoms = bulk("CO", "rocksalt", a=3.6)
    atoms.rattle(0.1, seed=seed)
    strain = np.random.default_rng(seed).normal(0, 0.05, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def batch() -> System:
    """Structures of all kinds, isolated atoms among them."""
    return System.from_ase([ethanol(), Atoms("O"), crystal(), molecule("H2"), ethanol(1), Atoms("H")])


def both(model: NequIP, program: Program | None, system: System, reference: NequIP | None = None) -> Any:
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
    """Forces within 1e-5 eV/Å of the networks' in float64, or twice float32's own rounding if larger."""
    reference = build(**VARIANTS[name])
    model = build(**VARIANTS[name]).to(dtype)
    program = model.program(tabulate=True)
    found, exact = both(model, program, batch(), reference)
    rounding = 0.0
    if dtype == torch.float32:
        rounded = both(model, program, batch())[1]
        rounding = float((rounded.need("forces") - exact.need("forces")).abs().max())
    error = float((found.need("forces") - exact.need("forces")).abs().max())
    assert error < max(1e-5, 2.0 * rounding)
    assert float((found.need("energies") - exact.need("energies")).abs().max()) < 1e-4
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
    model = build(l_max=1, n_layers=3)
    atoms = bulk("CO", "rocksalt", a=4.2).repeat((8, 8, 5))
    atoms.rattle(0.05, seed=1)
    system = System.from_ase(atoms)
    assert system.n_atoms > 512
    assert_equal(*both(model, model.program(), system), 2e-11)


def test_same_bits_each_time_whatever_ran_before() -> None:
    model = build(l_max=2).float()
    program = model.program()
    first = both(model, program, batch())[0]
    both(model, program, System.from_ase(crystal()))
    again = both(model, program, batch())[0]
    assert torch.equal(first.need("forces"), again.need("forces"))
    assert torch.equal(first.need("energy"), again.need("energy"))


def test_a_batch_is_its_parts_whatever_their_elements() -> None:
    """The first layer's tables grow with the elements met."""
    model = build(l_max=2)
    program = model.program(tabulate=True)
    parts = [both(model, program, System.from_ase(a))[0] for a in (molecule("H2"), crystal(), ethanol())]
    whole = both(model, program, System.from_ase([molecule("H2"), crystal(), ethanol()]))[0]
    for n, part in enumerate(parts):
        assert float(whole.need("energy")[n]) == pytest.approx(float(part.need("energy")), abs=1e-10)


def test_longer_lists_short_distances_and_empty_systems() -> None:
    model = build(l_max=2)
    program = model.program(tabulate=True)
    assert program is not None
    system = System.from_ase(ethanol())
    near, far = (run_program(program, system, find_pairs(system, rc)) for rc in (4.0, 6.0))
    torch.testing.assert_close(near.need("forces"), far.need("forces"), rtol=0, atol=1e-12)
    close = System.from_ase(Atoms("CO", [[0, 0, 0], [0, 0, 0.1]]))  # nearer than the table reaches
    found, expected = both(model, program, close)
    torch.testing.assert_close(found.need("forces"), expected.need("forces"), rtol=0, atol=1e-12)
    for one in (program, model.program(tabulate=False)):
        alone = both(model, one, System.from_ase(Atoms("O")))
        assert float(alone[0].need("energy")) == pytest.approx(float(alone[1].need("energy")), abs=1e-12)
    with pytest.raises(ValueError, match="Si"):
        both(model, program, System.from_ase(Atoms("Si")))


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
    model = build(l_max=1)
    with torch.no_grad():
        model.layers[0].radial.weights[0].mul_(1e4)  # far from smooth
    with pytest.raises(ValueError, match="cannot be tabulated"):
        model.program(tabulate=True)
    with pytest.warns(RuntimeWarning, match="networks are kept"):
        program = model.float().program()
    assert program is not None
    with pytest.raises(ValueError, match="off by"):
        _with_wrong_table(build(l_max=2))


def _with_wrong_table(model: NequIP) -> None:
    import rikiba.potentials.nequip_program as program

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        tables = original(*args, **kwargs)
        tables.coefficients[1][:] *= 1.001
        return tables

    original = program.tables_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "tables_of", spoiled)
        model.program(tabulate=True)


def test_calculator_follows_the_weights() -> None:
    model, system = build(l_max=1), System.from_ase(ethanol())
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
    assert build(l_max=1).half().program() is None
