"""Divisions of a dataset that do not leak, and the detector of those that do."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, final

import numpy as np

from rikiba.core.record import Record, Table

from .dataset import Dataset, Labelled
from .fingerprints import composition, fingerprint, near_pairs
from .statistics import is_isolated_atom


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """The three parts of a dataset."""

    training: Dataset
    validation: Dataset
    test: Dataset

    @property
    def parts(self) -> dict[str, Dataset]:
        return {"training": self.training, "validation": self.validation, "test": self.test}


def split_by_group(
    dataset: Dataset, *, validation_fraction: float = 0.1, test_fraction: float = 0.1, seed: int = 0
) -> Division:
    """Divide whole groups (trajectories, parent structures), so that no group stands on two sides.

    Groups are drawn in an order that follows from `seed`; each part takes groups until another would carry it
    further from its share of the frames. A part with a share gets at least one group.

    Raises ValueError where the fractions leave nothing for training and where there are fewer groups than
    parts: name groups, or use fewer parts.
    """
    wanted = _check_fractions(validation_fraction, test_fraction)
    column = list(dataset.column("group"))
    rows: dict[str, list[int]] = defaultdict(list)
    for k, name in enumerate(column):
        rows[name].append(k)
    if len(rows) < 1 + len(wanted):
        known = ", ".join(repr(g) for g in list(rows)[:5]) or "none"
        hint = (
            "frames carry no group name; name the key that holds it (group_key)" if set(rows) <= {""} else ""
        )
        raise ValueError(
            f"{len(rows)} group(s) ({known}) cannot be divided into training, {', '.join(wanted)} without a "
            f"leak: {hint or 'each part needs a group of its own'}. Give the parts as files of their own, "
            f"or use split_at_random where the frames are independent."
        )
    names = [list(rows)[k] for k in np.random.default_rng(seed).permutation(len(rows))]
    taken: dict[str, list[int]] = {"training": [], "validation": [], "test": []}
    left = len(wanted)
    for part, fraction in wanted.items():
        left -= 1
        target = fraction * len(dataset)
        chosen: list[str] = []
        for name in names:
            enough = len(names) - len(chosen) > left + 1
            count = sum(len(rows[c]) for c in chosen)
            if not chosen or (enough and count + 0.5 * len(rows[name]) <= target):
                chosen.append(name)
        names = [n for n in names if n not in chosen]
        taken[part] = sorted(k for c in chosen for k in rows[c])
    taken["training"] = sorted(k for n in names for k in rows[n])
    return Division(**{part: dataset[k] for part, k in taken.items()})


def split_at_random(
    dataset: Dataset, *, validation_fraction: float = 0.1, test_fraction: float = 0.1, seed: int = 0
) -> Division:
    """Divide single frames, for frames that are independent draws; neighbours in time would leak.

    Sizes are rounded to the nearest frame, at least one. Raises ValueError where nothing is left to train on.
    """
    wanted = _check_fractions(validation_fraction, test_fraction)
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
    taken: dict[str, list[int]] = {"training": [], "validation": [], "test": []}
    for part, fraction in wanted.items():
        n = max(1, round(fraction * len(dataset)))
        taken[part], order = sorted(order[:n]), order[n:]
    if not order:
        raise ValueError(f"{len(dataset)} frames are too few to divide into training, {', '.join(wanted)}.")
    taken["training"] = sorted(order)
    return Division(**{part: dataset[k] for part, k in taken.items()})


def _check_fractions(validation: float, test: float) -> dict[str, float]:
    for name, value in (("validation_fraction", validation), ("test_fraction", test)):
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name} is {value}; allowed are 0 up to (not including) 1.")
    if validation + test >= 1.0:
        raise ValueError(
            f"validation_fraction + test_fraction is {validation + test:g}; training gets nothing."
        )
    return {name: f for name, f in (("test", test), ("validation", validation)) if f > 0.0}


def find_leaks(parts: Mapping[str, Dataset], *, threshold: float = 0.01, max_frames: int = 20_000) -> Record:
    """Frames of one origin on two sides of a division: reported, never repaired.

    Looks for groups that stand in two parts, for near duplicates (fingerprints closer than `threshold` Å RMS,
    whatever the orientation and order of atoms) and for frames whose metadata name the same numbered
    trajectory ('Snapshot 3 of 20 of …'). Parts above `max_frames` are thinned evenly, which the notes say.
    """
    notes = ["A published division is used as it is; a leak makes its test errors look better than they are."]
    thinned: dict[str, list[Labelled]] = {}
    for name, data in parts.items():
        stride = max(1, math.ceil(len(data) / max_frames))
        thinned[name] = [data[k] for k in range(0, len(data), stride)]
        if stride > 1:
            notes.append(
                f"{name}: every {stride}th frame was compared ({len(thinned[name])} of {len(data)})."
            )
    rows: list[tuple[Any, ...]] = []
    counts = {"shared_groups": 0, "near_duplicates": 0, "shared_trajectories": 0}
    leaking: dict[str, set[int]] = defaultdict(set)
    prints = {name: _fingerprints(frames) for name, frames in thinned.items()}
    for a, b in combinations(parts, 2):
        shared = [g for g in parts[a].groups if g and g in set(parts[b].groups)]
        counts["shared_groups"] += len(shared)
        rows += [("group", a, b, g, "") for g in shared]
        for x, y, rms in _near(prints[a], prints[b], threshold):
            counts["near_duplicates"] += 1
            leaking[b].add(y)
            rows.append(
                ("near duplicate", a, b, f"{thinned[a][x].source} and {thinned[b][y].source}", f"{rms:.4f}")
            )
        same = _trajectories(thinned[a]).keys() & _trajectories(thinned[b]).keys()
        counts["shared_trajectories"] += len(same)
        rows += [("trajectory", a, b, text, "") for text in sorted(same)]
    if len(rows) > 200:
        notes.append(f"The table shows 200 of {len(rows)} findings.")
    return Record(
        name="leaks",
        title="Leaks between the parts of the data",
        values={
            **{f"n_{k}": v for k, v in counts.items()},
            **{f"n_{name}_frames_with_a_near_duplicate": len(v) for name, v in leaking.items()},
            "threshold_A": threshold,
        },
        tables=(
            Table(
                title="Findings",
                columns=("kind", "part", "other part", "what", "distance (Å RMS)"),
                rows=tuple(rows[:200]),
            ),
        ),
        notes=tuple(notes),
        verdict="fail" if any(counts.values()) else "pass",
    )


def near_duplicates(first: Dataset, second: Dataset, *, threshold: float = 0.01) -> list[tuple[int, int]]:
    """Rows of frames of the two that `find_leaks` calls near duplicates, whatever the sizes of the two."""
    prints = _fingerprints(list(first)), _fingerprints(list(second))
    return [(x, y) for x, y, _ in _near(*prints, threshold)]


_NUMBERED = re.compile(r"\b(snapshot|frame|step|image|configuration)([\s_#:=-]*)\d+", re.I)


def _trajectories(frames: Sequence[Labelled]) -> dict[str, int]:
    """Texts in info that number a snapshot, with the number left out → how many frames have them."""
    found: dict[str, int] = defaultdict(int)
    for frame in frames:
        for info in frame.system.info or ():
            for key, value in info.items():
                if isinstance(value, str) and _NUMBERED.search(value):
                    found[key + ": " + _NUMBERED.sub(r"\1\2#", value)] += 1
    return found


_Prints = dict[Any, tuple[list[int], list[np.ndarray]]]


def _fingerprints(frames: Sequence[Labelled]) -> _Prints:
    """Composition and periodicity → (rows, fingerprints)."""
    out: _Prints = {}
    for k, frame in enumerate(frames):
        if is_isolated_atom(frame):
            continue
        key = (composition(frame.system), tuple(frame.system.pbc[0].tolist()))
        rows, prints = out.setdefault(key, ([], []))
        rows.append(k)
        prints.append(fingerprint(frame.system))
    return out


def _near(a: _Prints, b: _Prints, threshold: float) -> list[tuple[int, int, float]]:
    found = []
    for key in a.keys() & b.keys():
        (rows_a, prints_a), (rows_b, prints_b) = a[key], b[key]
        for x, y, rms in near_pairs(prints_a, prints_b, threshold):
            found.append((rows_a[x], rows_b[y], rms))
    return sorted(found)
