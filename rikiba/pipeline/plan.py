"""What a run is asked to do: every table of its file checked and turned into objects before work begins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

from ase import Atoms

from rikiba import config as tables
from rikiba.active.explorers.base import Explorer
from rikiba.config import ConfigError
from rikiba.core.system import System
from rikiba.data.structures.base import anchored
from rikiba.md.ase_constraints import attached
from rikiba.md.constraints.base import Constraint
from rikiba.md.state import State
from rikiba.potentials.base import LinearPotential, Potential
from rikiba.potentials.gap import Gap
from rikiba.potentials.mtp import Mtp
from rikiba.potentials.sum import Sum
from rikiba.reference.base import Reference
from rikiba.training.gaussian_process import SparseGaussianProcess
from rikiba.training.least_squares import LeastSquares
from rikiba.training.separable import SeparableLeastSquares
from rikiba.training.trainer import Trainer

from .parts import Transfer

TABLES = (
    "run",
    "structure",
    "reference",
    "explorer",
    "data",
    "split",
    "training",
    "model",
    "validation",
    "comparison",
    "transfer",
    "property",
    "simulation",
    "constraint",
    "published",
)
Fitter = Trainer | LeastSquares | SeparableLeastSquares | SparseGaussianProcess
FITTERS: dict[str, type[Fitter]] = {
    "trainer": Trainer,
    "least_squares": LeastSquares,
    "separable_least_squares": SeparableLeastSquares,
    "sparse_gaussian_process": SparseGaussianProcess,
}
"""kind of [model.NAME.training] → class. Without one, what is linear in its coefficients is solved for."""
SOLVED_BY: dict[type[Potential], str] = {Gap: "sparse_gaussian_process", Mtp: "separable_least_squares"}
"""Class → kind, where plain least squares are not what suits it."""


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """How the run as a whole is carried out.

    Args:
        title: heading of the report.
        seed: base of every random number of the run.
        processes: jobs at a time, one thread each.
    """

    title: str = "rikiba run"
    seed: int = 0
    processes: int = 2

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ValueError(f"processes must be at least 1; given {self.processes}.")


@final
@dataclass(frozen=True, kw_only=True)
class DataFiles:
    """Labelled data that the user brings.

    Args:
        folder: where the files are; that of the configuration if not given.
        training: file of training frames.
        validation: file of validation frames; otherwise [split] takes them from the training frames.
        test: file of test frames; otherwise [split] takes them from the training frames.
        level_of_theory: the method that made the labels, e.g. PBE/def2-SVP; may stand in the files instead.
        energy_key: name of the energies in the files.
        forces_key: name of the forces in the files.
        stress_key: name of the stresses in the files; not read if not given.
        group_key: name of the trajectory or parent of a frame in the files.
        isolated_atoms: energy of each isolated atom at this level, eV; least squares if not given.
    """

    folder: Path | None = None
    training: Path
    validation: Path | None = None
    test: Path | None = None
    level_of_theory: str | None = None
    energy_key: str = "energy"
    forces_key: str = "forces"
    stress_key: str | None = None
    group_key: str = "group"
    isolated_atoms: dict[str, float] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Split:
    """How frames without a given split are divided: whole groups, never frames of one group.

    Args:
        validation_fraction: of the frames.
        test_fraction: of the frames.
        seed: of the choice of groups.
    """

    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0


@final
@dataclass(frozen=True, kw_only=True)
class Model:
    """One potential to train, as often as there are members."""

    name: str
    potential: Mapping[str, Any]
    trainer: Fitter
    members: int = 1


@final
@dataclass(frozen=True, kw_only=True)
class Validation:
    """What every trained potential is tested for.

    Args:
        physics: run the physics battery (invariances, derivatives, smoothness, short range, cost).
    """

    physics: bool = True


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All models on the same frames: errors with their spread over members, cost of an MD step, training.

    Steps are timed on a test frame by velocity Verlet in one process with one thread after everything is
    trained, each model in turn, in processor time: what other processes take does not count.

    Args:
        round_s: seconds of steps of one timing.
        rounds: timings of each model.
        temperature_K: of the initial velocities.
        timestep_fs: integration step.
        training_sizes: numbers of training frames, fewer than all, to train every model on as well, for
            learning curves; the smaller parts lie within the larger ones.
    """

    round_s: float = 0.5
    rounds: int = 3
    temperature_K: float = 300.0
    timestep_fs: float = 0.5
    training_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.training_sizes):
            raise ValueError(f"training_sizes must be at least 1; given {list(self.training_sizes)}.")
        if self.rounds < 2 or not self.round_s > 0:
            raise ValueError(
                f"rounds must be at least 2 and round_s positive; given {self.rounds}, {self.round_s}."
            )


