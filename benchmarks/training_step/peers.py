"""Training steps of another program, in its own environment, on request: see compare.py, which starts this.

    <its python> benchmarks/training_step/peers.py "MACE 128x0e" <folder>

Leaves its weights and answers in the folder, then reads numbers of calls, one a line, and prints the times.
"""

import json
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import CASES, CUTOFF, frames, seconds

Predict = Callable[[], tuple[torch.Tensor, torch.Tensor]]


def mace(case: dict[str, Any]) -> tuple[torch.nn.Module, Predict, dict[str, Any]]:
    """mace-torch's ScaleShiftMACE as its own training builds it, and its own batch."""
    torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4 keeps slices in its table of constants
    from e3nn import o3
    from mace import data, modules, tools

    given = frames(case["structure"])
    table = tools.AtomicNumberTable(sorted({int(z) for a in given for z in a.numbers}))
    items = [
        data.AtomicData.from_config(data.config_from_atoms(a), z_table=table, cutoff=CUTOFF) for a in given
    ]
    loader = tools.torch_geometric.dataloader.DataLoader(items, batch_size=len(items), shuffle=False)
    batch = next(iter(loader)).to_dict()
    neighbours = batch["edge_index"].shape[1] / sum(len(a) for a in given)
    c, n = case["channels"], len(table)
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=n,
        hidden_irreps=o3.Irreps("+".join(f"{c}x{l}{'eo'[l % 2]}" for l in range(case["max_L"] + 1))),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(n),
        avg_num_neighbors=neighbours,
        atomic_numbers=table.zs,
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = model(batch, training=True, compute_force=True)
        return found["energy"], found["forces"]

    return model, predict, {"avg_num_neighbors": neighbours, "version": version("mace-torch")}


def nequip(case: dict[str, Any]) -> tuple[torch.nn.Module, Predict, dict[str, Any]]:
    """The nequip package's NequIPGNNModel, eager."""
    from nequip.data import AtomicDataDict, from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    given = frames(case["structure"])
    settings = {
        "r_max": CUTOFF,
        "type_names": sorted({s for a in given for s in a.symbols}),
        "num_layers": 4,
        "l_max": case["l_max"],
        "parity": False,
        "num_features": case["channels"],
        "radial_mlp_width": 128,
        "avg_num_neighbors": 28.0,
        "per_type_energy_scales": 1.0,
        "per_type_energy_shifts": 0.0,
    }
    model = NequIPGNNModel(seed=0, model_dtype="float32", **settings).train()
    types = ChemicalSpeciesToAtomTypeMapper(model_type_names=settings["type_names"])
    neighbours = NeighborListTransform(r_max=CUTOFF)
    data = AtomicDataDict.batched_from_list([neighbours(types(from_ase(a))) for a in given])

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = model(dict(data))
        return found["total_energy"][:, 0], found["forces"]

    return model, predict, {"settings": settings, "version": version("nequip")}


def schnetpack(case: dict[str, Any]) -> tuple[torch.nn.Module, Predict, dict[str, Any]]:
    """SchNetPack's SchNet or PaiNN."""
    import torch.utils.data.dataloader as dataloader

    if not hasattr(dataloader, "T_co"):  # a type hint that this torch no longer has
        dataloader.T_co = Any
    import schnetpack as spk

    given = frames(case["structure"])
    basis = {"SchNet": spk.nn.GaussianRBF, "PaiNN": spk.nn.BesselRBF}[case["model"]]
    representation = getattr(spk.representation, case["model"])(
        n_atom_basis=case["channels"],
        n_interactions=3,
        radial_basis=basis(n_rbf=20, cutoff=CUTOFF),
        cutoff_fn=spk.nn.CosineCutoff(CUTOFF),
    )
    outputs = [spk.atomistic.Atomwise(n_in=case["channels"], output_key="energy"), spk.atomistic.Forces()]
    model = spk.model.NeuralNetworkPotential(
        representation=representation,
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=outputs,
    ).train()
    neighbours = spk.transform.MatScipyNeighborList(cutoff=CUTOFF)
    batch = spk.interfaces.AtomsConverter(neighbor_list=neighbours, dtype=torch.float32)(given)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = model({k: v.detach() for k, v in batch.items()})
        return found["energy"], found["forces"]

    return model, predict, {"version": version("schnetpack")}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    out, sys.stdout = sys.stdout, sys.stderr
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    case = CASES[name]
    model, predict, about = {"mace": mace, "nequip": nequip, "schnetpack": schnetpack}[case["peer"]](case)
    energy, forces = predict()
    arrays = {f"state/{k}": v.detach().numpy() for k, v in model.state_dict().items() if v.numel()}
    np.savez(folder / "peer.npz", energy=energy.detach(), forces=forces.detach(), **arrays)
    about["parameters"] = sum(p.numel() for p in model.parameters())
    about["torch"] = torch.__version__
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-6, amsgrad=True)
    atoms = len(forces) / len(energy)

    def step() -> None:
        optimiser.zero_grad()
        energy, forces = predict()
        (((energy / atoms) ** 2).mean() + 100.0 * (forces**2).mean()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    print(json.dumps(about), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(seconds(step, int(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
