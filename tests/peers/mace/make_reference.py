"""Evaluate small, randomly initialised models of mace-torch and keep what they answer.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    OMP_NUM_THREADS=1 .venvs/mace/bin/python tests/peers/mace/make_reference.py [case ...]

One compressed npz per case is written to ``reference/``; with ``--whole`` also the model itself as torch.save
writes it, compressed (CASE.model.xz). README.md beside this file says what is in it.
"""

import argparse
import io
import json
import lzma
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

sys.path.append(str(Path(__file__).resolve().parents[1]))
from reference_file import answers, largest_forces, named, save
from structures import all_structures

SEED = 20
ELEMENTS = [1, 6, 8, 14, 29]
FOLDER = Path(__file__).parent / "reference"
GAIN = {"agnesi": 2.0, "density_agnesi_zbl": 2.0, "density_residual_first": 2.0}  # elsewhere 6
TRACED = "silica_hydrogen"

BASE: dict[str, Any] = {
    "model": "MACE",
    "r_max": 4.0,
    "num_bessel": 6,
    "num_polynomial_cutoff": 5,
    "max_ell": 2,
    "interaction_cls": "RealAgnosticResidualInteractionBlock",
    "interaction_cls_first": "RealAgnosticInteractionBlock",
    "num_interactions": 2,
    "hidden_irreps": "4x0e",
    "MLP_irreps": "5x0e",
    "avg_num_neighbors": 2.5,
    "correlation": 2,
    "gate": "silu",
    "atomic_numbers": ELEMENTS,
    "use_reduced_cg": False,
    "radial_MLP": [8, 8, 8],
}
SCALED = {"model": "ScaleShiftMACE", "atomic_inter_scale": 0.7, "atomic_inter_shift": -0.3}
RESIDUAL_FIRST = {"interaction_cls_first": "RealAgnosticResidualInteractionBlock"}
DENSITY = {
    "interaction_cls": "RealAgnosticDensityResidualInteractionBlock",
    "interaction_cls_first": "RealAgnosticDensityInteractionBlock",
}
DENSITY_RESIDUAL_FIRST = DENSITY | {"interaction_cls_first": "RealAgnosticDensityResidualInteractionBlock"}
L1, L2 = {"hidden_irreps": "4x0e+4x1o"}, {"hidden_irreps": "4x0e+4x1o+4x2e"}

CASES: dict[str, dict[str, Any]] = {
    "one_layer_L0_nu1_ell1": {"num_interactions": 1, "correlation": 1, "max_ell": 1},
    "one_layer_L0_nu2_ell2": {"num_interactions": 1, "correlation": 2, "max_ell": 2},
    "one_layer_L0_nu3_ell3": {"num_interactions": 1, "correlation": 3, "max_ell": 3},
    "two_layers_L0_nu3_ell2": {"correlation": 3},
    "two_layers_L1_nu2_ell2": L1,
    "two_layers_L1_nu3_ell3": L1 | {"correlation": 3, "max_ell": 3},
    "two_layers_L2_nu2_ell3": L2 | SCALED | RESIDUAL_FIRST | {"max_ell": 3},
    "two_layers_L2_nu3_ell2": L2 | SCALED | {"correlation": 3, "gate": "tanh"},
    "three_layers_L1_nu2_ell2": L1 | SCALED | RESIDUAL_FIRST | {"num_interactions": 3},
    "three_layers_L1_nu321_ell2": L1 | {"num_interactions": 3, "correlation": [3, 2, 1]},
    "two_layers_L1_nu4_ell1": L1 | SCALED | {"correlation": 4, "max_ell": 1},
    "two_layers_L2_nu3_ell1": L2 | {"correlation": 3, "max_ell": 1},  # no order-1 coupling reaches 2e
    "one_layer_L0_nu4_ell2": {"num_interactions": 1, "correlation": 4},
    "channels8_default_radial": L1
    | {
        "hidden_irreps": "8x0e+8x1o",
        "radial_MLP": [64, 64, 64],
        "num_bessel": 8,
        "num_polynomial_cutoff": 6,
        "atomic_numbers": [6, 14],
    },
    "one_element": L1 | SCALED | RESIDUAL_FIRST | {"correlation": 3, "atomic_numbers": [14], "r_max": 5.0},
    "zbl": L1 | SCALED | RESIDUAL_FIRST | {"pair_repulsion": True},
    "zbl_without_scale": {"pair_repulsion": True, "num_polynomial_cutoff": 6},
    "agnesi": L1 | SCALED | RESIDUAL_FIRST | {"distance_transform": "Agnesi"},
    "density": L1 | SCALED | DENSITY,
    "density_residual_first": L1 | SCALED | DENSITY_RESIDUAL_FIRST | {"correlation": 3},
    "density_agnesi_zbl": L1
    | SCALED
    | DENSITY
    | {"pair_repulsion": True, "distance_transform": "Agnesi", "correlation": 3, "max_ell": 3},
    "cutoff_after_radial_network": L1 | SCALED | RESIDUAL_FIRST | {"apply_cutoff": False},
    "density_cutoff_after_radial_network": L1 | SCALED | DENSITY | {"apply_cutoff": False},
    "last_readout_only": L1 | SCALED | RESIDUAL_FIRST | {"use_last_readout_only": True},
    "agnostic_product": L1 | SCALED | RESIDUAL_FIRST | {"use_agnostic_product": True},
    "reduced_cg_L1_nu3_ell3": L1
    | SCALED
    | RESIDUAL_FIRST
    | {"correlation": 3, "max_ell": 3, "use_reduced_cg": True},
    "reduced_cg_L0_nu4_ell1": {"correlation": 4, "max_ell": 1, "use_reduced_cg": True},
    "reduced_cg_L2_nu3_ell2": L2 | SCALED | {"correlation": 3, "use_reduced_cg": True},
}


