"""`PacemakerACE` against the published sums in plain loops, its symmetries, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import atomic_numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.special import eval_chebyt, sph_harm_y

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program
from rikiba.cli.sources import potentials
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop.foreign import build
from rikiba.interop.pacemaker import PacemakerFileError, read_pacemaker
from rikiba.interop.pacemaker_basis import tree_coupling
from rikiba.nn.pacemaker_radial import KINDS
from rikiba.potentials.pacemaker_ace import PacemakerACE, PacemakerSums
from rikiba.potentials.pacemaker_program import PacemakerSweep

FILES = Path(__file__).parents[1] / "peers" / "pacemaker" / "reference"


def step(r: float, end: float, width: float) -> float:
    """From 1 at end − width to 0 at end, two derivatives zero at both: ∫ (1 − x²)², normalised."""
    x = np.clip(1.0 - 2.0 * (1.0 + (r - end) / width), -1.0, 1.0)
    return 0.5 + 15.0 / 16.0 * (x - 2.0 * x**3 / 3.0 + x**5 / 5.0)


def base(bond: dict[str, Any], r: float, n: int) -> np.ndarray:
    """g_1 … g_n."""
    cut, decay = bond["cutoff"], bond.get("decay", 1.0)
    if r >= cut:
        return np.zeros(n)
    if bond["radial"] == "chebyshev_power":
        y = 2.0 * (1.0 - (1.0 - r / cut) ** decay) - 1.0
        g = np.array([0.5 - 0.5 * eval_chebyt(k, y) for k in range(1, n + 1)])
    elif bond["radial"] == "chebyshev_linear":
        g = np.array([0.5 - 0.5 * eval_chebyt(k, 1.0 - r / cut) for k in range(1, n + 1)])
    elif bond["radial"] == "chebyshev_exponential":
        y = 1.0 - 2.0 * (np.exp(-decay * r / cut) - np.exp(-decay)) / (1.0 - np.exp(-decay))
        g = np.array([1.0] + [0.5 - 0.5 * eval_chebyt(k, y) for k in range(1, n)])
        g = g * 0.5 * (1.0 + np.cos(np.pi * r / cut))
        if r > cut - bond["cutoff_width"]:
            g = g * 0.5 * (1.0 + np.cos(np.pi * (r - cut + bond["cutoff_width"]) / bond["cutoff_width"]))
    else:

        def f(k: int) -> float:
            factor = (-1) ** k * np.sqrt(2.0) * np.pi / cut**1.5 * (k + 1) * (k + 2)
            ends = sum(np.sin(q * np.pi * r / cut) / (q * np.pi * r / cut) for q in (k + 1, k + 2))
            return factor / np.hypot(k + 1, k + 2) * ends

        out, d = [f(0)], 1.0
        for k in range(1, n):
            e = k**2 * (k + 2) ** 2 / (4.0 * (k + 1) ** 4 + 1.0)
            last, d = d, 1.0 - e / d
            out.append((f(k) + np.sqrt(e / last) * out[-1]) / np.sqrt(d))
        g = np.array(out)
    if bond.get("inner_width", 0.0) > 0 and "zbl" not in bond:
        g = g * (1.0 - step(r, bond["inner_cutoff"], bond["inner_width"]))
    return g


def nuclear(bond: dict[str, Any], r: float, z: tuple[int, int]) -> float:
    """½ζ(V + S) with S as LAMMPS's documentation of pair style zbl has it, stepped off at the cutoff."""
    end, width = bond["cutoff"], bond["cutoff_width"]
    if r >= end:
        return 0.0
    a = 0.4685 / (z[0] ** 0.23 + z[1] ** 0.23)
    terms = ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162))

    def v(x: float) -> float:
        return 14.399645351950543 * z[0] * z[1] * sum(c * np.exp(-e * x / a) for c, e in terms) / x

    h = 0.01
    around = np.array([v(end + k * h) for k in (-2, -1, 0, 1, 2)])
    slope = around @ [1, -8, 0, 8, -1] / (12 * h)
    curvature = around @ [-1, 16, -30, 16, -1] / (12 * h**2)
    t = max(0.0, r - end + width)
    third = (-3.0 * slope + width * curvature) / width**2
    fourth = (2.0 * slope - width * curvature) / width**3
    switch = -v(end) + width * slope / 2.0 - width**2 * curvature / 12.0
    switch += third / 3.0 * t**3 + fourth / 4.0 * t**4
    return float(0.5 * bond["zbl"] * (v(r) + switch) * step(r, end, width))


