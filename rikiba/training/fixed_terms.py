"""Sums with terms that stay as they are: what is left for the others to learn."""

from dataclasses import replace
from functools import reduce

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.data.batching import Batch
from rikiba.data.dataset import Dataset
from rikiba.data.statistics import force_scale
from rikiba.potentials.base import LinearPotential, Potential
from rikiba.potentials.sum import Sum


def linear_term(potential: Potential) -> tuple[LinearPotential, list[Potential]]:
    """The potential itself, or the one linear term of a sum; and the sum's other terms.

    Raises ValueError where there is not exactly one linear term, or another one would have to learn as well.
    """
    terms = (
        [t for t in potential.terms if isinstance(t, Potential)]
        if isinstance(potential, Sum)
        else [potential]
    )
    linear = [t for t in terms if isinstance(t, LinearPotential)]
    fixed = [t for t in terms if not isinstance(t, LinearPotential)]
    if len(linear) != 1 or any(t.learned for t in fixed):
        named = ", ".join(type(t).__name__ for t in terms)
        raise ValueError(
            f"Least squares fit one potential that is linear in its coefficients, alone or in a sum with "
            f"classical terms; given {named}. Train others by gradient descent."
        )
    return linear[0], fixed


def without(batch: Batch, fixed: list[Potential], cutoff: float) -> Batch:
    """The batch with the pairs within `cutoff`, and its labels less what `fixed` gives."""
    if not fixed:
        return batch
    system, pairs, labels = batch.system, batch.pairs, batch.labels
    stress = labels.stress is not None
    parts = [
        evaluate(
            t, system, pairs.within(system, t.cutoff)[0], forces=labels.forces is not None, stress=stress
        )
        for t in fixed
    ]
    known = reduce(lambda a, b: a + b, parts)
    names = [n for n in ("energy", "forces", "stress") if getattr(labels, n) is not None]
    left = labels.replace(**{n: labels.need(n) - known.need(n) for n in names})
    return replace(batch, pairs=pairs.within(system, cutoff)[0], labels=left)


def left_to_learn(potential: Potential, dataset: Dataset) -> Dataset:
    """The frames with energies and forces less what a sum's terms that do not learn give: by these, data say
    what a learned term's energies of atoms, scale and shift are.

    The frames as they are where more than half of the forces' root mean square is left: a repulsive core is
    no baseline, and what a network learns beside it has the scale of the whole.
    """
    terms = potential.terms if isinstance(potential, Sum) else ()
    fixed = [PotentialCalculator(t) for t in terms if isinstance(t, Potential) and not t.learned]
    if not fixed:
        return dataset
    names = ("energy", "forces")
    frames = []
    for frame in dataset:
        parts = [calculator(frame.system) for calculator in fixed]
        known = reduce(lambda a, b: a + b, parts)
        labels = {n: getattr(frame.results, n) for n in names}
        left = {n: label - known.need(n) for n, label in labels.items() if label is not None}
        frames.append(replace(frame, results=frame.results.replace(**left)))
    left_over = Dataset(frames)
    return left_over if force_scale(left_over) < 0.5 * force_scale(dataset) else dataset
