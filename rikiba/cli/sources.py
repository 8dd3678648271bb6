"""What most verbs start from: a structure, and something that gives energies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator

from rikiba import config
from rikiba.calculators.base import Calculator
from rikiba.config import ConfigError
from rikiba.md.constraints.base import Constraint
from rikiba.potentials.base import Potential


def potentials(table: Mapping[str, Any], folder: Path) -> list[Potential]:
    """The potentials of a [potential] table: of checkpoint files, or one built from its kind.

    A classical kind may take its parameters from another program's `file`, relative to `folder`. A learned
    one without `elements` has its published weights where there are any.
    """
    if "checkpoint" not in table:
        find = publisher(table)
        if find is not None:
            from rikiba.interop.foreign import build

            return [build(config.build(find, table, where="[potential]"))]
        if names_file(table):
            from rikiba.interop.potential_files import with_files

            table = with_files(table, folder)
        return [config.build_kind("potentials", table, where="[potential]")]
    from rikiba.training.checkpoint import load_potential

    files: Sequence[Path] = config.build(checkpoint_files, table, where="[potential]")
    return [load_potential(folder / f) for f in files]


def publisher(table: Any) -> Callable[..., Any] | None:
    """What finds the published weights that a [potential] table means; None where it describes a new one."""
    if not isinstance(table, Mapping) or {"checkpoint", "file"} & set(table):
        return None
    if "elements" in table and "model" not in table:
        return None
    from rikiba.interop.foreign import pretrained

    return pretrained(str(table.get("kind")))


def names_file(table: Any) -> bool:
    """True where a table, or one in it, names another program's parameter file."""
    if isinstance(table, Mapping):
        return "file" in table or any(names_file(value) for value in table.values())
    return isinstance(table, list) and any(names_file(value) for value in table)


def checkpoint_files(*, checkpoint: Path | tuple[Path, ...]) -> tuple[Path, ...]:
    """Files of saved potentials.

    Args:
        checkpoint: a file, or several files for a committee.
    """
    return checkpoint if isinstance(checkpoint, tuple) else (checkpoint,)


def calculators(tables: Mapping[str, Any], folder: Path) -> list[Calculator]:
    """One calculator for each potential of [potential], or the one of [calculator].

    [calculator] names one of rikiba's own (`kind = "lammps"`, `"dispersion_d3"`), or any ASE or rikiba
    calculator as `kind = "package.module:Class"`; its other keys are that class's arguments. Raises
    ConfigError unless exactly one of the two tables is there.
    """
    if ("potential" in tables) == ("calculator" in tables):
        raise ConfigError(
            "Energies come from one table: [potential] with checkpoint = 'FILE' or a kind, or [calculator] "
            'with kind = "package.module:Class" for any ASE calculator.'
        )
    if "potential" in tables:
        from rikiba.calculators.autograd import PotentialCalculator

        return [PotentialCalculator(p) for p in potentials(tables["potential"], folder)]
    found = config.build_kind(
        "calculators", tables["calculator"], where="[calculator]", computed={"folder": folder}
    )
    if isinstance(found, AseCalculator):
        from rikiba.calculators.ase import FromASE

        return [FromASE(found)]
    return [found]


def calculator(tables: Mapping[str, Any], folder: Path) -> Calculator:
    """The calculator of [potential] or [calculator]; several checkpoints make a committee."""
    if isinstance(tables.get("potential"), Mapping) and "calculator" not in tables:
        members = potentials(tables["potential"], folder)
        if len(members) > 1:
            from rikiba.calculators.committee import Committee

            return Committee(members)
    return calculators(tables, folder)[0]


def calculator_or_reference(tables: Mapping[str, Any], folder: Path) -> tuple[Calculator, str | None]:
    """As `calculator`, or the engine of [reference] with its level of theory: Born–Oppenheimer dynamics.

    The engine keeps its last electronic solution between steps and starts from it, where it can.
    """
    if "reference" not in tables:
        return calculator(tables, folder), None
    if {"potential", "calculator"} & set(tables):
        raise ConfigError("Energies come from one of [potential], [calculator] and [reference].")
    from rikiba.calculators.ase import FromASE

    engine = config.build_kind("reference", tables["reference"], where="[reference]")
    if not hasattr(engine, "ase_calculator"):
        raise ConfigError(
            f"[reference] {type(engine).__name__} labels single structures; it cannot run dynamics."
        )
    return FromASE(engine.ase_calculator()), engine.level_of_theory


def constraints(tables: Mapping[str, Any]) -> list[Constraint]:
    """What the tables [[constraint]] hold, each by its kind; none of them is no constraint."""
    return list(config.build_kinds("md.constraints", tables.get("constraint", []), role="constraint"))


def structures(table: Mapping[str, Any], folder: Path) -> list[Atoms]:
    """What [structure] builds; every frame of a file where `index = "all"`."""
    if table.get("kind") == "file" and table.get("index") == "all":
        from rikiba.data.formats import read_structures

        return read_structures(folder / str(table.get("path", "")))
    from rikiba.data.structures.base import anchored

    builder = anchored(config.build_kind("data.structures", table, where="[structure]"), folder)
    built: Atoms = builder.build()
    return [built]


@final
@dataclass(frozen=True, kw_only=True)
class TrajectoryFile:
    """The table [trajectory].

    Args:
        path: any format that ASE reads, relative to the configuration.
        timestep_fs: time between its frames.
        start: first frame that is used.
    """

    path: Path
    timestep_fs: float
    start: int = 0

    def read(self, folder: Path) -> Any:
        from rikiba.data.formats import read_structures
        from rikiba.properties.trajectories import Trajectory

        frames = read_structures(folder / self.path)
        return Trajectory.from_ase(frames[self.start :], timestep_fs=self.timestep_fs)
