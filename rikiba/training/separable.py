"""Least squares where only some parameters are linear: exact solutions and quasi-Newton steps."""

import copy
import time
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from rikiba.calculators.autograd import evaluate, run_program
from rikiba.core.record import Record
from rikiba.core.results import Results
from rikiba.data.batching import Batch, Loader
from rikiba.data.dataset import Dataset
from rikiba.potentials.base import DifferentiableProgram, LinearPotential, Potential

from .least_squares import LeastSquares, LinearFit
from .loss import ENERGY_TERMS, Loss, counts, mean


@final
@dataclass(frozen=True, kw_only=True)
class SeparableFit:
    """A fitted potential, and how the objective fell."""

    linear: LinearFit[LinearPotential]
    """The last exact solution, with errors, rank and notes."""
    objectives: tuple[float, ...]
    """After every exact solution but the last and after the steps that followed it."""
    evaluations: int
    """Of the gradient over all frames."""
    seconds: float

    @property
    def potential(self) -> LinearPotential:
        return self.linear.potential

    def record(self, name: str = "separable_fit", title: str = "Linear and nonlinear fit") -> Record:
        """The last exact solution's, with what the steps did to the objective."""
        found = self.linear.record(name, title)
        further = {
            "first_objective": self.objectives[0],
            "gradient_evaluations": self.evaluations,
            "wall_time_s": self.seconds,
        }
        return replace(found, values={**found.values, **further})


@final
@dataclass(frozen=True, kw_only=True)
class SeparableLeastSquares:
    """Minimises the objective of `LeastSquares` over all parameters, those of no linear influence too.

    A round solves for the linear coefficients exactly and then takes BFGS steps over all parameters; the last
    round ends with another exact solution. BFGS (the published way to fit moment tensor potentials, Gubaev et
    al., doi:10.1016/j.commatsci.2018.09.031) starts from the whole Hessian, which costs little here: its
    linear block is AᵀA from the exact solution, the other columns are differences of gradients. Separable
    problems: Golub & Pereyra, doi:10.1137/0710036.

    Gradients come from `DifferentiableProgram` where the potential has one, otherwise from automatic
    differentiation.

    Args:
        linear: weights, regulariser (a given ridge only) and solver ('qr' only) of the exact solutions
        rounds: exact solutions before the last
        iterations: BFGS steps in a round
        tolerance: a round ends when five steps running lower the objective by less than this fraction each
        largest_hessian: nonlinear parameters up to which their columns of the Hessian are differenced
        every: rounds see every so manieth frame; the last exact solution takes all
        batch_size: frames evaluated at once
    """

    linear: LeastSquares = field(default_factory=LeastSquares)
    rounds: int = 3
    iterations: int = 60
    tolerance: float = 1e-4
    largest_hessian: int = 400
    every: int = 1
    batch_size: int = 20

    def __post_init__(self) -> None:
        if min(self.rounds, self.iterations, self.every, self.batch_size) < 1:
            raise ValueError(
                f"rounds, iterations, every and batch_size must be at least 1; given {self.rounds}, "
                f"{self.iterations}, {self.every}, {self.batch_size}."
            )
        if self.linear.regulariser != "ridge" or self.linear.solver != "qr":
            raise ValueError(
                "Nonlinear parameters are fitted with regulariser = 'ridge' and solver = 'qr'; given "
                f"'{self.linear.regulariser}' and '{self.linear.solver}'."
            )

    def fit(self, potential: Potential, training: Dataset, validation: Dataset | None = None) -> SeparableFit:
        """Fit a copy of `potential`; the nonlinear parameters start from those given.

        Raises ValueError where it is not linear in any coefficients, a weighted label is nowhere in the data,
        or a row is not finite.
        """
        if not isinstance(potential, LinearPotential):
            raise ValueError(
                f"{type(potential).__name__} has no linear coefficients; train it by gradient descent."
            )
        began = time.monotonic()
        potential = copy.deepcopy(potential).double()
        weighted = self.linear.weighted(training)[:: self.every]
        loader = Loader(weighted, batch_size=self.batch_size, cutoff=potential.cutoff, shuffle=False)
        batches = list(loader.batches(0))
        potential.prepare((b.system, b.pairs) for b in batches)
        objective = _Objective(potential, batches, self.linear)
        history: list[float] = []
        for _ in range(self.rounds):
            metric = self._solve(potential, weighted, batches)
            objective.measure_by(metric)
            history += self._descend(objective)
        linear = self.linear.fit(potential, training, validation)
        return SeparableFit(
            linear=linear,
            objectives=tuple(history),
            evaluations=objective.evaluations,
            seconds=time.monotonic() - began,
        )

    def _solve(self, potential: LinearPotential, training: Dataset, batches: list[Batch]) -> np.ndarray:
        """Set the coefficients to the exact solution; T with TᵀT = AᵀA + λ prior², hardly regularised."""
        rows, prior = self.linear.equations(potential, training, batches)
        solution, _, _ = rows.solve(self.linear.ridge, self.linear.rcond)
        with torch.no_grad():
            potential.coefficients.copy_(torch.from_numpy(solution / prior))
        r = rows.triangle()[:, :-1]
        least = np.sqrt(self.linear.ridge) + 1e-8 * np.linalg.norm(r, axis=0).max()
        stacked = np.concatenate([r, least * np.eye(len(prior))])
        return np.asarray(np.linalg.qr(stacked, mode="r")) * prior

    def _descend(self, objective: "_Objective") -> list[float]:
        """The objective before and after."""
        from scipy.optimize import minimize

        start = np.zeros(objective.size)
        first, gradient = objective(start)
        inverse = objective.inverse_hessian(start, gradient, self.largest_hessian)
        best, stalled = first, 0

        def watch(intermediate_result: "object") -> None:
            nonlocal best, stalled
            value = float(intermediate_result.fun)  # type: ignore[attr-defined]
            stalled = stalled + 1 if best - value < self.tolerance * best else 0
            best = min(best, value)
            if stalled == 5:
                raise StopIteration

        found = minimize(
            objective,
            start,
            jac=True,
            method="BFGS",
            callback=watch,
            options={"maxiter": self.iterations, "hess_inv0": inverse, "gtol": 0.0},
        )
        objective.set(found.x)
        return [first, float(found.fun)]


