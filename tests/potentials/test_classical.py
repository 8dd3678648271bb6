"""Pair potentials against published values and closed forms."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.system import System
from rikiba.potentials.buckingham import Buckingham
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.morse import Morse
from rikiba.potentials.pair_basis import PairBasis
from rikiba.potentials.sum import Sum
from rikiba.potentials.zbl import Zbl


def reduced_lj(cutoff: float, **options: object) -> LennardJones:
    return LennardJones(epsilon_eV={"Ar": 1.0}, sigma={"Ar": 1.0}, cutoff=cutoff, **options)  # type: ignore[arg-type]


def read_nist(path: Path) -> Atoms:
    """NIST's layout: N, then `1 lx ly lz [xy xz yz]`, then index x y z."""
    lines = path.read_text().splitlines()
    box = [float(v) for v in lines[1].split()[1:]] + [0.0] * 3
    lx, ly, lz, xy, xz, yz = box[:6]
    positions = np.array([[float(v) for v in line.split()[1:4]] for line in lines[2 : 2 + int(lines[0])]])
    cell = [[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]
    return Atoms("Ar" * len(positions), positions=positions, cell=cell, pbc=True)


@pytest.mark.parametrize("name", ["lj_sample_config_periodic4", "lj_triclinic_sample_config_periodic3"])
def test_nist_configurations(data_dir: Path, name: str) -> None:
    """NIST SRSW Lennard-Jones configurations: pair energy, tail and, for number 4, the virial."""
    expected = json.loads((data_dir / "nist_srsw" / "expected.json").read_text())[name]
    atoms = read_nist(data_dir / "nist_srsw" / f"{name}.xyz")
    system = System.from_ase(atoms)
    cut = PotentialCalculator(reduced_lj(3.0, truncation="cut"))(system, stress=True)
    assert float(cut.need("energy")) == pytest.approx(expected["U_pair"], rel=1e-12)
    full = PotentialCalculator(reduced_lj(3.0, truncation="cut", tail_correction=True))(system)
    assert float(full.need("energy") - cut.need("energy")) == pytest.approx(expected["U_lrc"], rel=1e-11)
    if name == "lj_sample_config_periodic4":
        # W = −Σ r dU/dr is −tr σ·V here; value of NIST's table
        virial = -float(cut.need("stress")[0].trace()) * atoms.get_volume()
        assert virial == pytest.approx(-46.24919674630892, rel=1e-11)


def test_fcc_lattice_sum() -> None:
    """The sums over an fcc crystal, A6 = 14.45392 and A12 = 12.13188, put its minimum at r = 1.09017 σ with
    −8.61020 ε per atom (Kittel, Introduction to Solid State Physics, ch. 3; five figures)."""
    sums = {}
    for nearest in (1.0, 1.09017):
        atoms = bulk("Ar", "fcc", a=nearest * 2**0.5)
        calculator = PotentialCalculator(reduced_lj(12.0, truncation="cut", tail_correction=True))
        sums[nearest] = float(calculator(System.from_ase(atoms), forces=False).need("energy"))
    a6, a12 = 14.45392, 12.13188
    for nearest, energy in sums.items():
        assert energy == pytest.approx(2.0 * (a12 * nearest**-12 - a6 * nearest**-6), abs=1e-4)
    assert (2.0 * a12 / a6) ** (1 / 6) == pytest.approx(1.09017, abs=1e-5)
    assert sums[1.09017] == pytest.approx(-8.61020, abs=1e-4)
    pressure = {}
    for nearest in (1.09017, 1.10017):
        system = System.from_ase(bulk("Ar", "fcc", a=nearest * 2**0.5))
        pressure[nearest] = float(calculator(system, stress=True).need("stress").abs().max())
    assert pressure[1.09017] < 0.01 < 0.5 < pressure[1.10017]


def octahedron() -> Atoms:
    from ase.cluster import Octahedron

    return Octahedron("Ar", 4, 1, latticeconstant=1.55)


def icosahedron(shells: int) -> Atoms:
    from ase.cluster import Icosahedron

    return Icosahedron("Ar", shells, latticeconstant=1.55)


@pytest.mark.parametrize(
    ("atoms", "energy"),
    [
        (icosahedron(2), -44.326801419534),
        (octahedron(), -173.928426590629),
        (icosahedron(3), -279.248470463021),
        (icosahedron(4), -876.461207304314),
    ],
    ids=["13", "38", "55", "147"],
)
def test_clusters(atoms: Atoms, energy: float) -> None:
    """Icosahedra and the truncated octahedron of 38 atoms, relaxed: global minima of the Cambridge Cluster
    Database (doi:10.1021/jp970984n)."""
    from scipy.optimize import minimize

    system = System.from_ase(Atoms(atoms.symbols, atoms.positions))
    calculator = PotentialCalculator(reduced_lj(50.0, truncation="cut"))

    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        r = calculator(system.replace(positions=torch.from_numpy(x.reshape(-1, 3).copy())))
        return float(r.need("energy")), -r.need("forces").numpy().ravel()

    found = minimize(
        f, atoms.positions.ravel(), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9}
    )
    assert found.fun == pytest.approx(energy, abs=1e-8)
    assert f(atoms.positions.ravel())[0] > energy + 0.01  # it was relaxed, not given


