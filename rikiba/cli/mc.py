"""Sample structures by Monte Carlo: one table [move.NAME] for each trial move."""

import argparse
from dataclasses import dataclass
from typing import final

from rikiba import config
from rikiba.config import ConfigError

from . import arguments as common
from .progress import progress

TABLES = ("structure", "potential", "calculator", "mc", "move")


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """The table [mc].

    Args:
        steps: trials of each replica, equilibration included.
        temperature_K: of the ensemble.
        pressure_GPa: where a move changes the volume.
        equilibration_steps: first steps, which tune the moves and are left out of the means.
        replicas: copies of each structure, sampled together.
        interval: steps between samples of energy and volume.
        trajectory_interval: steps between frames of trajectory.xyz.
        checkpoint_interval: steps between checkpoints.
        atoms_per_molecule: consecutive atoms that are one molecule, for moves of molecules.
        seed: of all trials.
    """

    steps: int
    temperature_K: float
    pressure_GPa: float | None = None
    equilibration_steps: int = 0
    replicas: int = 1
    interval: int = 10
    trajectory_interval: int = 1000
    checkpoint_interval: int = 10000
    atoms_per_molecule: int | None = None
    seed: int = 0


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_config(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")


def execute(arguments: argparse.Namespace) -> None:
    from rikiba.core.system import System
    from rikiba.sampling.monte_carlo import MonteCarlo, consecutive_molecules
    from rikiba.sampling.trajectory import Trajectory

    from . import sources
    from .output import write_run

    tables, folder, out = common.load_config(arguments), arguments.file.parent, common.out_folder(arguments)
    config.check_tables(tables, TABLES)
    s = config.build(Settings, tables.get("mc", {}), where="[mc]")
    moves = [
        config.build_kind("sampling.moves", table, where=f"[move.{name}]", default=name)
        for name, table in tables.get("move", {}).items()
    ]
    frames = sources.structures(tables.get("structure", {}), folder)
    system = System.from_ase([atoms for atoms in frames for _ in range(s.replicas)])
    alone = s.atoms_per_molecule is None
    with progress() as show:
        run = MonteCarlo(
            sources.calculator(tables, folder), system, moves, temperature_K=s.temperature_K,
            pressure_GPa=s.pressure_GPa, seed=s.seed, equilibration_steps=s.equilibration_steps,
            interval=s.interval, checkpoint=out / "mc.checkpoint", checkpoint_interval=s.checkpoint_interval,
            molecules=None if alone else consecutive_molecules(system, s.atoms_per_molecule or 1),
            observers=[Trajectory(path=out / "trajectory.xyz", interval=s.trajectory_interval)],
            progress=lambda done, total: show("Monte Carlo", done, total),
        )  # fmt: skip
        if arguments.resume:
            if not (out / "mc.checkpoint").is_file():
                raise ConfigError(f"There is no checkpoint in {out} to go on from; leave --resume out.")
            run.restore(out / "mc.checkpoint")
        run.run(max(0, s.steps - run.step)).close()
    rooms = {"mc": Settings, "move.*": "sampling.moves"}
    write_run(arguments, tables, [run.record()], out, rooms=rooms, seeds={"mc": s.seed})