def repulsion(bond: dict[str, Any], r: float) -> float:
    if r >= bond["cutoff"] or "repulsion_eV_A" not in bond:
        return 0.0
    v = bond["repulsion_eV_A"] * np.exp(-bond["repulsion_per_A2"] * r**2) / r
    v = v * 0.5 * (1.0 + np.cos(np.pi * r / bond["cutoff"]))
    if bond.get("inner_width", 0.0) > 0:
        v = v * step(r, bond["inner_cutoff"], bond["inner_width"])
    return float(v)


def embed(form: str, rho: float, m: float) -> float:
    if m == 1.0:
        return rho
    a, sign = abs(rho), np.copysign(1.0, rho)
    if form == "finnis_sinclair":
        g = np.exp(-((1e6 * a) ** 3))
        return float(sign * ((1.0 - g) * a**m + 1e-6 ** (m - 1.0) * g * a))
    n = 1.0 / m
    x, z = n ** (n / (1.0 - n)) * np.exp(-a), n ** (1.0 / (1.0 - n)) * np.exp(-a)
    return float(sign * ((x + a) ** m - z))


def explicit(arguments: dict[str, Any], atoms: Atoms) -> np.ndarray:
    """E of each atom of a cluster by the published formulas: complex harmonics, loops over everything."""
    symbols, out = atoms.get_chemical_symbols(), []
    n_base = max(len(b["mixing"][0][0]) for b in arguments["bonds"].values())
    for i, centre in enumerate(symbols):
        g = {s: np.zeros(n_base) for s in arguments["elements"]}
        a: dict[tuple[str, int, int, int], complex] = {}
        core, deepest = 0.0, (np.inf, 1.0)
        for j, s in enumerate(symbols):
            if j == i:
                continue
            d = atoms.positions[j] - atoms.positions[i]
            r, bond = float(np.linalg.norm(d)), arguments["bonds"][f"{centre}-{s}"]
            theta, phi = np.arccos(d[2] / r), np.arctan2(d[1], d[0])
            values = base(bond, r, n_base)
            g[s] = g[s] + values
            if "zbl" in bond:
                core += nuclear(bond, r, (atomic_numbers[centre], atomic_numbers[s]))
                inside = r - bond["inner_cutoff"] + bond["inner_width"]
                if r < bond["cutoff"]:
                    deepest = min(deepest, (inside, inside / bond["inner_width"]))
            else:
                core += repulsion(bond, r)
            for n, by_l in enumerate(bond["mixing"], 1):
                for l, c in enumerate(by_l):
                    radial = np.dot(c, values[: len(c)])
                    for m in range(-l, l + 1):
                        y = np.sqrt(4.0 * np.pi) * sph_harm_y(l, m, theta, phi)
                        a[s, n, l, m] = a.get((s, n, l, m), 0.0) + radial * y
        emb = arguments["embeddings"][centre]
        rho = np.zeros(len(emb["fs_parameters"]) // 2)
        for f in arguments["functions"][centre]:
            for m, c in zip(f["m"], f["coefficients"], strict=True):
                if len(m) == 1:
                    product: complex = g[f["neighbours"][0]][f["n"][0] - 1]
                else:
                    keys = zip(f["neighbours"], f["n"], f["l"], m, strict=True)
                    product = np.prod([a.get(k, 0.0) for k in keys])
                rho[: len(c)] += np.real(product) * np.array(c)
        w, exponent = emb["fs_parameters"][::2], emb["fs_parameters"][1::2]
        energy = sum(x * embed(emb["form"], y, m) for x, y, m in zip(w, rho, exponent, strict=True))
        if any("zbl" in bond for bond in arguments["bonds"].values()):
            share = step(deepest[1], 1.0, 1.0)
            out.append((1.0 - share) * energy + share * core + arguments["atomic_energies"][centre])
            continue
        fade = step(core, emb.get("core_cutoff_eV", 1e5), emb.get("core_width_eV", 250.0))
        out.append(energy * fade + core + arguments["atomic_energies"][centre])
    return np.array(out)


def cluster(elements: tuple[str, ...], seed: int, n: int = 5, spacing: float = 1.9) -> Atoms:
    rng = np.random.default_rng(seed)
    grid = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)[:n]
    return Atoms(rng.choice(elements, n), spacing * grid + rng.normal(0.0, 0.2, (n, 3)))


