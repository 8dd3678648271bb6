"""What pair potentials share: half of each directed pair's energy, and how it ends at the cutoff."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.cutoff import quintic
from rikiba.nn.double_buffers import DoubleBuffers

from .base import Potential, check_positive

Truncation = Literal["smooth", "cut", "shift", "force_shift"]


def quintic_switch(r: Float[Tensor, "*pairs"], start: float, stop: float) -> Float[Tensor, "*pairs"]:
    """S(u) = 1 − 10u³ + 15u⁴ − 6u⁵, u = (r − start)/(stop − start) in [0, 1]; C² at both ends, r in Å."""
    return quintic(r / stop, start / stop)


class PairPotential(DoubleBuffers, Potential):
    """E = ½ Σ_i Σ_j v_{Z_i Z_j}(r_ij), v ended at the cutoff by `truncation`:

    - smooth: v(r)·S(r), S the quintic switch from `switch_from` to `cutoff`; C² (default);
    - cut: v(r) for r < cutoff; the energy jumps there (for reference values only);
    - shift: v(r) − v(cutoff); forces jump;
    - force_shift: v(r) − v(cutoff) − (r − cutoff) v'(cutoff); C¹.
    """

    learned = False
    truncation: Truncation
    switch_from: float

    def set_truncation(self, cutoff: float, truncation: Truncation, switch_from: float | None) -> None:
        """Check and store how the potential ends; `switch_from` is 0.8·cutoff if not given."""
        check_positive(cutoff=cutoff)
        if truncation not in ("smooth", "cut", "shift", "force_shift"):
            raise ValueError(f"truncation must be smooth, cut, shift or force_shift; given '{truncation}'.")
        start = 0.8 * cutoff if switch_from is None else switch_from
        if not 0 <= start < cutoff:
            raise ValueError(f"switch_from must lie in [0, cutoff = {cutoff}) Å; given {start}.")
        self.cutoff, self.truncation, self.switch_from = cutoff, truncation, start

    @abstractmethod
    def pair_energy(
        self, r: Float[Tensor, "*pairs"], ti: Int[Tensor, "*pairs"], tj: Int[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        """v(r) of an isolated pair of the given element indices, eV, without cutoff."""

    def truncated(
        self, r: Float[Tensor, "*pairs"], ti: Int[Tensor, "*pairs"], tj: Int[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        """v(r) as `truncation` says, for r < cutoff."""
        v = self.pair_energy(r, ti, tj)
        if self.truncation == "smooth":
            return v * quintic_switch(r, self.switch_from, self.cutoff)
        if self.truncation == "cut":
            return v
        with torch.enable_grad():
            rc = torch.full_like(r, self.cutoff).detach().requires_grad_()
            at_cutoff = self.pair_energy(rc, ti, tj)
            (slope,) = torch.autograd.grad(at_cutoff.sum(), rc)
        shifted = v - at_cutoff.detach()
        return shifted if self.truncation == "shift" else shifted - (r - self.cutoff) * slope

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        r = pairs.vectors(system, self.dtype).norm(dim=-1)
        half = 0.5 * self.truncated(r, types[pairs.i], types[pairs.j])
        energies = half.new_zeros(system.n_atoms, dtype=torch.float64)
        return Results(energies=energies.index_add(0, pairs.i, half.double()))


def pair_tables(
    parameters: Mapping[str, Mapping[str, float]],
) -> tuple[tuple[str, ...], dict[str, Float[Tensor, "types types"]]]:
    """Symmetric per-element tables from {'depth': {'Cu-Cu': 0.3, …}, …}.

    Returns (elements, {name: table}). Raises ValueError where a pair of the elements named lacks a value or
    is given twice with different ones.
    """
    elements = periodic_table.sorted_symbols(
        s for values in parameters.values() for key in values for s in _split(key)
    )
    index = {s: k for k, s in enumerate(elements)}
    tables = {}
    for name, values in parameters.items():
        table = torch.full((len(elements), len(elements)), torch.nan, dtype=torch.float64)
        for key, value in values.items():
            a, b = (index[s] for s in _split(key))
            if not torch.isnan(table[a, b]) and table[a, b] != value:
                raise ValueError(f"{name}: {key} is given twice, with {float(table[a, b])} and {value}.")
            table[a, b] = table[b, a] = float(value)
        missing = [f"{elements[a]}-{elements[b]}" for a, b in torch.isnan(table).nonzero().tolist() if a <= b]
        if missing:
            raise ValueError(f"{name} is given for {sorted(values)}; also needed: {', '.join(missing)}.")
        tables[name] = table
    return elements, tables


def _split(key: str) -> Sequence[str]:
    parts = key.split("-")
    if len(parts) != 2:
        raise ValueError(f"'{key}' is not a pair of elements; write it like 'Cu-Cu' or 'Si-O'.")
    return parts
