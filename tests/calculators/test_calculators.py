"""Forces, stress, committees, sums and ASE, on potentials with known answers."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from rikiba.calculators.ase import FromASE, as_ase
from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.calculators.base import Calculator, NonFiniteError
from rikiba.calculators.committee import Committee
from rikiba.calculators.sum import SumCalculator
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials.base import seeded
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.morse import Morse


def crystal(seed: int = 0) -> Atoms:
    atoms = bulk("Si", cubic=True) * (2, 1, 1)
    atoms.numbers[::3] = 8
    atoms.rattle(0.15, seed=seed)
    rng = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.05, size=(3, 3))), scale_atoms=True)
    return atoms


def network(seed: int = 0) -> BehlerParrinello:
    with seeded(seed):
        return BehlerParrinello.examples()[0].double()


def numerical(calculator: Calculator, atoms: Atoms, h: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    """Forces and stress by central differences of the energy."""

    def energy(a: Atoms) -> float:
        return float(calculator(System.from_ase(a), forces=False).need("energy"))

    def difference(change) -> float:  # type: ignore[no-untyped-def]
        sides = []
        for s in (h, -h):
            moved = atoms.copy()
            change(moved, s)
            sides.append(energy(moved))
        return (sides[0] - sides[1]) / (2 * h)

    def shift(a: Atoms, s: float, n: int, c: int) -> None:
        a.positions[n, c] += s

    def strain(a: Atoms, s: float, x: int, y: int) -> None:
        e = np.eye(3)
        e[x, y] += 0.5 * s
        e[y, x] += 0.5 * s
        a.set_cell(a.cell.array @ e, scale_atoms=True)

    forces = np.array(
        [[-difference(lambda a, s, n=n, c=c: shift(a, s, n, c)) for c in range(3)] for n in range(len(atoms))]
    )
    stress = np.array(
        [[difference(lambda a, s, x=x, y=y: strain(a, s, x, y)) for y in range(3)] for x in range(3)]
    )
    return forces, stress / atoms.get_volume()


@pytest.mark.parametrize("make", [network, lambda: Morse.examples()[0]], ids=["network", "morse"])
def test_forces_and_stress_are_derivatives(make) -> None:  # type: ignore[no-untyped-def]
    calculator = PotentialCalculator(make())
    atoms = crystal()[[0, 1, 2, 3, 5]]
    atoms.cell, atoms.pbc = crystal().cell, True
    results = calculator(System.from_ase(atoms), stress=True)
    forces, stress = numerical(calculator, atoms)
    np.testing.assert_allclose(results.need("forces"), forces, atol=2e-6)
    np.testing.assert_allclose(results.need("stress")[0], stress, atol=1e-7)
    assert float(results.need("energies").sum()) == pytest.approx(float(results.need("energy")))


def test_batch_equals_each_alone() -> None:
    frames = [crystal(k) for k in range(3)]
    potential = network()
    together = PotentialCalculator(potential)(System.from_ase(frames), stress=True)
    for k, atoms in enumerate(frames):
        alone = PotentialCalculator(potential)(System.from_ase(atoms), stress=True)
        rows = System.from_ase(frames).atom_rows(k)
        torch.testing.assert_close(
            together.need("energy")[k], alone.need("energy")[0], rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(
            together.need("forces")[rows], alone.need("forces"), rtol=1e-10, atol=1e-12
        )
        torch.testing.assert_close(
            together.need("stress")[k], alone.need("stress")[0], rtol=1e-10, atol=1e-12
        )


def test_float32_is_close_and_energies_stay_float64() -> None:
    system = System.from_ase(crystal())
    exact = PotentialCalculator(network())(system)
    single = PotentialCalculator(network().float())(system)
    assert single.need("energy").dtype == torch.float64
    error = float((single.need("forces") - exact.need("forces")).abs().max())
    assert 0 < error < 1e-4


def test_atomic_energies_are_not_rounded() -> None:
    """−38000.123456789 eV survives a float32 potential to the last digit."""
    value = -38000.123456789
    potential = BehlerParrinello(elements=("C",), atomic_energies={"C": value}).float()
    with torch.no_grad():
        for p in potential.parameters():
            p.zero_()
    energy = PotentialCalculator(potential)(System.from_ase(Atoms("C")))
    assert float(energy.need("energy")) == value
    assert float(energy.need("forces").abs().max()) == 0.0


def test_training_graph_reaches_the_parameters() -> None:
    potential, system = network(), System.from_ase(crystal())
    results = evaluate(
        potential, system, find_pairs(system, potential.cutoff), stress=True, create_graph=True
    )
    (results.need("forces").square().sum() + results.need("stress").square().sum()).backward()
    # the last bias cancels against that of the isolated atom; every other parameter bends the forces
    missing = [
        n for n, p in potential.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0.0
    ]
    assert missing == ["networks.0.2.bias", "networks.1.2.bias"]


def test_calculator_shares_weights_and_keeps_no_history() -> None:
    potential, system = network(), System.from_ase(crystal())
    calculator = PotentialCalculator(potential)
    before = calculator(system)
    with torch.no_grad():
        for p in potential.networks.parameters():
            p.mul_(1.1)
    after = calculator(system)
    assert float((after.need("energy") - before.need("energy")).abs()) > 1e-6
    torch.testing.assert_close(after.need("energy"), PotentialCalculator(potential)(system).need("energy"))
    assert all(p.requires_grad for p in potential.parameters())
    assert calculator.graph(system).need("energy").requires_grad


def test_committee_mean_and_spread() -> None:
    members = [network(k) for k in range(3)]
    system = System.from_ase(crystal())
    answers = [PotentialCalculator(m)(system, stress=True) for m in members]
    committee = Committee(members)(system, stress=True)
    assert committee.spread is not None
    for name in ("energy", "forces", "stress"):
        stacked = torch.stack([a.need(name) for a in answers])
        torch.testing.assert_close(committee.need(name), stacked.mean(0))
        torch.testing.assert_close(committee.spread.need(name), stacked.std(0))
    with pytest.raises(ValueError, match="at least 2 members"):
        Committee(members[:1])


def test_sum_calculator() -> None:
    system = System.from_ase(crystal())
    a, b = PotentialCalculator(network()), PotentialCalculator(Morse.examples()[0])
    total = SumCalculator(a, b, weights=(1.0, -0.5))(system, stress=True)
    for name in ("energy", "forces", "stress"):
        expected = a(system, stress=True).need(name) - 0.5 * b(system, stress=True).need(name)
        torch.testing.assert_close(total.need(name), expected)


def test_ase_calculators_inside() -> None:
    """ASE's EMT through FromASE equals ASE's own numbers; a batch is evaluated structure by structure."""
    frames = [bulk("Cu", cubic=True), bulk("Ni", cubic=True)]
    for atoms in frames:
        atoms.rattle(0.1, seed=1)
    results = FromASE(EMT())(System.from_ase(frames), stress=True)
    for k, atoms in enumerate(frames):
        atoms.calc = EMT()
        assert float(results.need("energy")[k]) == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(results.need("forces")[4 * k : 4 * k + 4], atoms.get_forces(), atol=1e-12)
        np.testing.assert_allclose(results.need("stress")[k], atoms.get_stress(voigt=False), atol=1e-12)


def test_ours_inside_ase() -> None:
    atoms = crystal()
    ours = PotentialCalculator(network())
    atoms.calc = as_ase(ours)
    results = ours(System.from_ase(atoms), stress=True)
    np.testing.assert_allclose(atoms.get_forces(), results.need("forces"))
    np.testing.assert_allclose(atoms.get_stress(voigt=False), results.need("stress")[0])
    np.testing.assert_allclose(atoms.get_potential_energies(), results.need("energies"))


def test_ase_optimiser_on_our_calculator() -> None:
    """ASE's BFGS finds the Lennard-Jones dimer at 2^(1/6) σ (SYS-11)."""
    lj = LennardJones(epsilon_eV={"Ar": 0.1}, sigma={"Ar": 3.0}, cutoff=9.0, truncation="cut")
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [3.0, 0, 0]], calculator=as_ase(PotentialCalculator(lj)))
    BFGS(atoms, logfile=None).run(fmax=1e-6)
    assert atoms.get_distance(0, 1) == pytest.approx(3.0 * 2 ** (1 / 6), abs=1e-5)


