"""Exact least squares for potentials that are linear in their coefficients."""

import copy
import math
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Literal, TypeVar, final

import numpy as np
import torch

from rikiba.core.record import Record
from rikiba.core.results import Results
from rikiba.data.batching import Batch, Loader
from rikiba.data.dataset import Dataset
from rikiba.potentials.base import Design, LinearPotential, Potential

from .distributed import Processes
from .evidence import automatic_relevance, bayesian_ridge
from .fixed_terms import linear_term, without
from .loss import ENERGY_TERMS, Loss
from .result import error_columns
from .step import validate

Model = TypeVar("Model", bound=Potential)


class UndeterminedWarning(UserWarning):
    """The data do not determine all coefficients; the solution of smallest norm was taken."""


@final
@dataclass(frozen=True, kw_only=True)
class LinearFit(Generic[Model]):
    """A fitted linear potential and how well its equations were conditioned."""

    potential: Model
    """The potential, or the sum with a linear term, that was given, with the coefficients found."""
    coefficients: int
    rows: int
    rank: int
    condition_number: float
    """Largest over smallest singular value kept, of the weighted matrix with its ridge rows."""
    objective: float
    """Value of the minimised function."""
    seconds: float
    errors: dict[str, float | None]
    notes: tuple[str, ...]
    settings: dict[str, Any]
    effective_parameters: float | None = None
    """Coefficients that the data determine, where the regulariser was found from them."""
    covariance: np.ndarray | None = None
    """Of the coefficients, likewise; the variance of a prediction is xᵀ C x with x its design row."""

    def record(self, name: str = "linear_fit", title: str = "Linear fit") -> Record:
        """Rank, condition number, objective and errors."""
        values = {
            "coefficients": self.coefficients,
            "rows": self.rows,
            "rank": self.rank,
            "condition_number": self.condition_number,
            "objective": self.objective,
            **(
                {}
                if self.effective_parameters is None
                else {"effective_parameters": self.effective_parameters}
            ),
            "wall_time_s": self.seconds,
            **{k: v for k, v in self.errors.items() if v is not None},
        }
        return Record(
            name=name,
            title=title,
            values=values,
            notes=self.notes,
            references=self.potential.references,
            provenance={"settings": self.settings},
        )