def arguments(case: str) -> dict[str, Any]:
    """Constructor arguments of a case as plain JSON values, atomic energies included."""
    values = BASE | CASES[case]
    energies = np.random.default_rng(len(case)).uniform(-20.0, -1.0, len(values["atomic_numbers"]))
    return values | {"atomic_energies": [float(e) for e in np.round(energies, 3)]}


def build(values: dict[str, Any], gain: float) -> torch.nn.Module:
    """The peer's model for these arguments, parameters rounded to 2⁻¹² so that the files are small."""
    from e3nn import o3
    from mace import modules

    kwargs = dict(values)
    model_class = getattr(modules, kwargs.pop("model"))
    for key in ("interaction_cls", "interaction_cls_first"):
        kwargs[key] = modules.interaction_classes[kwargs[key]]
    for key in ("hidden_irreps", "MLP_irreps"):
        kwargs[key] = o3.Irreps(kwargs[key])
    kwargs["gate"] = modules.gate_dict[kwargs["gate"]]
    kwargs["atomic_energies"] = np.array(kwargs["atomic_energies"])
    kwargs["num_elements"] = len(kwargs["atomic_numbers"])
    torch.manual_seed(SEED)
    model = model_class(**kwargs)
    for name, parameter in model.named_parameters():
        if ".contractions." in name:  # as initialised, the highest body order hardly shows in the forces
            parameter.data *= parameter.shape[1] ** 0.5
        if name.endswith(".linear.weight") and name.startswith("interactions"):
            parameter.data *= gain
        parameter.data = torch.round(parameter.data * 4096) / 4096
    return model