def test_stress_of_a_molecule_is_refused() -> None:
    with pytest.raises(ValueError, match="three independent lattice vectors"):
        PotentialCalculator(Morse.examples()[0])(
            System.from_ase(Atoms("SiO", positions=[[0, 0, 0], [0, 0, 2]])), stress=True
        )


def test_unknown_element_is_refused() -> None:
    with pytest.raises(ValueError, match="knows O, Si; the structure also has H, C"):
        PotentialCalculator(network())(System.from_ase(molecule("CH4")))


def test_non_finite_prediction_is_an_error() -> None:
    coincident = Atoms("Ar2", positions=np.zeros((2, 3)))
    lj = LennardJones(epsilon_eV={"Ar": 1}, sigma={"Ar": 1}, cutoff=3)
    with pytest.raises(NonFiniteError, match="non-finite energy for system 1"):
        PotentialCalculator(lj)(System.from_ase([Atoms("Ar"), coincident]))


class ReadsInfo(AseCalculator):
    """E = charge + 10·spin + Σ moments, for seeing what reaches an ASE calculator."""

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        info = self.atoms.info
        energy = info["charge"] + 10.0 * info["spin"] + self.atoms.get_initial_magnetic_moments().sum()
        self.results = {"energy": energy, "forces": np.zeros((len(self.atoms), 3))}


def test_charge_spin_and_moments_reach_ase_at_every_call() -> None:
    atoms = molecule("O2")
    answers, expected = [], []
    calculator = FromASE(ReadsInfo())
    frames = []
    for charge, spin, moments in (
        (0, 3, [1, 1]),
        (1, 2, [1, 1]),
        (1, 2, [2, 1]),
        (1, 2, [2, 1]),
        (-1, 2, [0, 1]),
    ):
        atoms.info = {"charge": charge, "spin": spin}
        atoms.set_initial_magnetic_moments(moments)
        frames.append(atoms.copy())
        answers.append(float(calculator(System.from_ase(atoms)).need("energy")[0]))
        expected.append(charge + 10.0 * spin + sum(moments))
    assert answers == expected
    assert calculator(System.from_ase(frames)).need("energy").tolist() == expected


def test_charge_changed_in_info_is_noticed_inside_ase() -> None:
    atoms = molecule("O2")
    atoms.calc = as_ase(FromASE(ReadsInfo()))
    atoms.info = {"charge": 0, "spin": 3}
    atoms.set_initial_magnetic_moments([0.0, 0.0])
    assert atoms.get_potential_energy() == 30.0
    atoms.info["charge"] = 1
    assert atoms.get_potential_energy() == 31.0


def test_too_short_a_pair_list_is_refused() -> None:
    potential, system = LennardJones.examples()[0], System.from_ase(crystal())
    with pytest.raises(ValueError, match=r"needs pairs up to 4\.5 Å; these end at 4\.0 Å"):
        evaluate(potential, system, find_pairs(system, 4.0))
