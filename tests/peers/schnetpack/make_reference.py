"""Evaluate small, randomly initialised models of SchNetPack and keep what they answer.

Run with the interpreter of an environment made by ``benchmarks/peers/install_peers.py``::

    OMP_NUM_THREADS=1 .venvs/schnetpack/bin/python tests/peers/schnetpack/make_reference.py [case ...]

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

sys.path.append(str(Path(__file__).parents[1] / "mace"))
sys.path.append(str(Path(__file__).parents[1]))

from peer import schnetpack
from reference_file import answers, save, write_named
from structures import all_structures

SEED = 30
FOLDER = Path(__file__).parent / "reference"
STEP = 4096.0
COMMAND = "OMP_NUM_THREADS=1 .venvs/schnetpack/bin/python tests/peers/schnetpack/make_reference.py"

SCHNET: dict[str, Any] = {
    "model": "SchNet",
    "n_atom_basis": 8,
    "n_interactions": 3,
    "radial_basis": "GaussianRBF",
    "n_rbf": 10,
    "cutoff": 4.0,
    "representation": {},
    "readout": {"activation": "silu"},
}
PAINN = SCHNET | {"model": "PaiNN", "radial_basis": "BesselRBF"}
SOFTPLUS = {"readout": {"activation": "shifted_softplus"}}

CASES: dict[str, dict[str, Any]] = {
    "schnet_gaussian": SCHNET | SOFTPLUS,
    "schnet_bessel": SCHNET | {"radial_basis": "BesselRBF", "n_interactions": 2},
    "schnet_filters": SCHNET | {"representation": {"n_filters": 12}, "cutoff": 5.0, "n_rbf": 20},
    "schnet_shared": SCHNET | SOFTPLUS | {"representation": {"shared_interactions": True}, "offsets": True},
    "schnet_deep_readout": SCHNET | {"readout": {"activation": "silu", "n_hidden": [7, 5], "n_layers": 3}},
    "painn_bessel": PAINN,
    "painn_gaussian": PAINN | {"radial_basis": "GaussianRBF", "cutoff": 5.0, "n_rbf": 20, "offsets": True},
    "painn_one_layer": PAINN | SOFTPLUS | {"n_interactions": 1},
    "painn_shared": PAINN | {"representation": {"shared_interactions": True}, "n_interactions": 2},
    "painn_shared_filters": PAINN | {"representation": {"shared_filters": True, "epsilon": 1e-4}},
}


def activation(name: str) -> Any:
    """The peer's function of that name."""
    functions = {"silu": torch.nn.functional.silu, "shifted_softplus": schnetpack().nn.shifted_softplus}
    return functions[name]


def build(case: str, values: dict[str, Any]) -> torch.nn.Module:
    """The peer's model in float64, biases and embedding drawn too, parameters rounded to 2⁻¹²."""
    spk = schnetpack()
    torch.manual_seed(SEED + list(CASES).index(case))
    basis = getattr(spk.nn, values["radial_basis"])(n_rbf=values["n_rbf"], cutoff=values["cutoff"])
    representation = getattr(spk.representation, values["model"])(
        n_atom_basis=values["n_atom_basis"],
        n_interactions=values["n_interactions"],
        radial_basis=basis,
        cutoff_fn=spk.nn.CosineCutoff(values["cutoff"]),
        **values["representation"],
    )
    readout = values["readout"] | {"activation": activation(values["readout"]["activation"])}
    atomwise = spk.atomistic.Atomwise(
        n_in=values["n_atom_basis"], output_key="energy", per_atom_output_key="energies", **readout
    )
    model = spk.model.NeuralNetworkPotential(
        representation=representation,
        input_modules=[spk.atomistic.Strain(), spk.atomistic.PairwiseDistances()],
        output_modules=[atomwise, spk.atomistic.Forces(calc_forces=True, calc_stress=True)],
        postprocessors=[spk.transform.AddOffsets("energy", add_mean=True, add_atomrefs=True)]
        if values.get("offsets")
        else [],
        input_dtype_str="float64",
    )
    model = model.double().eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data += 0.3 * torch.randn_like(parameter)
        parameter.data = torch.round(parameter.data * STEP) / STEP
    exact_constants(basis, values)
    if values.get("offsets"):
        offsets = model.postprocessors[0]
        offsets.mean = torch.tensor([-1.25], dtype=torch.float64)
        offsets.atomref = -torch.arange(100, dtype=torch.float64) / 8.0
    return model


def exact_constants(basis: torch.nn.Module, values: dict[str, Any]) -> None:
    """The same centres, widths and frequencies in float64; the peer makes them in float32."""
    n, cutoff = values["n_rbf"], values["cutoff"]
    if values["radial_basis"] == "GaussianRBF":
        centres = torch.linspace(0.0, cutoff, n, dtype=torch.float64)
        exact = {"offsets": centres, "widths": torch.full_like(centres, cutoff / (n - 1))}
    else:
        exact = {"freqs": torch.arange(1, n + 1, dtype=torch.float64) * (np.pi / cutoff)}
    for name, tensor in exact.items():
        torch.testing.assert_close(getattr(basis, name), tensor, rtol=1e-6, atol=1e-6)
        setattr(basis, name, tensor)


def evaluate(model: torch.nn.Module, atoms: Atoms, cutoff: float) -> dict[str, np.ndarray]:
    """What the peer answers for one structure."""
    spk = schnetpack()
    neighbours = spk.transform.ASENeighborList(cutoff=cutoff)
    convert = spk.interfaces.AtomsConverter(neighbor_list=neighbours, dtype=torch.float64)
    found = {k: v.detach().numpy() for k, v in model(convert(atoms)).items()}
    out = {"energy": found["energy"].sum(), "node_energy": found["energies"][:, 0], "forces": found["forces"]}
    if atoms.pbc.all():
        out["stress"] = found["stress"][0]
    return out


def influence(model: torch.nn.Module, atoms: Atoms, cutoff: float) -> float:
    """Largest change of a force when the last interaction is left out, relative to the largest force."""
    whole = evaluate(model, atoms, cutoff)["forces"]
    last = model.representation.interactions[-1]
    kept = {k: v.clone() for k, v in last.state_dict().items()}
    for p in last.parameters():
        p.data.zero_()
    without = evaluate(model, atoms, cutoff)["forces"]
    last.load_state_dict(kept)
    return float(np.abs(without - whole).max() / np.abs(whole).max())


def write(case: str) -> Path:
    """Build, evaluate and write one case."""
    values = CASES[case]
    model = build(case, values)
    structures = all_structures()
    share = influence(model, structures["silica_hydrogen"], values["cutoff"])
    if not share > 1e-2:
        raise ValueError(f"{case}: the last interaction changes the forces by {share:.1e} only")
    arrays = {f"state/{name}": tensor.numpy() for name, tensor in model.state_dict().items()}
    arrays |= answers(structures, lambda atoms: evaluate(model, atoms, values["cutoff"]))
    about = {
        "case": case,
        "arguments": values,
        "structures": list(structures),
        "influence_of_last_interaction": share,
        "versions": {name: version(name) for name in ("schnetpack", "torch", "numpy", "ase")},
        "command": f"{COMMAND} {case}",
    }
    return save(FOLDER, arrays, about)


def main() -> None:
    """Write the cases named on the command line, or all."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    write_named(__doc__, CASES, write)


if __name__ == "__main__":
    main()