def graph(atoms: Atoms, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The peer's own graph of one structure."""
    from mace import data, tools

    configuration = data.config_from_atoms(atoms)
    table = tools.AtomicNumberTable([int(z) for z in model.atomic_numbers])
    item = data.AtomicData.from_config(configuration, z_table=table, cutoff=float(model.r_max))
    loader = tools.torch_geometric.dataloader.DataLoader(dataset=[item], batch_size=1, shuffle=False)
    return next(iter(loader)).to_dict()


def evaluate(model: torch.nn.Module, atoms: Atoms) -> dict[str, np.ndarray]:
    """Energy eV, per-atom energies eV, forces eV/Å, dE/dstrain eV and, where fully periodic, stress eV/Å³."""
    answer = model(graph(atoms, model), compute_force=True, compute_virials=True, compute_stress=True)
    found = {
        "energy": answer["energy"].detach().numpy()[0],
        "node_energy": answer["node_energy"].detach().numpy(),
        "forces": answer["forces"].detach().numpy(),
        "strain_derivative": -answer["virials"].detach().numpy().reshape(3, 3),
    }
    if all(atoms.pbc):
        found["stress"] = answer["stress"].detach().numpy().reshape(3, 3)
    return found


def share_of_highest_order(model: torch.nn.Module, atoms: Atoms) -> float:
    """max |F − F'| / max |F|, F' without the weights of the highest correlation order."""
    whole = evaluate(model, atoms)["forces"]
    weights = [p for name, p in model.named_parameters() if name.endswith("weights_max")]
    kept = [p.data.clone() for p in weights]
    for p in weights:
        p.data.zero_()
    without = evaluate(model, atoms)["forces"]
    for p, data in zip(weights, kept, strict=True):
        p.data.copy_(data)
    return float(np.abs(whole - without).max() / np.abs(whole).max())


def trace(model: torch.nn.Module, atoms: Atoms) -> dict[str, np.ndarray]:
    """Intermediate arrays of one evaluation, by the name of the module that returns them."""
    kept: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            parts = output if isinstance(output, tuple) else (output,)
            for label, part in zip(("", "/second"), parts, strict=False):
                if part is not None:
                    kept[name + label] = part.detach().numpy().copy()

        return hook

    names = ["node_embedding", "spherical_harmonics", "radial_embedding"]
    layers = range(len(model.interactions))
    names += [f"{part}.{i}" for part in ("interactions", "products") for i in layers]
    names += [f"readouts.{i}" for i in range(len(model.readouts))]
    names += [f"interactions.0.{part}" for part in ("linear_up", "conv_tp_weights", "linear")]
    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    batch = graph(atoms, model)
    model(batch, compute_force=False)
    for handle in handles:
        handle.remove()
    kept["edge_index"] = batch["edge_index"].numpy()
    kept["unit_shifts"] = batch["unit_shifts"].numpy().astype(np.int8)
    return {name: few_edges(name, value, kept["edge_index"].shape[1]) for name, value in kept.items()}


def few_edges(name: str, value: np.ndarray, n_edges: int, keep: int = 24) -> np.ndarray:
    """The first rows only of an array with one row per edge."""
    if name == "edge_index":
        return value[:, :keep]
    return value[:keep] if value.shape[0] == n_edges else value


def versions() -> dict[str, str]:
    """Versions of everything that could change a number."""
    found = {}
    for name in ("mace-torch", "e3nn", "torch", "numpy", "ase", "cuequivariance"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def write(case: str) -> Path:
    """Build, evaluate and write one case."""
    values = arguments(case)
    model = build(values, GAIN.get(case, 6.0))
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in model.state_dict().items():
        arrays[f"state/{name}"] = tensor.numpy()
    structures = {
        name: atoms
        for name, atoms in all_structures().items()
        if set(atoms.numbers) <= set(values["atomic_numbers"])
    }
    arrays |= answers(structures, lambda atoms: evaluate(model, atoms))
    traced = TRACED if TRACED in structures else "silicon"
    for key, value in trace(model, structures[traced]).items():
        arrays[f"trace/{key}"] = value
    share = share_of_highest_order(model, structures[traced])
    if not share > 1e-3:
        raise ValueError(f"{case}: the highest order changes the forces by {share:.1e} only")
    about = {
        "case": case,
        "arguments": values,
        "structures": list(structures),
        "traced": traced,
        "seed": SEED,
        "share_of_highest_order": share,
        "versions": versions(),
        "command": f"OMP_NUM_THREADS=1 .venvs/mace/bin/python tests/peers/mace/make_reference.py {case}",
    }
    return save(FOLDER, arrays, about)


def write_whole(case: str) -> None:
    """The model as torch.save writes it, compressed."""
    model = build(arguments(case), GAIN.get(case, 6.0))
    stream = io.BytesIO()
    torch.save(model, stream)
    (FOLDER / f"{case}.model.xz").write_bytes(lzma.compress(stream.getvalue(), preset=9))


def main() -> None:
    """Write the cases named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--whole", action="store_true", help="write the model itself instead")
    options = named(parser, CASES)
    torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4 keeps slices in its table of constants
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    for case in options.cases:
        if options.whole:
            write_whole(case)
            continue
        path = write(case)
        share = json.loads(str(np.load(path)["about"]))["share_of_highest_order"]
        size, most = path.stat().st_size / 1024, largest_forces(path)
        print(f"{case}: {size:.0f} kB, highest order {share:.1e} of the forces, largest {most}", flush=True)


if __name__ == "__main__":
    main()
