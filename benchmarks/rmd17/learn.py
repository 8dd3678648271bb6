"""Learning from few configurations: rMD17, split 01, first n training frames (the last tenth validates).

    python benchmarks/rmd17/learn.py --molecule ethanol --frames 50 --potential mace --seconds 3000

One thread. Writes results/MOLECULE_POTENTIAL_FRAMES.json beside this file: errors on the 1,000 test frames of
split 01, settings, wall time. Data: Christensen & von Lilienfeld, doi:10.1088/2632-2153/abba6f (CC0), from
the folder that RIKIBA_DATA names.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch

from rikiba import __version__
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.data.dataset import Dataset
from rikiba.data.formats import read
from rikiba.data.statistics import computed_arguments
from rikiba.potentials.base import Potential
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.mace import MACE
from rikiba.training.checkpoint import save_potential
from rikiba.training.trainer import Trainer

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("RIKIBA_DATA", HERE.parents[2] / "shared" / "data"))
LEVEL = "PBE/def2-SVP"
POTENTIALS = {
    "mace": (MACE, {"cutoff": 5.0, "channels": 32, "max_L": 1, "l_max": 3, "correlation": 3, "seed": 1}),
    "behler_parrinello": (
        BehlerParrinello,
        {"cutoff": 6.0, "n_radial": 16, "n_angular": 6, "zetas": (1, 2, 4, 8), "hidden": (64, 64)},
    ),
}
TRAINERS = {
    "mace": {"batch_size": 5, "learning_rate": 0.01},
    "behler_parrinello": {"batch_size": 5, "learning_rate": 0.003},
}


def errors(potential: Potential, test: Dataset) -> dict[str, float]:
    """Mean absolute and root-mean-square errors, meV (whole molecule) and meV/Å (per component)."""
    calculator = PotentialCalculator(potential)
    de, df = [], []
    for k in range(0, len(test), 50):
        part = [test[i] for i in range(k, min(k + 50, len(test)))]
        found = calculator(System.cat([f.system for f in part]))
        de.append(found.need("energy") - torch.cat([f.results.need("energy") for f in part]))
        df.append(found.need("forces") - torch.cat([f.results.need("forces") for f in part]))
    e, f = 1e3 * torch.cat(de), 1e3 * torch.cat(df)
    return {
        "energy_mae_meV": float(e.abs().mean()),
        "energy_rmse_meV": float(e.square().mean().sqrt()),
        "forces_mae_meV_per_A": float(f.abs().mean()),
        "forces_rmse_meV_per_A": float(f.square().mean().sqrt()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--molecule", default="ethanol", choices=("ethanol", "aspirin"))
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--potential", default="mace", choices=tuple(POTENTIALS))
    parser.add_argument("--seconds", type=float, default=3000.0)
    parser.add_argument("--folder", type=Path, help="keeps the training state, so that a run can go on")
    options = parser.parse_args()
    torch.set_num_threads(1)

    folder = DATA / "rmd17" / options.molecule
    frames = read(folder / "train_01.xyz", level_of_theory=LEVEL)[: options.frames]
    held_out = max(1, options.frames // 10)
    training, validation = frames[:-held_out], frames[-held_out:]
    cls, arguments = POTENTIALS[options.potential]
    computed = computed_arguments(training, arguments["cutoff"])
    wanted = {k: v for k, v in computed.items() if k != "avg_num_neighbors" or cls is MACE}
    potential = cls(**arguments, **wanted)
    trainer = Trainer(
        max_epochs=1_000_000,
        max_seconds=options.seconds,
        schedule="cosine",
        schedule_follows="time",
        validation_interval_epochs=10,
        energy_weight=10.0,
        forces_weight=100.0,
        stage_two_start=0.7,
        stage_two_energy_weight=1000.0,
        stage_two_learning_rate=None,
        **TRAINERS[options.potential],
    )
    started = time.time()
    result = trainer.fit(potential, training, validation, folder=options.folder, resume=True)
    name = f"{options.molecule}_{options.potential}_{options.frames}"
    if result.stopped == "interrupted":
        raise SystemExit("Interrupted; run again with the same --folder to go on.")
    if options.folder:
        save_potential(options.folder / f"{name}.rikiba", result.potential, level_of_theory=LEVEL)
    row = {
        "molecule": options.molecule,
        "potential": options.potential,
        "training_frames": len(training),
        "validation_frames": len(validation),
        "parameters": sum(p.numel() for p in result.potential.parameters()),
        "arguments": {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()},
        "epochs": result.history[-1]["epoch"],
        "best_epoch": result.best_epoch,
        "training_wall_s": round(result.seconds, 1),
        "total_wall_s": round(time.time() - started, 1),
        "test": errors(result.potential, read(folder / "test_01.xyz", level_of_theory=LEVEL)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rikiba": __version__,
        "processor": platform.processor() or platform.machine(),
    }
    out = HERE / "results" / f"{name}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
