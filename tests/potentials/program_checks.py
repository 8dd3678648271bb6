"""What the tests of compiled programs of message-passing networks share."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from network_checks import compared, ethanol

from rikiba.calculators.autograd import PotentialCalculator, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.base import Potential, Program

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
"""Arguments of a small network of equivariant messages."""


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


def both(
    model: Potential, program: Program | None, system: System, reference: Potential | None = None
) -> tuple[Results, Results]:
    """What the program says, and what automatic differentiation of the model, or of the reference, does."""
    return compared(program, reference or model, system, model.cutoff)


def assert_equal(found: Results, expected: Results, tolerance: float) -> None:
    for name in ("energies", "energy", "forces", "stress"):
        a, b = found.need(name), expected.need(name)
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance, equal_nan=True)


def tables_keep_their_promise(
    reference: Potential, model: Any, system: System, tabulated: Program | None
) -> None:
    """Forces within 1e-5 eV/Å of the networks' in float64, or twice float32's own rounding if larger."""
    found, exact = both(model, tabulated, system, reference)
    rounding = 0.0
    if model.dtype == torch.float32:
        rounded = both(model, tabulated, system)[1]
        rounding = float((rounded.need("forces") - exact.need("forces")).abs().max())
    error = float((found.need("forces") - exact.need("forces")).abs().max())
    assert error < max(1e-5, 2.0 * rounding)
    assert float((found.need("energies") - exact.need("energies")).abs().max()) < 1e-4


def many_atoms_take_several_chunks(model: Potential) -> None:
    atoms = bulk("CO", "rocksalt", a=4.2).repeat((8, 8, 5))
    atoms.rattle(0.05, seed=1)
    system = System.from_ase(atoms)
    assert system.n_atoms > 512
    assert_equal(*both(model, model.program(), system), 2e-11)


def same_bits_each_time(model: Potential, system: System, between: System) -> None:
    """Whatever the program ran in between."""
    program = model.program()
    first = both(model, program, system)[0]
    both(model, program, between)
    again = both(model, program, system)[0]
    assert torch.equal(first.need("forces"), again.need("forces"))
    assert torch.equal(first.need("energy"), again.need("energy"))


def a_batch_is_its_parts(model: Any, parts: list[Atoms]) -> None:
    program = model.program(tabulate=True)
    alone = [both(model, program, System.from_ase(a))[0] for a in parts]
    whole = both(model, program, System.from_ase(parts))[0]
    for n, part in enumerate(alone):
        assert float(whole.need("energy")[n]) == pytest.approx(float(part.need("energy")), abs=1e-10)


def longer_lists_short_distances_and_empty_systems(model: Any) -> None:
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


def tables_are_refused_where_they_fail(
    rough: Any, wrong: Any, module: ModuleType, coefficients: Callable[[Any], torch.Tensor]
) -> None:
    """Of a model made rough, and where the module's tables are spoiled."""
    with torch.no_grad():
        rough.layers[0].radial.weights[0].mul_(1e4)  # far from smooth
    with pytest.raises(ValueError, match="cannot be tabulated"):
        rough.program(tabulate=True)
    with pytest.warns(RuntimeWarning, match="networks are kept"):
        program = rough.float().program()
    assert program is not None
    original = module.tables_of

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        tables = original(*args, **kwargs)
        coefficients(tables)[:] *= 1.001
        return tables

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "tables_of", spoiled)
        with pytest.raises(ValueError, match="off by"):
            wrong.program(tabulate=True)


def calculator_follows_the_weights(model: Any) -> None:
    """Written to in place or replaced; a program that was given is kept as it is."""
    system = System.from_ase(ethanol())
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
