"""Compiled pair potentials and sums: equal to automatic differentiation, each term on its own pairs."""

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program
from rikiba.calculators.base import NonFiniteError
from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.base import Potential
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.buckingham import Buckingham
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.mace import MACE
from rikiba.potentials.morse import Morse
from rikiba.potentials.pair_basis import PairBasis
from rikiba.potentials.sum import Sum
from rikiba.potentials.zbl import Zbl

TRUNCATIONS = ("smooth", "cut", "shift", "force_shift")


def lennard_jones(**more: Any) -> LennardJones:
    return LennardJones(epsilon_eV={"Si": 0.4, "O": 0.05}, sigma={"Si": 2.1, "O": 1.4}, cutoff=4.5, **more)


def morse(**more: Any) -> Morse:
    arguments = Morse.examples()[0].arguments
    return Morse(**(arguments | more))


def buckingham(**more: Any) -> Buckingham:
    arguments = Buckingham.examples()[0].arguments
    return Buckingham(**(arguments | more))


def pair_basis(**more: Any) -> PairBasis:
    return PairBasis(elements=("O", "Si"), atomic_energies={"O": -3.0, "Si": -5.0}, seed=4, **more)


def classical() -> list[Potential]:
    """Every form with every truncation that it has."""
    found: list[Potential] = [
        f(truncation=t) for t in TRUNCATIONS for f in (lennard_jones, morse, buckingham)
    ]
    found += [lennard_jones(mixing="geometric", switch_from=2.0)]
    found += [Zbl(elements=("O", "Si"), cutoff=3.0), Zbl(elements=("O", "Si"), covalent_fraction=1.2)]
    return [*found, pair_basis(cutoff=4.5, n_basis=1), pair_basis(n_basis=9, one_body=True, envelope_power=3)]


def mace(**more: Any) -> MACE:
    settings: dict[str, Any] = {
        "channels": 8,
        "l_max": 1,
        "max_L": 0,
        "correlation": 2,
        "radial_widths": (8,),
    }
    settings |= {"elements": ("O", "Si"), "cutoff": 4.0, "scale": 3.0, "avg_num_neighbors": 8.0}
    return MACE(**(settings | more)).double()