def dimer(r: float, symbols: str = "Ar2") -> System:
    return System.from_ase(Atoms(symbols, positions=[[0, 0, 0], [r, 0, 0]]))


@pytest.mark.parametrize(
    ("truncation", "energy_continuous", "force_continuous"),
    [("cut", False, False), ("shift", True, False), ("force_shift", True, True), ("smooth", True, True)],
)
def test_truncations_at_the_cutoff(truncation: str, energy_continuous: bool, force_continuous: bool) -> None:
    """Which truncation is continuous in energy and in force at the cutoff (SYS-08)."""
    calculator = PotentialCalculator(reduced_lj(2.5, truncation=truncation))
    before = calculator(dimer(2.5 - 1e-7))
    assert (abs(float(before.need("energy"))) < 1e-6) is energy_continuous
    assert (abs(float(before.need("forces")[0, 0])) < 1e-5) is force_continuous
    assert float(calculator(dimer(2.5 + 1e-7)).need("energy")) == 0.0


def test_mixing_rules() -> None:
    eps, sig = {"Ar": 1.0, "Kr": 4.0}, {"Ar": 1.0, "Kr": 2.25}
    berthelot = LennardJones(epsilon_eV=eps, sigma=sig, cutoff=9.0, truncation="cut")
    geometric = LennardJones(epsilon_eV=eps, sigma=sig, cutoff=9.0, truncation="cut", mixing="geometric")
    for potential, sigma in ((berthelot, 1.625), (geometric, 1.5)):
        e = PotentialCalculator(potential)(dimer(2 ** (1 / 6) * sigma, "ArKr")).need("energy")
        assert float(e) == pytest.approx(-2.0, rel=1e-12)


def test_morse_minimum_and_curvature() -> None:
    potential = Morse(
        depth_eV={"Cu-Cu": 0.34},
        alpha_per_A={"Cu-Cu": 1.4},
        distance={"Cu-Cu": 2.9},
        cutoff=8.0,
        truncation="cut",
    )
    calculator = PotentialCalculator(potential)
    r = calculator(dimer(2.9, "Cu2"))
    assert float(r.need("energy")) == pytest.approx(-0.34)
    assert abs(float(r.need("forces").abs().max())) < 1e-12
    h = 1e-4
    curvature = float(calculator(dimer(2.9 + h, "Cu2")).need("forces")[0, 0]) / h
    assert curvature == pytest.approx(2 * 0.34 * 1.4**2, rel=1e-3)


def test_buckingham_value() -> None:
    """BKS O–O at 2.6 Å by hand (parameters of van Beest et al., doi:10.1103/PhysRevLett.64.1955)."""
    potential = Buckingham(
        A_eV={"O-O": 1388.7730}, rho={"O-O": 1 / 2.76}, C_eV_A6={"O-O": 175.0}, cutoff=9.0, truncation="cut"
    )
    e = PotentialCalculator(potential)(dimer(2.6, "O2")).need("energy")
    assert float(e) == pytest.approx(1388.7730 * np.exp(-2.76 * 2.6) - 175.0 / 2.6**6, rel=1e-12)