class _Objective:
    """The objective and its gradient in coordinates y in which its linear part is |y|²."""

    def __init__(self, potential: LinearPotential, batches: list[Batch], linear: LeastSquares) -> None:
        self.potential, self.batches, self.loss = potential, batches, linear.loss()
        self.ridge = linear.ridge
        self.prior = potential.prior().detach().double()
        self.counts = torch.stack([counts(b.labels) for b in batches]).sum(0)
        self.parameters = {n: p for n, p in potential.named_parameters() if p.requires_grad}
        self.others = [n for n in self.parameters if n != "coefficients"]
        self.size = sum(p.numel() for p in self.parameters.values())
        self.evaluations = 0

    def measure_by(self, metric: np.ndarray) -> None:
        """Take the present parameters as origin."""
        self.metric = metric
        self.origin = {n: p.detach().clone() for n, p in self.parameters.items()}

    def set(self, y: np.ndarray) -> None:
        """Move the parameters to y."""
        from scipy.linalg import solve_triangular

        n = len(self.metric)
        step = {"coefficients": torch.from_numpy(solve_triangular(self.metric, y[:n]))}
        for name in self.others:
            size = self.parameters[name].numel()
            step[name] = torch.from_numpy(y[n : n + size])
            n += size
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(self.origin[name] + step[name].view_as(p))

    def __call__(self, y: np.ndarray) -> tuple[float, np.ndarray]:
        from scipy.linalg import solve_triangular

        self.set(y)
        self.evaluations += 1
        value, gradient = total_gradient(self.potential, self.batches, self.loss, self.counts)
        c = self.parameters["coefficients"].detach()
        value += self.ridge * float((self.prior * c).square().sum())
        linear = gradient["coefficients"] + 2.0 * self.ridge * self.prior.square() * c
        first = solve_triangular(self.metric, linear.numpy(), trans="T")
        return value, np.concatenate([first, *(gradient[name].flatten().numpy() for name in self.others)])

    def inverse_hessian(self, y: np.ndarray, gradient: np.ndarray, largest: int) -> np.ndarray:
        """Of the Hessian's absolute value, with its smallest eigenvalues raised."""
        n, size = len(self.metric), self.size
        hessian = 2.0 * np.eye(size)
        if size - n > largest:
            return np.eye(size) * 0.5
        for k in range(n, size):
            moved = y.copy()
            moved[k] += _STEP
            column = (self(moved)[1] - gradient) / _STEP
            hessian[:, k] = hessian[k] = column
        block = hessian[n:, n:]
        hessian[n:, n:] = 0.5 * (block + block.T)
        # in units in which the curvature along every axis is that of the linear part
        unit = np.sqrt(2.0 / np.maximum(np.abs(np.diag(hessian)), 1e-12 * np.abs(hessian).max()))
        values, vectors = np.linalg.eigh(hessian * unit * unit[:, None])
        vectors *= unit[:, None]
        inverse = (vectors / np.maximum(np.abs(values), _LEAST_CURVATURE)) @ vectors.T
        return 0.5 * (inverse + inverse.T)