@final
@dataclass(frozen=True, kw_only=True)
class MolecularDynamicsPlan:
    """Batched replicas with each model: constant temperature, then constant energy a quarter as long.

    Args:
        replicas: independent copies, advanced together.
        temperature_K: of the bath and of the initial velocities.
        friction_per_ps: of the bath.
        timestep_fs: integration step.
        total_ps: simulated time at constant temperature, all replicas together.
        equilibration_ps: of each replica before that, strongly damped, not counted in total_ps.
        equilibration_friction_per_ps: of the bath during equilibration.
        interval_fs: time between frames kept.
        reference_ps: simulated time with the reference engine, all its replicas together; 0 for none.
        reference_replicas: trajectories of the reference engine.
        max_seconds: wall time for a model's constant-temperature run; it is shortened, and says so, where
            the machine is slower. None is no limit.
    """

    replicas: int = 16
    temperature_K: float = 300.0
    friction_per_ps: float = 1.0
    timestep_fs: float = 0.5
    total_ps: float = 20.0
    equilibration_ps: float = 0.2
    equilibration_friction_per_ps: float = 20.0
    interval_fs: float = 2.0
    reference_ps: float = 2.0
    reference_replicas: int = 2
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        if min(self.replicas, self.reference_replicas) < 1:
            raise ValueError("replicas and reference_replicas must be at least 1.")
        if not self.timestep_fs <= self.interval_fs:
            raise ValueError(
                f"interval_fs ({self.interval_fs}) is less than timestep_fs ({self.timestep_fs})."
            )
        if not self.total_ps > 0 or min(self.equilibration_ps, self.reference_ps) < 0:
            raise ValueError("total_ps must be positive, equilibration_ps and reference_ps not negative.")


