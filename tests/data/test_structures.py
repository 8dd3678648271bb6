"""Builders of structures: counts, densities, coordination, geometry; what cannot be built is said."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from rikiba import config
from rikiba.core import registry
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.data.generators import closest_distance
from rikiba.data.short_range_order import neighbour_shells, warren_cowley
from rikiba.data.structures.base import specification
from rikiba.data.structures.dislocation import displacement
from rikiba.data.structures.grain_boundary import rational_rotation, sigma, smallest_turn
from rikiba.data.structures.ice import OXYGEN_DISTANCE
from rikiba.data.structures.point_defect import largest_void

CU = {"kind": "crystal", "formula": "Cu", "lattice": "fcc", "a": 3.61}
SI = {"kind": "crystal", "formula": "Si", "lattice": "diamond", "a": 5.43, "repeat": [2, 2, 2]}
GAN = {"kind": "crystal", "formula": "GaN", "lattice": "wurtzite", "a": 3.189, "c": 5.185}


def build(kind: str, **keys: Any) -> Atoms:
    """Through the configuration, as a TOML table is."""
    atoms: Atoms = config.build_kind("data.structures", {"kind": kind, **keys}).build()
    return atoms


def coordination(atoms: Atoms, cutoff: float) -> np.ndarray:
    pairs = find_pairs(System.from_ase(atoms), cutoff)
    return np.bincount(pairs.i.numpy(), minlength=len(atoms))


EXAMPLES: dict[str, dict[str, Any]] = {
    "crystal": {"formula": "Si", "lattice": "diamond"},
    "molecule": {"name": "H2O"},
    "slab": {"element": "Cu", "facet": "fcc111"},
    "surface": {"crystal": CU, "miller": [2, 1, 0]},
    "adsorbate": {"slab": {"element": "Pt", "facet": "fcc111"}, "adsorbate": "O", "site": "fcc"},
    "liquid": {"molecules": {"H2O": 6, "CH3OH": 2}, "density_g_cm3": 0.8},
    "water": {"number": 8},
    "ice": {"repeat": [2, 1, 1]},
    "solvated": {"solute": "Na", "number": 12, "charge": 1.0},
    "amorphous": {"formula": "SiO2", "units": 8, "density_g_cm3": 2.2},
    "point_defect": {"host": SI, "defect": "vacancy"},
    "alloy": {"host": {**CU, "repeat": [2, 2, 2]}, "composition": {"Cu": 0.5, "Au": 0.5}},
    "dislocation": {
        "crystal": CU, "character": "edge", "burgers": [0.5, 0.5, 0], "line": [1, -1, 2], "radius": 14,
    },
    "grain_boundary": {"crystal": CU, "character": "tilt", "plane": [3, 1, 0], "axis": [0, 0, 1]},
    "interface": {
        "substrate": {"kind": "slab", "element": "Cu", "facet": "fcc111", "size": [1, 1, 2]},
        "film": {"kind": "slab", "element": "Au", "facet": "fcc111", "size": [1, 1, 2]},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", [n for n in registry.names("data.structures") if n != "file"])
def test_every_kind_is_built_twice_alike_and_says_how(kind: str, tmp_path: Path) -> None:
    """A new builder needs an example here. Its provenance builds it again, and rides through a file."""
    from rikiba.data.formats import read_structures

    assert kind in EXAMPLES, f"add an example of {kind}"
    atoms = build(kind, **EXAMPLES[kind])
    told = json.loads(atoms.info["structure"])
    assert told["kind"] == kind
    again = build(**told)
    assert np.array_equal(atoms.positions, again.positions) and np.array_equal(atoms.numbers, again.numbers)
    assert np.array_equal(atoms.cell.array, again.cell.array)
    assert np.isfinite(atoms.positions).all() and closest_distance(atoms, 0.7) > 0.7
    assert config.resolve_table(registry.load("data.structures", kind), {"kind": kind, **EXAMPLES[kind]})
    from rikiba.cli.build import written

    written(tmp_path / "one.xyz", atoms)
    (back,) = read_structures(tmp_path / "one.xyz")
    assert (
        np.array_equal(back.positions, atoms.positions) and back.info["structure"] == atoms.info["structure"]
    )


CRYSTALS = [
    # formula, lattice, constants, atoms in the conventional cell, nearest neighbours, their distance
    ("Po", "sc", {"a": 3.34}, 1, 6, 3.34),
    ("Cu", "fcc", {"a": 3.61}, 4, 12, 3.61 / 2**0.5),
    ("Fe", "bcc", {"a": 2.87}, 2, 8, 2.87 * 0.75**0.5),
    ("Mg", "hcp", {"a": 3.21, "c_over_a": (8 / 3) ** 0.5}, 2, 12, 3.21),
    ("Si", "diamond", {"a": 5.43}, 8, 4, 5.43 * 3**0.5 / 4),
    ("GaAs", "zincblende", {"a": 5.65}, 8, 4, 5.65 * 3**0.5 / 4),
    ("NaCl", "rocksalt", {"a": 5.64}, 8, 6, 2.82),
    ("CsCl", "cesiumchloride", {"a": 4.12}, 2, 8, 4.12 * 0.75**0.5),
    ("ZnO", "wurtzite", {"a": 3.25}, 4, 4, 3.25 * (3 / 8) ** 0.5),
]


@pytest.mark.parametrize(("formula", "lattice", "constants", "n", "neighbours", "distance"), CRYSTALS)
def test_crystals(
    formula: str, lattice: str, constants: dict, n: int, neighbours: int, distance: float
) -> None:
    atoms = build("crystal", formula=formula, lattice=lattice, **constants)
    assert len(atoms) == n and (coordination(atoms, distance * 1.02) == neighbours).all()
    assert not coordination(atoms, distance * 0.98).any()


def test_compounds_with_several_sites() -> None:
    fluorite = build("crystal", formula="CaF2", lattice="fluorite", a=5.46)
    count = coordination(fluorite, 2.4)
    assert set(count[fluorite.symbols == "Ca"]) == {8} and set(count[fluorite.symbols == "F"]) == {4}
    perovskite = build("crystal", formula="SrTiO3", lattice="perovskite", a=3.905)
    assert perovskite.symbols.formula.count() == {"Sr": 1, "Ti": 1, "O": 3}
    assert coordination(perovskite, 2.0)[perovskite.symbols == "Ti"].tolist() == [6]
    assert coordination(perovskite, 2.8)[perovskite.symbols == "Sr"].tolist() == [12]


def test_gallium_nitride_of_ten_thousand_atoms() -> None:
    """a = 3.189, c = 5.185 Å: 114 nm³ and 6.09 g/cm³ (not the 1,000 nm³ of a careless cube)."""
    atoms = build(**GAN, repeat=[25, 10, 10])
    assert len(atoms) == 10_000 and atoms.get_volume() / 1000 == pytest.approx(114.2, abs=0.1)
    assert atoms.cell.lengths() == pytest.approx([25 * 3.189, 10 * 3.189, 10 * 5.185])
    assert atoms.info["density_g_cm3"] == pytest.approx(6.09, abs=0.01)
    assert (coordination(build(**GAN), 2.1) == 4).all()


def test_copper_slab_of_96_atoms() -> None:
    slab = build("slab", element="Cu", facet="fcc111", size=[4, 6, 4], a=3.61)
    heights = np.unique(slab.positions[:, 2].round(6))
    assert len(slab) == 96 and len(heights) == 4 and slab.pbc.tolist() == [True, True, False]
    assert np.diff(heights) == pytest.approx(3.61 / 3**0.5)
    assert Counter(coordination(slab, 2.7).tolist()) == {9: 48, 12: 48}  # two surfaces, two layers inside
    cut = build("surface", crystal=CU, miller=[1, 1, 1], layers=4, repeat=[2, 2])
    assert Counter(coordination(cut, 2.7).tolist())[9] == len(cut) // 2 and cut.info["same_termination"]
    polar = build("surface", crystal=GAN, miller=[0, 0, 1], layers=2)
    assert not polar.info["same_termination"]


def test_adsorbates_sit_on_their_sites() -> None:
    slab = {"element": "Pt", "facet": "fcc111", "size": [2, 2, 3], "a": 3.92}
    near = {}
    for site, neighbours in (("ontop", 1), ("bridge", 2), ("fcc", 3), ("hcp", 3)):
        atoms = build("adsorbate", slab=slab, adsorbate="CO", anchor=1, site=site, height=1.5)
        assert len(atoms) == 14 and atoms.symbols[13] == "C" and atoms.info["coverage"] == 0.25
        distance = np.sort(atoms.get_distances(13, range(12), mic=True))
        near[site] = int((distance < distance[0] + 1e-6).sum())
        assert near[site] == neighbours
        assert atoms.positions[13, 2] - atoms.positions[:12, 2].max() == pytest.approx(1.5)
        assert atoms.positions[12, 2] > atoms.positions[13, 2]  # carbon down, oxygen up
        assert (atoms.get_tags()[12:] == 0).all() and (atoms.get_tags()[:12] > 0).all()
    two = build("adsorbate", slab=slab, adsorbate="O", cells=[[0, 0], [1, 1]])
    assert two.info["coverage"] == 0.5 and (two.symbols == "O").sum() == 2


def intermolecular(atoms: Atoms, molecule: np.ndarray) -> float:
    pairs = find_pairs(System.from_ase(atoms), 4.0)
    i, j = pairs.i.numpy(), pairs.j.numpy()
    apart = (molecule[i] != molecule[j]) | pairs.shift.numpy().any(1)
    return float(np.linalg.norm(pairs.vectors(System.from_ase(atoms)).numpy()[apart], axis=1).min())


def test_liquids_have_their_density_and_no_overlaps() -> None:
    atoms = build("liquid", molecules={"H2O": 30, "CH3OH": 10}, density_g_cm3=0.9, min_distance=2.0)
    assert len(atoms) == 150 and atoms.info["density_g_cm3"] == pytest.approx(0.9)
    molecule = np.concatenate([np.repeat(np.arange(30), 3), 30 + np.repeat(np.arange(10), 6)])
    assert intermolecular(atoms, molecule) >= 2.0
    water = build("molecule", name="H2O")
    for k in (0, 17):  # rigid and whole
        own = atoms[3 * k : 3 * k + 3]
        own.pbc = False
        assert np.allclose(
            np.sort(own.get_all_distances().ravel()), np.sort(water.get_all_distances().ravel())
        )
    random = atoms.copy()  # negative control: without packing, random places overlap
    random.positions += np.repeat(
        np.random.default_rng(0).uniform(0, 12, (40, 3)), np.bincount(molecule), axis=0
    )
    assert intermolecular(random, molecule) < 1.5
    with pytest.raises(ValueError, match="do not fit"):
        from rikiba.data.packing import pack

        pack([water] * 30, 6.0 * np.eye(3), min_distance=2.0, tries=1, max_steps=40)


def test_water_boxes_rings_and_drops() -> None:
    box = build("water", number=32, model="spce")
    assert len(box) == 96 and box.info["density_g_cm3"] == pytest.approx(0.997)
    assert box.get_distance(0, 1) == pytest.approx(1.0) and box.get_angle(1, 0, 2) == pytest.approx(109.4712)
    drop = build("water", number=12, shape="drop")
    assert not drop.pbc.any() and intermolecular(drop, np.repeat(np.arange(12), 3)) >= 1.7
    for n in range(2, 7):
        ring = build("water", number=n, shape="ring")
        oxygen, hydrogen = ring.positions[::3], np.delete(ring.positions, np.s_[::3], axis=0)
        other = np.linalg.norm(oxygen[:, None] - hydrogen[None], axis=-1)
        other[np.arange(n).repeat(2), np.arange(2 * n)] = np.inf
        bonds = int((other < 2.1).sum())
        assert bonds == (1 if n == 2 else n) and intermolecular(ring, np.repeat(np.arange(n), 3)) > 1.7


def test_ice_keeps_the_rules_and_has_no_dipole() -> None:
    ice = build("ice", repeat=[2, 2, 2], seed=1)
    n = len(ice) // 3
    assert n == 64 and ice.info["density_g_cm3"] == pytest.approx(0.924, abs=0.002)
    oxygen = ice[::3]
    assert (coordination(oxygen, 1.1 * OXYGEN_DISTANCE) == 4).all()
    system = System.from_ase(ice)
    pairs = find_pairs(system, 2.2)
    i, j = pairs.i.numpy(), pairs.j.numpy()
    r = np.linalg.norm(pairs.vectors(system).numpy(), axis=1)
    bond = (i % 3 == 0) & (j % 3 != 0) & (i // 3 != j // 3)
    assert (np.bincount(i[bond], minlength=3 * n)[::3] == 2).all()  # accepts two
    assert (np.bincount(j[bond], minlength=3 * n)[np.arange(3 * n) % 3 != 0] == 1).all()  # each H donates one
    assert 1.7 < r[bond].min() and r[bond].max() < 1.95
    charge = np.tile([-0.8476, 0.4238, 0.4238], n)
    assert np.abs(charge @ ice.positions).max() < 1e-6 and ice.info["dipole_per_molecule"] < 1e-6
    other = build("ice", repeat=[2, 2, 2], seed=2)
    assert not np.allclose(other.positions, ice.positions)
    # negative control: an ordered arrangement that keeps the rules has a dipole
    from rikiba.data.structures.ice import bonds, directed_loop, eulerian, oxygens

    edges, _ = bonds(oxygens(OXYGEN_DISTANCE) * (2, 2, 2), OXYGEN_DISTANCE)
    touching: list[list[int]] = [[] for _ in range(n)]
    for e, (a, b) in enumerate(edges.tolist()):
        touching[a].append(e)
        touching[b].append(e)
    forward = eulerian(edges, touching)
    rng = np.random.default_rng(0)
    for _ in range(50):
        loop = directed_loop(edges, touching, forward, rng)
        forward[loop] = ~forward[loop]
        donor = np.where(forward, edges[:, 0], edges[:, 1])
        assert (np.bincount(donor, minlength=n) == 2).all()
    forward[0] = ~forward[0]
    assert (np.bincount(np.where(forward, edges[:, 0], edges[:, 1]), minlength=n) != 2).any()


def test_solvated_ion_and_molecule() -> None:
    atoms = build("solvated", solute="CH3CH2OH", number=30)
    assert len(atoms) == 99 and atoms.info["density_g_cm3"] == pytest.approx(0.997)
    molecule = np.concatenate([np.zeros(9, int), 1 + np.repeat(np.arange(30), 3)])
    assert intermolecular(atoms, molecule) >= 1.8
    assert build("solvated", solute="Na", number=20, charge=1.0).info["charge"] == 1.0
    with pytest.raises(ValueError, match="meet its own image"):
        build("solvated", solute="C6H6", number=2)


def test_amorphous_keeps_every_distance() -> None:
    least = {"Si-O": 1.5, "Si-Si": 2.6, "O-O": 2.2}
    atoms = build("amorphous", formula="SiO2", units=16, density_g_cm3=2.2, min_distances=least)
    system = System.from_ase(atoms)
    pairs = find_pairs(system, 2.7)
    r = np.linalg.norm(pairs.vectors(system).numpy(), axis=1)
    for pair, d in least.items():
        a, b = pair.split("-")
        of = (atoms.symbols[pairs.i.numpy()] == a) & (atoms.symbols[pairs.j.numpy()] == b)
        assert r[of].min() >= d
    assert atoms.info["density_g_cm3"] == pytest.approx(2.2)


def test_point_defects() -> None:
    host = {**GAN, "repeat": [3, 3, 2]}
    whole = build(**host)
    vacancy = build("point_defect", host=host, defect="vacancy", element="N", number=2, charge=3.0)
    assert len(vacancy) == len(whole) - 2 and vacancy.info["composition_change"] == "N-2"
    assert vacancy.info["charge"] == 3.0 and (coordination(vacancy, 2.1) == 3).sum() in (7, 8)
    doped = build("point_defect", host=host, defect="substitution", element="Ga", new="Mg")
    assert doped.symbols.formula.count() == {"Ga": 35, "Mg": 1, "N": 36}
    anti = build("point_defect", host=host, defect="antisite", element="N", new="Ga")
    changed = np.flatnonzero(anti.numbers != whole.numbers)
    assert len(changed) == 2 and anti.get_distance(*changed, mic=True) < 2.1
    extra = build("point_defect", host=SI, defect="interstitial", new="Si")
    assert len(extra) == 65 and coordination(extra, 2.4)[-1] == 4  # the tetrahedral void, as far as a bond
    own = build("point_defect", host=SI, defect="interstitial", new="O", position=[0.0625, 0.0625, 0.0625])
    assert own.positions[-1] == pytest.approx(0.0625 * 10.86)


def test_the_largest_void_of_rocksalt_and_fcc() -> None:
    a = 4.0
    fcc = build("crystal", formula="Cu", lattice="fcc", a=a)
    place = largest_void(fcc) / a
    assert np.allclose(np.sort(place % 1.0), [0, 0, 0.5]) or np.allclose(place % 1.0, 0.5)  # octahedral
    tilted = build("crystal", formula="Cu", lattice="fcc", a=a, cubic=False)
    distance = np.linalg.norm(largest_void(tilted) - (tilted * (3, 3, 3)).positions, axis=1)
    images = tilted * (5, 5, 5)
    moved = largest_void(tilted) + 2 * tilted.cell.array.sum(0)
    assert np.linalg.norm(images.positions - moved, axis=1).min() == pytest.approx(a / 2) and len(distance)


def test_alloys_report_their_order() -> None:
    host = {**CU, "repeat": [3, 3, 3]}
    random = build("alloy", host=host, composition={"Cu": 0.75, "Au": 0.25}, seed=2)
    assert random.symbols.formula.count() == {"Cu": 81, "Au": 27}
    quasi = build("alloy", host=host, composition={"Cu": 0.5, "Au": 0.5}, quasirandom=True)
    plain = build("alloy", host=host, composition={"Cu": 0.5, "Au": 0.5})
    assert quasi.info["short_range_order"] < 0.02 < plain.info["short_range_order"]
    assert abs(quasi.info["warren_cowley"]["shell 1"]["Cu-Au"]) < 0.01
    # negative control: L1_0 order, alternating planes: 8 of 12 neighbours are unlike, α = 1 − (8/12)/(1/2)
    ordered = build("crystal", formula="Cu", lattice="fcc", a=3.61, repeat=[2, 2, 2])
    ordered.symbols[np.round(ordered.positions[:, 2] / 1.805).astype(int) % 2 == 1] = "Au"
    shells = neighbour_shells(ordered, 2)
    assert len(shells[0]) == 12 * 32 and len(shells[1]) == 6 * 32
    assert warren_cowley(ordered.numbers, shells[0])[(29, 79)] == pytest.approx(-1 / 3)
    assert warren_cowley(ordered.numbers, shells[1])[(29, 79)] == pytest.approx(1.0 - (2 * 0) / 0.5)
    oxide = {"kind": "crystal", "formula": "MgO", "lattice": "rocksalt", "a": 4.21, "repeat": [2, 2, 2]}
    mixed = build("alloy", host=oxide, composition={"Mg": 0.5, "Ni": 0.5}, sites="Mg")
    assert mixed.symbols.formula.count() == {"Mg": 16, "Ni": 16, "O": 32}


def perfect_away_from(atoms: Atoms, core: float, rim: float) -> float:
    """Share of atoms between core and rim that have twelve neighbours."""
    centre = atoms.cell.lengths()[:2] / 2
    radius = np.hypot(*(atoms.positions[:, :2] - centre).T)
    count = coordination(atoms, 2.85)
    pairs = find_pairs(System.from_ase(atoms), 2.85)
    r = np.linalg.norm(pairs.vectors(System.from_ase(atoms)).numpy(), axis=1)
    squeezed = np.bincount(pairs.i.numpy()[r < 2.34], minlength=len(atoms)) > 0
    between = (radius > core) & (radius < rim)
    return float(((count == 12) & ~squeezed)[between].mean())


@pytest.mark.parametrize(
    "keys",
    [
        {"character": "edge", "burgers": [0.5, 0.5, 0], "line": [1, -1, 2]},
        {"character": "screw", "burgers": [0.5, 0.5, 0], "line": [1, 1, 0], "plane_normal": [1, -1, 1]},
    ],
)
def test_dislocations(keys: dict) -> None:
    atoms = build("dislocation", crystal=CU, radius=22.0, **keys)
    assert atoms.info["burgers_A"] == pytest.approx(3.61 / 2**0.5) and atoms.pbc.tolist() == [
        False,
        False,
        True,
    ]
    assert perfect_away_from(atoms, 8.0, 17.0) == 1.0  # also across the cut: b is a lattice vector
    assert 0.2 < atoms.get_tags().mean() < 0.8
    # negative control: half a Burgers vector leaves a fault where the cut was
    x, y = (atoms.positions[:, :2] - atoms.cell.lengths()[:2] / 2).T
    half = atoms.copy()
    u = displacement(keys["character"], x, y, atoms.info["burgers_A"], 0.33)
    half.positions -= 0.5 * u
    assert perfect_away_from(half, 8.0, 17.0) < 0.99
    with pytest.raises(ValueError, match="stacking fault"):
        build("dislocation", crystal=CU, radius=22.0, **{**keys, "burgers": [0.25, 0.25, 0.0]})


def test_a_circuit_of_the_displacement_closes_up_to_the_burgers_vector() -> None:
    angle = np.linspace(-np.pi + 1e-9, np.pi - 1e-9, 7)
    for character, axis in (("edge", 0), ("screw", 2)):
        u = displacement(character, 5 * np.cos(angle), 5 * np.sin(angle), 2.5, 0.3)  # type: ignore[arg-type]
        gap = u[-1] - u[0]
        assert gap[axis] == pytest.approx(2.5, abs=1e-6) and np.abs(np.delete(gap, axis)).max() < 1e-6


BOUNDARIES = [
    ((3, 1, 0), (0, 0, 1), 5, 36.87),
    ((2, 1, 0), (0, 0, 1), 5, 36.87),
    ((1, 1, 1), (1, -1, 0), 3, 70.53),
    ((1, 1, 3), (1, -1, 0), 11, 50.48),
    ((2, 2, 1), (1, -1, 0), 9, 38.94),
]


@pytest.mark.parametrize(("plane", "axis", "value", "angle"), BOUNDARIES)
def test_tilt_boundaries(plane: tuple, axis: tuple, value: int, angle: float) -> None:
    atoms = build("grain_boundary", crystal=CU, character="tilt", plane=plane, axis=axis)
    assert atoms.info["sigma"] == value
    assert atoms.info["misorientation_degrees"] == pytest.approx(angle, abs=0.01)
    assert closest_distance(atoms, 1.0) > 1.0 and atoms.info["atoms_removed"] > 0
    inside = np.abs(atoms.positions[:, 2] / atoms.cell.lengths()[2] % 0.5 - 0.25) < 0.08
    assert (coordination(atoms, 3.0)[inside] == 12).all() and inside.any()
    if value == 3:  # a coherent twin: every atom keeps its twelve neighbours
        assert (coordination(atoms, 2.7) == 12).all()
    else:
        assert (coordination(atoms, 2.7) != 12).any()


def test_twist_boundaries() -> None:
    five = build("grain_boundary", crystal=CU, character="twist", plane=[0, 0, 1], turn=[3, 1])
    assert five.info["sigma"] == 5 and five.info["misorientation_degrees"] == pytest.approx(36.87, abs=0.01)
    assert five.info["boundary_area_A2"] == pytest.approx(5 * 3.61**2 / 2)
    assert len(five) * 3.61**3 / 4 == pytest.approx(five.get_volume())
    lower, upper = (five[five.get_tags() == t] for t in (0, 1))
    assert len(lower) == len(upper)
    seven = build("grain_boundary", crystal=CU, character="twist", plane=[1, 1, 1], turn=[5, 1])
    assert seven.info["sigma"] == 7 and seven.info["misorientation_degrees"] == pytest.approx(38.21, abs=0.01)
    r = rational_rotation(np.array([1, 1, 1]), 5, 1)
    assert np.allclose(r @ r.T, np.eye(3)) and sigma(r) == 7
    assert smallest_turn(np.eye(3), (0, 0, 1))[0] == pytest.approx(0.0)
    with pytest.raises(ValueError, match="No coincidence"):
        sigma(np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) + 1e-3 * np.sqrt(2.0))


def test_interfaces_are_strained_as_little_as_they_say() -> None:
    cu = {"kind": "slab", "element": "Cu", "facet": "fcc111", "size": [1, 1, 3], "a": 3.61}
    au = {"kind": "slab", "element": "Au", "facet": "fcc111", "size": [1, 1, 3], "a": 4.08}
    atoms = build("interface", substrate=cu, film=au, vacuum=12.0, gap=2.4)
    film = atoms[atoms.get_tags() == 1]
    # 2 × 2 copper under √3 × √3 gold: 2·3.61 against √3·4.08, both over √2
    assert len(film) == 9 and len(atoms) == 21
    assert np.abs(atoms.info["strain"]).max() == pytest.approx(2 * 3.61 / (3**0.5 * 4.08) - 1, abs=1e-4)
    heights = np.sort(atoms.positions[:, 2])
    assert np.isclose(np.diff(heights), 2.4).sum() == 1 and atoms.pbc.tolist() == [True, True, False]
    bottom = film[np.isclose(film.positions[:, 2], film.positions[:, 2].min())]
    bottom.pbc = (True, True, False)
    assert (coordination(bottom, 1.05 * 2 * 3.61 / 6**0.5) == 6).all()  # still a triangular lattice
    same = build("interface", substrate=cu, film={**cu, "element": "Ni"}, max_strain=1e-6)
    assert len(same) == 6 and np.abs(same.info["strain"]).max() < 1e-9 and same.pbc.all()
    with pytest.raises(ValueError, match="No common cell"):
        build("interface", substrate=cu, film=au, max_strain=1e-4, max_area=60.0)


PT = {"element": "Pt", "facet": "fcc111"}
LINE = {"crystal": CU, "burgers": [0.5, 0.5, 0], "line": [1, 1, 0]}
WATER = {"kind": "molecule", "name": "H2O"}
WRONG = [
    ("crystal", {"formula": "Xx", "lattice": "fcc"}, "no chemical formula|no element"),
    ("crystal", {"formula": "SrTiO3", "lattice": "perovskite"}, "Give it as a"),
    ("crystal", {"formula": "Sr2TiO4", "lattice": "perovskite", "a": 4.0}, "ABX3"),
    ("crystal", {"formula": "Cu", "lattice": "fcc", "c": 5.0}, "hexagonal"),
    ("slab", {"element": "Cu", "facet": "fcc112"}, "Did you mean"),
    ("adsorbate", {"slab": PT, "adsorbate": "O", "site": "fold"}, "it has bridge"),
    ("adsorbate", {"slab": PT, "adsorbate": "O", "cells": [[5, 0]]}, "cells are"),
    ("adsorbate", {"slab": PT, "adsorbate": "CO", "height": 0.3}, "raise height"),
    ("liquid", {"molecules": {"H2O": 3}}, "density_g_cm3 or a box"),
    ("liquid", {"molecules": {"XY9": 3}, "density_g_cm3": 1.0}, "no molecule"),
    ("water", {"number": 9, "shape": "ring"}, "2 to 6"),
    ("amorphous", {"formula": "Si", "units": 4, "density_g_cm3": 2, "min_distances": {"Si-O": 1}}, "by pair"),
    ("point_defect", {"host": SI, "defect": "interstitial"}, "needs 'new'"),
    ("point_defect", {"host": SI, "defect": "vacancy", "new": "O"}, "no element 'new'"),
    ("point_defect", {"host": SI, "defect": "vacancy", "element": "O"}, "0 atoms of O"),
    ("point_defect", {"host": SI, "defect": "vacancy", "sites": [99]}, "sites must be"),
    ("alloy", {"host": CU, "composition": {"Cu": 0.5, "Au": 0.4}}, "add up to 0.9"),
    ("dislocation", {**LINE, "character": "edge"}, "normal to"),
    ("dislocation", {**LINE, "character": "screw"}, "plane"),
    ("grain_boundary", {"crystal": CU, "character": "tilt", "plane": [3, 1, 0], "axis": [1, 0, 0]}, "lie in"),
    ("grain_boundary", {"crystal": CU, "character": "twist", "plane": [3, 1, 0]}, "has a turn"),
    ("surface", {"crystal": WATER, "miller": [1, 0, 0]}, "periodic along three"),
    ("interface", {"substrate": CU, "film": WATER}, "must be periodic"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "keys", "message"), WRONG)
def test_what_cannot_be_built_is_said(kind: str, keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(kind, **keys)


def test_a_file_inside_another_builder_is_found_beside_the_configuration(tmp_path: Path) -> None:
    from rikiba.cli.sources import structures

    build(**CU).write(tmp_path / "host.xyz")
    table = {
        "kind": "point_defect", "defect": "substitution", "new": "Au",
        "host": {"kind": "file", "path": "host.xyz"},
    }  # fmt: skip
    (atoms,) = structures(table, tmp_path)
    assert atoms.symbols.formula.count() == {"Au": 1, "Cu": 3}
    assert specification(config.build_kind("data.structures", table))["host"]["path"] == "host.xyz"
