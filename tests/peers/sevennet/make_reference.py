"""Evaluate SevenNet models in float64 and keep what they answer: small random ones and those of its wheel.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    OMP_NUM_THREADS=1 .venvs/sevennet/bin/python tests/peers/sevennet/make_reference.py [case ...]

One compressed npz per case is written to ``reference/``. README.md beside this file says what is in it.
"""

import sys
import warnings
from copy import deepcopy
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

SEED = 40
FOLDER = Path(__file__).parent / "reference"
ELEMENTS = ["C", "Cu", "H", "O", "Si"]
"""In alphabetical order, as the peer numbers them."""
PRETRAINED = {
    "sevennet_0_july": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "sevennet_0_may": "SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
    "sevennet_l3i5": "SevenNet_l3i5/checkpoint_l3i5.pth",
    "sevennet_mf_0_pbe": "SevenNet_MF_0/checkpoint_sevennet_mf_0.pth",
    "sevennet_mf_0_r2scan": "SevenNet_MF_0/checkpoint_sevennet_mf_0.pth",
}
BASE: dict[str, Any] = {
    "cutoff": 4.0,
    "channel": 4,
    "lmax": 1,
    "num_convolution_layer": 3,
    "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 6},
    "weight_nn_hidden_neurons": [8, 8],
    "conv_denominator": [3.5, 3.5, 3.5],
    "shift": [-41.5, -12.0625, -3.25, -75.125, -101.0],
    "scale": [4.0, 3.5, 5.0, 4.5, 3.0],
}
XPLOR = {"cutoff_function_name": "XPLOR", "cutoff_on": 2.5}
MODALITIES = {"sevennet_mf_0_pbe": "PBE", "sevennet_mf_0_r2scan": "R2SCAN", "three_modalities": "second"}
CASES: dict[str, dict[str, Any]] = {
    "parity_l1": {},
    "parity_l2_four_layers": {
        "lmax": 2,
        "num_convolution_layer": 4,
        "conv_denominator": [3.0, 3.5, 4.0, 3.0],
    },
    "no_parity_l2_xplor_linear": {
        "lmax": 2,
        "is_parity": False,
        "self_connection_type": "linear",
        "cutoff_function": XPLOR,
    },
    "no_parity_l3_manual": {
        "lmax": 3,
        "is_parity": False,
        "irreps_manual": ["5x0e", "4x0e+3x1e+2x2e+2x3e", "4x0e+3x1e+2x2e+2x3e", "4x0e"],
    },
    "edge_l3_node_l1_fcn": {
        "lmax_edge": 3,
        "lmax_node": 1,
        "readout_as_fcn": True,
        "readout_fcn_hidden_neurons": [5, 6],
        "readout_fcn_activation": "silu",
        "shift": -3.5,
        "scale": 2.5,
    },
    "three_modalities": {
        "use_modality": True,
        "_modal_map": {"first": 0, "second": 1, "third": 2},
        "_number_of_modalities": 3,
        "use_modal_node_embedding": True,
        "use_modal_self_inter_intro": True,
        "use_modal_self_inter_outro": True,
        "use_modal_output_block": True,
        "use_modal_wise_shift": True,
        "use_modal_wise_scale": False,
        "shift": [[-1.0, -2.0, -3.0, -4.0, -5.0], [-1.5, -2.5, -3.5, -4.5, -5.5], [0.5, 1.5, 2.5, 3.5, 4.5]],
    },
}


def config_of(case: str) -> dict[str, Any]:
    """A complete configuration of a small model."""
    from sevenn import _const as constants

    config = deepcopy(constants.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG) | deepcopy(BASE | CASES[case])
    numbers = [6, 29, 1, 8, 14]
    return config | {
        "version": version("sevenn"),
        "chemical_species": ELEMENTS,
        "_number_of_species": len(ELEMENTS),
        "_type_map": {z: k for k, z in enumerate(numbers)},
    }


