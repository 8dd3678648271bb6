"""Sparse Gaussian-process regression on energies, forces and virials together."""

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, final

import numpy as np
import torch

from rikiba.data.batching import Batch, Loader
from rikiba.data.dataset import Dataset, Labelled
from rikiba.potentials.gap import Gap

from .distributed import Processes
from .fixed_terms import linear_term, without
from .least_squares import LinearFit, Model, Rows, rank_notes, weighted_rows
from .loss import ENERGY_TERMS, Loss
from .result import error_columns
from .step import validate

SIGMAS = {"energy": "energy_sigma", "forces": "forces_sigma", "stress": "virial_sigma"}
"""Quantity → its noise among the settings."""


@final
@dataclass(frozen=True, kw_only=True)
class SparseGaussianProcess:
    """Finds the most probable coefficients of a `Gap`: min |Λ^{−1/2}(y − K_NM α)|² + αᵀ K_MM α.

    Solved as |Λ^{−1/2}(y − K_NM L⁻ᵀ z)|² + |z|² with K_MM = L Lᵀ and z = Lᵀα by the triangular factor of all
    rows, which never squares a condition number (Foster et al., JMLR 10, 857 (2009), the V method). Λ is the
    noise: of a structure of N atoms σ_E √N on its energy, σ_F on a force component, σ_V √N on each of the six
    components of its virial −σV; the noise that a frame's own labels state (`Labelled.noise`: energy in eV,
    forces in eV/Å, stress in eV/Å³) is added in quadrature, and frame weights multiply 1/Λ.
    Bartók & Csányi, doi:10.1002/qua.24927, section 3.

    Args:
        energy_sigma: σ_E, eV per atom; none leaves energies out
        forces_sigma: σ_F, eV/Å; none leaves forces out
        virial_sigma: σ_V, eV per atom; none leaves stresses out
        group_sigmas: group of frames → any of energy_sigma, forces_sigma, virial_sigma
        choose_points: choose the sparse points from the training structures; otherwise they stay as they are
        solver: 'qr' or 'normal', which is quicker and loses half of the digits
        batch_size: frames whose rows are made at once
    """

    energy_sigma: float | None = 0.001
    forces_sigma: float | None = 0.1
    virial_sigma: float | None = 0.05
    group_sigmas: Mapping[str, Mapping[str, float | None]] | None = None
    choose_points: bool = True
    solver: Literal["qr", "normal"] = "qr"
    batch_size: int = 10

    def __post_init__(self) -> None:
        if self.solver not in ("qr", "normal") or self.batch_size < 1:
            raise ValueError(
                f"solver is 'qr' or 'normal', batch_size ≥ 1; given {self.solver}, {self.batch_size}."
            )
        every = [asdict(self) | dict(own) for own in [{}, *(self.group_sigmas or {}).values()]]
        for settings in every:
            if set(settings) != set(asdict(self)):
                raise ValueError(
                    f"group_sigmas may name {', '.join(SIGMAS.values())}; given {self.group_sigmas}."
                )
            wrong = {
                k: settings[k] for k in SIGMAS.values() if settings[k] is not None and not settings[k] > 0
            }
            if wrong:
                raise ValueError(f"A noise must be positive, or none; given {wrong}.")

    def fit(self, potential: Model, training: Dataset, validation: Dataset | None = None) -> LinearFit[Model]:
        """Fit a copy of `potential`; errors are those of `validation`, or of the training frames without one.

        `potential` is a GAP, or a sum with one (on a repulsive core), which learns what the others leave.
        `LinearFit.covariance` is that of the coefficients z after the fit; a potential with `variance =
        "posterior"` keeps it. Raises ValueError where a group is not in the data or nothing is left to fit.
        """
        began = time.monotonic()
        potential = copy.deepcopy(potential).double()
        process, fixed = linear_term(potential)
        if not isinstance(process, Gap):
            raise ValueError(f"SparseGaussianProcess fits a Gap; given a {type(process).__name__}.")
        unknown = set(self.group_sigmas or {}) - {frame.group for frame in training}
        if unknown:
            raise ValueError(f"group_sigmas names {', '.join(sorted(unknown))}; no frame has such a group.")
        weighted = Dataset([self.weighted(frame) for frame in training], training.name)
        loader = Loader(weighted, batch_size=self.batch_size, cutoff=potential.cutoff, shuffle=False)
        if self.choose_points:
            process.prepare((b.system, b.pairs) for b in loader.batches(0))
        n = process.coefficients.numel()
        system = Rows(n, keep_square=self.solver == "normal")
        present = {t: any(getattr(f.results, t) is not None for f in weighted) for t in ENERGY_TERMS}
        if not any(present.values()):
            raise ValueError("No frame has a label that these settings fit.")
        factors = {t: float(present[t]) for t in ENERGY_TERMS}
        for batch in loader.batches(0):
            system.add(*weighted_rows(process, _six(without(batch, fixed, process.cutoff)), factors))
        solution, rank, condition = system.solve(1.0, None)
        information = system.square[:n, :n] if self.solver == "normal" else _square(system.triangle()[:, :n])
        information = information + np.eye(n)
        with torch.no_grad():
            process.coefficients.copy_(torch.from_numpy(solution))
            if process.variance == "posterior":
                process.information.copy_(torch.from_numpy(np.linalg.cholesky(information).T))
        tested = training if validation is None else validation
        checks = Loader(tested, batch_size=self.batch_size, cutoff=potential.cutoff, shuffle=False)
        loss = Loss(
            energy_weight=factors["energy"], forces_weight=factors["forces"], stress_weight=factors["stress"]
        )
        _, _, errors = validate(potential, checks.batches(0), loss, Processes(), potential.program())
        columns = error_columns(errors)
        if validation is None:
            columns = {k.replace("valid_", "train_"): v for k, v in columns.items()}
        settings = asdict(self)
        return LinearFit(
            potential=potential,
            coefficients=n,
            rows=system.rows,
            rank=rank,
            condition_number=condition,
            objective=system.objective(solution) + float(solution @ solution),
            seconds=time.monotonic() - began,
            errors=columns,
            notes=rank_notes(rank, n, system.rows),
            settings=settings,
            effective_parameters=float(n - np.trace(np.linalg.inv(information))),
            covariance=np.linalg.inv(information),
        )

    def weighted(self, frame: Labelled) -> Labelled:
        """The frame without labels that are left out; with its weights rows are divided by their noise."""
        own = asdict(self) | dict((self.group_sigmas or {}).get(frame.group, {}))
        n, volume = frame.system.n_atoms, float(frame.system.volume[0])
        # rows of energies are divided by n, those of stresses are not yet times −V
        units = {
            "energy": math.sqrt(n),
            "forces": 1.0,
            "stress": math.sqrt(n) / volume if volume else math.inf,
        }
        labels: dict[str, None] = {}
        weights = dict(frame.weights)
        for term, key in SIGMAS.items():
            if own[key] is None or getattr(frame.results, term) is None:
                labels[term] = None
                continue
            noise = math.hypot(own[key] * units[term], frame.noise.get(term, 0.0))
            weights[term] = weights.get(term, 1.0) / noise**2 * (n**2 if term == "energy" else 1.0)
        return replace(frame, results=frame.results.replace(**labels), weights=weights)


def _six(batch: Batch) -> Batch:
    """The same batch with the components of stresses that count, those below the diagonal marked absent."""
    if batch.labels.stress is None:
        return batch
    kept = torch.ones(3, 3, dtype=torch.bool).triu()
    return replace(
        batch, labels=batch.labels.replace(stress=torch.where(kept, batch.labels.stress, torch.nan))
    )


def _square(factor: np.ndarray) -> np.ndarray:
    return np.asarray(factor.T @ factor)
