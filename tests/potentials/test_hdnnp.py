"""Networks on symmetry functions that know charges (third and fourth generation) or spins."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.effective_fields import effective_fields
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.dataset import Dataset, Labelled
from rikiba.data.formats import read
from rikiba.data.statistics import computed_arguments
from rikiba.electrostatics.splitting import ChargedCellWarning
from rikiba.potentials.base import Potential, seeded
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.hdnnp_3g import Hdnnp3G
from rikiba.potentials.hdnnp_4g import Hdnnp4G
from rikiba.potentials.magnetic_hdnnp import MagneticHdnnp
from rikiba.training.trainer import Trainer
from rikiba.validation.errors import errors

SMALL = {"elements": ("C", "H", "N"), "cutoff": 3.0, "n_radial": 4, "n_angular": 1, "hidden": (8,)}
CHARGED = SMALL | {"charge_hidden": (8,), "widths": {"C": 0.5, "H": 0.3, "N": 0.5}}


def chain(end: str, charge: float = 0.0) -> Atoms:
    """Ten carbon atoms in a row with H before them and `end` behind, slightly bent."""
    x = np.arange(12) * 1.3
    atoms = Atoms("H" + "C" * 10 + end, np.column_stack([x, 0.1 * np.sin(x), np.zeros(12)]))
    atoms.info["charge"] = charge
    return atoms


def made(cls: type[Potential], **more: object) -> Potential:
    """An instance with networks whose outputs are of the size of volts."""
    with seeded(3):
        potential = cls(**more).double()
    with torch.no_grad():
        for name, p in potential.named_parameters():
            if "charge_networks" in name and name.endswith("2.weight"):
                p.mul_(10.0)
    return potential


def results(potential: Potential, atoms: Atoms) -> Results:
    return PotentialCalculator(potential)(System.from_ase(atoms))


@pytest.mark.parametrize("charge", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("cls", [Hdnnp3G, Hdnnp4G])
def test_charges_add_up(cls: type[Potential], charge: float) -> None:
    q = results(made(cls, **CHARGED), chain("H", charge)).need("charges")
    assert float(q.sum()) == pytest.approx(charge, abs=1e-12)
    assert float(q.std()) > 1e-3


def test_only_the_fourth_generation_knows_what_is_far_away() -> None:
    """Charges and forces at one end of a chain when the group at the other end is another."""
    seen = {}
    for cls, given in ((BehlerParrinello, SMALL), (Hdnnp3G, CHARGED), (Hdnnp4G, CHARGED)):
        potential = made(cls, **given)
        one, other = (results(potential, chain(end)) for end in ("H", "N"))
        q = None if one.charges is None else (one.charges - other.charges)[:4]
        # what the third generation does to fix the total charge is the same for all atoms
        moved = 0.0 if q is None else float((q - q.mean()).abs().max())
        seen[cls] = moved, float((one.need("forces") - other.need("forces"))[:3].abs().max())
    assert seen[BehlerParrinello] == (0.0, pytest.approx(0.0, abs=1e-12))
    assert seen[Hdnnp3G][0] < 1e-12
    assert seen[Hdnnp4G][0] > 1e-4 and seen[Hdnnp4G][1] > 1e-4


def test_a_molecule_in_a_large_cell_is_a_molecule() -> None:
    """Ewald summation and the sum over all pairs are one potential: the difference falls as L⁻³."""
    potential = made(Hdnnp4G, **CHARGED)
    atoms = chain("N")[6:]
    alone = float(results(potential, atoms).need("energy"))
    found = []
    for length in (20.0, 40.0):
        cell = atoms.copy()
        cell.set_cell([length] * 3)
        cell.pbc = True
        found.append(abs(float(results(potential, cell).need("energy")) - alone))
    assert found[1] < 2e-3 and found[0] / found[1] == pytest.approx(8.0, rel=0.3)


def test_a_charged_cell_is_refused_unless_allowed() -> None:
    atoms = bulk("C", "diamond", a=3.6)
    atoms.info["charge"] = 1.0
    with pytest.raises(ValueError, match="allow_charged"):
        results(made(Hdnnp4G, **CHARGED), atoms)
    with pytest.warns(ChargedCellWarning, match="neutralising background"):
        results(made(Hdnnp4G, **CHARGED, allow_charged=True), atoms)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"screening": (3.0, 2.0)}, "inner < outer"),
        ({"hardness": {"C": -1.0}}, r"hardness\['C'\]"),
        ({"ewald_cutoff": 1.0}, "too short"),
        ({"columns": {"C": [0]}}, "H is missing"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Hdnnp4G(**(CHARGED | given))


def labelled(potential: Potential, frames: list[Atoms]) -> Dataset:
    """Frames with the results of a potential as labels."""
    calculator = PotentialCalculator(potential)
    systems = [System.from_ase(f) for f in frames]
    return Dataset(
        [Labelled(system=s, results=calculator(s), level_of_theory="teacher") for s in systems], "teacher"
    )


def test_charges_are_learnt() -> None:
    """From labels of another fourth-generation potential; without a weight on charges they are not."""
    frames = []
    for k in range(16):
        atoms = chain("HN"[k % 2], float(k % 3 - 1))[5:]
        atoms.info["charge"] = float(k % 3 - 1)
        atoms.rattle(0.08, seed=k)
        frames.append(atoms)
    data = labelled(made(Hdnnp4G, **CHARGED), frames)
    found = []
    for weight in (100.0, 0.0):
        trainer = Trainer(
            max_epochs=40, batch_size=4, learning_rate=0.02, charges_weight=weight, forces_weight=1.0
        )
        with seeded(8):
            start = Hdnnp4G(**(CHARGED | {"hardness": None}))
        trained = trainer.fit(start, data, data)
        found.append(errors(PotentialCalculator(trained.potential), data).values["charges_mae_me"])
        assert trained.best["valid_charges_mae_me"] == pytest.approx(found[-1], rel=0.02)
    assert found[0] < 0.2 * found[1]


CHAINS = "n2p2/4g_carbon_chain.xyz"


@pytest.mark.slow
def test_carbon_chains_need_charges_that_know_the_whole(data_dir: Path) -> None:
    """C10H2 and C10H3+, 128 frames of Ko et al. with their charges: 4G before 2G, and charges to 30 me."""
    if not (data_dir / CHAINS).exists():
        pytest.skip(f"{data_dir / CHAINS} is absent")
    data = read(
        data_dir / CHAINS, level_of_theory="PBE", charge_key="total_charge", other={"charges": "ref_charges"}
    )
    order = np.random.default_rng(0).permutation(len(data))
    training, test = Dataset([data[k] for k in order[:112]]), Dataset([data[k] for k in order[112:]])
    computed = computed_arguments(training, 4.2)
    given = {k: computed[k] for k in ("elements", "atomic_energies")}
    found = {}
    for cls in (BehlerParrinello, Hdnnp4G):
        settings = {"charges_weight": 100.0} if cls is Hdnnp4G else {}
        with seeded(1):
            start = cls(**given, cutoff=4.2, n_radial=8, n_angular=3, zetas=(1, 4), hidden=(15, 15))
        trainer = Trainer(max_epochs=400, batch_size=8, learning_rate=0.01, max_seconds=240, **settings)
        found[cls] = errors(PotentialCalculator(trainer.fit(start, training).potential), test).values
    print({c.__name__: {k: v for k, v in f.items() if "rmse" in k} for c, f in found.items()})
    assert found[Hdnnp4G]["charges_rmse_me"] < 30.0
    for key in ("energy_rmse_meV_per_atom", "forces_rmse_meV_per_A"):
        assert found[Hdnnp4G][key] < found[BehlerParrinello][key]


RADIAL, ANGULAR = [(0.5, 0.0), (1.0, 1.5)], [(0.1, 0.5, 2.0, 1.0), (0.2, 0.0, 1.0, -1.0)]


def radial_m(x: str, i: float, j: float) -> float:
    """Eqs. 12 to 14 of Eckhoff & Behler, doi:10.1038/s41524-021-00636-z."""
    return {"0": 1.0, "+": 0.5 * abs(i * j) * abs(i + j), "-": 0.5 * abs(i * j) * abs(i - j)}[x]


def angular_m(x: str, i: float, j: float, k: float) -> float:
    """Eqs. 16 to 19, letter by letter."""
    if x == "00":
        return 1.0
    if x == "+-":
        return abs(i * j * k) * (abs(i + j - k) - 1)
    size = abs(i + j + k) if x == "++" else abs(i - j - k)
    same = (j != 0 and k != 0) or (j == 0 and k == 0)
    return 0.5 * abs(i) * (size - 1 if same else size)


def by_definition(atoms: Atoms, spins: np.ndarray, narrow: bool) -> np.ndarray:
    """All functions of one element by plain loops, with the polynomial envelope p = 6."""
    rows = []
    for i, centre in enumerate(atoms.positions):
        v, r = atoms.positions - centre, np.linalg.norm(atoms.positions - centre, axis=1)
        near = [j for j in range(len(atoms)) if j != i and r[j] < 4.0]

        def fc(x: float) -> float:
            x /= 4.0
            return 1 - 28 * x**6 + 48 * x**7 - 21 * x**8 if x < 1 else 0.0

        row = [
            sum(radial_m(x, spins[i], spins[j]) * math.exp(-eta * (r[j] - s) ** 2) * fc(r[j]) for j in near)
            for x in ("0", "+", "-")
            for eta, s in RADIAL
        ]
        for x in ("00", "++", "--", "+-"):
            for eta, s, zeta, sign in ANGULAR:
                total = 0.0
                for a, j in enumerate(near):
                    for k in near[:a]:
                        cos = float(v[j] @ v[k]) / (r[j] * r[k])
                        rjk = float(np.linalg.norm(v[j] - v[k]))
                        d = (r[j] - s) ** 2 + (r[k] - s) ** 2 + ((rjk - s) ** 2 if narrow else 0.0)
                        f = fc(r[j]) * fc(r[k]) * (fc(rjk) if narrow else 1.0)
                        # their sum counts every pair of neighbours twice
                        m = 0.5 * sum(angular_m(x, spins[i], *spins[[u, w]]) for u, w in ((j, k), (k, j)))
                        total += m * 2 ** (1 - zeta) * (1 + sign * cos) ** zeta * math.exp(-eta * d) * f
                row.append(total)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("narrow", [False, True])
def test_spin_dependent_functions_are_those_of_the_paper(narrow: bool) -> None:
    rng = np.random.default_rng(2)
    atoms = Atoms("Fe8", rng.random((8, 3)) * 4.0)
    spins = np.array([1, -1, 0, 1, 1, -1, 0, -1])
    atoms.set_initial_magnetic_moments(2.2 * spins + 0.1)  # 0.1 μB is below the threshold
    angular = {"narrow": ANGULAR} if narrow else {"wide": ANGULAR}
    potential = MagneticHdnnp(elements=("Fe",), cutoff=4.0, radial=RADIAL, **angular)
    system = System.from_ase(atoms)
    types = potential.types(system)
    found = potential.raw_features(system, find_pairs(system, 4.0), types).numpy()
    assert found == pytest.approx(by_definition(atoms, spins, narrow), abs=1e-10)
    # negative control: with one spin turned over they are others
    spins[3] = -1
    assert np.abs(found - by_definition(atoms, spins, narrow)).max() > 1e-3


def magnetic(**more: object) -> MagneticHdnnp:
    """Iron, and carbon that has no spin; wide functions of whole and of other exponents, and a narrow one."""
    wide = [*ANGULAR, (0.3, 0.2, 2.5, 1.0)]
    given = {"radial": RADIAL, "wide": wide, "narrow": ANGULAR[:1], "hidden": (6,), "magnetic": ("Fe",)}
    with seeded(4):
        return MagneticHdnnp(elements=("C", "Fe"), cutoff=4.0, angular_cutoff=3.5, **given, **more).double()


def iron(seed: int, moments: np.ndarray) -> System:
    atoms = Atoms("Fe6C2", np.random.default_rng(seed).random((8, 3)) * 3.5)
    atoms.set_initial_magnetic_moments(moments)
    return System.from_ase(atoms)


def energy_of(potential: Potential, system: System) -> float:
    return float(PotentialCalculator(potential)(system).need("energy"))


def test_moments_continue_the_signs() -> None:
    """At 0, 1 and −1 times the reference both coordinates are one; between, signs alone do not move."""
    signs, moments = magnetic(threshold_muB=1.1), magnetic(coordinate="moment", reference_muB=2.2)
    spins = np.array([1.0, -1, 0, 1, 1, -1, 1, -1])
    for seed in range(3):
        system = iron(seed, 2.2 * spins)
        types = signs.types(system)
        found = [p.raw_features(system, find_pairs(system, 4.0), types) for p in (signs, moments)]
        torch.testing.assert_close(found[1], found[0], rtol=1e-11, atol=1e-12)
    between = iron(0, 2.2 * spins * np.where(np.arange(8) == 0, 0.8, 1.0))
    types = signs.types(between)
    changed = moments.raw_features(between, find_pairs(between, 4.0), types)
    first = iron(0, 2.2 * spins)
    assert torch.equal(
        signs.raw_features(between, find_pairs(between, 4.0), types),
        signs.raw_features(first, find_pairs(first, 4.0), types),
    )
    assert float((changed - moments.raw_features(first, find_pairs(first, 4.0), types)).abs().max()) > 1e-3


def test_effective_fields_are_derivatives_by_the_moments() -> None:
    rng = np.random.default_rng(7)
    potential = magnetic(coordinate="moment", reference_muB={"C": 1.0, "Fe": 2.2})
    m = rng.normal(size=8) * 2.0
    system, step = iron(1, m), 1e-4
    fields = effective_fields(potential, system).numpy()
    expected = np.zeros(8)
    for k in range(8):
        up, down = m.copy(), m.copy()
        up[k] += step
        down[k] -= step
        expected[k] = -(energy_of(potential, iron(1, up)) - energy_of(potential, iron(1, down))) / (2 * step)
    assert fields == pytest.approx(expected, abs=1e-8)
    assert np.abs(fields[:6]).min() > 1e-6 and (fields[6:] == 0.0).all()  # carbon has no spin
    # all spins turned over: the same energy, all fields turned over
    turned = iron(1, -m)
    assert energy_of(potential, turned) == pytest.approx(energy_of(potential, system), abs=1e-12)
    assert effective_fields(potential, turned).numpy() == pytest.approx(-fields, abs=1e-12)
    with pytest.raises(ValueError, match="only on their signs"):
        effective_fields(magnetic(), system)
    with pytest.raises(ValueError, match="initial_magmoms"):
        effective_fields(potential, system.replace(magmoms=None))
    for wrong in ({"reference_muB": {"Fe": 2.2}}, {"reference_muB": 0.0}, {"coordinate": "angle"}):
        with pytest.raises(ValueError, match=r"lacks C|must be a positive|'sign' or 'moment'"):
            magnetic(**({"coordinate": "moment"} | wrong))


def landau(k: int) -> Labelled:
    """Eight atoms of iron with moments of any size, E = −½ Σ J(r) m_i m_j, J = 0.2 (1 − r/3.6)³."""
    rng = np.random.default_rng(k)
    atoms = bulk("Fe", "bcc", a=2.85, cubic=True).repeat((2, 2, 1))
    atoms.rattle(0.05, seed=k)
    m = rng.uniform(-2.5, 2.5, 8)
    atoms.set_initial_magnetic_moments(m)
    system = System.from_ase(atoms)
    coupling = exchange(system)
    energy = torch.tensor([-0.5 * float(m @ coupling @ m)], dtype=torch.float64)
    return Labelled(system=system, results=Results(energy=energy), level_of_theory="exchange")


def exchange(system: System) -> np.ndarray:
    pairs = find_pairs(system, 3.6)
    x = pairs.vectors(system).norm(dim=1) / 3.6
    matrix = torch.zeros((system.n_atoms,) * 2, dtype=torch.float64)
    return matrix.index_put((pairs.i, pairs.j), 0.2 * (1.0 - x) ** 3, accumulate=True).numpy()


def test_fields_are_learnt_from_energies() -> None:
    """Energies of states with moments of any size teach their derivatives; signs alone cannot."""
    data = Dataset([landau(k) for k in range(160)], "exchange")
    size = {"elements": ("Fe",), "cutoff": 3.8, "n_radial": 4, "wide": (), "hidden": (8,)}
    with seeded(0):
        start = MagneticHdnnp(**size, coordinate="moment", reference_muB=2.0)
    trainer = Trainer(max_epochs=50, batch_size=8, learning_rate=0.05, energy_weight=1e3, forces_weight=0.0)
    trained = trainer.fit(start, data).potential
    exact, found, before = [], [], []
    for k in range(1000, 1006):
        system = landau(k).system
        exact.append(exchange(system) @ system.magmoms.numpy())
        found.append(effective_fields(trained, system).numpy())
        before.append(effective_fields(start, system).numpy())
    size_of = np.std(np.concatenate(exact))
    error, untrained = (np.std(np.concatenate(f) - np.concatenate(exact)) for f in (found, before))
    print(f"fields: {size_of:.4f} eV/μB, error {error:.4f}, before training {untrained:.4f}")
    assert error < 0.3 * size_of and untrained > 0.8 * size_of


def heisenberg(k: int) -> Labelled:
    """Sixteen atoms of a bcc crystal, E = −½ Σ J(r) s_i s_j + ½ Σ φ(r).

    Spins are random about ferromagnetic, antiferromagnetic and no order; −1 and −2 are the ordered crystals.
    """
    rng = np.random.default_rng(abs(k))
    atoms = bulk("Fe", "bcc", a=2.85, cubic=True).repeat(2)
    atoms.rattle(0.05, seed=abs(k))
    order = (np.ones(16), np.resize([1.0, -1.0], 16), np.zeros(16))[k % 3]
    spins = np.sign(rng.normal(size=16) + 1.3 * order)
    if k < 0:
        spins = np.ones(16) if k == -1 else np.resize([1.0, -1.0], 16)
        atoms = bulk("Fe", "bcc", a=2.85, cubic=True).repeat(2)
    atoms.set_initial_magnetic_moments(2.2 * spins)
    system = System.from_ase(atoms)
    pairs = find_pairs(system, 3.6)
    vectors = pairs.vectors(system)
    with torch.enable_grad():
        v = vectors.clone().requires_grad_()
        x = v.norm(dim=1) / 3.6
        s = torch.from_numpy(spins)
        coupling = (0.05 * s[pairs.i] * s[pairs.j] - 0.3) * (1 - x) ** 3 * 20.0
        energy = -0.5 * coupling.sum()
        slope = torch.autograd.grad(energy, v)[0]
    forces = (
        torch.zeros(16, 3, dtype=torch.float64).index_add(0, pairs.i, slope).index_add(0, pairs.j, -slope)
    )
    labels = Results(energy=energy.detach()[None], forces=forces)
    return Labelled(system=system, results=labels, level_of_theory="Heisenberg")


@pytest.mark.parametrize("kind", ["magnetic", "conventional"])
def test_order_is_learnt_from_a_heisenberg_model(kind: str) -> None:
    """The difference between ferro- and antiferromagnetic order at equal positions; without spins it is 0."""
    data = Dataset([heisenberg(k) for k in range(24)], "Heisenberg")
    computed = computed_arguments(data, 3.6)
    given = {"elements": computed["elements"], "atomic_energies": computed["atomic_energies"]}
    size = {"cutoff": 3.8, "n_radial": 6, "wide": (), "hidden": (12,)}
    cls = MagneticHdnnp if kind == "magnetic" else BehlerParrinello
    with seeded(0):
        start = cls(**given, **size)
    trainer = Trainer(max_epochs=120, batch_size=4, learning_rate=0.03, energy_weight=100.0)
    trained = PotentialCalculator(trainer.fit(start, data).potential)
    ferro, anti = heisenberg(-1), heisenberg(-2)
    exact = float(ferro.results.need("energy") - anti.results.need("energy"))
    found = float(trained(ferro.system).need("energy") - trained(anti.system).need("energy"))
    assert exact < -1.0
    if kind == "conventional":
        assert found == pytest.approx(0.0, abs=1e-6)
        return
    assert found == pytest.approx(exact, rel=0.15)
    flipped = ferro.system.replace(magmoms=-ferro.system.magmoms)
    assert float(trained(flipped).need("energy")) == float(trained(ferro.system).need("energy"))


def test_a_training_set_without_spins_is_refused() -> None:
    frame = heisenberg(0)
    bare = Labelled(
        system=frame.system.replace(magmoms=None), results=frame.results, level_of_theory="Heisenberg"
    )
    start = MagneticHdnnp(elements=("Fe",), cutoff=3.8, n_radial=3, wide=(), hidden=(4,))
    with pytest.raises(ValueError, match="initial_magmoms"):
        Trainer(max_epochs=1).fit(start, Dataset([bare], "bare"))
    with pytest.raises(ValueError, match="magnetic names O"):
        MagneticHdnnp(elements=("Fe",), magnetic=("O",))
