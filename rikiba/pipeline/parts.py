"""Parts of the data by what its frames say of themselves: phases, systems, kinds of configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import final

import numpy as np

from rikiba.config import ConfigError
from rikiba.data.dataset import Dataset, Labelled
from rikiba.data.splits import Division, near_duplicates

ALL = "all"
"""Name of the training on all frames."""


@final
@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Every model trained on each part of the data alone and tested on the test frames of every part.

    Args:
        key: what names the part of a frame: a key of its info in the files, or "group" for its group.
        parts: name → patterns (with * and ?) of the key's values; every value is a part if not given.
        train_on: parts to train on alone; all that have training frames if not given.
        tolerance: a training holds on another part where its error is at most so many times that of the same
            model trained there, and fails where it is more.
        negligible_forces_meV_per_A: force errors up to this hold, whatever their ratio.
        negligible_energy_meV_per_atom: energy errors up to this hold, whatever their ratio.
    """

    key: str
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    train_on: tuple[str, ...] = ()
    tolerance: float = 2.0
    negligible_forces_meV_per_A: float = 10.0
    negligible_energy_meV_per_atom: float = 1.0

    def __post_init__(self) -> None:
        if not self.tolerance >= 1:
            raise ValueError(f"tolerance must be at least 1; given {self.tolerance}.")
        if min(self.negligible_forces_meV_per_A, self.negligible_energy_meV_per_atom) < 0:
            raise ValueError("negligible errors must not be negative.")
        if ALL in self.parts:
            raise ValueError(f"a part cannot be called '{ALL}': that is the training on all frames.")
        if self.parts and (unknown := set(self.train_on) - set(self.parts)):
            raise ValueError(f"train_on names {sorted(unknown)}; parts are {', '.join(self.parts)}.")


@final
@dataclass(frozen=True, kw_only=True)
class Parts:
    """Rows of the training, validation and test frames that belong to each part."""

    whole: Division
    names: tuple[str, ...]
    """Parts with test frames, in the order of the settings or of the files."""
    trained: tuple[str, ...]
    """Those that are trained on alone."""
    rows: Mapping[str, Mapping[str, tuple[int, ...]]]
    """Division ('training', …) → part → rows."""
    observations: Mapping[str, np.ndarray]
    """Part → number of the observation that each of its test frames belongs to: frames of one group, where
    groups have names other than the parts', and near duplicates are one."""
    left_out: int
    """Frames that are in no part."""

    def of(self, name: str, division: str) -> Dataset:
        """The frames of this part in a division: 'training', 'validation' or 'test'."""
        return self.whole.parts[division][list(self.rows[division].get(name, ()))]


def find_parts(settings: Transfer, whole: Division, group_key: str) -> Parts:
    """Which frames are of which part.

    Raises ConfigError for a key that no frame has, for a pattern that no frame fits and a frame that fits two
    parts, for fewer than two parts with test frames, for none to train on, and for parts to train on that
    lack an element of the test frames.
    """
    groups_are_parts = settings.key in ("group", group_key)
    values = {
        name: [_value(f, settings.key, groups_are_parts) for f in data] for name, data in whole.parts.items()
    }
    every = list(dict.fromkeys(v for column in values.values() for v in column if v is not None))
    if not every:
        known = sorted(
            {k for data in whole.parts.values() for f in data for i in f.system.info or () for k in i}
        )
        raise ConfigError(
            f"[transfer] key: no frame has '{settings.key}'; keys of the frames are "
            f'{", ".join(known) or "none"}, or "group" for their groups.'
        )
    part_of = _named(settings.parts, every) if settings.parts else {v: v for v in every}
    rows: dict[str, dict[str, tuple[int, ...]]] = {}
    for division, column in values.items():
        found = [part_of.get(v) if v is not None else None for v in column]
        rows[division] = {p: tuple(k for k, q in enumerate(found) if q == p) for p in set(found) if p}
    names = list(settings.parts) or list(dict.fromkeys(part_of.values()))
    trained = _trained(settings, names, rows)
    tests = {name: whole.test[list(rows["test"][name])] for name in names}
    parts = Parts(
        whole=whole,
        names=tuple(names),
        trained=trained,
        rows=rows,
        observations={name: _observations(d, not groups_are_parts) for name, d in tests.items()},
        left_out=sum(part_of.get(v or "") is None for column in values.values() for v in column),
    )
    _check_elements(parts)
    return parts


