"""What a training leaves: the potential, its learning curve and a Record of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from torch import Tensor

from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.potentials.base import Potential

Row = Mapping[str, Any]

ERRORS = {
    "energy": ("meV_per_atom", "meV/atom", 1e3),
    "forces": ("meV_per_A", "meV/Å", 1e3),
    "stress": ("meV_per_A3", "meV/Å³", 1e3),
    "charges": ("me", "me", 1e3),
    "magmoms": ("muB", "μB", 1.0),
}
"""Term → suffix of its keys, unit as printed, factor from internal units."""


def error_columns(errors: Tensor) -> dict[str, float | None]:
    """MAE and RMSE per term from `loss.error_sums`; None where there is no label."""
    out: dict[str, float | None] = {}
    for (term, (suffix, _, factor)), (number, absolute, square) in zip(
        ERRORS.items(), errors.tolist(), strict=True
    ):
        out[f"valid_{term}_mae_{suffix}"] = factor * absolute / number if number else None
        out[f"valid_{term}_rmse_{suffix}"] = factor * (square / number) ** 0.5 if number else None
    return out


@final
@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """The trained potential and how it came about."""

    potential: Potential
    """Averaged weights of the epoch with the lowest validation loss (of the last epoch where nothing was
    validated), in evaluation mode."""
    history: Sequence[Row]
    """One row an epoch: losses, terms, errors, learning rate, seconds."""
    best_epoch: float
    seconds: float
    """Time by the trainer's clock, earlier parts of a resumed run included."""
    stopped: str
    """Why it ended: 'max_epochs', 'patience', 'max_seconds' or 'interrupted'."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Row:
        """The row of the best epoch (the last one where nothing was validated)."""
        rows = [r for r in self.history if r["epoch"] == self.best_epoch]
        return rows[-1] if rows else self.history[-1] if self.history else {}

    def record(self, name: str = "training", title: str = "Training") -> Record:
        """Losses and errors against epochs, the best epoch's numbers, wall time."""
        validated = [k for k, v in self.best.items() if k.startswith("valid_") and v is not None]
        values: dict[str, Any] = {
            "epochs": self.history[-1]["epoch"] if self.history else 0,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            f"{self.settings.get('clock', 'wall')}_time_s": self.seconds,
            "parameters": sum(p.numel() for p in self.potential.parameters()),
            **{k: self.best[k] for k in validated},
        }
        settings = Table(
            title="Settings",
            columns=("setting", "value"),
            rows=tuple((k, str(v)) for k, v in self.settings.items()),
        )
        return Record(
            name=name,
            title=title,
            values=values,
            tables=(settings,),
            figures=self._figures(),
            notes=self.notes,
            references=self.potential.references,
        )

    def _figures(self) -> tuple[Figure, ...]:
        losses = Figure(
            title="Learning curve",
            x_label="epoch",
            y_label="loss",
            curves=self._curves({"train_loss": "training", "valid_loss": "validation (averaged weights)"}),
            log_y=True,
        )
        errors = []
        for term, (suffix, unit, _) in ERRORS.items():
            columns = {f"valid_{term}_{kind.lower()}_{suffix}": kind for kind in ("MAE", "RMSE")}
            curves = self._curves(columns)
            if curves:
                errors.append(
                    Figure(
                        title=f"Validation error: {term}",
                        x_label="epoch",
                        y_label=f"error ({unit})",
                        curves=curves,
                        log_y=True,
                    )
                )
        rate = Figure(
            title="Learning rate",
            x_label="epoch",
            y_label="learning rate",
            curves=self._curves({"learning_rate": "learning rate"}),
            log_y=True,
        )
        return (losses, *errors, rate)

    def _curves(self, columns: Mapping[str, str]) -> tuple[Curve, ...]:
        curves = []
        for column, label in columns.items():
            points = [(r["epoch"], r[column]) for r in self.history if r[column] is not None]
            if points:
                curves.append(Curve.of(label, [p[0] for p in points], [p[1] for p in points]))
        return tuple(curves)
