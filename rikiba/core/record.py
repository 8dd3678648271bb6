"""A `Record` is what a computation leaves behind: numbers with units, tables, curves and their provenance.

The report, the machine-readable output and the command line know Records only.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

Verdict = Literal["pass", "fail", "undecided"]


@final
@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of equal length under headings that carry units, e.g. 'F MAE (meV/Å)'."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                n = len(self.columns)
                raise ValueError(f"Table '{self.title}': a row of {len(row)} under {n} columns.")


@final
@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line or cloud of points; `error` is one standard deviation of y."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    error: tuple[float, ...] | None = None
    style: Literal["line", "points", "step", "band"] = "line"

    def __post_init__(self) -> None:
        lengths = {len(v) for v in (self.x, self.y, self.error) if v is not None}
        if len(lengths) > 1:
            raise ValueError(
                f"Curve '{self.label}': x, y, error must be equally long, not {sorted(lengths)}."
            )

    @staticmethod
    def of(label: str, x: Any, y: Any, error: Any = None, style: Any = "line") -> "Curve":
        """From anything that numpy can flatten."""
        flat = lambda v: tuple(float(t) for t in np.asarray(v, float).ravel())  # noqa: E731
        spread = None if error is None else flat(error)
        return Curve(label=label, x=flat(x), y=flat(y), error=spread, style=style)


@final
@dataclass(frozen=True, kw_only=True)
class Figure:
    """Curves on common axes; axis labels carry units. `diagonal` draws y = x (parity plots)."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    log_y: bool = False
    diagonal: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class Scene:
    """A trajectory to look at: `numbers` (n), `frames` (frames × n × 3, Å), `cell` (3 × 3, Å) or None."""

    title: str
    numbers: tuple[int, ...]
    frames: tuple[tuple[tuple[float, float, float], ...], ...]
    cell: tuple[tuple[float, float, float], ...] | None = None
    frame_labels: tuple[str, ...] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Record:
    """One result, complete with units (in the keys: `C11_GPa`), spread, figures and provenance.

    `values` holds numbers, strings, booleans or (nested) lists of them. `spread` has one standard deviation
    under the same key. `notes` say everything a reader must know before trusting the numbers.
    """

    name: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    spread: Mapping[str, Any] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    scenes: tuple[Scene, ...] = ()
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None
    references: tuple[str, ...] = ()
    """DOIs of the methods used."""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = set(self.spread) - set(self.values)
        if unknown:
            raise ValueError(f"Record '{self.name}': spread without a value for {sorted(unknown)}.")

    def __getitem__(self, key: str) -> Any:
        if key not in self.values:
            raise KeyError(f"Record '{self.name}' has no value '{key}'; it has {', '.join(self.values)}.")
        return self.values[key]

    def to_json(self) -> str:
        """JSON text; NaN and infinities become the strings 'nan', 'inf', '-inf'."""
        return json.dumps(_plain(asdict(self)), ensure_ascii=False, indent=1)

    def save(self, path: str | Path) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")
        return path

    @staticmethod
    def from_json(text: str) -> "Record":
        """The inverse of `to_json`."""
        d = json.loads(text)
        return Record(
            name=d["name"],
            title=d["title"],
            values={k: _number(v) for k, v in d["values"].items()},
            spread={k: _number(v) for k, v in d["spread"].items()},
            tables=tuple(_table(t) for t in d["tables"]),
            figures=tuple(
                Figure(**{**f, "curves": tuple(_curve(c) for c in f["curves"])}) for f in d["figures"]
            ),
            scenes=tuple(Scene(**{k: _tuples(v) for k, v in s.items()}) for s in d["scenes"]),
            notes=tuple(d["notes"]),
            verdict=d["verdict"],
            references=tuple(d["references"]),
            provenance=d["provenance"],
        )

    @staticmethod
    def load(path: str | Path) -> "Record":
        return Record.from_json(Path(path).read_text(encoding="utf-8"))


def _table(t: dict[str, Any]) -> Table:
    rows = tuple(tuple(_number(cell) for cell in row) for row in t["rows"])
    return Table(title=t["title"], columns=tuple(t["columns"]), rows=rows)


def _curve(c: dict[str, Any]) -> Curve:
    numbers = {k: None if c[k] is None else tuple(_number(v) for v in c[k]) for k in ("x", "y", "error")}
    return Curve(label=c["label"], style=c["style"], **numbers)  # type: ignore[arg-type]


def _tuples(v: Any) -> Any:
    return tuple(_tuples(t) for t in v) if isinstance(v, list) else v


def _number(v: Any) -> Any:
    if isinstance(v, list):
        return [_number(t) for t in v]
    if isinstance(v, dict):
        return {k: _number(t) for k, t in v.items()}
    return float(v) if isinstance(v, str) and v in ("nan", "inf", "-inf") else v


def _plain(v: Any) -> Any:
    """Only what JSON has."""
    if isinstance(v, Mapping):
        return {str(k): _plain(t) for k, t in v.items()}
    if hasattr(v, "tolist"):
        return _plain(v.tolist())
    if isinstance(v, (list, tuple)) or (isinstance(v, Sequence) and not isinstance(v, str)):
        return [_plain(t) for t in v]
    if isinstance(v, float) and not math.isfinite(v):
        return "nan" if math.isnan(v) else "inf" if v > 0 else "-inf"
    if v is None or isinstance(v, (str, bool, int, float)):
        return v
    return str(v)
