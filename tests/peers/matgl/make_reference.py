"""Evaluate TensorNet and M3GNet of matgl in float64 and keep what they answer: random and public ones.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    OMP_NUM_THREADS=1 .venvs/matgl/bin/python tests/peers/matgl/make_reference.py [--models FOLDER] [case ...]

One compressed npz per case is written to ``reference/``. README.md beside this file says what is in it.
"""

import argparse
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mace"))
from peer import public_model, with_exact_constants
from structures import all_structures

SEED = 50
STEP = 4096.0
FOLDER = Path(__file__).parent / "reference"
COMMAND = "OMP_NUM_THREADS=1 .venvs/matgl/bin/python tests/peers/matgl/make_reference.py"
ELEMENTS = ("Si", "H", "Cu", "C", "O")
"""Not in order of atomic number."""
PRETRAINED = {
    "tensornet_matpes": "TensorNet-MatPES-PBE-v2025.1-PES",
    "m3gnet_mp": "M3GNet-MP-2021.2.8-PES",
}
COMMON: dict[str, Any] = {
    "element_types": ELEMENTS,
    "units": 8,
    "cutoff": 4.0,
    "is_intensive": False,
    "rbf_type": "SphericalBessel",
    "use_smooth": True,
}
TENSORNET = COMMON | {"model": "TensorNet", "max_n": 5}
M3GNET = COMMON | {
    "model": "M3GNet",
    "dim_node_embedding": 8,
    "dim_edge_embedding": 8,
    "threebody_cutoff": 3.2,
}
CASES: dict[str, dict[str, Any]] = {
    "tensornet_o3": TENSORNET,
    "tensornet_so3": TENSORNET | {"equivariance_invariance_group": "SO(3)", "nblocks": 1},
    "m3gnet_smooth": M3GNET,
    "m3gnet_grid": M3GNET | {"use_smooth": False, "nblocks": 2, "max_n": 2, "max_l": 4},
}


def small_model(case: str) -> torch.nn.Module:
    """A random potential, biases drawn too, parameters rounded to 2⁻¹²."""
    from matgl.apps.pes import Potential
    from matgl.models import M3GNet, TensorNet

    torch.manual_seed(SEED + list(CASES).index(case))
    arguments = dict(CASES[case])
    kind = {"TensorNet": TensorNet, "M3GNet": M3GNet}[arguments.pop("model")]
    extra = {"dtype": torch.float64} if kind is TensorNet else {}
    model = kind(**arguments, **extra)
    offsets = -torch.arange(1.0, 6.0, dtype=torch.float64) * 1.25
    potential = Potential(model, data_std=torch.tensor(250.0, dtype=torch.float64), element_refs=offsets)
    for name, parameter in potential.named_parameters():
        if "bias" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
        parameter.data = torch.round(parameter.data.double() * STEP) / STEP
    return potential.double().eval()  # type: ignore[no-any-return]


def evaluate(potential: torch.nn.Module, atoms: Atoms) -> dict[str, np.ndarray]:
    """Energy eV, forces eV/Å and, where fully periodic, stress eV/Å³."""
    from matgl.ext.ase import Atoms2Graph

    converter = Atoms2Graph(potential.model.element_types, potential.model.cutoff)
    graph, lattice, _ = converter.get_graph(atoms)
    # the converter rounds coordinates to float32
    lattice = torch.as_tensor(atoms.cell.array if atoms.pbc.any() else np.asarray(lattice[0])).double()[None]
    graph.frac_coords = torch.as_tensor(atoms.positions @ np.linalg.inv(lattice[0].numpy()))
    graph.pbc_offset = graph.pbc_offset.double()
    energy, forces, stress, _ = potential(graph, lattice)
    found = {"energy": energy.detach().numpy().reshape(()), "forces": forces.detach().numpy()}
    if atoms.pbc.all():
        from matgl.apps.pes import EV_PER_ANG3_TO_GPA

        found["stress"] = stress.detach().numpy().reshape(3, 3) / EV_PER_ANG3_TO_GPA
    return found


def write(case: str, models: Path) -> Path:
    """Build, evaluate and write one case."""
    arrays: dict[str, np.ndarray] = {}
    about: dict[str, Any] = {"case": case}
    if case in PRETRAINED:
        about["folder"] = PRETRAINED[case]
        potential = public_model(models / PRETRAINED[case])
    else:
        potential = small_model(case)
        about["arguments"] = CASES[case]
        arrays = {f"state/{n}": t.numpy() for n, t in potential.state_dict().items()}
    # one atom alone has no graph there, and mixed periodicity none of its images
    potential = with_exact_constants(potential)
    structures = {n: a for n, a in all_structures().items() if len(a) > 1 and a.pbc.all() == a.pbc.any()}
    for name, atoms in structures.items():
        given = {
            "numbers": atoms.numbers,
            "positions": atoms.positions,
            "cell": atoms.cell.array,
            "pbc": atoms.pbc,
        }
        for key, value in (given | evaluate(potential, atoms)).items():
            arrays[f"structures/{name}/{key}"] = np.asarray(value)
    about |= {
        "structures": list(structures),
        "seed": SEED,
        "versions": {name: version(name) for name in ("matgl", "torch", "numpy", "ase")},
        "command": f"{COMMAND} {case}",
    }
    arrays["about"] = np.array(json.dumps(about))
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{case}.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def main() -> None:
    """Write the cases named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[], help="names of cases; all when none is given")
    parser.add_argument("--models", type=Path, default=Path("../shared/data/pretrained/matgl"))
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    import matgl

    matgl.set_default_dtype("float", 64)  # constants too
    options = parser.parse_args()
    known = [*CASES, *PRETRAINED]
    for case in options.cases or known:
        if case not in known:
            sys.exit(f"no case {case!r}; there are: {', '.join(known)}")
        path = write(case, options.models)
        found = np.load(path)
        largest = {k.split("/")[1]: float(np.abs(found[k]).max()) for k in found if k.endswith("/forces")}
        listed = ", ".join(f"{name} {value:.3g}" for name, value in largest.items())
        print(f"{case}: {path.stat().st_size / 1024:.0f} kB, largest forces {listed}", flush=True)


if __name__ == "__main__":
    main()