def loaded(name: str) -> tuple[PacemakerACE, dict[str, Any]]:
    if name.endswith((".yace", ".yaml")):
        pytest.importorskip("yaml", reason="pip install rikiba[pacemaker]")
    weights = read_pacemaker(FILES / name)
    return build(weights), weights.arguments  # type: ignore[return-value]


def energy(potential: PacemakerACE, atoms: Atoms) -> float:
    return float(PotentialCalculator(potential)(System.from_ase(atoms)).need("energy"))


@pytest.mark.filterwarnings("ignore:ChebLinear")
@pytest.mark.parametrize("name", ["AlNi.yace", "Cu.ace", "Cu.yaml", "CuTiZr.yaml"])
def test_sums_in_plain_loops(name: str) -> None:
    """Energies of each atom to 1e-10; forces are their differences; the compiled program is the same."""
    potential, arguments = loaded(name)
    for seed, spacing in ((0, 2.3), (1, 1.7), (2, 1.1)):
        atoms = cluster(potential.elements, seed, spacing=spacing)
        expected = explicit(arguments, atoms)
        system = System.from_ase(atoms)
        pairs = find_pairs(system, potential.cutoff)
        found = evaluate(potential, system, pairs)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(found.need("energies"), expected, rtol=0, atol=1e-10 * scale)
        program = run_program(potential.program(), system, pairs)
        np.testing.assert_allclose(program.need("energies"), expected, rtol=0, atol=1e-10 * scale)
        h, moved = 1e-4, []
        for x in (-2 * h, -h, h, 2 * h):
            other = atoms.copy()
            other.positions[1, 2] += x
            moved.append(explicit(arguments, other).sum())
        slope = (moved[0] - 8.0 * moved[1] + 8.0 * moved[2] - moved[3]) / (12.0 * h)
        for result in (found, program):
            assert -float(result.need("forces")[1, 2]) == pytest.approx(slope, rel=1e-6, abs=1e-7)
    # negative control: harmonics of unit size on the sphere, a factor (4π)^(−ν/2) in each product
    atoms = cluster(potential.elements, 0, spacing=2.3)
    expected = explicit(arguments, atoms)
    potential.descriptor.harmonic = (4.0 * np.pi) ** -0.5
    assert abs(energy(potential, atoms) - expected.sum()) > 1e-3


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), mirror=st.booleans())
def test_turned_mirrored_and_renumbered(seed: int, mirror: bool) -> None:
    potential, _ = loaded("Cu.ace")
    atoms = cluster(("Cu",), seed % 1000, n=6)
    turned = atoms[np.random.default_rng(seed).permutation(6)]
    rotation = Rotation.random(random_state=seed).as_matrix() * (-1.0 if mirror else 1.0)
    turned.positions = turned.positions @ rotation.T
    assert energy(potential, turned) == pytest.approx(energy(potential, atoms), rel=1e-11, abs=1e-10)


def test_coefficients_that_do_not_couple_to_invariants_are_seen() -> None:
    """Negative control of the test above."""
    _, arguments = loaded("Cu.ace")
    functions = [dict(f) for f in arguments["functions"]["Cu"]]
    odd = next(f for f in functions if len(f["l"]) == 2 and max(f["l"]) == 1)
    odd["coefficients"] = [odd["coefficients"][0], *([0.0, 0.0] for _ in odd["m"][1:])]
    potential = PacemakerACE(**arguments | {"functions": {"Cu": functions}})
    atoms = cluster(("Cu",), 3, n=6)
    turned = atoms.copy()
    turned.positions = turned.positions @ Rotation.from_rotvec([0.4, 0.2, 0.1]).as_matrix().T
    assert abs(energy(potential, turned) - energy(potential, atoms)) > 1e-3


