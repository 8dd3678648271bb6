"""What a potential reaches on published data in a given time, beside the published figures.

    python benchmarks/accuracy/learn.py rmd17-ethanol --frames 50 --potential nequip --seconds 90
    python benchmarks/accuracy/learn.py rmd17-ethanol --frames 50 --potential mace --seconds 2400 --validation
    python benchmarks/accuracy/learn.py mlearn-Si --potential qsnap
    python benchmarks/accuracy/learn.py deepmd-water --potential deep_potential --seconds 1500

One thread; seconds are of processor time. rMD17 (doi:10.1088/2632-2153/abba6f): the first n training frames
of split 01, tested on its 1,000 test frames; all of the n train and nothing is used to stop early, or with
--validation the last tenth of them only validates. mlearn (doi:10.1021/acs.jpca.9b08723): the published
division, with stress; all training frames train and nothing is used to stop early. deepmd-water
(doi:10.1103/PhysRevLett.120.143001): deepmd-kit's example, 320 frames train, the 80 of data_3 test. Data
come from the folder that RIKIBA_DATA names (mlearn-Si from examples/silicon/data).

Sizes and trainers are those of settings.toml, or of short.toml for at most two minutes and for what the
first has not: small potentials of every family that learn something on molecules in a minute or two. What is
solved for takes the time that it takes. Writes results/DATA_POTENTIAL_FRAMES_SECONDSs.json beside this file,
without seconds where none are given: test errors, settings, times. With --hold-out the last so many
training frames are tested instead, and nothing is written: to choose settings without the test frames.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rikiba import __version__, config
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.data.dataset import Dataset
from rikiba.data.formats import read
from rikiba.data.statistics import computed_arguments
from rikiba.pipeline.plan import Fitter, fitter_of
from rikiba.potentials.base import Potential
from rikiba.training.checkpoint import save_potential
from rikiba.training.result import TrainingResult
from rikiba.training.trainer import Trainer
from rikiba.validation.errors import errors

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DATA = Path(os.environ.get("RIKIBA_DATA", HERE.parents[2] / "shared" / "data"))
SILICON = HERE.parents[1] / "examples" / "silicon" / "data"
SETS: dict[str, tuple[Path, str, str, dict[str, Any]]] = {
    f"rmd17-{m}": (DATA / "rmd17" / m, "_01", "PBE/def2-SVP", {}) for m in ("ethanol", "aspirin")
}
SETS |= {
    "mlearn-Si": (SILICON, "", "PBE (VASP)", {"stress_key": "stress"}),
    "mlearn-Mo": (DATA / "mlearn" / "Mo", "", "PBE (VASP)", {"stress_key": "stress"}),
}
SETS["deepmd-water"] = (DATA / "deepmd_water", "", "PBE0-TS", {})
SHORT_S = 120.0
"""Longest time for the settings of short.toml."""
STRESS_WEIGHT = 1000.0
"""Per (eV/Å³)²: 0.01 eV/Å³ (1.6 GPa) then counts as 0.03 eV/Å of force at a force weight of 100."""
DESCENT: dict[str, Any] = {
    "max_epochs": 1_000_000,
    "clock": "processor",
    "schedule": "cosine",
    "schedule_follows": "time",
    "validation_interval_epochs": 10,
    "energy_weight": 10.0,
    "forces_weight": 100.0,
    "stage_two_start": 0.7,
    "stage_two_energy_weight": 1000.0,
    "stage_two_learning_rate": "none",
}
"""Settings of a trainer where the files say nothing else."""


@dataclass(frozen=True)
class Settings:
    """What is trained, and how."""

    file: str
    potential: dict[str, Any]
    training: dict[str, Any]
    levels: tuple[int | None, ...] = (None,)
    """Of moment tensor potentials, one after the other."""


def merged(*given: dict[str, Any]) -> dict[str, Any]:
    """Tables laid over each other, later ones on top."""
    found: dict[str, Any] = {}
    for table in given:
        for k, v in table.items():
            found[k] = merged(found[k], v) if isinstance(v, dict) and isinstance(found.get(k), dict) else v
    return found


def settings(data: str, name: str, seconds: float | None) -> Settings:
    """Those of a potential on a set of data: of the set, over those of all sets of its family."""
    files = ["settings.toml", "short.toml"]
    for file in reversed(files) if seconds is not None and seconds <= SHORT_S else files:
        tables = config.read(HERE / file)
        table = merged(*(tables.get(key, {}).get(name, {}) for key in (data.split("-")[0], data)))
        if "potential" in table:
            levels = tuple(table.get("levels", (None,)))
            return Settings(Path(file).stem, table["potential"], table.get("training", {}), levels)
    raise SystemExit(f"Neither of {', '.join(files)} has settings for {name} on {data}.")


def divided(name: str, n: int | None, validate: bool) -> tuple[Dataset, Dataset | None, Dataset]:
    """Training, validation and test frames."""
    folder, suffix, level, keys = SETS[name]
    if name == "deepmd-water":
        parts = [read(folder / f"data_{k}.xyz", level_of_theory=level) for k in range(4)]
        return Dataset([f for part in parts[:3] for f in part][:n]), None, parts[3]
    training = read(folder / f"train{suffix}.xyz", level_of_theory=level, **keys)[:n]
    test = read(folder / f"test{suffix}.xyz", level_of_theory=level, **keys)
    if not validate:
        return training, None, test
    held_out = max(1, len(training) // 10)
    return training[:-held_out], training[-held_out:], test


def trainer_of(chosen: Settings, options: argparse.Namespace) -> Fitter:
    """What suits the potential, with the settings of the file over the common ones."""
    model = {"potential": chosen.potential, "training": chosen.training}
    cls = fitter_of(options.potential, model)
    table = chosen.training
    if cls is Trainer:
        if options.seconds is None:
            raise SystemExit("Give the time for gradient descent: --seconds.")
        stress = STRESS_WEIGHT if options.data.startswith("mlearn") else 0.0
        common = DESCENT | {"stress_weight": stress, "stage_two_stress_weight": stress}
        table = common | {"max_seconds": options.seconds, "seed": options.seed} | table
    fitter: Fitter = config.build(cls, table, where="training")
    return fitter


def learn(
    chosen: Settings, options: argparse.Namespace, training: Dataset, validation: Dataset | None
) -> tuple[Potential, float | None]:
    """The trained potential, and the epochs where there are such."""
    fitter = trainer_of(chosen, options)
    cls = config.pick("potentials", chosen.potential)
    computed = computed_arguments(training, cutoff(chosen.potential)) | {"seed": options.seed}
    before = None
    for level in chosen.levels:
        table = chosen.potential | ({} if level is None else {"level": level})
        potential = config.build(cls, table, where="potential", computed=computed)
        if before is not None:
            with torch.no_grad():
                potential.radial_coefficients[:, :, : before.shape[2]] = before
        if isinstance(fitter, Trainer):
            result = fitter.fit(potential, training, validation, folder=options.folder, resume=True)
            return finished(result), result.history[-1]["epoch"]
        potential = fitter.fit(potential, training).potential
        if level is not None:
            before = potential.radial_coefficients.detach()
            print(f"level {level}: {time.process_time():.0f} s", flush=True)
    return potential, None


def cutoff(table: dict[str, Any]) -> float:
    """The one given, of several terms the longest."""
    return float(table["cutoff"] if "cutoff" in table else max(t["cutoff"] for t in table["terms"]))


def finished(result: TrainingResult) -> Potential:
    """The potential, unless its training was broken off."""
    if result.stopped == "interrupted":
        raise SystemExit("Interrupted; run again with the same --folder to go on.")
    return result.potential


def file_of(data: str, name: str, frames: int, seconds: float | None) -> Path:
    """Where the results stand."""
    budget = "" if seconds is None else f"_{seconds:.0f}s"
    return RESULTS / f"{data}_{name}_{frames}{budget}.json"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=tuple(SETS))
    parser.add_argument("--frames", type=int, help="only the first so many training frames")
    parser.add_argument("--potential", default="mace", help="name of a table in the files of settings")
    parser.add_argument("--seconds", type=float, help="of processor time, for what is not solved for")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--validation", action="store_true", help="hold the last tenth back to validate")
    parser.add_argument("--folder", type=Path, help="keeps the training state, so that a run can go on")
    parser.add_argument("--hold-out", type=int, help="test the last so many training frames; write nothing")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="potential.… or training.…"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    chosen = settings(options.data, options.potential, options.seconds)
    if options.set:
        given = {"potential": chosen.potential, "training": chosen.training}
        chosen = replace(chosen, **config.apply_settings(given, options.set))
    training, validation, test = divided(options.data, options.frames, options.validation)
    if options.hold_out:
        training, test = training[: -options.hold_out], training[-options.hold_out :]
    clocks = time.monotonic, time.process_time
    began = [clock() for clock in clocks]
    potential, epochs = learn(chosen, options, training, validation)
    wall, processor = (round(clock() - t, 1) for clock, t in zip(clocks, began, strict=True))
    n = len(training) + len(validation or ())
    file = file_of(options.data, options.potential, n, options.seconds)
    if options.folder:
        level = SETS[options.data][2]
        save_potential(options.folder / f"{file.stem}.npz", potential, level_of_theory=level)
    found = errors(PotentialCalculator(potential), test)
    row = {
        "data": options.data,
        "potential": options.potential,
        "settings": chosen.file,
        "training_frames": len(training),
        "validation_frames": 0 if validation is None else len(validation),
        "test_frames": len(test),
        "parameters": sum(p.numel() for p in potential.parameters()),
        "arguments": {k: v for k, v in chosen.potential.items() if k != "kind"},
        "training": chosen.training,
        "seed": options.seed,
        "seconds": options.seconds if epochs is not None or chosen.file == "short" else None,
        "atoms_per_frame": sum(f.system.n_atoms for f in test) / len(test),
        "epochs": epochs,
        "training_wall_s": wall,
        "training_processor_s": processor,
        "test": {
            k: v for k, v in found.values.items() if isinstance(v, float) and ("mae" in k or "rmse" in k)
        },
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rikiba": __version__,
        "processor": platform.processor() or platform.machine(),
    }
    text = json.dumps(row, indent=1)
    print(text)
    if options.hold_out or options.set:
        print("Not written: other frames or settings than those of the table.")
        return
    file.parent.mkdir(exist_ok=True)
    file.write_text(text + "\n")


if __name__ == "__main__":
    main()
