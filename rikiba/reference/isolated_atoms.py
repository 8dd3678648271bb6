"""Energies of isolated atoms from a reference: the zero of energy of a potential (E0)."""

from collections.abc import Mapping, Sequence

from ase import Atoms
from ase.data import ground_state_magnetic_moments

from rikiba.core import elements

from .base import Failure, Reference


def ground_state_multiplicity(symbol: str) -> int:
    """2S+1 of the neutral atom's ground state, from ASE's table of unpaired electrons."""
    return round(float(ground_state_magnetic_moments[elements.number(symbol)])) + 1


def isolated_atoms(
    reference: Reference, symbols: Sequence[str], multiplicities: Mapping[str, int] | None = None
) -> dict[str, float]:
    """Energy in eV of one neutral atom of each element, alone and not periodic.

    The multiplicity is the ground state's unless given, and is passed as `info['spin']` and as an initial
    magnetic moment. GFN-xTB is not spin polarised: for an open-shell atom its energy is that of the method,
    not a spectroscopic ground state, and `Tblite` answers for the occupation that the multiplicity fixes.

    Raises ValueError, with the reason, where the reference fails for an atom.
    """
    given = dict(multiplicities or {})
    frames = []
    for symbol in symbols:
        spin = given.get(symbol, ground_state_multiplicity(symbol))
        atom = Atoms([symbol], positions=[[0.0, 0.0, 0.0]], info={"charge": 0.0, "spin": spin})
        if spin > 1:
            atom.set_initial_magnetic_moments([spin - 1.0])
        frames.append(atom)
    out = {}
    for symbol, answer in zip(symbols, reference.label(frames), strict=True):
        if isinstance(answer, Failure):
            raise ValueError(
                f"The isolated {symbol} atom has no {reference.level_of_theory} energy: {answer.reason}."
            )
        out[symbol] = float(answer.get_potential_energy())
    return out