@final
@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """Finds the coefficients that minimise L(c) + λ Σ_k prior_k² c_k², L the `Loss` of all frames at once.

    Rows are the observables times √(weight · frame weight/number of labels), divided by the number of atoms
    for energies. They are added block by block, so memory does not grow with the number of frames: `qr` keeps
    the triangular factor of all rows so far and solves with it as accurately as with the whole matrix;
    `normal` keeps AᵀA, which is quicker and squares the condition number. Where the data leave coefficients
    undetermined (singular values below rcond times the largest), those of smallest Σ prior_k² c_k² are taken,
    with an `UndeterminedWarning`.

    With `scale_columns` c_k is measured by the norm of its column of rows: prior_k² is multiplied by that
    norm squared, and λ is relative to 1. With `regulariser = "bayesian_ridge"` λ, with `"ard"` one λ for each
    coefficient is found from the data; see `evidence`.

    Args:
        energy_weight: weight of the squared energy error per atom, per (eV/atom)²
        forces_weight: weight of the mean squared force component error, per (eV/Å)²
        stress_weight: weight of the mean squared stress component error, per (eV/Å³)²
        ridge: λ, strength of the regulariser
        regulariser: 'ridge' with the given λ, 'bayesian_ridge' or 'ard' (automatic relevance determination)
        scale_columns: measure coefficients by the norm of their columns
        group_weights: group of frames → factor on its squared errors, or energy, forces and stress → factor
        rcond: smallest singular value that counts, relative to the largest; none is eps times the matrix size
        solver: 'qr' or 'normal'
        batch_size: frames whose rows are made at once
    """

    energy_weight: float = 1.0
    forces_weight: float = 1.0
    stress_weight: float = 0.0
    ridge: float = 0.0
    regulariser: Literal["ridge", "bayesian_ridge", "ard"] = "ridge"
    scale_columns: bool = False
    group_weights: Mapping[str, float | Mapping[str, float]] | None = None
    rcond: float | None = None
    solver: Literal["qr", "normal"] = "qr"
    batch_size: int = 10

    def __post_init__(self) -> None:
        if self.solver not in ("qr", "normal"):
            raise ValueError(f"solver is 'qr' or 'normal'; given '{self.solver}'.")
        if not (self.ridge >= 0 and math.isfinite(self.ridge)) or self.batch_size < 1:
            raise ValueError(f"ridge must be ≥ 0 and batch_size ≥ 1; given {self.ridge}, {self.batch_size}.")
        if self.regulariser not in ("ridge", "bayesian_ridge", "ard"):
            raise ValueError(
                f"regulariser is 'ridge', 'bayesian_ridge' or 'ard'; given '{self.regulariser}'."
            )
        if self.regulariser != "ridge" and (self.ridge or self.solver != "qr"):
            raise ValueError(
                f"'{self.regulariser}' finds λ itself and needs solver = 'qr'; leave ridge at 0."
            )
        self.loss()

    def loss(self) -> Loss:
        """The function minimised, without its regulariser."""
        return Loss(**{f"{term}_weight": getattr(self, f"{term}_weight") for term in ENERGY_TERMS})

    def weighted(self, dataset: Dataset) -> Dataset:
        """The same frames with the factors of their groups in their weights."""
        return _weighted(dataset, self.group_weights)

    def equations(
        self, potential: LinearPotential, training: Dataset, batches: Iterable[Batch]
    ) -> tuple["Rows", np.ndarray]:
        """(all rows in the unknowns z = prior·c, prior) of the weighted frames, given in batches too."""
        prior = potential.prior().detach().double().numpy()
        if not (np.isfinite(prior) & (prior > 0)).all():
            raise ValueError(f"{type(potential).__name__}.prior() must be positive; given {prior}.")
        system = Rows(len(prior), keep_square=self.solver == "normal")
        factors = _factors(self.loss(), training)
        for batch in batches:
            a, b = weighted_rows(potential, batch, factors)
            # in z = prior·c the regulariser is λ|z|² and the smallest norm is the smallest regulariser
            system.add(a / prior, b)
        return system, prior

    def fit(self, potential: Model, training: Dataset, validation: Dataset | None = None) -> LinearFit[Model]:
        """Fit a copy of `potential`; errors are those of `validation`, or of the training frames without one.

        `potential` is linear, or a sum with one linear term, which learns what the others leave.
        Raises ValueError where it is not, a weighted label is nowhere in the data, or a row is not finite.
        """
        began = time.monotonic()
        potential = copy.deepcopy(potential).double()
        linear, fixed = linear_term(potential)
        training = self.weighted(training)
        loader = Loader(training, batch_size=self.batch_size, cutoff=potential.cutoff, shuffle=False)
        potential.prepare((b.system, b.pairs) for b in loader.batches(0))
        batches = (without(batch, fixed, linear.cutoff) for batch in loader.batches(0))
        system, prior = self.equations(linear, training, batches)
        unit = prior * system.scale() if self.scale_columns else prior
        found = None
        if self.regulariser == "ridge":
            solution, rank, condition = system.solve(self.ridge, self.rcond)
            regularised = self.ridge * float(solution @ solution)
        else:
            search = bayesian_ridge if self.regulariser == "bayesian_ridge" else automatic_relevance
            found = search(system.triangle(), system.rows)
            solution, rank, condition = found.solution, len(prior), found.condition_number
            used = solution != 0.0
            regularised = float(np.sum(found.strength[used] * solution[used] ** 2))
        with torch.no_grad():
            linear.coefficients.copy_(torch.from_numpy(solution / unit))
        notes = rank_notes(rank, len(prior), system.rows)
        tested = training if validation is None else validation
        checks = Loader(tested, batch_size=self.batch_size, cutoff=potential.cutoff, shuffle=False)
        _, _, errors = validate(potential, checks.batches(0), self.loss(), Processes(), potential.program())
        columns = error_columns(errors)
        if validation is None:
            columns = {k.replace("valid_", "train_"): v for k, v in columns.items()}
        return LinearFit(
            potential=potential,
            coefficients=len(prior),
            rows=system.rows,
            rank=rank,
            condition_number=condition,
            objective=system.objective(solution) + regularised,
            seconds=time.monotonic() - began,
            errors=columns,
            notes=notes,
            settings=asdict(self),
            effective_parameters=None if found is None else found.effective,
            covariance=None if found is None else found.covariance / np.outer(unit, unit),
        )


