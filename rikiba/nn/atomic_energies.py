"""Per-element reference energies that keep float64 whatever the potential's precision is."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .double_buffers import DoubleBuffers


class AtomicEnergies(DoubleBuffers):
    """E0 of each element, eV: the energy of an isolated atom at the potential's level of theory.

    Total energies of thousands of eV carry E0 with an error of 1e-16, not 1e-7: `.to(torch.float32)` moves
    the values but never rounds them.

    Args:
        elements: symbols in the potential's order.
        values: E0 per symbol, eV; an element without a value is an error.
    """

    values: Tensor

    def __init__(self, elements: Sequence[str], values: Mapping[str, float] | None = None) -> None:
        super().__init__()
        if values is None:
            values = {s: 0.0 for s in elements}
        missing = [s for s in elements if s not in values]
        if missing:
            raise ValueError(f"Atomic energies are given for {sorted(values)}; also needed: {missing}.")
        self.register_buffer(
            "values", torch.tensor([float(values[s]) for s in elements], dtype=torch.float64)
        )

    def forward(self, types: Int[Tensor, "atoms"]) -> Float[Tensor, "atoms"]:
        """E0 of each atom, float64, eV."""
        return self.values[types]


def by_element(value: float | Mapping[str, float], elements: Sequence[str]) -> dict[str, float]:
    """One number for each symbol from a mapping or from one for all; ValueError where one is missing."""
    if not isinstance(value, Mapping):
        return {s: float(value) for s in elements}
    missing = [s for s in elements if s not in value]
    if missing:
        raise ValueError(f"Values are given for {sorted(value)}; also needed: {missing}.")
    return {s: float(value[s]) for s in elements}
