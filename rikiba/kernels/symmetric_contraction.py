"""Products of an atom's own features coupled to total degree L: the many-body step of ACE and MACE.

    B[i, M, c] = Σ_η W[type of i, η, c] Σ_k C[M, k, η] Π_{a ∈ k} A[i, a, c]

k runs over the monomials of degree 1 … ν that any coupling needs. A monomial of degree n is one of degree
n − 1 times one more feature, so all of them cost one product each, shared by every M, η and degree L. The
coefficients are contracted with the weights once per type, not per atom; what remains is one matrix product
per channel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import choose, forbid_forward_mode
from .grouping import TypeGroups


@dataclass(frozen=True, slots=True, eq=False)
class ContractionPlan:
    """How to build the monomials and what each output needs of them. Made by `plan_contraction`."""

    n_features: int
    first: Int[Tensor, "monomials_1"]
    """Features that enter linearly or as a factor: the monomials of degree 1."""
    steps: tuple[tuple[Int[Tensor, "_"], Int[Tensor, "_"]], ...]
    """For degree 2, 3 …: which monomial of one degree less, times which feature."""
    coefficients: tuple[Float[Tensor, "_ _"], ...]
    """Of each output degree, [couplings, components × monomials]."""
    components: tuple[int, ...]
    """2L + 1 of each output."""

    def to(self, like: Tensor) -> "ContractionPlan":
        """The same plan with coefficients of another dtype and device."""
        device = like.device
        return ContractionPlan(
            self.n_features,
            self.first.to(device),
            tuple((a.to(device), b.to(device)) for a, b in self.steps),
            tuple(c.to(like) for c in self.coefficients),
            self.components,
        )


Terms = Sequence[tuple[Int[Tensor, "_ _"], Float[Tensor, "_ _ _"]]]
"""Pairs of (monomials [monomials, order], coefficients [components, monomials, couplings]), one per order."""


def plan_contraction(outputs: Sequence[Terms], n_features: int) -> ContractionPlan:
    """Arrange couplings, given for each output as (monomials, coefficients) of every order.

    The couplings of an output are numbered in the order of its terms. Raises ValueError where an index is
    outside the features or an output has no couplings.
    """
    needed = {tuple(sorted(k)) for terms in outputs for monomials, _ in terms for k in monomials.tolist()}
    if any(not 0 <= a < n_features for k in needed for a in k):
        raise ValueError(f"A monomial uses a feature outside 0 … {n_features - 1}.")
    highest = max((len(k) for k in needed), default=1)
    levels: list[list[tuple[int, ...]]] = [[] for _ in range(highest + 1)]
    for n in range(highest, 0, -1):
        levels[n] = sorted(k for k in needed if len(k) == n)
        needed |= _parents(levels[n], needed)
    numbering: dict[tuple[int, ...], int] = {}
    for level in levels[1:]:
        for k in level:
            numbering[k] = len(numbering)
    steps = []
    for n in range(2, highest + 1):
        place = {k: at for at, k in enumerate(levels[n - 1])}
        pairs = [_split(k, place) for k in levels[n]]
        steps.append((torch.tensor([p for p, _ in pairs]), torch.tensor([a for _, a in pairs])))
    coefficients, components = [], []
    for terms in outputs:
        matrix, d = _coefficient_matrix(terms, numbering)
        coefficients.append(matrix)
        components.append(d)
    first = torch.tensor([k[0] for k in levels[1]], dtype=torch.int64)
    return ContractionPlan(n_features, first, tuple(steps), tuple(coefficients), tuple(components))


def _parents(level: list[tuple[int, ...]], known: set[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """Monomials of one degree less that are still missing so that each of `level` has a parent."""
    added: set[tuple[int, ...]] = set()
    for k in level:
        shorter = [k[:n] + k[n + 1 :] for n in range(len(k))]
        if len(k) > 1 and not any(s in known or s in added for s in shorter):
            added.add(shorter[0])
        if len(k) == 2:
            added |= {(a,) for a in k}
    return added


def _split(k: tuple[int, ...], place: dict[tuple[int, ...], int]) -> tuple[int, int]:
    for n, a in enumerate(k):
        rest = k[:n] + k[n + 1 :]
        if rest in place:
            return place[rest], a
    raise AssertionError("every monomial has a parent by construction")


def _coefficient_matrix(terms: Terms, numbering: dict[tuple[int, ...], int]) -> tuple[Tensor, int]:
    if not terms or sum(c.shape[2] for _, c in terms) == 0:
        raise ValueError("An output has no couplings: its degree cannot be reached from these features.")
    d = terms[0][1].shape[0]
    total = sum(c.shape[2] for _, c in terms)
    out = terms[0][1].new_zeros((total, d, len(numbering)))
    at = 0
    for monomials, c in terms:
        columns = torch.tensor([numbering[tuple(sorted(k))] for k in monomials.tolist()], dtype=torch.int64)
        block = out[at : at + c.shape[2]]
        block.index_add_(2, columns, c.permute(2, 0, 1).contiguous())
        at += c.shape[2]
    return out.flatten(1), d


def symmetric_contraction(
    plan: ContractionPlan,
    features: Float[Tensor, "atoms lm channels"],
    weights: Sequence[Float[Tensor, "types _ channels"]],
    groups: TypeGroups,
) -> Float[Tensor, "atoms components channels"]:
    """B of every output side by side, [atoms, Σ(2L+1), channels]; `weights` has one tensor per output.

    Differentiable in reverse mode to any order in features and weights; forward mode raises
    NotImplementedError. Raises ValueError where a shape does not fit the plan.
    """
    forbid_forward_mode("symmetric_contraction", features, *weights)
    if features.dim() != 3 or features.shape[1] != plan.n_features:
        raise ValueError(
            f"Features have shape {tuple(features.shape)}; [atoms, {plan.n_features}, channels] is needed."
        )
    for w, c in zip(weights, plan.coefficients, strict=True):
        if w.shape[1:] != (c.shape[0], features.shape[2]):
            raise ValueError(
                f"Weights have shape {tuple(w.shape)}; [types, {c.shape[0]}, {features.shape[2]}] is needed."
            )
    plan = plan if plan.coefficients[0].dtype == features.dtype else plan.to(features)
    evaluate_here = choose("symmetric_contraction", evaluate, features)
    return evaluate_here(plan, features, tuple(weights), groups)  # type: ignore[no-any-return]


def evaluate(
    plan: ContractionPlan, features: Tensor, weights: tuple[Tensor, ...], groups: TypeGroups
) -> Tensor:
    """The plain-torch definition."""
    n_atoms, _, channels = features.shape
    if n_atoms == 0:
        return features.new_zeros((0, sum(plan.components), channels))
    rows = groups.gather(features).permute(1, 2, 0).contiguous()  # [lm, channels, atoms]
    level = rows.index_select(0, plan.first)
    levels = [level]
    for parent, factor in plan.steps:
        level = level.index_select(0, parent) * rows.index_select(0, factor)
        levels.append(level)
    sizes = [x.shape[0] for x in levels]
    outputs = []
    for kind, start, stop in groups.spans:
        parts = [
            (w[kind].T @ c).view(channels, d, -1)
            for w, c, d in zip(weights, plan.coefficients, plan.components, strict=True)
        ]
        by_level = torch.cat(parts, 1).split(sizes, 2)
        total = None
        for x, k in zip(levels, by_level, strict=True):
            monomials = x[:, :, start:stop].transpose(0, 1)  # [channels, monomials, atoms]
            total = k @ monomials if total is None else torch.baddbmm(total, k, monomials)
        assert total is not None
        outputs.append(total)
    joined = torch.cat(outputs, 2) if len(outputs) > 1 else outputs[0]
    return groups.restore(joined.permute(2, 1, 0))
