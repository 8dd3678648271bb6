"""Which atoms of a molecule are joined by bonds, and what hangs together when one is cut."""

from ase import Atoms

from rikiba.core.system import System

from .bond_lengths import find_bonds

BondGraph = dict[int, set[int]]
"""Atom → atoms that it is bonded to."""


def bond_graph(atoms: Atoms) -> BondGraph:
    """By distance and covalent radii, see `find_bonds`."""
    bonds = find_bonds(System.from_ase(atoms))
    graph: BondGraph = {a: set() for a in range(len(atoms))}
    for i, j in zip(bonds.i.tolist(), bonds.j.tolist(), strict=True):
        graph[i].add(j)
        graph[j].add(i)
    return graph


def reached(graph: BondGraph, start: int, without: int) -> set[int]:
    """Atoms reached from `start` when its bond to `without` is cut (may contain `without` through a ring)."""
    seen, todo = {start}, [b for b in graph[start] if b != without]
    while todo:
        a = todo.pop()
        if a not in seen:
            seen.add(a)
            todo.extend(graph[a])
    return seen


def is_open(graph: BondGraph, j: int, k: int) -> bool:
    """Whether the bond j–k is in no ring."""
    return j not in reached(graph, k, j)
