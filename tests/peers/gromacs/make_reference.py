"""Energies and forces of propanoic_acid.top by GROMACS in double precision.

    python tests/peers/gromacs/make_reference.py

needs `gmx_d` (`apt-get install gromacs`); writes reference/propanoic_acid.json. README.md says what is in it.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
NAMES = ("CH3", "CH2", "C", "O", "OH", "H")
SETTINGS = """
integrator = md
nsteps = 0
nstenergy = 1
nstfout = 1
cutoff-scheme = Verlet
verlet-buffer-tolerance = -1
rlist = 3.0
coulombtype = Cut-off
rcoulomb = 3.0
coulomb-modifier = None
vdwtype = Cut-off
rvdw = 3.0
vdw-modifier = None
constraints = none
"""
"""No pair is beyond 3 nm, and the molecules are neutral: GROMACS' shift of 1/r by 1/r_c adds up to 0."""
TERMS = (
    "G96Bond", "G96Angle", "Proper-Dih.", "Improper-Dih.", "LJ-14", "Coulomb-14", "LJ-(SR)", "Coulomb-(SR)",
)  # fmt: skip


def positions() -> np.ndarray:
    """Two molecules with distorted bonds and angles and twisted chains, Å."""
    first = [[-1.9, 1.3, 0.4], [-1.45, -0.1, 0.1], [0.0, 0.0, 0.0]]
    one = np.array([*first, [0.6, 1.05, 0.1], [0.7, -1.2, 0.0], [1.6, -1.1, 0.3]])
    rng = np.random.default_rng(8)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    both = np.concatenate([one, one @ turn + [1.2, 0.8, 3.9]])
    return both + rng.normal(0.0, 0.06, both.shape)


def run(folder: Path, *words: str, given: str = "") -> None:
    """One command of GROMACS; its output where it fails."""
    done = subprocess.run(["gmx_d", *words], cwd=folder, input=given, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)


def numbers(path: Path) -> list[float]:
    """The last line of an xvg without its time."""
    lines = [x for x in path.read_text().splitlines() if x and x[0] not in "#@"]
    return [float(x) for x in lines[-1].split()[1:]]


def main() -> None:
    """Write the reference."""
    places = positions()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            f"{1 + k // 6:5d}{'PRO':<5}{NAMES[k % 6]:>5}{k + 1:5d}"
            + "".join(f"{x / 10 + 5:16.10f}" for x in r)
            for k, r in enumerate(places)
        ]
        box = "".join(f"{10.0:16.10f}" for _ in range(3))
        (folder / "a.gro").write_text("\n".join(["two molecules", str(len(places)), *rows, box]) + "\n")
        (folder / "a.mdp").write_text(SETTINGS)
        top = str((FOLDER / "propanoic_acid.top").resolve())
        run(folder, "grompp", "-f", "a.mdp", "-c", "a.gro", "-p", top, "-o", "a.tpr", "-maxwarn", "5")
        run(folder, "mdrun", "-s", "a.tpr", "-deffnm", "a", "-nt", "1")
        run(folder, "energy", "-f", "a.edr", "-dp", "-o", "e.xvg", given="\n".join(TERMS) + "\n\n")
        run(folder, "traj", "-f", "a.trr", "-s", "a.tpr", "-of", "f.xvg", "-fp", given="0\n")
        legends = [x.split('"')[1] for x in (folder / "e.xvg").read_text().splitlines() if x[:3] == "@ s"]
        energies = dict(zip((x for x in legends if x), numbers(folder / "e.xvg"), strict=True))
        forces = np.array(numbers(folder / "f.xvg")).reshape(-1, 3) / 10.0
        version = subprocess.run(["gmx_d", "--version"], capture_output=True, text=True).stdout
    about = {
        "GROMACS": next(x.split()[-1] for x in version.splitlines() if x.startswith("GROMACS version")),
        "command": "python tests/peers/gromacs/make_reference.py",
    }
    found = {
        "about": about,
        "positions_A": places.tolist(),
        "energies_kJ_per_mol": energies,
        "forces_kJ_per_mol_A": forces.tolist(),
    }
    (FOLDER / "reference").mkdir(exist_ok=True)
    (FOLDER / "reference" / "propanoic_acid.json").write_text(json.dumps(found))
    print(energies, np.abs(forces).max())


if __name__ == "__main__":
    main()