def test_zbl_approaches_coulomb_and_vanishes() -> None:
    calculator = PotentialCalculator(Zbl(elements=("Si", "O"), cutoff=2.0))
    r = 1e-4
    e = float(calculator(dimer(r, "SiO"), forces=False).need("energy"))
    assert e == pytest.approx(units.coulomb_constant * 14 * 8 / r, rel=3e-3)
    assert float(calculator(dimer(2.0, "SiO")).need("energy")) == 0.0
    with pytest.raises(ValueError, match=r"knows O, Si; the structure also has H"):
        calculator(dimer(1.0, "SiH"))


def test_sum_adds_terms_with_their_own_cutoffs() -> None:
    rng = np.random.default_rng(0)
    atoms = Atoms("Si3O4", positions=rng.random((7, 3)) * 5, cell=[5, 5.5, 6], pbc=True)
    system = System.from_ase(atoms)
    terms = [*Morse.examples(), Zbl(elements=("O", "Si"), cutoff=3.0)]
    total = PotentialCalculator(Sum(terms=terms))(system, stress=True)
    parts = [PotentialCalculator(t)(system, stress=True) for t in terms]
    for name in ("energy", "forces", "stress", "energies"):
        torch.testing.assert_close(
            total.need(name), parts[0].need(name) + parts[1].need(name), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: reduced_lj(-1.0), "cutoff must be a positive number"),
        (lambda: reduced_lj(3.0, truncation="sharp"), "truncation must be"),
        (lambda: reduced_lj(3.0, switch_from=4.0), "switch_from must lie"),
        (lambda: reduced_lj(3.0, tail_correction=True), "plainly cut"),
        (
            lambda: LennardJones(epsilon_eV={"Ar": -1, "Kr": 1}, sigma={"Ar": 1, "Kr": 1}, cutoff=3),
            "epsilon_eV at least 0",
        ),
        (
            lambda: LennardJones(epsilon_eV={"Ar": 1}, sigma={"Kr": 1}, cutoff=3),
            "give both for every element",
        ),
        (
            lambda: Morse(depth_eV={"Cu-Cu": 1}, alpha_per_A={"CuCu": 1}, distance={"Cu-Cu": 1}, cutoff=3),
            "not a pair of elements",
        ),
        (
            lambda: Morse(depth_eV={"Cu-O": 1}, alpha_per_A={"Cu-O": 1}, distance={"Cu-O": 1}, cutoff=3),
            "also needed: O-O, Cu-Cu",
        ),
        (lambda: Sum(terms=[]), "at least one term"),
        (lambda: Sum(terms=[Zbl(elements=["Si"]), Zbl(elements=["O"])]), "share no element"),
    ],
)
def test_bad_arguments(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        build()


def test_tail_needs_a_volume() -> None:
    with pytest.raises(ValueError, match="needs a cell with a volume"):
        PotentialCalculator(reduced_lj(3.0, truncation="cut", tail_correction=True))(dimer(1.0))


def test_tail_needs_periodicity() -> None:
    boxed = Atoms("Ar2", positions=[[0, 0, 0], [1.2, 0, 0]], cell=np.eye(3) * 10, pbc=False)
    calculator = PotentialCalculator(reduced_lj(3.0, truncation="cut", tail_correction=True))
    with pytest.raises(ValueError, match="periodic in all directions"):
        calculator(System.from_ase(boxed))


def test_tail_in_single_precision() -> None:
    atoms = bulk("Ar", "fcc", 1.6, cubic=True)
    potential = reduced_lj(3.0, truncation="cut", tail_correction=True)
    before = PotentialCalculator(potential)(System.from_ase(atoms)).need("energy")
    assert torch.equal(PotentialCalculator(potential.float())(System.from_ase(atoms)).need("energy"), before)


def test_sum_names_the_decayed_parameters_of_its_terms() -> None:
    class Decaying(PairBasis):
        def decayed_parameters(self) -> list[str]:
            return ["coefficients"]

    total = Sum(terms=[Zbl(elements=("O", "Si")), Decaying(elements=("O", "Si"))])
    assert list(total.decayed_parameters()) == ["terms.1.coefficients"]
    assert set(total.decayed_parameters()) <= set(dict(total.named_parameters()))
