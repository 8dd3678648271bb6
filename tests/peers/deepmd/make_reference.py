"""Evaluate small, randomly initialised models of deepmd-kit and keep what they answer, and their files.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    OMP_NUM_THREADS=1 .venvs/deepmd/bin/python tests/peers/deepmd/make_reference.py [case ...]

One npz a case is written to ``reference/``, and one model in every file format. README.md beside this file
says what is in them.
"""

import argparse
import json
import sys
import tempfile
import warnings
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ase import Atoms

sys.path.append(str(Path(__file__).parents[1] / "mace"))
sys.path.append(str(Path(__file__).parents[1]))

from peer import backend, evaluate
from reference_file import answers, largest_forces, named, save
from structures import all_structures

SEED = 60
FOLDER = Path(__file__).parent / "reference"
COMMAND = "OMP_NUM_THREADS=1 .venvs/deepmd/bin/python tests/peers/deepmd/make_reference.py"
STEP = 4096.0
TYPES = ["O", "H", "Si", "C", "Cu"]
"""Not in the order of atomic numbers."""
BASE: dict[str, Any] = {
    "type_map": TYPES,
    "descriptor": {
        "type": "se_e2_a",
        "sel": [30, 12, 32, 12, 60],
        "rcut": 4.0,
        "rcut_smth": 0.6,
        "neuron": [4, 8, 16],
        "axis_neuron": 4,
        "type_one_side": True,
    },
    "fitting_net": {"neuron": [12, 12, 12], "resnet_dt": True},
}


def _changed(descriptor: dict[str, Any], fitting: dict[str, Any]) -> dict[str, Any]:
    out = deepcopy(BASE)
    out["descriptor"] |= descriptor
    out["fitting_net"] |= fitting
    return out


CASES: dict[str, dict[str, Any]] = {
    "one_side": BASE,
    "both_sides": _changed(
        {"type_one_side": False, "neuron": [3, 6], "axis_neuron": 3, "resnet_dt": True},
        {"neuron": [8, 16], "resnet_dt": False},
    ),
    "atom_energies_silu": _changed(
        {"neuron": [2, 4, 5], "axis_neuron": 5, "activation_function": "silu", "set_davg_zero": True},
        {"neuron": [60, 10, 10], "activation_function": "silu", "atom_ener": [None, -0.5, None, -1.0, None]},
    ),
}
FILES: dict[str, Any] = {
    "type_map": ["O", "H"],
    "descriptor": BASE["descriptor"] | {"sel": [3, 6], "rcut": 3.0, "neuron": [2, 4], "axis_neuron": 2},
    "fitting_net": {"neuron": [3, 3], "resnet_dt": True},
}
CASES["water"] = FILES
FILES_OF = "water"
"""Kept in every format that the peer writes."""


def build(case: str) -> Any:
    """The peer's model in float64 with random statistics and offsets, parameters rounded to 2⁻¹²."""
    models = backend()
    torch.manual_seed(SEED)
    model = models.get_model(deepcopy(CASES[case]))
    generator = np.random.default_rng(SEED + list(CASES).index(case))
    n = len(CASES[case]["type_map"])
    for name, tensor in model.state_dict().items():
        if not name.startswith("atomic_model") or "compress" in name:
            continue
        if name.endswith("out_bias"):
            tensor.copy_(torch.tensor(generator.normal(size=tensor.shape)) - 3.0)
        elif name.endswith("bias_atom_e"):
            tensor.copy_(torch.tensor(generator.normal(size=tensor.shape)))
        elif name.endswith("sea.mean"):
            if not CASES[case]["descriptor"].get("set_davg_zero"):
                tensor[..., 0] = torch.tensor(0.05 + 0.1 * generator.random((n, 1)))
        elif name.endswith("sea.stddev"):
            tensor[..., 0] = torch.tensor(0.1 + 0.1 * generator.random((n, 1)))
            tensor[..., 1:] = torch.tensor(0.1 + 0.1 * generator.random((n, 1, 1)))
        elif name.endswith(("matrix", "bias", "idt")) and "_networks" not in name:
            values = generator.normal(size=tensor.shape)
            scale = tensor.shape[0] ** -0.5 if name.endswith("matrix") else 0.4
            tensor.copy_(torch.tensor(np.round(STEP * scale * values) / STEP))
    return model.double().eval()


def influence(model: Any, atoms: Atoms) -> float:
    """How much the energy changes when slots stay empty in another number: what `sel` does."""
    data = model.serialize()
    sel = data["descriptor"]["sel"]
    data["descriptor"]["sel"] = [2 * k for k in sel]
    for name in ("davg", "dstd"):
        data["descriptor"]["@variables"][name] = np.repeat(data["descriptor"]["@variables"][name], 2, 1)
    more = backend().BaseModel.deserialize(data)
    factor = (sum(sel) / (2 * sum(sel))) ** 2
    one, other = (float(evaluate(m, atoms)["energy"]) for m in (model, more))
    return abs(one - other) / factor


def water() -> Atoms:
    """Two molecules in a periodic cell."""
    atoms = Atoms(
        "OHHOHH",
        [[0, 0, 0], [0.8, 0.6, 0], [-0.8, 0.6, 0.1], [2.1, 2, 2], [2.9, 2.6, 2.1], [1.3, 2.7, 1.9]],
        cell=[[4.2, 0, 0], [0.3, 4.4, 0], [0, -0.2, 4.6]],
        pbc=True,
    )
    atoms.rattle(0.05, seed=1)
    return atoms


def write_files(model: Any, case: str) -> None:
    """The same model in the formats of the peer."""
    from deepmd.dpmodel.utils.serialization import save_dp_model
    from deepmd.pt.train.wrapper import ModelWrapper

    data = {"backend": "PyTorch", "model": model.serialize(), "model_def_script": CASES[case]}
    for ending in ("dp", "yaml"):
        save_dp_model(str(FOLDER / f"{case}.{ending}"), deepcopy(data))
    model.model_def_script = json.dumps(CASES[case])
    torch.jit.save(torch.jit.script(model), FOLDER / f"{case}.pth")
    wrapper = ModelWrapper(model, model_params=CASES[case])
    torch.save({"model": wrapper.state_dict(), "optimizer": {}}, FOLDER / f"{case}.pt")


def write(case: str) -> Path:
    """Build, evaluate and write one case."""
    from deepmd.dpmodel.utils.serialization import save_dp_model

    model = build(case)
    known = set(CASES[case]["type_map"])
    everything = {"water": water()} if case == FILES_OF else all_structures()
    structures = {n: a for n, a in everything.items() if n != "slab" and set(a.symbols) <= known}
    arrays = answers(structures, lambda atoms: evaluate(model, atoms))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.yaml"
        save_dp_model(str(file), {"model": model.serialize()})
        arrays["model"] = np.array(json.dumps(yaml.safe_load(file.read_text())))
    about = {
        "case": case,
        "config": CASES[case],
        "structures": list(structures),
        "influence_of_sel_eV": influence(model, structures.get("silica_hydrogen") or water()),
        "versions": {name: version(name) for name in ("deepmd-kit", "torch", "numpy", "ase")},
        "command": f"{COMMAND} {case}",
    }
    path = save(FOLDER, arrays, about)
    if case == FILES_OF:
        write_files(model, case)
    return path


def main() -> None:
    """Write the cases named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for case in named(parser, CASES).cases:
        path = write(case)
        about = json.loads(str(np.load(path)["about"]))
        print(
            f"{case}: {path.stat().st_size / 1024:.0f} kB, sel {about['influence_of_sel_eV']:.2g} eV, "
            f"largest forces {largest_forces(path)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
