"""Folders in n2p2's format, read and evaluated, against the definitions in the files' own units."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate
from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.interop.n2p2 import N2p2Error, Settings, read_file
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.hdnnp_4g import Hdnnp4G

FUNCTIONS = """
symfunction_short O 9 H O 0.02 -1.0 2.5 8.5
symfunction_short H 2 O 0.30  0.9 9.0
symfunction_short H 2 H 0.01  0.0 9.0
symfunction_short H 2 O 0.01  0.0 9.0
symfunction_short H 3 O H 0.07  -1.0 1.0 9.0
symfunction_short H 3 O H 0.07   1.0 1.0 9.0
symfunction_short H 9 O O 0.001  1.0 4.0 9.0 0.5
symfunction_short O 3 H H 0.03   1.0 4.0 8.0
symfunction_short O 3 H O 0.03  -1.0 3.5 9.0   # comment
symfunction_short O 2 H 0.15  0.9 9.0
symfunction_short O 2 O 0.05  4.0 7.0
symfunction_short O 2 H 0.02  0.0 7.0
symfunction_short O 9 H H 0.02   1.0 2.0 9.0
"""
SORTED = {
    "H": ["2 H 0.01 0.0", "2 O 0.01 0.0", "2 O 0.30 0.9", "3 HO 0.07 -1", "3 HO 0.07 1", "9 OO 0.001 1"],
    "O": [
        "2 H 0.02 0.0", "2 O 0.05 4.0", "2 H 0.15 0.9", "3 HH 0.03 1", "3 HO 0.03 -1", "9 HO 0.02 -1",
        "9 HH 0.02 1",
    ],
}  # fmt: skip
"""By hand: type, cutoff, η, shift, ζ, λ, neighbours."""
PARAMETERS = {
    "H": [
        (2, "H", 0.01, 0.0, 9.0), (2, "O", 0.01, 0.0, 9.0), (2, "O", 0.30, 0.9, 9.0),
        (3, "HO", 0.07, -1, 1.0, 9.0, 0.0), (3, "HO", 0.07, 1, 1.0, 9.0, 0.0),
        (9, "OO", 0.001, 1, 4.0, 9.0, 0.5),
    ],
    "O": [
        (2, "H", 0.02, 0.0, 7.0), (2, "O", 0.05, 4.0, 7.0), (2, "H", 0.15, 0.9, 9.0),
        (3, "HH", 0.03, 1, 4.0, 8.0, 0.0), (3, "HO", 0.03, -1, 3.5, 9.0, 0.0),
        (9, "HO", 0.02, -1, 2.5, 8.5, 0.0),
        (9, "HH", 0.02, 1, 2.0, 9.0, 0.0),
    ],
}  # fmt: skip
WIDTHS = {"H": [6, 5, 3, 1], "O": [7, 4, 3, 1]}
CUTOFFS: dict[str, Any] = {
    "1 0.3": lambda x: 1.0 if x < 0.3 else 0.5 * (math.cos(math.pi * (x - 0.3) / 0.7) + 1.0),
    "2": lambda x: math.tanh(1 - x) ** 3,
    "3": lambda x: (math.tanh(1 - x) / math.tanh(1)) ** 3,
    "6": lambda x: ((15 - 6 * x) * x - 10) * x**3 + 1,
    "4 0.2": lambda x: 1.0 if x < 0.2 else math.exp(1 - 1 / (1 - ((x - 0.2) / 0.8) ** 2)),
}
SCALINGS = {
    "scale_symmetry_functions\ncenter_symmetry_functions": lambda g, s: -1 + 3 * (g - s[2]) / (s[1] - s[0]),
    "scale_symmetry_functions": lambda g, s: -1 + 3 * (g - s[0]) / (s[1] - s[0]),
    "center_symmetry_functions": lambda g, s: g - s[2],
    "scale_symmetry_functions_sigma": lambda g, s: -1 + 3 * (g - s[2]) / s[3],
    "": lambda g, s: g,
}


NORMALISED = """mean_energy -2.5
conv_length 5.8
conv_energy 240.0"""


def random_network(path: Path, widths: list[int], rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
    """A file of random weights, and the same numbers as arrays."""
    weights = [rng.normal(size=(b, a)) for a, b in pairwise(widths)]
    biases = [rng.normal(size=b) for b in widths[1:]]
    lines, n = ["# weights"], 0
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
        for i in range(w.shape[1]):
            for j in range(w.shape[0]):
                n += 1
                lines.append(f"{w[j, i]:.16e} a {n} {layer} {i + 1} {layer + 1} {j + 1}")
        for j in range(len(b)):
            n += 1
            lines.append(f"{b[j]:.16e} b {n} {layer + 1} {j + 1}")
    path.write_text("\n".join(lines) + "\n")
    return weights, biases


def write(
    folder: Path,
    cutoff: str,
    scaling: str,
    more: str = "",
    functions: str = FUNCTIONS,
    normalised: str = NORMALISED,
    further: int = 0,
) -> dict[str, Any]:
    """A folder with random weights (of networks with `further` inputs), and the same numbers as arrays."""
    rng = np.random.default_rng(11)
    text = f"""
