"""What training minimises: predictions against their labels, each present label once."""

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.results import QUANTITIES, Results
from rikiba.core.system import System

ENERGY_TERMS = ("energy", "forces", "stress")
"""The energy and its derivatives: what a potential that is solved for is fitted to."""
TERMS = (*ENERGY_TERMS, "charges", "magmoms")
"""The terms of a loss, in the order of every tensor of terms."""


@final
@dataclass(frozen=True, kw_only=True)
class Loss:
    """L = w_E ⟨h((E − E_ref)/N)⟩ + w_F ⟨h(F − F_ref)⟩ + w_σ ⟨h(σ − σ_ref)⟩ + w_q ⟨h(q − q_ref)⟩ + w_m ….

    The averages run over the structures of the batch (energy, divided by the number of atoms N of its
    structure), over all 3N force components of the batch, over all 9 stress components (so an off-diagonal
    pair counts twice, as in the Frobenius norm), and over atoms (charges q, magnetic moments m); in every
    case over present labels only, a label that is NaN being absent. With h(x) = x² the force term is
    (1/3N) Σ‖F − F_ref‖².

    `form = "huber"` takes h(x) = x² for |x| ≤ δ and δ(2|x| − δ) beyond, twice Huber's function
    (doi:10.1214/aoms/1177703732), so that δ → ∞ is the square and weights keep their meaning. Weights of
    terms and of frames multiply h; they do not enter its argument (as they do in MACE's code, where a weight
    thereby also moves δ). Frame weights do not change the counts that the averages divide by.

    Args:
        energy_weight: w_E, per (eV/atom)²
        forces_weight: w_F, per (eV/Å)²
        stress_weight: w_σ, per (eV/Å³)²
        charges_weight: w_q, per e²
        magmoms_weight: w_m, per μB²
        form: h is the square, or Huber's function
        energy_delta: δ of the energy term, eV/atom
        forces_delta: δ of the force term, eV/Å
        stress_delta: δ of the stress term, eV/Å³
        charges_delta: δ of the charges, e
        magmoms_delta: δ of the magnetic moments, μB
    """

    energy_weight: float = 1.0
    forces_weight: float = 100.0
    stress_weight: float = 0.0
    charges_weight: float = 0.0
    magmoms_weight: float = 0.0
    form: Literal["square", "huber"] = "square"
    energy_delta: float = 0.01
    forces_delta: float = 0.1
    stress_delta: float = 0.001
    charges_delta: float = 0.01
    magmoms_delta: float = 0.1

    def __post_init__(self) -> None:
        if not all(0.0 <= w < float("inf") for w in self.weights) or not any(self.weights):
            given = ", ".join(f"{name} {w}" for name, w in zip(TERMS, self.weights, strict=True))
            raise ValueError(f"Loss weights must be finite, at least 0 and not all 0; given {given}.")
        if self.form not in ("square", "huber"):
            raise ValueError(f"loss form is 'square' or 'huber'; given '{self.form}'.")
        if self.form == "huber" and not all(d > 0 for d in self.deltas):
            raise ValueError(f"Huber's delta must be positive; given {self.deltas} for {', '.join(TERMS)}.")

    @property
    def weights(self) -> tuple[float, ...]:
        """In the order of `TERMS`."""
        return tuple(getattr(self, f"{name}_weight") for name in TERMS)

    @property
    def deltas(self) -> tuple[float, ...]:
        """In the order of `TERMS`."""
        return tuple(getattr(self, f"{name}_delta") for name in TERMS)

    @property
    def needs_forces(self) -> bool:
        return self.forces_weight > 0

    @property
    def needs_stress(self) -> bool:
        return self.stress_weight > 0

    def sums(
        self,
        predicted: Results,
        labels: Results,
        system: System,
        frame_weights: dict[str, Float[Tensor, "systems"]] | None = None,
    ) -> Float[Tensor, "terms"]:
        """Σ frame weight · h(residual) over the present labels of each term, in the order of `TERMS`.

        A term of weight 0 is 0 and differentiates to nothing.
        """
        out = []
        for name, weight, delta in zip(TERMS, self.weights, self.deltas, strict=True):
            target = getattr(labels, name)
            if weight == 0 or target is None:
                out.append(system.positions.new_zeros(()))
                continue
            x = residual(name, predicted.need(name), target, system)
            h = x * x if self.form == "square" else _huber(x, delta)
            if frame_weights is not None and name in frame_weights:
                factor = frame_weights[name]
                factor = factor[system.system_index] if QUANTITIES[name].per == "atom" else factor
                h = h * factor.reshape(-1, *([1] * (h.dim() - 1)))
            out.append(h.sum())
        return torch.stack(out)

    def combine(self, terms: Float[Tensor, "terms"]) -> Float[Tensor, ""]:
        """Weighted sum of the terms: the loss."""
        return (terms * terms.new_tensor(self.weights)).sum()

    def __call__(
        self,
        predicted: Results,
        labels: Results,
        system: System,
        frame_weights: dict[str, Float[Tensor, "systems"]] | None = None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "terms"]]:
        """(L, its unweighted terms) of one batch in one process."""
        terms = mean(self.sums(predicted, labels, system, frame_weights), counts(labels))
        return self.combine(terms), terms


def residual(name: str, predicted: Tensor, target: Tensor, system: System) -> Tensor:
    """predicted − target where a label is present and 0 where it is NaN; energies per atom."""
    present = ~target.isnan()
    difference = predicted - target
    if name == "energy":
        difference = difference / system.counts
    return torch.where(present, difference, torch.zeros_like(difference))


def counts(labels: Results) -> Float[Tensor, "terms"]:
    """Present labels of each term: structures, force components, stress components, atoms, atoms."""
    present = [getattr(labels, name) for name in TERMS]
    first = next(t for t in present if t is not None)
    zero = first.new_zeros(())
    return torch.stack([zero if t is None else (~t.isnan()).sum().to(first.dtype) for t in present])


def mean(sums: Float[Tensor, "terms"], number: Float[Tensor, "terms"]) -> Float[Tensor, "terms"]:
    """sums/number; a term without labels is 0."""
    return sums / torch.where(number > 0, number, torch.ones_like(number))


def _huber(x: Tensor, delta: float) -> Tensor:
    size = x.abs()
    return torch.where(size <= delta, x * x, delta * (2.0 * size - delta))


def error_sums(predicted: Results, labels: Results, system: System) -> Float[Tensor, "terms 3"]:
    """Rows in the order of `TERMS` (energy per atom); columns count, Σ|error|, Σ error². Detached."""
    out = system.positions.new_zeros((len(TERMS), 3))
    number = counts(labels)
    for k, name in enumerate(TERMS):
        value, target = getattr(predicted, name), getattr(labels, name)
        if value is None or target is None:
            continue
        x = residual(name, value.detach(), target, system)
        out[k] = torch.stack([number[k], x.abs().sum(), (x * x).sum()])
    return out
