"""What is computed some atoms after others equals what is computed at once."""

from dataclasses import replace

import pytest
import torch
from ase.build import bulk

import rikiba.potentials.ace_program as ace_program
from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.system import System
from rikiba.potentials.base import Potential
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.embedded_ace import EmbeddedACE
from rikiba.potentials.pacemaker_ace import PacemakerACE
from rikiba.potentials.schnet import SchNet
from rikiba.potentials.term_programs import AutogradProgram, BlockProgram


def crystals(potential: Potential) -> tuple[System, Pairs]:
    """Two structures of different sizes, atoms without neighbours among them."""
    first, *_, last = potential.elements
    large, small = bulk(first, "diamond", 4.6, cubic=True).repeat(2), bulk(last, "diamond", 4.4)
    large.symbols[::3] = last
    large.rattle(0.1, seed=1)
    large.cell[2, 2], large.positions[-1, 2] = 40.0, 25.0
    system = System.from_ase([large, small])
    return system, find_pairs(system, potential.cutoff)


@pytest.mark.parametrize("example", [0, 1])
def test_automatic_differentiation_in_blocks(example: int) -> None:
    potential = BehlerParrinello.examples()[example].double()
    system, pairs = crystals(potential)
    vectors = pairs.vectors(system)
    whole = AutogradProgram(potential)(system, pairs, vectors)
    for block in (1, 50, 200):
        found = BlockProgram(potential, block=block)(system, pairs, vectors)
        for a, b in zip(found, whole, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    assert float(whole[1].abs().max()) > 1e-3
    # negative control: a block without the neighbours beyond its end
    inside = torch.nonzero(pairs.j < 20).flatten()
    fewer = replace(pairs, i=pairs.i[inside], j=pairs.j[inside], shift=pairs.shift[inside])
    cut = BlockProgram(potential, block=50)(system, fewer, vectors[inside])
    assert float((cut[0] - whole[0]).abs().max()) > 1e-4


def test_blocks_need_a_potential_that_sees_its_neighbours_alone() -> None:
    with pytest.raises(ValueError, match="sees its neighbours alone"):
        BlockProgram(SchNet.examples()[0])


@pytest.mark.parametrize("family", [EmbeddedACE, PacemakerACE])
def test_cluster_expansions_in_blocks(
    family: type[EmbeddedACE] | type[PacemakerACE], monkeypatch: pytest.MonkeyPatch
) -> None:
    potential = family.examples()[-1]
    with torch.no_grad():
        for p in potential.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)).to(p))
    system, pairs = crystals(potential)
    program, vectors = potential.program(), pairs.vectors(system)
    assert program is not None
    whole = program(system, pairs, vectors)
    blocks = ace_program.ClusterSweep.blocks
    for size in (1, 150):
        monkeypatch.setattr(
            ace_program.ClusterSweep,
            "blocks",
            lambda self, *given, size=size: blocks(self, *given, size=size),
        )
        for a, b in zip(program(system, pairs, vectors), whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    assert float(whole[1].abs().max()) > 1e-4
    # negative control: one centre left out
    monkeypatch.setattr(
        ace_program.ClusterSweep, "blocks", lambda self, *given: list(blocks(self, *given, size=150))[1:]
    )
    assert float((program(system, pairs, vectors)[0] - whole[0]).abs().max()) > 1e-4