def test_no_precision_is_lost() -> None:
    """float32 is asked for; tables and energies stay in float64."""
    potential, arguments = loaded("Cu.ace")
    atoms = cluster(("Cu",), 5)
    expected = energy(potential, atoms)
    rounded = PacemakerACE(**arguments).to(torch.float32)
    assert rounded.dtype == torch.float64 and energy(rounded, atoms) == expected


def test_a_table_that_names_a_file() -> None:
    (found,) = potentials({"kind": "pacemaker_ace", "file": "Cu.ace"}, FILES)
    atoms = cluster(("Cu",), 6)
    assert energy(found, atoms) == energy(loaded("Cu.ace")[0], atoms)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bonds stand in"):
        potentials({"kind": "pacemaker_ace", "file": "Cu.ace", "bonds": {}}, FILES)


TEXT = (FILES / "Cu.ace").read_text()
DAMAGED = {
    "cut short": (TEXT[: len(TEXT) // 2], "should"),
    "another radial basis": (TEXT.replace("ChebExpCos", "TEST_Cheb"), "TEST_Cheb are not offered"),
    "another embedding": (TEXT.replace("FinnisSinclairShiftedScaled", "Cubic"), "Cubic is not offered"),
    "no such file": ("lorem ipsum", "begins with nelements"),
    "text where a number stands": (TEXT.replace("nradmax=", "nradmax=x"), "x"),
    "more than announced": (TEXT + "\nctilde_basis_func", "after its last function"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_files(what: str, tmp_path: Path) -> None:
    text, message = DAMAGED[what]
    (tmp_path / "x.ace").write_text(text)
    with pytest.raises(PacemakerFileError, match=message):
        read_pacemaker(tmp_path / "x.ace")


BASIS = {
    "nbody": ("nr: [1, 1], nl: [1, 1]", "nr: [1, 1], nl: [1, 2]", "do not couple"),
    "lint": ("nl: [0, 1, 1], lint: [1]", "nl: [0, 1, 1], lint: [1, 1]", "3 factors with degrees"),
    "one": ("nr: [3], nl: [0]", "nr: [3], nl: [1]", "one neighbour has l = 0"),
    "type": ("type: Cu Cu, nr: [1]", "type: Cu Cu, nr: [1, 1]", "as many nr and nl"),
    "elements": ("type: Cu Cu, nr: [1]", "type: Cu Ag, nr: [1]", "Ag"),
    "cutoff": ("NameOfCutoffFunctionij: cos", "NameOfCutoffFunctionij: poly", "cutoff function poly"),
    "pair": ("speciesblock: Cu", "speciesblock: Cu Ag", "elements without a block"),
    "key": ("radbase: ", "radbaze: ", "radial functions of Cu and Cu"),
    "core": ("inner_cutoff_type: density", "inner_cutoff_type: zbl", "needs a factor and a width"),
    "jump": ("r_in: 0", "r_in: 1.5", "energies jump"),
}


@pytest.mark.filterwarnings("ignore:ChebLinear")
@pytest.mark.parametrize("what", BASIS)
def test_damaged_files_of_coupled_functions(what: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="pip install rikiba[pacemaker]")
    text, (there, instead, message) = (FILES / "Cu.yaml").read_text(), BASIS[what]
    assert there in text
    (tmp_path / "x.yaml").write_text(text.replace(there, instead))
    with pytest.raises(ValueError, match=message):
        build(read_pacemaker(tmp_path / "x.yaml"))


def test_functions_that_its_program_skips_are_skipped(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="pip install rikiba[pacemaker]")
    text = (FILES / "Cu.yaml").read_text()
    (tmp_path / "x.yaml").write_text(
        text.replace("{type: Cu Cu, nr: [2],", "{skip: true, type: Cu Cu, nr: [2],")
    )
    with pytest.warns(UserWarning, match="energies jump there"):
        every, fewer = (read_pacemaker(p).arguments for p in (FILES / "Cu.yaml", tmp_path / "x.yaml"))
    assert len(fewer["functions"]["Cu"]) == len(every["functions"]["Cu"]) - 1


def test_trees_couple_to_invariants() -> None:
    """C of every tree is normalised, and different trees of the same factors are orthogonal."""
    trees = [((2,) * 4, (k, k)) for k in range(5)]
    found = []
    for l, between in trees:
        m, c = tree_coupling(l, between)
        assert (m.sum(1) == 0).all() and (c**2).sum() == pytest.approx(1.0)
        dense = np.zeros((5,) * 4)
        dense[tuple((m + 2).T)] = c
        found.append(dense.ravel())
    np.testing.assert_allclose(np.array(found) @ np.array(found).T, np.eye(5), atol=1e-14)
    m, c = tree_coupling((1, 2, 2, 1, 2, 2), (2, 1, 3, 3))
    assert (m.sum(1) == 0).all() and (c**2).sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="do not couple"):
        tree_coupling((1, 1, 3), (3,))


def test_compiled_radial_functions_and_their_slopes() -> None:
    """Every kind, at every part of its range, against automatic differentiation; a wrong table is seen."""
    rng, inner = np.random.default_rng(3), {"inner_cutoff": 1.6, "inner_width": 0.5}
    for k, kind in enumerate(KINDS):
        table = {
            "radial": kind, "cutoff": 4.0, "decay": 2.5, "cutoff_width": 0.7, "repulsion_eV_A": 9.0,
            "repulsion_per_A2": 0.4, "mixing": rng.normal(size=(3, 2, 5)).tolist(),
        } | (inner if k % 2 else {})  # fmt: skip
        sums = PacemakerSums(
            elements=("Cu",), bonds={"Cu-Cu": table}, n_densities=1,
            functions={"Cu": [{"neighbours": ["Cu", "Cu"], "n": [1, 2], "l": [1, 1], "m": [[0, 0]],
                               "coefficients": [[1.0]]}]},
        )  # fmt: skip
        r = torch.linspace(0.2, 4.2, 97, dtype=torch.float64)
        zero = torch.zeros(97, dtype=torch.int64)
        value, slope = torch.func.jvp(
            lambda x, s=sums, z=zero: s.radial_columns(x, z, z), (r,), (torch.ones_like(r),)
        )
        found = PacemakerSweep(sums).radial(r.numpy(), zero.numpy(), zero.numpy())
        np.testing.assert_allclose(found[0], value, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found[1], slope, rtol=1e-11, atol=1e-11)
        sums.radial.table[..., 2 if k < 2 else 0] += 0.01
        changed = PacemakerSweep(sums).radial(r.numpy(), zero.numpy(), zero.numpy())
        assert np.abs(changed[0] - found[0]).max() > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l": [4, 4]}, "ends at l = 3"),
        ({"n": [9, 9]}, "n = 9"),
        ({"neighbours": ["Cu", "Ag"]}, "Ag"),
        ({"m": [[0]]}, "as many"),
        ({"m": [[7, -7]] * 2}, r"\|m\|"),
    ],
)
def test_functions_that_cannot_be(change: dict[str, Any], message: str) -> None:
    _, arguments = loaded("Cu.ace")
    functions = [dict(f) for f in arguments["functions"]["Cu"]]
    odd = next(f for f in functions if len(f["l"]) == 2 and len(f["m"]) == 2)
    odd.update(change)
    with pytest.raises(ValueError, match=message):
        PacemakerACE(**arguments | {"functions": {"Cu": functions}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radial": "gaussian"}, "gaussian"),
        ({"cutoff": -1.0}, "positive"),
        ({"inner_cutoff": 9.0, "inner_width": 0.5}, "inner cutoff"),
        ({"wdith": 1.0}, "wdith"),
        ({"repulsion_eV_A": -5.0}, "repulsive"),
        ({"zbl": 1.0}, "inner_width"),
    ],
)
def test_bonds_that_cannot_be(change: dict[str, Any], message: str) -> None:
    _, arguments = loaded("Cu.ace")
    bonds = {"Cu-Cu": arguments["bonds"]["Cu-Cu"] | change}
    with pytest.raises(ValueError, match=message):
        PacemakerACE(**arguments | {"bonds": bonds})