_STEP = 1e-5
_LEAST_CURVATURE = 2e-3


def total_gradient(
    potential: LinearPotential, batches: list[Batch], loss: Loss, number: Tensor
) -> tuple[float, dict[str, Tensor]]:
    """(loss over all batches, its gradient by parameter)."""
    program = potential.program()
    value = 0.0
    gradient = {n: torch.zeros_like(p) for n, p in potential.named_parameters() if p.requires_grad}
    for batch in batches:
        if isinstance(program, DifferentiableProgram):
            part, found = _through_program(program, batch, loss, number)
        else:
            part, found = _by_autograd(potential, batch, loss, number)
        value += part
        for name, g in found.items():
            gradient[name] += g
    return value, gradient


def _through_program(
    program: DifferentiableProgram, batch: Batch, loss: Loss, number: Tensor
) -> tuple[float, dict[str, Tensor]]:
    system, pairs = batch.system, batch.pairs
    results = run_program(program, system, pairs, stress=loss.needs_stress)
    leaves = {
        name: found.detach().requires_grad_()
        for name in ENERGY_TERMS
        if (found := getattr(results, name)) is not None
    }
    terms = mean(loss.sums(Results(**leaves), batch.labels, system, batch.weights), number)
    value = loss.combine(terms)
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    slopes = {n: None if g is None else g.nan_to_num() for n, g in zip(leaves, found, strict=True)}
    vectors = pairs.vectors(system)
    along = torch.zeros_like(vectors)
    if (f := slopes.get("forces")) is not None:
        along = f[pairs.i] - f[pairs.j]
    if (s := slopes.get("stress")) is not None:
        volume = torch.where(system.has_volume, system.volume, 1.0)
        s = 0.5 * (s + s.transpose(1, 2)) / volume[:, None, None]
        along = along + torch.einsum("pab,pb->pa", s[system.system_index[pairs.i]], vectors)
    e = slopes.get("energy")
    of_energies = vectors.new_zeros(system.n_atoms) if e is None else e[system.system_index]
    gradient = program.parameter_gradient(system, pairs, vectors, of_energies, along)
    return float(value.detach()), gradient


def _by_autograd(
    potential: LinearPotential, batch: Batch, loss: Loss, number: Tensor
) -> tuple[float, dict[str, Tensor]]:
    results = evaluate(potential, batch.system, batch.pairs, stress=loss.needs_stress, create_graph=True)
    value = loss.combine(mean(loss.sums(results, batch.labels, batch.system, batch.weights), number))
    parameters = {n: p for n, p in potential.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(value, list(parameters.values()))
    return float(value.detach()), dict(zip(parameters, found, strict=True))