@final
@dataclass(frozen=True, kw_only=True)
class Published:
    """Errors that others report on the same data, for the table beside ours.

    Args:
        name: of the method.
        energy_mae_meV_per_atom: mean absolute error of the energy, meV/atom.
        forces_mae_meV_per_A: mean absolute error of force components, meV/Å.
        source: where the numbers stand.
    """

    name: str
    energy_mae_meV_per_atom: float | None = None
    forces_mae_meV_per_A: float | None = None
    source: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole run. Exactly one of `explorers` (with a reference) and `data` says where frames come from."""

    run: Run
    models: tuple[Model, ...]
    structure: Atoms | None = None
    reference: Reference | None = None
    explorers: tuple[Explorer, ...] = ()
    data: DataFiles | None = None
    split: Split = field(default_factory=Split)
    validation: Validation = field(default_factory=Validation)
    comparison: Comparison | None = None
    transfer: Transfer | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    simulation: MolecularDynamicsPlan | None = None
    constraints: tuple[Constraint, ...] = ()
    """What [simulation] holds fixed, beside what the structure carries."""
    published: tuple[Published, ...] = ()

    @staticmethod
    def of(config: Mapping[str, Any], folder: Path) -> "Plan":
        """Check every table. Paths in the file are relative to `folder`, where the file stands.

        Raises ConfigError with all unknown tables and keys, wrong values and combinations that make no run.
        """
        mistakes = tables.Mistakes()
        among = mistakes.among
        among(tables.check_tables, config, TABLES)
        config = among(with_shared_training, config) or config
        run = among(tables.build, Run, config.get("run", {}), where="[run]")
        kinds = {
            "constraints": ("md.constraints", "constraint"),
            "explorers": ("active.explorers", "explorer"),
        }
        parts: dict[str, Any] = {
            "run": run,
            "models": among(_models, config.get("model", {})),
            "structure": among(_structure, config, folder),
            "reference": among(_kind, "reference", config, "reference"),
            "data": among(_data, config, folder),
            "split": among(tables.build, Split, config.get("split", {}), where="[split]"),
            "validation": among(tables.build, Validation, config.get("validation", {}), where="[validation]"),
            "comparison": among(_optional, Comparison, config, "comparison"),
            "transfer": among(_optional, Transfer, config, "transfer"),
            "properties": among(_properties, config.get("property", {})),
            "simulation": among(_optional, MolecularDynamicsPlan, config, "simulation"),
            "published": among(_published, config.get("published", [])),
        }
        seed = {"seed": (run or Run()).seed}
        for name, (room, role) in kinds.items():
            content = config.get(role, [])
            parts[name] = among(tables.build_kinds, room, content, role=role, computed=seed)
        _check_combination(config, parts, mistakes)
        mistakes.check()
        return Plan(**parts)

    def check_elements(self, elements: Sequence[str]) -> None:
        """Raises ConfigError where [structure] has elements that the training data has not."""
        wanted = set() if self.structure is None else set(self.structure.get_chemical_symbols())
        if missing := wanted - set(elements):
            raise ConfigError(
                f"[structure] has {', '.join(sorted(missing))}, but the training frames have not: they have "
                f"{', '.join(elements)}, and no potential can learn others from them. Change either table."
            )


def _kind(room: str, config: Mapping[str, Any], role: str) -> Any:
    return tables.build_kind(room, config[role], where=f"[{role}]") if role in config else None


def _optional(cls: Any, config: Mapping[str, Any], role: str) -> Any:
    return tables.build(cls, config[role], where=f"[{role}]") if role in config else None


def _structure(config: Mapping[str, Any], folder: Path) -> Atoms | None:
    builder = _kind("data.structures", config, "structure")
    if builder is None:
        return None
    try:
        built: Atoms = anchored(builder, folder).build()
        return built
    except ValueError as error:
        raise ConfigError(f"[structure]: {error}") from error


def _properties(content: Mapping[str, Any]) -> dict[str, Any]:
    """The questions of the tables [property.NAME]."""
    mistakes = tables.Mistakes()
    found = {
        name: mistakes.among(tables.build_kind, "properties", t, where=f"[property.{name}]", default=name)
        for name, t in content.items()
    }
    mistakes.check()
    return found


def _published(content: Sequence[Mapping[str, Any]]) -> tuple[Published, ...]:
    mistakes = tables.Mistakes()
    found = [
        mistakes.among(tables.build, Published, t, where=f"[[published]] {k + 1}")
        for k, t in enumerate(content)
    ]
    mistakes.check()
    return tuple(found)


def _check_combination(
    config: Mapping[str, Any], parts: Mapping[str, Any], mistakes: tables.Mistakes
) -> None:
    """Add the mistakes of tables that are right by themselves."""
    if ("data" in config) == ("explorer" in config):
        mistakes.add(
            "A run needs frames from one place: [data] with files, or [[explorer]] with [reference]."
        )
    if "explorer" in config and not {"reference", "structure"} <= set(config):
        mistakes.add("[[explorer]] needs a [reference] to label with and a [structure] to start from.")
    if "structure" not in config and {"property", "simulation"} & set(config):
        mistakes.add("[property] and [simulation] need a [structure].")
    if "constraint" in config and "simulation" not in config:
        mistakes.add(
            "[[constraint]] is what [simulation] holds; write that table, or leave [[constraint]] out."
        )
    for name, question in (parts["properties"] or {}).items():
        if not hasattr(question, "compute"):
            mistakes.add(
                f"[property.{name}] is asked of a trajectory: use `rikiba property` and a [trajectory]."
            )
        elif hasattr(question, "check") and parts["structure"] is not None:
            _try(question.check, parts["structure"], f"[property.{name}]", mistakes)
    if parts["constraints"] and parts["structure"] is not None:
        _try(lambda atoms: _held(atoms, parts["constraints"]), parts["structure"], "[[constraint]]", mistakes)


def _try(check: Callable[[Atoms], Any], atoms: Atoms, where: str, mistakes: tables.Mistakes) -> None:
    """Add what a check says against a structure."""
    try:
        check(atoms)
    except ValueError as error:
        mistakes.add(f"{where}: {error}")


def _held(atoms: Atoms, constraints: Sequence[Constraint]) -> State:
    """The structure at rest with its own constraints and those given; raises ValueError where they fail."""
    return State.of(System.from_ase(atoms)).constrained([*attached([atoms]), *constraints])


def _data(config: Mapping[str, Any], folder: Path) -> DataFiles | None:
    given: DataFiles | None = _optional(DataFiles, config, "data")
    if given is None:
        return None
    folder = folder if given.folder is None else folder / given.folder
    files = {
        name: folder / path for name in ("training", "validation", "test") if (path := getattr(given, name))
    }
    for name, path in files.items():
        if not path.is_file():
            raise FileNotFoundError(f"[data] {name}: there is no file {path}.")
    return replace(given, **files)


def with_shared_training(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with [training] put under what each model that is trained by descent says itself.

    [training] holds a trainer's settings and `members`; models that are solved for have no part in it.
    """
    if "training" not in config:
        return config
    shared = dict(config["training"])
    members = {"members": shared.pop("members")} if "members" in shared else {}
    tables.build(Trainer, shared, where="[training]")
    models: dict[str, Any] = {}
    for name, table in config.get("model", {}).items():
        own = table.get("training", {})
        models[name] = table
        if "potential" in table and fitter_of(name, table) is Trainer:
            models[name] = {**members, **table, "training": {**shared, **own}}
    return {k: v for k, v in config.items() if k not in ("training", "model")} | {"model": models}


