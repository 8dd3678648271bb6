"""What pair potentials share: half of each directed pair's energy, and how it ends at the cutoff."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.cutoff import quintic
from rikiba.nn.double_buffers import DoubleBuffers

from .base import Potential, Program, check_positive

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
    compiled_form: ClassVar[str | None] = None
    """Name of v in `rikiba.kernels.pair_forms_cpu`. Not inherited: a subclass may change v, so it says so
    itself and gives `form_parameters`."""

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

    def form_parameters(self) -> Float[Tensor, "types types n"]:
        """Parameters of the compiled form for each pair of types."""
        raise NotImplementedError(f"{type(self).__name__} names no compiled form.")

    def switch_ends(self) -> tuple[Float[Tensor, "types types"], Float[Tensor, "types types"]]:
        """Where the smooth switch begins and ends for each pair of types, Å."""
        n = len(self.elements)
        stop = torch.full((n, n), float(self.cutoff), dtype=torch.float64)
        return torch.full_like(stop, float(self.switch_from)), stop

    def program(self) -> Program | None:
        """Compiled kernels on the CPU; None for a form that has none, or a tail correction."""
        form = vars(type(self)).get("compiled_form")
        if form is None or self.uses_positions or any(b.device.type != "cpu" for b in self.buffers()):
            return None
        from .term_programs import PairProgram

        start, stop = self.switch_ends()
        value, slope = torch.zeros_like(stop), torch.zeros_like(stop)
        if self.truncation != "smooth":
            start = stop
        if self.truncation in ("shift", "force_shift"):
            value, slope = self._at_cutoff()
            slope = slope if self.truncation == "force_shift" else torch.zeros_like(slope)
        ends = torch.stack([start, stop, value, slope], -1)
        return PairProgram(self, form=form, parameters=self.form_parameters(), ends=ends)

    def _at_cutoff(self) -> tuple[Float[Tensor, "types types"], Float[Tensor, "types types"]]:
        """v and v' of each pair of types at the cutoff."""
        types = torch.arange(len(self.elements))
        ti, tj = torch.meshgrid(types, types, indexing="ij")
        with torch.enable_grad():
            r = torch.full(ti.shape, float(self.cutoff), dtype=torch.float64).requires_grad_()
            value = self.pair_energy(r, ti, tj)
            (slope,) = torch.autograd.grad(value.sum(), r)
        return value.detach(), slope

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
