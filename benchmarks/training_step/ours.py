"""Training steps here, on request: the model that peers.py left in a folder; see compare.py.

    python benchmarks/training_step/ours.py "MACE 128x0e" <folder>

Energies and forces must equal the peer's before anything is timed. A step is that of the trainer: loss,
gradient, clip, optimiser, average.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import CASES, CUTOFF, frames, seconds

from rikiba.calculators.autograd import evaluate
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.batching import collate
from rikiba.data.dataset import Labelled
from rikiba.interop.mace_torch import read_mace_torch
from rikiba.interop.nequip import read_nequip
from rikiba.interop.schnetpack import read_schnetpack
from rikiba.potentials.base import Potential
from rikiba.potentials.mace import MACE
from rikiba.potentials.nequip import NequIP
from rikiba.potentials.painn import PaiNN
from rikiba.potentials.schnet import SchNet
from rikiba.training.distributed import Processes
from rikiba.training.loss import counts
from rikiba.training.step import train_step
from rikiba.training.trainer import Trainer

CLASSES = {"MACE": MACE, "NequIP": NequIP, "PaiNN": PaiNN, "SchNet": SchNet}


def build(case: dict[str, Any], state: dict[str, torch.Tensor], about: dict[str, Any]) -> Potential:
    """The peer's model."""
    if case["peer"] == "mace":
        weights: Any = read_mace_torch(state, avg_num_neighbors=about["avg_num_neighbors"])
    elif case["peer"] == "nequip":
        weights = read_nequip(state, about["settings"])
    else:
        symbols = sorted({s for a in frames(case["structure"]) for s in a.symbols})
        weights = read_schnetpack(state, elements=symbols)
    model = CLASSES[weights.class_name](**weights.arguments).double()
    model.load_state_dict(weights.tensors)
    return model


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    about = json.loads((folder / "about.json").read_text())
    torch.set_num_threads(1)
    case = CASES[name]
    with np.load(folder / "peer.npz") as f:
        stored = {k: torch.as_tensor(v) for k, v in f.items()}
    state = {k[6:]: v for k, v in stored.items() if k.startswith("state/")}
    model = build(case, state, about).float()
    systems = [System.from_ase([a]) for a in frames(case["structure"])]
    zeros = [torch.zeros(1, dtype=torch.float64), torch.zeros_like(systems[0].positions)]
    labels = Results(energy=zeros[0], forces=zeros[1])
    batch = collate(
        [Labelled(system=s, results=labels, level_of_theory="zero") for s in systems], cutoff=CUTOFF
    )
    found = evaluate(model, batch.system, batch.pairs)
    error = float((found.need("forces") - stored["forces"]).abs().max() / stored["forces"].abs().max())
    if not error < 1e-3:
        raise SystemExit(f"{name}: forces differ by {error:.1e} of the largest; times would mean nothing")
    trainer = Trainer(learning_rate=1e-6)
    training, loss, processes = trainer._begin(model), trainer.loss_of_stage(1), Processes()
    for group in training.optimizer.param_groups:
        group["lr"] = 1e-6
    number = counts(batch.labels)

    def step() -> None:
        train_step(training, batch, number, loss, processes, trainer.gradient_clip)

    answer = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "pairs": len(batch.pairs),
        "atoms": batch.system.n_atoms,
        "force_difference": error,
    }
    print(json.dumps(answer), flush=True)
    for line in sys.stdin:
        print(json.dumps(seconds(step, int(line))), flush=True)


if __name__ == "__main__":
    main()