def structures(seed: int = 0) -> System:
    """A cluster, a triclinic cell smaller than the cutoffs, a lone atom, a molecule; random throughout."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)
    cluster = Atoms("Si3O5", 2.2 * grid + rng.normal(0, 0.15, (8, 3)))
    crystal = bulk("SiO", "rocksalt", a=4.2)
    crystal.rattle(0.1, rng=rng)
    return System.from_ase(
        [cluster, crystal, Atoms("O"), Atoms("SiO", [[0, 0, 0], [0, 0, 1.5 + rng.random()]])]
    )


def both(potential: Potential, system: System) -> tuple[Results, Results]:
    pairs = find_pairs(system, potential.cutoff)
    program = potential.program()
    assert program is not None
    found = run_program(program, system, pairs, stress=True)
    return found, evaluate(potential, system, pairs, stress=True)


def assert_equal(found: Results, expected: Results, tolerance: float = 1e-10) -> None:
    for name in ("energies", "energy", "forces", "stress"):
        a, b = found.need(name), expected.need(name)
        scale = max(1.0, float(b.nan_to_num().abs().max()))
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * scale, equal_nan=True)


@pytest.mark.parametrize("potential", classical(), ids=lambda p: f"{type(p).__name__}")
def test_each_form_equals_automatic_differentiation(potential: Potential) -> None:
    for seed in range(3):
        found, expected = both(potential, structures(seed))
        assert_equal(found, expected, 1e-12)
        assert float(expected.need("forces").abs().max()) > 1e-3
    assert_equal(*both(potential, System.from_ase(Atoms("O"))))
    moved = both(potential, structures(5))[0]
    with pytest.raises(AssertionError):
        assert_equal(moved, expected)


def test_truncations_differ() -> None:
    """The comparison above tells each truncation from the others."""
    energies = [
        float(both(lennard_jones(truncation=t), structures())[0].need("energy")[0]) for t in TRUNCATIONS
    ]
    assert len({round(e, 6) for e in energies}) == 4


def test_pairs_beyond_the_cutoff_do_nothing() -> None:
    system = structures()
    for potential in (Zbl(elements=("O", "Si"), cutoff=3.0), pair_basis(cutoff=4.0)):
        program = potential.program()
        assert program is not None
        near, far = (run_program(program, system, find_pairs(system, rc)) for rc in (potential.cutoff, 7.0))
        assert torch.equal(near.need("energies"), far.need("energies"))
        torch.testing.assert_close(near.need("forces"), far.need("forces"), rtol=0, atol=1e-13)


def test_sum_of_a_network_and_classical_terms() -> None:
    network = mace()
    terms = [Zbl(elements=("O", "Si"), cutoff=2.5), network, morse(cutoff=6.5), pair_basis(cutoff=3.0)]
    whole = Sum(terms=terms)
    assert_equal(*both(whole, structures()))
    without = Sum(terms=terms[1:])
    difference = both(whole, structures())[0].need("energy") - both(without, structures())[0].need("energy")
    assert float(difference.abs().max()) > 1e-3
    nested = Sum(terms=[Sum(terms=terms[:2]), Sum(terms=terms[2:])])
    assert_equal(*both(nested, structures()))


def test_single_precision_network_keeps_the_classical_terms_exact() -> None:
    system = structures()
    network, repulsion = mace().float(), Zbl(elements=("O", "Si"), cutoff=2.5)
    whole = both(Sum(terms=[network, repulsion]), system)[0]
    parts = [both(p, system)[0] for p in (network, repulsion)]
    total = parts[0].need("forces") + parts[1].need("forces")
    torch.testing.assert_close(whole.need("forces"), total, rtol=0, atol=1e-12)


class Dear(Potential):
    """Has no program; remembers how many pairs it saw, and may answer charges."""

    def __init__(self, *, charged: bool = False) -> None:
        super().__init__()
        self.elements, self.cutoff, self.charged, self.seen = ("O", "Si"), 3.0, charged, [0]
        self.weight = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, system: System, pairs: Pairs) -> Results:
        self.types(system)
        self.seen[0] = len(pairs)
        r = pairs.vectors(system).norm(dim=-1)
        value = self.weight * (3.0 - r) ** 3
        energies = value.new_zeros(system.n_atoms).index_add(0, pairs.i, value)
        return Results(energies=energies, charges=energies.detach() if self.charged else None)


def test_a_term_without_a_program_is_differentiated_alone() -> None:
    dear = Dear()
    assert dear.program() is None
    whole, system = Sum(terms=[morse(), dear]), structures()
    assert_equal(*both(whole, system))
    assert 0 < dear.seen[0] == len(find_pairs(system, 3.0)) < len(find_pairs(system, whole.cutoff))
    network = BehlerParrinello.examples()[0].double()
    assert_equal(*both(Sum(terms=[network, morse(cutoff=network.cutoff + 1.0)]), system))


def test_no_program_where_it_would_lose_something() -> None:
    assert Sum(terms=[Dear(), Dear()]).program() is None
    assert Sum(terms=[morse(), Dear(charged=True)]).program() is None
    tail = lennard_jones(truncation="cut", tail_correction=True)
    assert tail.program() is None
    assert Sum(terms=[morse(), tail]).program() is None

    class Softer(Morse):
        """Another potential under Morse's parameters."""

        def pair_energy(self, r: Any, ti: Any, tj: Any) -> Any:
            return 0.5 * super().pair_energy(r, ti, tj)

    assert Softer(**morse().arguments).program() is None


def test_the_calculator_follows_weights_of_terms() -> None:
    dear, system = Dear(), structures()
    calculator = PotentialCalculator(Sum(terms=[morse(), dear]))
    before = calculator(system).need("energy")
    with torch.no_grad():
        dear.weight.mul_(2.0)
    after = calculator(system).need("energy")
    assert float((after - before).abs().max()) > 1e-3
    plain = PotentialCalculator(calculator.potential, use_program=False)(system).need("energy")
    torch.testing.assert_close(after, plain, rtol=1e-12, atol=1e-12)


def test_unknown_elements_and_atoms_at_one_place_are_refused() -> None:
    calculator = PotentialCalculator(Sum(terms=[morse(), Zbl(elements=("Si",))]))
    with pytest.raises(ValueError, match="Sum knows Si; the structure also has O"):
        calculator(System.from_ase(molecule("O2")))
    with pytest.raises(NonFiniteError, match="on top of each other"):
        calculator(System.from_ase(Atoms("Si2", [[0, 0, 0], [0, 0, 0]])))


def test_a_repulsive_core_costs_little() -> None:
    """A network with a ZBL term takes less than twice the network alone (by autograd: many times)."""
    import time

    atoms = molecule("CH3CH2OH")
    system = System.from_ase([atoms] * 16)
    elements = ("H", "C", "O")
    network = mace(elements=elements, channels=64, l_max=3, correlation=3, cutoff=5.0).float()
    whole = Sum(terms=[network, Zbl(elements=elements, cutoff=2.0)])
    best = [float("inf"), float("inf")]
    calculators = [PotentialCalculator(p) for p in (network, whole)]
    for _ in range(20):
        for k, calculator in enumerate(calculators):
            start = time.thread_time()
            calculator(system)
            best[k] = min(best[k], time.thread_time() - start)
    assert best[1] < 2.0 * best[0]
