"""Weights of a loss that change with the learning rate, as Deep Potentials are trained."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .loss import ENERGY_TERMS, Loss


def tied(loss: Loss, start: Sequence[float | None], share: float) -> Loss:
    """The loss with weights p + (p_start − p)·share, p its own; None for a term leaves its weight.

    `share` is the learning rate relative to that at the start, `start` in the order of `ENERGY_TERMS`.
    Wang, Zhang, Han & E, doi:10.1016/j.cpc.2018.03.016; there p_start is 0.02 for energies (in the loss
    p·ΔE²/N, so 0.02·N here, where it is p·(ΔE/N)²) and 1000 for forces, and p is 1 for both.
    """
    weights: dict[str, Any] = {
        f"{term}_weight": own if begin is None else own + (begin - own) * share
        for term, own, begin in zip(ENERGY_TERMS, loss.weights[:3], start, strict=True)
    }
    return loss if all(s is None for s in start) else replace(loss, **weights)
