"""Time of a GAP energy-and-force call beside QUIP with the same potential, in turns, one thread.

    python benchmarks/gap_inference/compare.py

Needs `.venvs/quippy` (benchmarks/peers/install_peers.py quippy). `gap_fit` fits the energies of some silicon
frames of examples/silicon (SOAP with n_max = l_max = 8 within 5 Å, and one with a two-body term beside it);
both sides read its file and are first checked to give the same forces. Ours is the whole call of the
calculator with its pair list in use, theirs of `quippy.potential.Potential.calculate`. Times are of the
processor (`time.process_time`), which other programs on the machine disturb least. Writes results.json.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOAP = (
    "soap n_max=8 l_max=8 atom_sigma=0.5 zeta=4 cutoff=5.0 cutoff_transition_width=1.0 central_weight=1.0 "
    "delta=1.0 covariance_type=dot_product sparse_method=cur_points add_species=F n_Z=1 Z=14 n_species=1 "
    "species_Z=14 n_sparse={points}"
)
PAIR = (
    "distance_2b Z1=14 Z2=14 cutoff=5.0 cutoff_transition_width=1.0 covariance_type=ard_se delta=2.0 "
    "theta_uniform=1.0 sparse_method=uniform n_sparse=15 add_species=F"
)
CASES: dict[str, tuple[str, ...]] = {
    "SOAP, 100 points": (SOAP.format(points=100),),
    "SOAP, 500 points, and pairs": (PAIR, SOAP.format(points=500)),
}
FRAMES, ROUNDS, STEPS = 8, 5, 1


def structure(shift: float = 0.0) -> Any:
    from ase.build import bulk

    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=1)
    atoms.positions[0] += shift
    return atoms


def fitted(folder: Path, terms: tuple[str, ...]) -> Path:
    """A GAP that gap_fit makes there."""
    from ase.io import read, write

    frames = read(ROOT / "examples" / "silicon" / "data" / "train.xyz", ":")
    some = [a for a in frames if len(a) == 64][::18][:FRAMES]
    for atoms in some:
        energy, atoms.calc = atoms.get_potential_energy(), None
        atoms.arrays = {k: atoms.arrays[k] for k in ("numbers", "positions")}
        atoms.info = {"label_energy": energy}
    write(folder / "frames.xyz", some)
    command = [
        str(ROOT / ".venvs" / "quippy" / "bin" / "gap_fit"),
        "at_file=frames.xyz",
        f"gap={{{' : '.join(terms)}}}",
        "default_sigma={0.001 0.1 0.1 0.0}",
        *"energy_parameter_name=label_energy e0_method=average sparse_jitter=1e-8 do_copy_at_file=F".split(),
        *"sparse_separate_file=T gp_file=gap.xml rnd_seed=1".split(),
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=_one_thread())
    return folder / "gap.xml"


def theirs(folder: str) -> None:
    """Serve QUIP: one answer for each line."""
    from quippy.potential import Potential

    os.chdir(folder)
    potential, atoms = Potential("", param_filename="gap.xml"), structure()
    wanted = ["energy", "forces"]
    potential.calculate(atoms, wanted)
    print(json.dumps({"forces": potential.results["forces"].tolist()}), flush=True)
    moved = structure(1e-3)
    for _ in sys.stdin:
        began = time.process_time()
        for _ in range(STEPS):
            # an answer to the same structure would be remembered
            potential.calculate(moved, wanted)
            potential.calculate(atoms, wanted)
        print((time.process_time() - began) / (2 * STEPS), flush=True)


def measured(terms: tuple[str, ...], folder: Path) -> dict[str, Any]:
    import numpy as np
    import torch

    from rikiba.calculators.autograd import PotentialCalculator
    from rikiba.core.system import System
    from rikiba.interop.quip_gap import load_quip_gap
    from rikiba.potentials.gap import Gap

    torch.set_num_threads(1)
    weights = load_quip_gap(fitted(folder, terms))
    potential = Gap(**weights.arguments)
    potential.load_state_dict(weights.tensors)
    atoms = structure()
    calculator, system = PotentialCalculator(potential), System.from_ase(atoms)
    moved = System.from_ase(structure(1e-3))
    forces = calculator(system).need("forces").numpy()
    peer = subprocess.Popen(
        [str(ROOT / ".venvs" / "quippy" / "bin" / "python"), __file__, "theirs", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_one_thread(),
    )  # fmt: skip
    assert peer.stdin is not None and peer.stdout is not None
    answer = json.loads(_next(peer, "{"))
    difference = float(np.abs(forces - np.array(answer["forces"])).max())
    if difference > 1e-5:
        raise SystemExit(f"Forces differ by {difference:.1e} eV/Å")
    ours, other = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(STEPS):
            calculator(moved)
            calculator(system)
        ours.append((time.process_time() - began) / (2 * STEPS))
        print(file=peer.stdin, flush=True)
        other.append(float(_next(peer, "0123456789")))
    peer.stdin.close()
    peer.wait()
    scale = 1e6 / len(atoms)
    return {
        "atoms": len(atoms),
        "largest_force_difference_eV_per_A": difference,
        "ours_us_per_atom": {"least": min(ours) * scale, "median": statistics.median(ours) * scale},
        "quippy_us_per_atom": {"least": min(other) * scale, "median": statistics.median(other) * scale},
        "ratio_of_least": min(other) / min(ours),
        "median_ratio": statistics.median(b / a for a, b in zip(ours, other, strict=True)),
    }


def _next(peer: "subprocess.Popen[str]", start: str) -> str:
    assert peer.stdout is not None
    while not (line := peer.stdout.readline()).startswith(tuple(start)):
        if not line:
            raise SystemExit("The other side ended.")
    return line


def _one_thread() -> dict[str, str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    return environment


def main() -> None:
    if sys.argv[1:2] == ["theirs"]:
        return theirs(sys.argv[2])
    found: dict[str, Any] = {}
    for name, terms in CASES.items():
        with TemporaryDirectory() as folder:
            found[name] = measured(terms, Path(folder))
    found["load"] = os.getloadavg()[0]
    (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return None


if __name__ == "__main__":
    main()