def small_model(config: dict[str, Any]) -> torch.nn.Module:
    """A random model, parameters rounded to 2⁻¹² so that the files are small."""
    from sevenn.model_build import build_E3_equivariant_model

    torch.manual_seed(SEED)
    model = build_E3_equivariant_model(deepcopy(config))
    for name, parameter in model.named_parameters():
        if name.endswith("coeffs"):
            parameter.data += 0.1 * torch.rand_like(parameter)
        parameter.data = torch.round(parameter.data * 4096) / 4096
    return model  # type: ignore[no-any-return]


def pretrained_model(file: str) -> torch.nn.Module:
    """A model of the peer's wheel."""
    import sevenn
    from sevenn.checkpoint import SevenNetCheckpoint

    path = Path(sevenn.__file__).parent / "pretrained_potentials" / file
    return SevenNetCheckpoint(path).build_model()  # type: ignore[no-any-return]


def in_double(model: torch.nn.Module) -> torch.nn.Module:
    """The same model in float64; its one-hot layer would return float32."""
    from sevenn.nn.node_embedding import OnehotEmbedding

    def forward(self: Any, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        types = data[self.key_x]
        hot = torch.nn.functional.one_hot(types, self.num_classes).double()
        data[self.key_output] = hot
        if self.key_additional_output is not None:
            data[self.key_additional_output] = hot
        if self.key_save is not None:
            data[self.key_save] = types
        return data

    OnehotEmbedding.forward = forward
    model = model.double().eval()
    model.set_is_batch_data(False)
    return model


def evaluate(model: torch.nn.Module, atoms: Atoms, cutoff: float) -> dict[str, np.ndarray]:
    """Energy eV, per-atom energies eV, forces eV/Å and, where fully periodic, stress eV/Å³."""
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    data = {
        k: torch.as_tensor(np.asarray(v))
        for k, v in unlabeled_atoms_to_graph(atoms, cutoff).items()
        if k != "data_info"
    }
    data["edge_vec"] = data["edge_vec"].double()
    answer = model(data)
    found = {
        "energy": answer["inferred_total_energy"].detach().numpy().reshape(()),
        "node_energy": answer["atomic_energy"].detach().numpy().reshape(-1),
        "forces": answer["inferred_force"].detach().numpy(),
    }
    if all(atoms.pbc):
        xx, yy, zz, xy, yz, zx = -answer["inferred_stress"].detach().numpy().reshape(6)
        found["stress"] = np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])
    return found


def write(case: str) -> Path:
    """Build, evaluate and write one case."""
    arrays: dict[str, np.ndarray] = {}
    about: dict[str, Any] = {"case": case}
    if case in PRETRAINED:
        about["file"] = PRETRAINED[case]
        model, cutoff = in_double(pretrained_model(PRETRAINED[case])), 5.0
    else:
        config = config_of(case)
        about["config"] = config | {"_type_map": {str(z): k for z, k in config["_type_map"].items()}}
        model, cutoff = small_model(config), config["cutoff"]
        arrays = {f"state/{n}": t.numpy() for n, t in model.state_dict().items() if t.numel()}
        model = in_double(model)
    if case in MODALITIES:
        about["modality"] = MODALITIES[case]
        model.prepare_modal_deploy(MODALITIES[case])
    structures = {name: a for name, a in all_structures().items() if len(a) > 1}
    arrays |= answers(structures, lambda atoms: evaluate(model, atoms, cutoff))
    about |= {
        "structures": list(structures),
        "seed": SEED,
        "versions": {name: version(name) for name in ("sevenn", "e3nn", "torch", "numpy", "ase")},
        "command": f".venvs/sevennet/bin/python tests/peers/sevennet/make_reference.py {case}",
    }
    return save(FOLDER, arrays, about)


def main() -> None:
    """Write the cases named on the command line, or all."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    write_named(__doc__, [*CASES, *PRETRAINED], write)


if __name__ == "__main__":
    main()