number_of_elements 2
elements O H    # in any order
atom_energy H -0.45890771
atom_energy O -74.94518524
{normalised}
cutoff_type {cutoff}
scale_min_short -1.0
scale_max_short 2.0
{scaling}
global_hidden_layers_short 2
global_nodes_short 4 3
element_nodes_short H 1 5
global_activation_short t s l
{more}
{functions}
"""
    (folder / "input.nn").write_text(text)
    rows, out = ["# a comment"], {}
    for k, (symbol, number) in enumerate((("H", 1), ("O", 8))):
        n, *deeper = WIDTHS[symbol]
        statistics = np.column_stack([rng.random(n), 3 + rng.random((n, 3))])
        statistics[:, 2] -= 2.0
        rows += [f"{k + 1} {m + 1} " + " ".join(f"{v:.16e}" for v in s) for m, s in enumerate(statistics)]
        file = folder / f"weights.{number:03d}.data"
        out[symbol] = (statistics, *random_network(file, [n + further, *deeper], rng))
    rows.append("-1.0 2.0")  # of the energies, as RuNNer adds it
    (folder / "scaling.data").write_text("\n".join(rows) + "\n")
    return out


def functions_by_definition(atoms: Atoms, cutoff: str) -> list[list[float]]:
    """Symmetry functions of every atom by plain loops in Bohr."""
    positions, cell = atoms.positions / units.bohr, atoms.cell.array / units.bohr
    images = [np.array(s) @ cell for s in np.ndindex(3, 3, 3)] if atoms.pbc.any() else [np.zeros(3)]
    offset = np.ones(3) @ cell if atoms.pbc.any() else np.zeros(3)
    out = []

    def fc(r: float, rc: float) -> float:
        return CUTOFFS[cutoff](r / rc) if r < rc else 0.0

    for symbol, centre in zip(atoms.symbols, positions, strict=True):
        around = [
            (s, p + i - offset - centre)
            for s, p in zip(atoms.symbols, positions, strict=True)
            for i in images
            if 1e-9 < np.linalg.norm(p + i - offset - centre) < 9.0
        ]
        g = []
        for kind, near, eta, *rest in PARAMETERS[symbol]:
            value = 0.0
            if kind == 2:
                shift, rc = rest
                for s, v in around:
                    r = float(np.linalg.norm(v))
                    value += math.exp(-eta * (r - shift) ** 2) * fc(r, rc) if s == near else 0.0
            else:
                sign, zeta, rc, shift = rest
                for a in range(len(around)):
                    for b in range(a):
                        if "".join(sorted(around[a][0] + around[b][0])) != near:
                            continue
                        va, vb = around[a][1], around[b][1]
                        ra, rb, rab = (float(np.linalg.norm(v)) for v in (va, vb, vb - va))
                        d = (ra - shift) ** 2 + (rb - shift) ** 2 + ((rab - shift) ** 2 if kind == 3 else 0)
                        c = fc(ra, rc) * fc(rb, rc) * (fc(rab, rc) if kind == 3 else 1.0)
                        angle = max(0.0, 1 + sign * float(va @ vb) / ra / rb)
                        value += 2 ** (1 - zeta) * angle**zeta * math.exp(-eta * d) * c
            g.append(value)
        out.append(g)
    return out


def network(x: np.ndarray, weights: list[Any], biases: list[Any], normalise: bool = False) -> float:
    """tanh, then a logistic function, then nothing."""
    for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = (w @ x + b) / (w.shape[1] if normalise else 1)
        x = np.tanh(x) if k == 0 else (1 / (1 + np.exp(-x)) if k == 1 else x)
    return float(x[0])


E0 = {"H": -0.45890771, "O": -74.94518524}


def by_definition(atoms: Atoms, numbers: dict[str, Any], cutoff: str, scaling: str, normalise: bool) -> float:
    """Energy in Hartree."""
    total = 0.0
    for symbol, g in zip(atoms.symbols, functions_by_definition(atoms, cutoff), strict=True):
        statistics, weights, biases = numbers[symbol]
        x = np.array([SCALINGS[scaling](v, s) for v, s in zip(g, statistics, strict=True)])
        total += network(x, weights, biases, normalise) / 240.0 - 2.5 + E0[symbol]
    return total


def water(periodic: bool) -> Atoms:
    rng = np.random.default_rng(5)
    sites = np.array(
        [[0, 0, 0], [0.9, 0.2, 0], [-0.3, 0.9, 0.1], [2.5, 0.3, 0.6], [2.9, 1.1, 0.9], [3.2, -0.4, 0.7]]
    )
    return Atoms("OHHOHH", sites + rng.normal(0, 0.05, (6, 3)), cell=[5.1, 5.3, 5.6], pbc=periodic)


def energy(folder: Path, atoms: Atoms) -> float:
    found = read_file(path=folder)
    assert found.class_name == "BehlerParrinello"
    model = BehlerParrinello(**found.arguments).double()
    model.load_state_dict(found.tensors, strict=True)
    system = System.from_ase(atoms)
    return float(evaluate(model, system, find_pairs(system, model.cutoff)).need("energy")) / units.hartree


@pytest.mark.parametrize(("cutoff", "scaling"), list(zip(CUTOFFS, SCALINGS, strict=True)))
def test_energies_are_those_of_the_definition(tmp_path: Path, cutoff: str, scaling: str) -> None:
    more = "normalize_nodes" if cutoff == "6" else ""
    numbers = write(tmp_path, cutoff, scaling, more)
    for atoms in (water(False), *([water(True)] if cutoff == "2" else [])):
        expected = by_definition(atoms, numbers, cutoff, scaling, bool(more))
        assert energy(tmp_path, atoms) == pytest.approx(expected, abs=1e-11)


def test_functions_are_sorted_and_their_order_matters(tmp_path: Path) -> None:
    write(tmp_path, "2", "")
    found = Settings(tmp_path / "input.nn").functions()
    names = {1: "H", 8: "O"}
    for symbol, expected in SORTED.items():
        ours = [
            (f.kind, "".join(names[z] for z in f.neighbours), f.eta, f.shift if f.kind == 2 else f.sign)
            for f in found
            if names[f.centre] == symbol
        ]
        words = [e.split() for e in expected]
        assert ours == [(int(a), b, float(c), float(d)) for a, b, c, d in words]
    right = energy(tmp_path, water(False))
    write(tmp_path, "2", "", functions="\n".join(reversed(FUNCTIONS.splitlines())))
    assert energy(tmp_path, water(False)) == pytest.approx(right, abs=1e-12)  # whatever the order in the file
    write(tmp_path, "2", "", functions=FUNCTIONS.replace("O 2 H 0.02", "O 2 H 0.20"))
    assert abs(energy(tmp_path, water(False)) - right) > 1e-5  # negative control


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("symfunction_short H 12 0.1 0.0 9.0", "type 12"),
        ("global_activation_short t s t", "must be linear"),
        ("nnp_type 3G-HDNNP", "3G-HDNNP"),
        ("nnp_type 4G-HDNNP\nconv_charge 2.0", "normalises charges"),
        ("nnp_generation 3", "type 3"),
        ("element_nodes_short O 1 9", "fit a network|all weights"),
        ("symfunction_short H 2 H 0.7 0.0 9.0", "functions of H"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, change: str, words: str) -> None:
    write(tmp_path, "2", "scale_symmetry_functions", change)
    with pytest.raises(N2p2Error, match=words):
        read_file(path=tmp_path)


def test_units_of_the_file_can_be_others(tmp_path: Path) -> None:
    write(tmp_path, "2", "")
    found = read_file(path=tmp_path / "input.nn", length_unit_A=1.0, energy_unit_eV=1.0)
    assert found.arguments["cutoff"] == 9.0 and found.arguments["scale"] == pytest.approx(1 / 240.0)
    assert torch.equal(found.tensors["columns_0"], read_file(path=tmp_path).tensors["columns_0"])


CHARGED = """
nnp_gen 4
fixed_gausswidth H 0.58
fixed_gausswidth O 1.25
screen_electrostatics 1.5 5.0
ewald_prec 1.0e-8
global_hidden_layers_electrostatic 2
global_nodes_electrostatic 3 2
global_activation_electrostatic t s l
"""
SIGMA, HARDNESS = {"H": 0.58, "O": 1.25}, {"H": 0.41, "O": 0.0089}


def charged(
    folder: Path, charge: float, normalised: str = "", generation: str = "nnp_gen"
) -> tuple[Atoms, dict[str, Any], dict[str, Any]]:
    """Water with a charge, and a folder of the fourth generation: (atoms, energies' networks, the others)."""
    more = CHARGED.replace("nnp_gen", generation)
    short = write(folder, "2", "", more, normalised=normalised, further=1)
    rng, other = np.random.default_rng(12), {}
    for symbol, number in (("H", 1), ("O", 8)):
        widths = [WIDTHS[symbol][0], 3, 2, 1]
        other[symbol] = random_network(folder / f"weightse.{number:03d}.data", widths, rng)
        (folder / f"hardness.{number:03d}.data").write_text(f"  {HARDNESS[symbol]}\n")
    atoms = water(False)
    atoms.info["charge"] = charge
    return atoms, short, other


def charged_by_definition(
    atoms: Atoms,
    short: dict[str, Any],
    other: dict[str, Any],
    screens: bool = True,
    normalised: tuple[float, float, float] = (0.0, 1.0, 1.0),
) -> tuple[float, np.ndarray]:
    """(energy in Hartree, charges) after Ko et al., doi:10.1038/s41467-020-20427-2, by plain loops.

    `normalised`: mean energy, and what energies and lengths are multiplied by; all is computed in those
    units, in which 4πε₀ = 1/(conv_energy · conv_length).
    """
    mean, per_energy, per_length = normalised
    n, symbols = len(atoms), list(atoms.symbols)
    r = atoms.get_all_distances() / units.bohr * per_length
    sigma = {s: x * per_length for s, x in SIGMA.items()}
    hardness = {s: x * per_energy for s, x in HARDNESS.items()}
    coulomb = per_energy * per_length
    g = [np.array(x) for x in functions_by_definition(atoms, "2")]
    a, b = np.ones((n + 1, n + 1)), np.zeros(n + 1)
    a[n, n], b[n] = 0.0, atoms.info["charge"]
    for i, s in enumerate(symbols):
        b[i] = -network(g[i], *other[s])
        for j, t in enumerate(symbols):
            gamma = math.sqrt(sigma[s] ** 2 + sigma[t] ** 2)
            a[i, j] = (
                hardness[s] + coulomb / (sigma[s] * math.sqrt(math.pi))
                if i == j
                else coulomb * math.erf(r[i, j] / (math.sqrt(2) * gamma)) / r[i, j]
            )
    q = np.linalg.solve(a, b)[:n]
    energy = 0.0
    for i, s in enumerate(symbols):
        energy += network(np.append(g[i], q[i]), *short[s][1:])
        if not screens:
            energy += coulomb * q[i] ** 2 / (2 * sigma[s] * math.sqrt(math.pi))
        for j in range(i):
            x = (r[i, j] / per_length - 1.5) / 3.5
            f = 0.5 * (1 - math.cos(math.pi * min(max(x, 0.0), 1.0)))
            energy += q[i] * q[j] * a[i, j] * (f if screens else 1.0)
    return energy / per_energy + n * mean + sum(E0[s] for s in symbols), q


def of_the_fourth_generation(folder: Path, atoms: Atoms) -> Results:
    """What rikiba makes of a folder."""
    found = read_file(path=folder)
    assert found.class_name == "Hdnnp4G"
    model = Hdnnp4G(**found.arguments).double()
    model.load_state_dict(found.tensors, strict=True)
    system = System.from_ase(atoms)
    return evaluate(model, system, find_pairs(system, model.cutoff))


@pytest.mark.parametrize("generation", ["nnp_type", "nnp_generation"])
def test_normalised_data_of_the_fourth_generation(tmp_path: Path, generation: str) -> None:
    """Networks in units of their own; charges, hardness, widths and screening are not."""
    atoms, short, other = charged(tmp_path, -1.0, NORMALISED, generation)
    results = of_the_fourth_generation(tmp_path, atoms)
    expected, q = charged_by_definition(atoms, short, other, normalised=(-2.5, 240.0, 5.8))
    assert results.need("charges").numpy() == pytest.approx(q, abs=1e-10)
    assert float(results.need("energy")) / units.hartree == pytest.approx(expected, abs=1e-9)
    # negative control: the same files without normalisation
    plain = charged_by_definition(atoms, short, other)
    assert abs(plain[0] - expected) > 1.0 and np.abs(plain[1] - q).max() > 1e-2


@pytest.mark.parametrize("charge", [0.0, -1.0])
def test_charges_and_energy_of_the_fourth_generation(tmp_path: Path, charge: float) -> None:
    atoms, short, other = charged(tmp_path, charge)
    results = of_the_fourth_generation(tmp_path, atoms)
    expected, q = charged_by_definition(atoms, short, other)
    assert results.need("charges").numpy() == pytest.approx(q, abs=1e-10)
    assert float(results.need("energy")) / units.hartree == pytest.approx(expected, abs=1e-9)
    # negative control: without screening, and with the charge of another state, it is another number
    assert abs(charged_by_definition(atoms, short, other, screens=False)[0] - expected) > 1e-3
    atoms.info["charge"] = charge + 1.0
    assert abs(charged_by_definition(atoms, short, other)[0] - expected) > 1e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("fixed_gausswidth O 1.25", "fixed_gausswidth for O"),
        ("screen_electrostatics 1.5 5.0", "lacks 'screen_electrostatics'"),
    ],
)
def test_what_the_fourth_generation_needs_is_named(tmp_path: Path, change: str, words: str) -> None:
    charged(tmp_path, 0.0)
    text = (tmp_path / "input.nn").read_text()
    (tmp_path / "input.nn").write_text(text.replace(change, ""))
    with pytest.raises(N2p2Error, match=words):
        read_file(path=tmp_path)
    (tmp_path / "input.nn").write_text(text)
    (tmp_path / "hardness.008.data").write_text("-0.1")
    with pytest.raises(N2p2Error, match="must be positive"):
        read_file(path=tmp_path)