def _models(content: Mapping[str, Any]) -> tuple[Model, ...]:
    if not content:
        raise ConfigError(
            "There is no model to train; write at least one [model.NAME.potential] with a kind."
        )
    mistakes = tables.Mistakes()
    models = [mistakes.among(_model, name, table) for name, table in content.items()]
    mistakes.check()
    return tuple(models)


def _model(name: str, table: Mapping[str, Any]) -> Model:
    where = f"[model.{name}]"
    unknown = set(table) - {"potential", "training", "members"}
    if unknown or "potential" not in table:
        raise ConfigError(f"{where} holds 'potential', 'training' and 'members'; given {sorted(table)}.")
    members = table.get("members", 1)
    if not isinstance(members, int) or members < 1:
        raise ConfigError(f"{where} members must be a whole number, at least 1; given {members}.")
    mistakes = tables.Mistakes()
    cls = tables.pick("potentials", table["potential"], where=f"[model.{name}.potential]")
    mistakes.among(check_keys, cls, table["potential"], f"[model.{name}.potential]")
    trainer: Fitter = mistakes.among(
        tables.build, fitter_of(name, table), table.get("training", {}), where=f"[model.{name}.training]"
    )
    mistakes.check()
    if members > 1 and not isinstance(trainer, Trainer):
        raise ConfigError(f"{where} is solved for, with one answer; members must be 1, given {members}.")
    return Model(name=name, potential=table["potential"], trainer=trainer, members=members)


def fitter_of(name: str, model: Mapping[str, Any]) -> type[Fitter]:
    """How the model learns: what [model.NAME.training] names, or what suits the potential."""
    where = f"[model.{name}.training]"
    table = model.get("training", {})
    kind = table.get("kind") if isinstance(table, Mapping) else None
    if kind is None:
        cls = tables.pick("potentials", model["potential"], where=f"[model.{name}.potential]")
        linear = _linear_term(cls, model["potential"])
        kind = "trainer" if linear is None else SOLVED_BY.get(linear, "least_squares")
        if kind == "separable_least_squares" and linear is not cls:
            kind = "least_squares"  # in a sum the radial functions stay as they are
    elif kind not in FITTERS:
        raise ConfigError(f"{where} kind is {' or '.join(FITTERS)}; given {kind!r}.")
    return FITTERS[kind]


def _linear_term(cls: type[Potential], table: Mapping[str, Any]) -> type[Potential] | None:
    """The class that is linear in its coefficients: this one, or that of a sum's one term that learns."""
    kinds = [tables.pick("potentials", t) for t in table.get("terms", ())] if issubclass(cls, Sum) else [cls]
    learned = [k for k in kinds if k.learned]
    return learned[0] if len(learned) == 1 and issubclass(learned[0], LinearPotential) else None


def check_keys(cls: Any, table: Mapping[str, Any], where: str) -> None:
    """Check a potential's table before the data is known, standing in for what the data will give."""
    stand_in = {
        "elements": ("H",),
        "atomic_energies": None,
        "avg_num_neighbors": 1.0,
        "scale": 1.0,
        "shift": 0.0,
    }
    tables.resolve_table(cls, table, where=where, computed=stand_in)