class Rows:
    """Accumulates weighted rows [A | b] as a triangular factor, or as the matrix of normal equations."""

    def __init__(self, columns: int, *, keep_square: bool) -> None:
        self.columns, self.keep_square = columns, keep_square
        self.factor = np.zeros((0, columns + 1))
        self.square = np.zeros((columns + 1, columns + 1))
        self.rows = 0
        self._waiting: list[np.ndarray] = []

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        block = np.concatenate([a, b[:, None]], 1)
        if not np.isfinite(block).all():
            raise ValueError("A row of the design matrix or a label is not finite.")
        self.rows += len(block)
        if self.keep_square:
            self.square += block.T @ block
            return
        self._waiting.append(block)
        # several times as many rows as the factor has, so that factorising costs little more than once
        if sum(len(w) for w in self._waiting) >= 4 * (self.columns + 1):
            self._fold()

    def _fold(self) -> None:
        stacked = np.concatenate([self.factor, *self._waiting])
        self.factor, self._waiting = np.asarray(np.linalg.qr(stacked, mode="r")), []

    def triangle(self) -> np.ndarray:
        """The triangular factor of all rows."""
        self._fold()
        return self.factor

    def scale(self) -> np.ndarray:
        """Divide every column by its norm (a column of zeros by 1); the norms."""
        n = self.columns
        if self.keep_square:
            norms = np.sqrt(np.diag(self.square)[:n])
        else:
            norms = np.linalg.norm(self.triangle()[:, :n], axis=0)
        norms = np.where(norms > 0, norms, 1.0)
        self.factor[:, :n] /= norms
        self.square[:n] /= norms[:, None]
        self.square[:, :n] /= norms
        return norms

    def solve(self, ridge: float, rcond: float | None) -> tuple[np.ndarray, int, float]:
        """(solution, rank, condition number) of min |Az − b|² + λ|z|²."""
        n = self.columns
        if self.keep_square:
            values, vectors = np.linalg.eigh(self.square[:n, :n] + ridge * np.eye(n))
            singular = np.sqrt(np.clip(values, 0.0, None))
            # AᵀA carries rounding of eps·σ²_max: a singular value below √(eps n) σ_max is noise
            cut = singular.max(initial=0.0) * (math.sqrt(np.finfo(float).eps * n) if rcond is None else rcond)
            kept = singular > cut
            projected = (vectors.T @ self.square[:n, n])[kept] / values[kept]
            return vectors[:, kept] @ projected, *_rank(singular, kept)
        self._fold()
        left, right = self.factor[:, :n], self.factor[:, n]
        if ridge and len(left) < n:
            return _wide_ridge(left, right, ridge)
        if ridge:
            left, right = np.concatenate([left, math.sqrt(ridge) * np.eye(n)]), np.append(right, np.zeros(n))
        u, singular, vt = np.linalg.svd(left, full_matrices=False)
        relative = np.finfo(float).eps * max(self.rows, n) if rcond is None else rcond
        kept = singular > relative * singular.max(initial=0.0)
        return vt[kept].T @ ((u[:, kept].T @ right) / singular[kept]), *_rank(singular, kept)

    def objective(self, solution: np.ndarray) -> float:
        """|Az − b|²."""
        extended = np.append(solution, -1.0)
        if self.keep_square:
            return float(extended @ self.square @ extended)
        return float(np.sum((self.factor @ extended) ** 2))


