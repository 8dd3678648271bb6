"""A potential that is the sum of others."""

from collections.abc import Iterable, Sequence

import torch
from ase import Atoms

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System

from .base import PositionProgram, Potential, Program


class Sum(Potential):
    """E = Σ_k E_k: a learned potential on a baseline, with a repulsive core, with dispersion.

    Each term sees the pairs within its own cutoff. A learned term trains as usual; a classical one stays as
    it is. Every term must know every element.

    Args:
        terms: the potentials to add; in a configuration each is a table with its own `kind`.
    """

    def __init__(self, *, terms: Sequence[Potential]) -> None:
        super().__init__()
        if not terms:
            raise ValueError("Sum needs at least one term.")
        common = set(terms[0].elements).intersection(*(t.elements for t in terms[1:]))
        if not common:
            raise ValueError(f"The terms share no element: {[t.elements for t in terms]}.")
        self.terms = torch.nn.ModuleList(terms)
        self.elements = periodic_table.sorted_symbols(common)
        self.cutoff = max(t.cutoff for t in terms)
        self.uses_positions = any(t.uses_positions for t in terms)
        self.references = tuple(dict.fromkeys(doi for t in terms for doi in t.references))  # type: ignore[misc]
        self.needs = tuple(dict.fromkeys(n for t in terms for n in t.needs))  # type: ignore[misc]

    @property
    def _potentials(self) -> list[Potential]:
        return [t for t in self.terms if isinstance(t, Potential)]

    @property
    def receptive_field(self) -> float:
        return max(t.receptive_field for t in self._potentials)

    def prepare(self, structures: Iterable[tuple[System, Pairs]]) -> None:
        kept = list(structures)
        for term in self._potentials:
            term.prepare([(s, p.within(s, term.cutoff)[0]) for s, p in kept])

    def decayed_parameters(self) -> Iterable[str]:
        """Those that the terms name."""
        terms = enumerate(self._potentials)
        return [f"terms.{k}.{name}" for k, term in terms for name in term.decayed_parameters()]

    def interpolate_radial(self, intervals: int | None) -> bool:
        """Of every term that can."""
        return any([t.interpolate_radial(intervals) for t in self._potentials])

    def forward(self, system: System, pairs: Pairs) -> Results:
        self.types(system)
        total: Results | None = None
        for term in self._potentials:
            own = pairs if term.cutoff == pairs.cutoff else pairs.within(system, term.cutoff)[0]
            part = term(system, own)
            total = part if total is None else total + part
        assert total is not None
        return total

    def program(self) -> Program | None:
        """Each term by its own program, or by automatic differentiation of that term alone.

        None where no term has one, or where a term without one reads positions directly or answers more
        than energies.
        """
        found = [(term, term.program()) for term in self._potentials]
        plain = [term for term, program in found if program is None]
        if len(plain) == len(found) or not all(self._energies_alone(term) for term in plain):
            return None
        from .many_body_programs import ManyBodyProgram
        from .term_programs import AutogradProgram, PairProgram, SumProgram

        terms: list[tuple[Program, float | None]] = []
        for term, program in found:
            reach = None if isinstance(program, (PairProgram, ManyBodyProgram)) else term.cutoff
            terms.append((AutogradProgram(term) if program is None else program, reach))
        return SumProgram(self, terms)

    def position_program(self) -> PositionProgram | None:
        """Each term by its own program, pair by pair or from positions; None where a term has neither."""
        if not self.uses_positions:
            return None
        found: list[tuple[Program | PositionProgram, float]] = []
        for term in self._potentials:
            program = term.program() or term.position_program()
            if program is None:
                return None
            found.append((program, term.cutoff))
        from .term_programs import SweepSum

        return SweepSum(self, found)

    def _energies_alone(self, term: Potential) -> bool:
        """Whether a program can stand for a term: it answers a row of atoms with energies alone."""
        if term.uses_positions or term.needs or any(p.device.type != "cpu" for p in term.parameters()):
            return False
        n = len(self.elements)
        row = Atoms(list(self.elements), [[0.9 * term.cutoff * k, 0.0, 0.0] for k in range(n)])
        system = System.from_ase(row)
        with torch.no_grad():
            answer = term(system, find_pairs(system, term.cutoff))
        return answer.spread is None and {q.name for q in answer.present()} <= {"energy", "energies"}

    @classmethod
    def examples(cls) -> "list[Sum]":
        """Small instances for the conformance tests."""
        from .morse import Morse
        from .zbl import Zbl

        return [cls(terms=[*Morse.examples(), Zbl(elements=("O", "Si"))])]
