"""Do distant things leave each other alone, has a single atom its own energy, and what does size cost?"""

import time
from math import isinf

import numpy as np
from ase import Atoms

from rikiba.core import elements
from rikiba.core.system import System

from .checks import Check, Subject
from .derivatives import energy_of
from .smoothness import isolated

_FLOW = "not held to it: charge is shared out over all atoms, however far apart"


def _charges_flow(subject: Subject) -> bool:
    return subject.potential is not None and not subject.potential.additive


def additivity(subject: Subject, atoms: Atoms) -> Check:
    """E(A + B) = E(A) + E(B) for fragments beyond each other's reach, of different composition."""
    name = "energies of distant fragments add"
    if _charges_flow(subject):
        return Check.skipped(name, _FLOW)
    cluster = isolated(atoms, len(atoms))
    if len(cluster) < 2:
        return Check.skipped(name, "a single atom has no fragments")
    known = not isinf(subject.receptive_field)
    half = len(cluster) // 2
    # half a molecule is an open shell to an electronic method: whole ones where the reach is unknown
    a, b = (cluster[:half], cluster[half:]) if known else (cluster, cluster)
    distance = 2.0 + (subject.receptive_field if known else 100.0)
    extent = float(np.ptp(cluster.positions, axis=0).max())
    far = b.copy()
    far.positions += [distance + 2.0 * extent, 0.0, 0.0]
    together, first, second = subject.results([a + far]), subject.results([a]), subject.results([b])
    error_e = abs(float(together.need("energy")[0] - first.need("energy")[0] - second.need("energy")[0]))
    parts = np.concatenate([first.need("forces").numpy(), second.need("forces").numpy()])
    error_f = float(np.abs(together.need("forces").numpy() - parts).max())
    t = subject.tolerance
    if not known:
        # interactions that fall off as a power of distance are still there at 100 Å
        limit, note = 1e-4, f"reach unknown or infinite, tried at 100 Å: ΔE {error_e:.1e} eV"
        return Check.against(name, error_e / len(cluster), limit, "eV/atom", note=note)
    ratio = max(error_e / len(cluster) / t.energy, error_f / max(np.abs(parts).max(), 1.0) / t.force)
    return Check.against(
        name, ratio, 1.0, "of the allowed error", note=f"ΔE {error_e:.1e} eV, ΔF {error_f:.1e} eV/Å"
    )


def isolated_atoms(subject: Subject, atoms: Atoms) -> list[Check]:
    """Atoms out of each other's reach have the sum of single-atom energies: E0 where that is stated."""
    if _charges_flow(subject):
        return [Check.skipped("isolated-atom limit", _FLOW)]
    symbols = sorted(set(atoms.get_chemical_symbols()))
    known = not isinf(subject.receptive_field)
    distance = 2.0 + (subject.receptive_field if known else 100.0)
    row = Atoms(symbols * 2, [[distance * k, 0.0, 0.0] for k in range(2 * len(symbols))])
    try:
        single = {s: energy_of(subject, Atoms(s, [[0.0, 0.0, 0.0]])) for s in symbols}
        together = energy_of(subject, row)
    except (ArithmeticError, RuntimeError, ValueError) as problem:
        if subject.potential is not None:
            raise
        return [Check.skipped("isolated-atom limit", f"no energy of separate atoms: {problem}")]
    error = abs(together - 2.0 * sum(single.values())) / len(row)
    limit = subject.tolerance.energy if known else 1e-4
    checks = [Check.against("isolated-atom limit", error, limit, "eV/atom")]
    table = getattr(subject.potential, "atomic_energies", None)
    if subject.potential is not None and table is not None:
        z = elements.type_table(subject.potential.elements)
        stated = {s: float(table.values[int(z[elements.number(s)])]) for s in symbols}
        shift = subject.potential.arguments.get("shift") or 0.0
        worst = max(abs(single[s] - stated[s]) for s in symbols)
        checks.append(
            Check(
                name="a single atom has its stated E0",
                passed=None if shift else bool(worst <= 0.1),
                value=worst,
                threshold=0.1,
                unit="eV",
                note="a shift per atom is part of it"
                if shift
                else "what the model adds to E0 for an empty neighbourhood",
            )
        )
    return checks


def local_energies(subject: Subject, atoms: Atoms) -> list[Check]:
    """Σ ε_i = E, and ε_i keeps its bits when an atom outside i's receptive field moves."""
    name = "Σ ε_i = E"
    results = subject.one(atoms)
    if results.energies is None:
        return [Check.skipped(name, "no energies per atom")]
    total = float(results.energies.double().sum())
    error = abs(total - float(results.need("energy")[0])) / max(abs(total), 1.0)
    checks = [Check.against(name, error, 1e-12 if subject.precision == "float64" else 1e-6, "relative")]
    return [*checks, far_atom(subject, atoms)]


def far_atom(subject: Subject, atoms: Atoms) -> Check:
    """A chain longer than the receptive field: moving its far end leaves the near end's ε bit for bit."""
    name = "ε_i is unchanged by what it cannot see"
    if subject.cutoff is None or isinf(subject.receptive_field):
        return Check.skipped(name, "the receptive field is not finite or not known")
    spacing = 0.6 * subject.cutoff
    n = int(subject.receptive_field / spacing) + 3
    symbols = [atoms.get_chemical_symbols()[k % len(atoms)] for k in range(n)]
    chain = Atoms(symbols, [[spacing * k, 0.1 * (k % 2), 0.0] for k in range(n)])
    moved = chain.copy()
    moved.positions[-1] += [0.05, 0.2, 0.1]
    before, after = (subject.one(a).energies for a in (chain, moved))
    assert before is not None and after is not None
    x = chain.positions
    unseen = np.linalg.norm(x - x[-1], axis=1) > subject.receptive_field + 0.3
    change = np.abs((after - before).detach().cpu().numpy())
    if not change[-2] > 0:
        return Check.skipped(name, "neighbours at 0.6 of the cutoff do not interact")
    return Check.against(
        name, float(change[unseen].max()), 0.0, "eV", note=f"{int(unseen.sum())} atoms out of reach"
    )


def cost(subject: Subject, atoms: Atoms, *, seconds: float = 2.0) -> Check:
    """Slope of log(time) against log(number of atoms) at constant density; between 0.9 and 1.1 passes.

    The crystal is repeated until one call takes `seconds`/10; the slope is over the last factor of four.
    """
    name = "cost is proportional to the number of atoms"
    if not atoms.pbc.all():
        return Check.skipped(name, "needs a periodic structure")
    sizes, times = [], []
    crystal = atoms
    while True:
        sizes.append(len(crystal))
        times.append(_seconds_per_call(subject, crystal))
        if times[-1] > 0.1 * seconds or sizes[-1] > 50_000:
            break
        crystal = crystal.repeat([2 if k == len(sizes) % 3 else 1 for k in range(3)])
    if len(sizes) < 3:
        return Check.skipped(name, f"{sizes[-1]} atoms already take {times[-1]:.2f} s")
    slope = float(np.polyfit(np.log(sizes[-3:]), np.log(times[-3:]), 1)[0])
    note = f"slope {slope:.2f}; {1e6 * times[-1] / sizes[-1]:.1f} µs per atom at {sizes[-1]} atoms"
    return Check.against(name, abs(slope - 1.0), 0.1, "from 1", note=note)


def _seconds_per_call(subject: Subject, atoms: Atoms) -> float:
    system = System.from_ase(atoms)
    subject.calculator(system)
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        subject.calculator(system)
        best = min(best, time.perf_counter() - start)
    return best
