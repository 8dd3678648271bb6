"""Evaluate small, randomly initialised models of the nequip package and keep what they answer.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    OMP_NUM_THREADS=1 .venvs/nequip/bin/python tests/peers/nequip/make_reference.py [case ...]

One compressed npz per case is written to ``reference/``. README.md beside this file says what is in it.
"""

import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mace"))
sys.path.append(str(Path(__file__).resolve().parents[1]))
from reference_file import answers, save, write_named
from structures import all_structures

SEED = 30
ELEMENTS = ["Si", "H", "O", "Cu", "C"]
"""Not in order of atomic number, so that a reader that sorts them is tested."""
FOLDER = Path(__file__).parent / "reference"
ZBL = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": ELEMENTS}
BY_TYPE = {"H": -3.25, "C": -41.5, "O": -75.125, "Si": -101.0, "Cu": -12.0625}

BASE: dict[str, Any] = {
    "builder": "NequIPGNNModel",
    "r_max": 4.0,
    "type_names": ELEMENTS,
    "num_layers": 2,
    "l_max": 1,
    "parity": False,
    "num_features": 4,
    "num_bessels": 6,
    "radial_mlp_depth": 1,
    "radial_mlp_width": 8,
    "avg_num_neighbors": 12.0,
    "per_type_energy_scales": 4.0,
    "per_type_energy_shifts": BY_TYPE,
}
CASES: dict[str, dict[str, Any]] = {
    "one_layer_l0": {"num_layers": 1, "l_max": 0},
    "one_layer_l2": {"num_layers": 1, "l_max": 2},
    "two_layers_l1": {},
    "two_layers_l2_deep_radial": {"l_max": 2, "radial_mlp_depth": 3, "num_features": [4, 3, 2]},
    "two_layers_l3": {"l_max": 3, "num_features": [4, 3, 2, 2], "type_embed_num_features": 5},
    "three_layers_l1_parity": {"num_layers": 3, "parity": True},
    "four_layers_l1_parity": {"num_layers": 4, "parity": True, "num_features": [4, 3]},
    "four_layers_l2_parity": {"num_layers": 4, "parity": True, "l_max": 2, "num_features": [4, 3, 2]},
    "four_layers_l3": {"num_layers": 4, "l_max": 3, "num_features": [3, 3, 2, 2]},
    "four_layers_l3_parity": {"num_layers": 4, "parity": True, "l_max": 3, "num_features": 2},
    "six_layers_l1_parity": {"num_layers": 6, "parity": True, "num_features": 3},
    "deep_readout": {"readout_mlp_hidden_layers_depth": 2, "readout_mlp_hidden_layers_width": 5},
    "linear_readout": {"readout_mlp_hidden_layers_depth": 1, "readout_mlp_nonlinearity": None},
    "gelu_readout": {"readout_mlp_hidden_layers_depth": 1, "readout_mlp_nonlinearity": "gelu"},
    "neighbours_by_type": {"avg_num_neighbors": {"H": 3.0, "C": 4.0, "O": 6.0, "Si": 16.0, "Cu": 30.0}},
    "scales_by_type": {
        "per_type_energy_scales": {"H": 0.5, "C": 0.75, "O": 1.25, "Si": 0.25, "Cu": 1.5},
        "polynomial_cutoff_p": 8,
    },
    "zbl": {"pair_potential": ZBL, "l_max": 2, "num_features": 3},
    "trained_bessel": {"bessel_trainable": True},
    "first_self_connection": {"learnable_shift": True, "num_layers": 3},
    "no_self_connection": {"convnet_sc": False, "num_layers": 3},
}


def build(settings: dict[str, Any]) -> torch.nn.Module:
    """The peer's model, parameters rounded to 2⁻¹² so that the files are small."""
    from nequip import model as builders
    from nequip.utils.global_state import set_global_state

    set_global_state()
    arguments = dict(settings)
    builder = getattr(builders, arguments.pop("builder"))
    model = builder(seed=SEED, model_dtype="float64", **arguments)
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in model.named_parameters():
        if name.endswith("bessel_weights") and settings.get("bessel_trainable"):
            noise = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data += 0.3 * (noise - 0.5)
        parameter.data = torch.round(parameter.data * 4096) / 4096
    return model  # type: ignore[no-any-return]


def graph(atoms: Atoms, settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The peer's own input for one structure."""
    from nequip.data import from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform

    data = from_ase(atoms)
    data = ChemicalSpeciesToAtomTypeMapper(model_type_names=settings["type_names"])(data)
    return NeighborListTransform(r_max=settings["r_max"], backend="ase")(data)  # type: ignore[no-any-return]


def evaluate(model: torch.nn.Module, atoms: Atoms, settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Energy eV, per-atom energies eV, forces eV/Å, dE/dstrain eV and, where fully periodic, stress eV/Å³."""
    answer = model(graph(atoms, settings))
    found = {
        "energy": answer["total_energy"].detach().numpy().reshape(()),
        "node_energy": answer["atomic_energy"].detach().numpy().reshape(-1),
        "forces": answer["forces"].detach().numpy(),
        "strain_derivative": -answer["virial"].detach().numpy().reshape(3, 3),
    }
    if all(atoms.pbc):
        found["stress"] = answer["stress"].detach().numpy().reshape(3, 3)
    return found


def write(case: str) -> Path:
    """Build, evaluate and write one case."""
    settings = BASE | CASES[case]
    model = build(settings)
    kept = {name for name, _ in model.named_parameters()}
    kept |= {n for n, _ in model.named_buffers() if n.endswith(("bessel_weights", ".scales", ".shifts"))}
    arrays = {f"state/{n}": t.numpy() for n, t in model.state_dict().items() if n in kept and t.numel()}
    structures = all_structures()
    arrays |= answers(structures, lambda atoms: evaluate(model, atoms, settings))
    about = {
        "case": case,
        "settings": settings,
        "structures": list(structures),
        "seed": SEED,
        "versions": {name: version(name) for name in ("nequip", "e3nn", "torch", "numpy", "ase")},
        "command": f"OMP_NUM_THREADS=1 .venvs/nequip/bin/python tests/peers/nequip/make_reference.py {case}",
    }
    return save(FOLDER, arrays, about)


def main() -> None:
    """Write the cases named on the command line, or all."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    write_named(__doc__, CASES, write)


if __name__ == "__main__":
    main()
