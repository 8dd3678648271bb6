"""Fit a small GAP with QUIP and evaluate it; see README.md.

.venvs/quippy/bin/python tests/peers/quippy/make_reference.py ../shared/data/rmd17/ethanol/train_01.xyz
"""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from quippy.descriptors import Descriptor
from quippy.potential import Potential

OUT = Path(__file__).resolve().parent / "reference"
PAIR = (
    "cutoff=4.0 cutoff_transition_width=0.7 covariance_type=ard_se delta=0.5 theta_uniform=0.8 "
    "sparse_method=uniform n_sparse=6 add_species=F"
)
ANGLE = (
    "cutoff=3.0 cutoff_transition_width=0.6 covariance_type=ard_se delta=0.2 theta_fac=0.5 "
    "sparse_method=cur_points n_sparse=6 add_species=F"
)
SOAP = (
    "soap n_max=3 l_max=2 atom_sigma=0.5 zeta=4 cutoff=3.5 cutoff_transition_width=0.8 central_weight=1.0 "
    "delta=0.3 covariance_type=dot_product sparse_method=cur_points n_sparse=6 add_species=T"
)
TERMS = (
    [f"distance_2b Z1={a} Z2={b} {PAIR}" for a, b in ((6, 6), (6, 1), (1, 8))]
    + [f"angle_3b Z_center={c} Z1={a} Z2={b} {ANGLE}" for c, a, b in ((6, 1, 1), (6, 6, 1), (8, 6, 1))]
    + [SOAP]
)
SPECTRA = {
    "three_elements": "soap n_max=4 l_max=3 atom_sigma=0.5 cutoff=3.5 cutoff_transition_width=0.8 "
    "central_weight=1.0 n_Z=1 Z={6} n_species=3 species_Z={8 1 6}",
    "one_element": "soap n_max=10 l_max=10 atom_sigma=0.4 cutoff=5.0 cutoff_transition_width=0.8 "
    "central_weight=1.0 n_Z=1 Z={6} n_species=1 species_Z={6}",
}


def training(source: str) -> list[Atoms]:
    """Frames in boxes, with a group each, and isolated atoms."""
    out = []
    for k, frame in enumerate(read(source, ":24")):
        atoms = Atoms(frame.symbols, frame.positions, cell=[9.0, 9.5, 10.0], pbc=True)
        atoms.info["my_energy"] = frame.get_potential_energy()
        atoms.arrays["my_force"] = frame.get_forces()
        atoms.info["config_type"] = "hot" if k % 4 == 0 else "cold"
        if k % 3 == 0:
            half = 0.01 * np.arange(9).reshape(3, 3)
            atoms.info["my_virial"] = (0.1 * k * np.eye(3) + half + half.T).flatten()
        out.append(atoms)
    for symbol, energy in (("C", -1030.0), ("H", -13.5), ("O", -2040.0)):
        atoms = Atoms(symbol, cell=[20.0] * 3, pbc=True)
        atoms.info |= {"my_energy": energy, "config_type": "isolated_atom"}
        atoms.arrays["my_force"] = np.zeros((1, 3))
        out.append(atoms)
    return out


def fit() -> None:
    """Run gap_fit in the folder of the references."""
    for old in OUT.glob("gap.xml*"):
        old.unlink()
    options = [
        "at_file=training.xyz",
        f"gap={{{' : '.join(TERMS)}}}",
        "default_sigma={0.002 0.1 0.05 0.0}",
        "config_type_sigma={hot:0.004:0.2:0.1:0.0}",
        "energy_parameter_name=my_energy force_parameter_name=my_force virial_parameter_name=my_virial",
        "e0_method=isolated sparse_jitter=1e-10 do_copy_at_file=F sparse_separate_file=T gp_file=gap.xml "
        "rnd_seed=7",
    ]
    program = Path(sys.executable).with_name("gap_fit")
    subprocess.run([str(program), *" ".join(options[-2:]).split(), *options[:-2]], cwd=OUT, check=True)
    (OUT / "training.xyz.idx").unlink(missing_ok=True)


def evaluated(frames: list[Atoms]) -> list[dict[str, Any]]:
    """Answers of the fitted potential."""
    os.chdir(OUT)
    potential, out = Potential("", param_filename="gap.xml"), []
    for k, atoms in enumerate(frames):
        potential.calculate(atoms, ["energy", "forces", "stress"])
        row = {
            "symbols": list(atoms.symbols),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "energy": float(potential.results["energy"]),
            "forces": potential.results["forces"].tolist(),
            "stress": np.asarray(potential.results["stress"]).tolist(),
        }
        if k == 0:
            wanted = "local_gap_variance=variance gap_variance_regularisation=0.0"
            potential.calculate(atoms, ["energies"], calc_args=wanted)
            row["variance"] = potential.extra_results["atoms"]["variance"].tolist()
        out.append(row)
    return out


def main() -> None:
    frames = training(sys.argv[1])
    OUT.mkdir(exist_ok=True)
    write(OUT / "training.xyz", frames)
    soap = {k: Descriptor(text).calc(frames[0])["data"][:, :-1].tolist() for k, text in SPECTRA.items()}
    fit()
    some = [frames[k].copy() for k in range(3)]
    for atoms in some:
        atoms.rattle(0.07, seed=5)
    some[1].set_cell([4.2, 4.6, 5.1])
    some[1].positions[0] += [0.2, 0.1, 0.3]
    about = {"quippy-ase": version("quippy-ase"), "command": f"make_reference.py {Path(sys.argv[1]).name}"}
    values = {"about": about, "soap": soap, "settings": SPECTRA, "frames": evaluated(some)}
    (OUT / "values.json").write_text(json.dumps(values) + "\n")


if __name__ == "__main__":
    main()