def _value(frame: Labelled, key: str, is_group: bool) -> str | None:
    if is_group:
        return frame.group or None
    info = frame.system.info[0] if frame.system.info else {}
    return str(info[key]) if key in info else None


def _named(patterns: Mapping[str, Sequence[str]], values: Sequence[str]) -> dict[str, str]:
    """Value → name of the part whose pattern it fits."""
    part_of: dict[str, str] = {}
    for name, wanted in patterns.items():
        for pattern in wanted:
            fitting = [v for v in values if fnmatchcase(v, pattern)]
            if not fitting:
                shown = "; ".join(values[:10]) + ("; …" if len(values) > 10 else "")
                raise ConfigError(f"[transfer] parts.{name}: no frame fits '{pattern}'. Values are: {shown}.")
            for value in fitting:
                if part_of.setdefault(value, name) != name:
                    raise ConfigError(
                        f"[transfer] parts: '{value}' fits both {part_of[value]} and {name}; a frame is of "
                        "one part. Make the patterns narrower."
                    )
    return part_of


def _trained(
    settings: Transfer, names: Sequence[str], rows: Mapping[str, Mapping[str, Sequence[int]]]
) -> tuple[str, ...]:
    counts = "; ".join(
        f"{n}: {len(rows['training'].get(n, ()))}, {len(rows['test'].get(n, ()))}" for n in names
    )
    counted = f"Training and test frames are {counts}."
    if ALL in names:
        raise ConfigError(
            f"[transfer] a part is called '{ALL}', which is the training on all frames; use parts."
        )
    if untested := [n for n in names if not rows["test"].get(n)]:
        raise ConfigError(
            f"[transfer] without test frames: {', '.join(untested)}. {counted} Give [data] test or a "
            "test_fraction in [split] that holds frames of every part, or name others in parts."
        )
    if len(names) < 2:
        raise ConfigError(f"[transfer] needs two parts or more; '{settings.key}' makes {', '.join(names)}.")
    if unknown := set(settings.train_on) - set(names):
        raise ConfigError(f"[transfer] train_on names {sorted(unknown)}; parts are {', '.join(names)}.")
    trained = [n for n in settings.train_on or names if rows["training"].get(n)]
    if not trained or (settings.train_on and len(trained) < len(settings.train_on)):
        raise ConfigError(f"[transfer] a part to train on has no training frames. {counted}")
    return tuple(trained)


def _check_elements(parts: Parts) -> None:
    """Raises ConfigError where a part to train on lacks elements that a model has to predict."""
    tested = {s for name in parts.names for s in parts.of(name, "test").elements}
    for name in parts.trained:
        if missing := tested - set(parts.of(name, "training").elements):
            raise ConfigError(
                f"[transfer] the training frames of {name} hold no {', '.join(sorted(missing))}, which test "
                "frames have. Leave it out of train_on, or name parts with the same elements."
            )


def _observations(test: Dataset, by_group: bool) -> np.ndarray:
    groups = list(test.column("group"))
    numbers = np.arange(len(test))
    if by_group and all(groups):
        numbers = np.unique(groups, return_inverse=True)[1]
    for x, y in near_duplicates(test, test):
        numbers[numbers == numbers[y]] = numbers[x]
    return np.unique(numbers, return_inverse=True)[1]


def leaking(parts: Parts) -> dict[str, dict[str, np.ndarray]]:
    """Training ('all' too) → part → mask of its test frames that are near duplicates of training frames."""
    pairs = near_duplicates(parts.whole.training, parts.whole.test)
    found: dict[str, dict[str, np.ndarray]] = {}
    for trained in (*parts.trained, ALL):
        rows = None if trained == ALL else set(parts.rows["training"][trained])
        bad = {test for train, test in pairs if rows is None or train in rows}
        found[trained] = {
            name: np.array([k in bad for k in parts.rows["test"][name]]) for name in parts.names
        }
    return found