def _wide_ridge(left: np.ndarray, right: np.ndarray, ridge: float) -> tuple[np.ndarray, int, float]:
    """The same for fewer rows than columns, where a ridge determines what the rows do not."""
    u, singular, vt = np.linalg.svd(left, full_matrices=False)
    sizes = np.sqrt(np.append(singular, 0.0) ** 2 + ridge)
    solution = vt.T @ (singular / sizes[:-1] ** 2 * (u.T @ right))
    return solution, left.shape[1], float(sizes.max() / sizes.min())


def _rank(singular: np.ndarray, kept: np.ndarray) -> tuple[int, float]:
    used = singular[kept]
    return int(kept.sum()), float(used.max() / used.min()) if len(used) else math.inf


def rank_notes(rank: int, columns: int, rows: int) -> tuple[str, ...]:
    if rank == columns:
        return ()
    text = (
        f"The data determine {rank} of {columns} coefficients ({rows} equations); of all solutions the one "
        f"of smallest norm was taken. Add data that tell them apart, fix some of them, or use a ridge."
    )
    warnings.warn(text, UndeterminedWarning, stacklevel=3)
    return (text,)


def _weighted(dataset: Dataset, group_weights: Mapping[str, float | Mapping[str, float]] | None) -> Dataset:
    """The same frames with the factors of their groups in their weights."""
    if not group_weights:
        return dataset
    unknown = set(group_weights) - {frame.group for frame in dataset}
    if unknown:
        raise ValueError(f"group_weights names {', '.join(sorted(unknown))}; no frame has such a group.")
    out = []
    for frame in dataset:
        factor = group_weights.get(frame.group, 1.0)
        each = factor if isinstance(factor, Mapping) else dict.fromkeys(ENERGY_TERMS, factor)
        wrong = [k for k, w in each.items() if k not in ENERGY_TERMS or not 0.0 <= w < math.inf]
        if wrong:
            raise ValueError(
                f"group_weights['{frame.group}'] may have {', '.join(ENERGY_TERMS)}, ≥ 0; given {each}."
            )
        weights = frame.weights | {k: frame.weights.get(k, 1.0) * w for k, w in each.items()}
        out.append(replace(frame, weights=weights))
    return Dataset(out, dataset.name)


def _factors(loss: Loss, dataset: Dataset) -> dict[str, float]:
    """√(weight/number of labels) of each term over the whole set."""
    number = dict.fromkeys(ENERGY_TERMS, 0)
    for frame in dataset:
        for term in ENERGY_TERMS:
            label = getattr(frame.results, term)
            number[term] += 0 if label is None else label.numel()
    out = {}
    for term in ENERGY_TERMS:
        weight = getattr(loss, f"{term}_weight")
        if weight > 0 and number[term] == 0:
            raise ValueError(
                f"{term}_weight is {weight}, but none of the {len(dataset)} frames has a label for {term}. "
                f"Give the labels, or set the weight to 0."
            )
        out[term] = math.sqrt(weight / number[term]) if number[term] else 0.0
    return out


def weighted_rows(
    potential: LinearPotential, batch: Batch, factors: dict[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted rows and right-hand sides of the labels present in a batch."""
    with torch.no_grad():
        design = potential.design(
            batch.system, batch.pairs, forces=factors["forces"] > 0, stress=factors["stress"] > 0
        )
    size = batch.system.counts.double()
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for term in ENERGY_TERMS:
        rows, target = _observable(term, design, batch.labels)
        if factors[term] == 0 or rows is None:
            continue
        factor = factors[term] * batch.weights[term].sqrt()
        factor = factor[batch.system.system_index] if term == "forces" else factor
        factor = factor / size if term == "energy" else factor
        factor = factor.reshape(-1, *([1] * (target.dim() - 1))).expand_as(target)
        present = ~target.isnan()
        parts.append(((rows[present] * factor[present][:, None]).numpy(), (target * factor)[present].numpy()))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _observable(term: str, design: Design, labels: Results) -> tuple[torch.Tensor | None, torch.Tensor]:
    target = labels.need(term)
    return getattr(design, term), target - design.offset if term == "energy" else target
