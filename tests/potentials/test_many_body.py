"""EAM, Stillinger–Weber, Tersoff: published values, compiled programs, what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program, run_sweep
from rikiba.calculators.base import NonFiniteError
from rikiba.core import registry
from rikiba.core.pairs import PairFinder, find_pairs
from rikiba.core.system import System
from rikiba.interop.eam_files import read_eam
from rikiba.potentials.base import Potential, SweepingProgram
from rikiba.potentials.eam import EAM
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.stillinger_weber import SILICON, StillingerWeber
from rikiba.potentials.sum import Sum
from rikiba.potentials.tersoff import SILICON_B, Tersoff
from rikiba.potentials.tersoff_mod import TersoffMod
from rikiba.potentials.zbl import Zbl

KINDS = ("eam", "stillinger_weber", "tersoff", "tersoff_mod")
REFERENCE = Path(__file__).parents[1] / "peers/lammps/reference/files.json"


def instances() -> list[Potential]:
    found: list[Potential] = [p for kind in KINDS for p in registry.load("potentials", kind).examples()]
    eam = EAM.examples()[1].arguments
    found += [EAM(**(eam | {"interpolation": "lammps", "switch_width": 0.0}))]
    return [*found, Tersoff(parameters="silicon_B", taper="sine"), TersoffMod(taper="sine")]


def structures(potential: Potential, seed: int) -> System:
    """A cluster, a triclinic cell smaller than the cutoff, a dimer, a lone atom, a turned copy; random."""
    rng = np.random.default_rng(seed)
    size = 0.55 * potential.cutoff
    grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)
    sites = size * grid + rng.normal(0.0, 0.12 * size, (8, 3))
    symbols = rng.choice(potential.elements, 8)
    cell = size * np.array([[1.3, 0, 0], [0.4, 1.2, 0], [-0.3, 0.2, 1.4]])
    turned = sites @ Rotation.random(random_state=seed).as_matrix()
    return System.from_ase(
        [
            Atoms(symbols, sites),
            Atoms(symbols[:2], rng.random((2, 3)) @ cell, cell=cell, pbc=True),
            Atoms(symbols[:2], [[0, 0, 0], [0, 0, 0.6 * potential.cutoff]]),
            Atoms(symbols[:1], [[0, 0, 0]]),
            Atoms(symbols, turned),
        ]
    )


@pytest.mark.parametrize("potential", instances(), ids=lambda p: type(p).__name__)
def test_programs_equal_the_definition(potential: Potential) -> None:
    """Through given vectors and from positions, the latter on candidates that reach farther."""
    program = potential.program()
    assert isinstance(program, SweepingProgram)
    for seed in range(3):
        system = structures(potential, seed)
        pairs = find_pairs(system, potential.cutoff)
        expected = evaluate(potential, system, pairs, stress=True)
        candidates = PairFinder(potential.cutoff, 1.0).candidates(system)
        assert len(candidates) > len(pairs) > 0
        for found in (
            run_program(program, system, pairs, stress=True),
            run_program(program, system, candidates, stress=True),
            run_sweep(program, system, candidates, stress=True),
        ):
            for name in ("energies", "forces", "stress"):
                a, b = found.need(name), expected.need(name)
                scale = max(1.0, float(b.nan_to_num().abs().max()))
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * scale, equal_nan=True)
        energy = expected.need("energy")
        torch.testing.assert_close(energy[4], energy[0], rtol=1e-12, atol=1e-12)
        # negative control: other parameters would be noticed
        other = evaluate(potential, structures(potential, seed + 10), find_pairs(
            structures(potential, seed + 10), potential.cutoff)
        )  # fmt: skip
        assert float((other.need("energy") - energy).abs().max()) > 1e-6


@pytest.mark.parametrize(
    "kind", ["lennard_jones", "morse", "buckingham", "bks_short_range", "zbl", "pair_basis"]
)
def test_pair_potentials_sweep_each_pair_once(kind: str) -> None:
    """From positions, with images of an atom as its own neighbours; the list may change between calls."""
    for potential in registry.load("potentials", kind).examples():
        program = potential.program()
        assert isinstance(program, SweepingProgram)
        for seed in range(3):
            system = structures(potential, seed)
            expected = evaluate(potential, system, find_pairs(system, potential.cutoff), stress=True)
            candidates = PairFinder(potential.cutoff, 0.7).candidates(system)
            found = run_sweep(program, system, candidates, stress=True)
            for name in ("energies", "forces", "stress"):
                a, b = found.need(name), expected.need(name)
                scale = max(1.0, float(b.nan_to_num().abs().max()))
                torch.testing.assert_close(a, b, rtol=0, atol=1e-11 * scale, equal_nan=True)
            assert float(expected.need("forces").abs().max()) > 1e-4


def embedded() -> EAM:
    """Of nickel and copper, with an energy of atoms alone."""
    arguments = EAM.examples()[0].arguments
    tables = {s: [x - 0.3 for x in table] for s, table in arguments["embedding"].items()}
    return EAM(**{**arguments, "embedding": tables})


@pytest.mark.parametrize(
    ("potential", "atoms"),
    [
        (StillingerWeber(), bulk("Si", "diamond", a=5.431, cubic=True).repeat(4)),
        (embedded(), bulk("Cu", "fcc", a=3.6, cubic=True).repeat(4)),
    ],
    ids=["stillinger_weber", "eam"],
)
def test_many_blocks_give_what_one_gives(potential: Potential, atoms: Atoms) -> None:
    """A crystal of more pairs than a block holds, a part of it, and an atom alone."""
    atoms.rattle(0.1, seed=2)
    alone = Atoms(atoms.symbols[:1], cell=[30.0] * 3, pbc=True)
    system = System.from_ase([alone, atoms, atoms[:50], alone])
    candidates = PairFinder(potential.cutoff, 2.0).candidates(system)
    program = potential.program()
    assert isinstance(program, SweepingProgram) and len(candidates) > 10_000
    found = run_sweep(program, system, candidates, stress=True)
    expected = evaluate(potential, system, find_pairs(system, potential.cutoff), stress=True)
    for name in ("energies", "forces", "stress"):
        torch.testing.assert_close(found.need(name), expected.need(name), rtol=0, atol=1e-11)


def lattice_energy(potential: Potential, symbol: str, lattice: str, a: float) -> tuple[float, float]:
    """(eV per atom, pressure in GPa) of a perfect crystal."""
    results = PotentialCalculator(potential)(
        System.from_ase(bulk(symbol, lattice, a=a, cubic=True)), stress=True
    )
    n = 8 if lattice == "diamond" else 4
    return float(results.need("energy")) / n, -float(results.need("stress")[0].trace()) / 3.0 * 160.21766


PUBLISHED = [
    # doi:10.1103/PhysRevB.46.2250, Table I and text: Stillinger–Weber with ε = 2.1683, Tersoff's two sets
    (StillingerWeber(), 5.431, -4.3366, 2e-4),
    (Tersoff(parameters="silicon_B"), 5.431, -4.630, 1e-3),
    (Tersoff(parameters="silicon_C"), 5.432, -4.630, 1e-3),
    # doi:10.1016/j.commatsci.2006.07.013, Table 2
    (TersoffMod(), 5.429, -4.630, 2e-3),
]


@pytest.mark.parametrize(
    ("potential", "a", "energy", "tolerance"), PUBLISHED, ids=["sw", "tersoff_B", "tersoff_C", "mod"]
)
def test_silicon(potential: Potential, a: float, energy: float, tolerance: float) -> None:
    """Cohesive energy at the published lattice constant, where the pressure nearly vanishes."""
    found, pressure = lattice_energy(potential, "Si", "diamond", a)
    assert found == pytest.approx(energy, abs=tolerance)
    assert abs(pressure) < 0.1
    assert abs(lattice_energy(potential, "Si", "diamond", a + 0.02)[1]) > 0.5


@pytest.mark.parametrize(
    ("name", "potential"),
    [
        ("Si.sw", StillingerWeber()),
        ("Si.tersoff", Tersoff(parameters="silicon_B", taper="sine")),
        ("Si.tersoff.mod", TersoffMod()),
    ],
)
def test_published_silicon_sets_give_the_numbers_of_lammps(name: str, potential: Potential) -> None:
    values: dict[str, Any] = json.loads(REFERENCE.read_text())["files"][name]["structures"]
    for s in values.values():
        atoms = Atoms(s["symbols"], positions=s["positions"], cell=s["cell"], pbc=s["pbc"])
        found = PotentialCalculator(potential)(System.from_ase(atoms))
        assert float(found.need("energy")) == pytest.approx(s["energy"], rel=1e-8)
        np.testing.assert_allclose(found.need("forces"), s["forces"], rtol=0, atol=1e-7)


def test_copper_of_mishin(data_dir: Path) -> None:
    """doi:10.1103/PhysRevB.63.224106, Table II: a 3.615 Å, −3.54 eV, B 138.3 GPa, vacancy 1.272 eV."""
    from rikiba.relaxation.lbfgs import Lbfgs

    read = read_eam(data_dir / "potentials" / "lammps" / "Cu_mishin1.eam.alloy")
    potential = EAM(**read.arguments)
    energy, pressure = lattice_energy(potential, "Cu", "fcc", 3.615)
    assert energy == pytest.approx(-3.54, abs=1e-3)
    assert abs(pressure) < 0.1
    slope = (
        lattice_energy(potential, "Cu", "fcc", 3.605)[1] - lattice_energy(potential, "Cu", "fcc", 3.625)[1]
    ) / 0.02
    assert slope * 3.615 / 3.0 == pytest.approx(138.3, rel=0.01)
    atoms = bulk("Cu", "fcc", a=3.615, cubic=True).repeat(3)
    del atoms[0]
    calculator = PotentialCalculator(potential)
    relaxed = Lbfgs(fmax_eV_per_A=1e-3).relax(calculator, System.from_ase(atoms))
    formation = float(calculator(relaxed.system).need("energy")) - len(atoms) * energy
    assert formation == pytest.approx(1.272, abs=0.02)


def test_eam_of_one_pair_by_hand() -> None:
    """Linear tables: F = −ρ, f = 1 − r/4, r·φ = 8 − 2r; each atom of a dimer has −f + ½φ."""
    r = np.arange(9) * 0.5
    for interpolation in ("spline", "lammps"):
        potential = EAM(
            embedding={"Cu": (-np.arange(11) * 0.5).tolist()},
            density={"Cu": (1.0 - r / 4.0).tolist()},
            pair={"Cu-Cu": (8.0 - 2.0 * r).tolist()},
            density_step=0.5,
            distance_step=0.5,
            cutoff=4.0,
            interpolation=interpolation,
            switch_width=0.0,
        )
        dimer = System.from_ase(Atoms("Cu2", [[0, 0, 0], [2.3, 0, 0]]))
        energy = float(PotentialCalculator(potential)(dimer).need("energy"))
        assert energy == pytest.approx(2.0 * (-(1.0 - 2.3 / 4.0) + 0.5 * (8.0 - 4.6) / 2.3), rel=1e-12)
        # far past the table F goes on as a line
        crowd = bulk("Cu", "fcc", a=2.2, cubic=True)
        results = PotentialCalculator(potential, use_program=False)(System.from_ase(crowd))
        again = PotentialCalculator(potential)(System.from_ase(crowd))
        assert float(results.need("energy")) == pytest.approx(float(again.need("energy")), rel=1e-12)


def test_density_of_two_elements_has_a_direction() -> None:
    """f of Cu at Ni is not f of Ni at Cu: exchanged, the energy differs."""
    arguments = EAM.examples()[1].arguments
    density = dict(arguments["density"])
    density["Cu-Ni"] = [2.0 * x for x in density["Cu-Ni"]]
    swapped = density | {"Cu-Ni": density["Ni-Cu"], "Ni-Cu": density["Cu-Ni"]}
    dimer = System.from_ase(Atoms("CuNi", [[0, 0, 0], [2.3, 0, 0]]))
    one, other = (PotentialCalculator(EAM(**(arguments | {"density": d})))(dimer) for d in (density, swapped))
    energies = one.need("energies")
    rho_at_ni = density["Cu-Ni"][int(2.3 / 0.015)]
    assert energies[1] != energies[0] and rho_at_ni > 0
    assert abs(float(one.need("energy") - other.need("energy"))) > 1e-3


def test_sum_with_a_core_uses_both_programs() -> None:
    whole = Sum(terms=[StillingerWeber(), Zbl(elements=("Si",), cutoff=2.0)])
    system = structures(StillingerWeber(), 1)
    program = whole.program()
    assert program is not None
    pairs = find_pairs(system, whole.cutoff)
    a, b = run_program(program, system, pairs), evaluate(whole, system, pairs)
    torch.testing.assert_close(a.need("forces"), b.need("forces"), rtol=0, atol=1e-10)


def test_atoms_at_one_place_are_an_error() -> None:
    double = System.from_ase(Atoms("Si3", [[0, 0, 0], [0, 0, 0], [2.3, 0, 0]]))
    argon = LennardJones(epsilon_eV={"Si": 0.4}, sigma={"Si": 2.1}, cutoff=4.0)
    for potential in (StillingerWeber(), Tersoff(), TersoffMod(), argon):
        with pytest.raises(NonFiniteError):
            PotentialCalculator(potential)(double)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="no published parameters 'germanium'"):
        StillingerWeber(parameters="germanium")
    with pytest.raises(ValueError, match="needed are exactly"):
        StillingerWeber(parameters={"Si-Si-Si": {"sigma": 2.0}})
    with pytest.raises(ValueError, match="also needed: C-C-Si"):
        Tersoff(parameters={"Si-Si-Si": SILICON_B, "C-C-C": SILICON_B})
    with pytest.raises(ValueError, match="not a triplet"):
        StillingerWeber(parameters={"Si-Si": SILICON})
    with pytest.raises(ValueError, match="must not jump"):
        Tersoff(parameters={"Si-Si-Si": SILICON_B | {"D": 0.0}})
    with pytest.raises(ValueError, match="m must be 1 or 3"):
        Tersoff(parameters={"Si-Si-Si": SILICON_B | {"m": 2.0}})
    with pytest.raises(ValueError, match="taper must be smooth or sine"):
        Tersoff(taper="cosine")  # type: ignore[arg-type]
    unequal = {
        f"{a}-{b}-{c}": SILICON | {"lambda": 21.0 + (b < c)}
        for a in ("Si", "Ge") for b in ("Si", "Ge") for c in ("Si", "Ge")
    }  # fmt: skip
    with pytest.raises(ValueError, match="must be equal"):
        StillingerWeber(parameters=unequal)
    eam = EAM.examples()[0].arguments
    with pytest.raises(ValueError, match="pair needs Ni-Cu once"):
        EAM(**(eam | {"pair": {"Ni-Ni": eam["pair"]["Ni-Ni"], "Cu-Cu": eam["pair"]["Cu-Cu"]}}))
    with pytest.raises(ValueError, match="density is given for Ni"):
        EAM(**(eam | {"density": {"Ni": eam["density"]["Ni"]}}))
    with pytest.raises(ValueError, match="one length"):
        EAM(**(eam | {"embedding": {"Ni": [0.0] * 9, "Cu": [0.0] * 8}}))
