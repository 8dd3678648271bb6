"""Do distant things leave each other alone, has a single atom its own energy, and what does size cost?"""

from math import isinf

import numpy as np
from ase import Atoms

from rikiba.core import elements

from .checks import Check, Subject
from .derivatives import energy_of
from .scaling import seconds_per_call
from .smoothness import isolated

_FAR = (100.0, 200.0, 400.0)
"""Distances, Å, tried where the reach is unknown or infinite: charges are still felt at 100 Å."""


def _limit(values: list[float]) -> float:
    """a of a + b/d + c/d² through values at `_FAR`."""
    return (values[0] - 6.0 * values[1] + 8.0 * values[2]) / 3.0


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
    if not known:
        # half a molecule is an open shell to an electronic method: whole ones
        excess = [excess_of_two(subject, cluster, cluster, d)[0] for d in _FAR]
        error = abs(_limit(excess)) / len(cluster)
        note = f"reach unknown or infinite: ΔE {excess[0]:.1e} eV at {_FAR[0]:.0f} Å, extrapolated"
        return Check.against(name, error, 1e-4, "eV/atom", note=note)
    distance = 2.0 + subject.receptive_field
    error_e, error_f, largest = excess_of_two(subject, cluster[:half], cluster[half:], distance)
    t = subject.tolerance
    ratio = max(abs(error_e) / len(cluster) / t.energy, error_f / max(largest, 1.0) / t.force)
    return Check.against(
        name, ratio, 1.0, "of the allowed error", note=f"ΔE {abs(error_e):.1e} eV, ΔF {error_f:.1e} eV/Å"
    )


def excess_of_two(subject: Subject, a: Atoms, b: Atoms, distance: float) -> tuple[float, float, float]:
    """E(A + B) − E(A) − E(B) in eV with `distance` Å between the two, max |ΔF| and max |F| in eV/Å."""
    far = b.copy()
    far.positions[:, 0] += a.positions[:, 0].max() - b.positions[:, 0].min() + distance
    first, second, both = (subject.results([x]) for x in (a, b, a + far))
    energies = [float(r.need("energy")[0]) for r in (first, second, both)]
    parts = np.concatenate([first.need("forces").numpy(), second.need("forces").numpy()])
    change = np.abs(both.need("forces").numpy() - parts).max()
    return energies[2] - energies[0] - energies[1], float(change), float(np.abs(parts).max())


def isolated_atoms(subject: Subject, atoms: Atoms) -> list[Check]:
    """Atoms out of each other's reach have the sum of single-atom energies: E0 where that is stated."""
    if _charges_flow(subject):
        return [Check.skipped("isolated-atom limit", _FLOW)]
    symbols = sorted(set(atoms.get_chemical_symbols()))
    known = not isinf(subject.receptive_field)
    steps = [[float(k), 0.0, 0.0] for k in range(2 * len(symbols))]
    distances = (2.0 + subject.receptive_field,) if known else _FAR
    try:
        single = {s: energy_of(subject, Atoms(s, [[0.0, 0.0, 0.0]])) for s in symbols}
        rows = [energy_of(subject, Atoms(symbols * 2, d * np.array(steps))) for d in distances]
    except (ArithmeticError, RuntimeError, ValueError) as problem:
        if subject.potential is not None:
            raise
        return [Check.skipped("isolated-atom limit", f"no energy of separate atoms: {problem}")]
    excess = [e - 2.0 * sum(single.values()) for e in rows]
    error = abs(excess[0] if known else _limit(excess)) / len(steps)
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
        times.append(min(seconds_per_call(subject.calculator, crystal)))
        if times[-1] > 0.1 * seconds or sizes[-1] > 50_000:
            break
        crystal = crystal.repeat([2 if k == len(sizes) % 3 else 1 for k in range(3)])
    if len(sizes) < 3:
        return Check.skipped(name, f"{sizes[-1]} atoms already take {times[-1]:.2f} s")
    slope = float(np.polyfit(np.log(sizes[-3:]), np.log(times[-3:]), 1)[0])
    note = f"slope {slope:.2f}; {1e6 * times[-1] / sizes[-1]:.1f} µs per atom at {sizes[-1]} atoms"
    return Check.against(name, abs(slope - 1.0), 0.1, "from 1", note=note)
