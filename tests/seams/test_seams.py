"""The contracts tried against what is to come: each toy stands for a family that the house must carry."""

import itertools

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor, nn

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.core import units
from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.base import Potential, Program
from rikiba.potentials.pair import quintic_switch


def check_derivatives(potential: Potential, atoms: Atoms, stress: bool = True) -> None:
    """Forces and stress equal central differences of the energy."""
    calculator = PotentialCalculator(potential, skin=0.0)
    results = calculator(System.from_ase(atoms), stress=stress)
    h = 1e-4

    def energy(a: Atoms) -> float:
        return float(calculator(System.from_ase(a), forces=False).need("energy"))

    for n, c in ((0, 0), (1, 2), (len(atoms) - 1, 1)):
        sides = []
        for s in (h, -h):
            a = atoms.copy()
            a.positions[n, c] += s
            sides.append(energy(a))
        assert abs(-(sides[0] - sides[1]) / (2 * h) - float(results.need("forces")[n, c])) < 1e-6
    if not stress:
        return
    for x, y in ((0, 0), (1, 2)):
        sides = []
        for s in (h, -h):
            e = np.eye(3)
            e[x, y] += 0.5 * s
            e[y, x] += 0.5 * s
            a = atoms.copy()
            a.set_cell(a.cell.array @ e, scale_atoms=True)
            sides.append(energy(a))
        numeric = (sides[0] - sides[1]) / (2 * h) / atoms.get_volume()
        assert abs(numeric - float(results.need("stress")[0, x, y])) < 1e-7


def crystal() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.2, seed=3)
    return atoms


class TwoCutoffs(Potential):
    """A pair term within 5 Å plus the square of a density within 3.5 Å."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.cutoff = ("Si",), 5.0

    def forward(self, system: System, pairs: Pairs) -> Results:
        r = pairs.vectors(system).norm(dim=-1)
        pair = torch.exp(-r) * quintic_switch(r, 4.0, 5.0)
        near, parent = pairs.within(system, 3.5)
        density = torch.exp(-2 * r[parent]) * quintic_switch(r[parent], 2.5, 3.5)
        zero = r.new_zeros(system.n_atoms)
        rho = zero.index_add(0, near.i, density)
        return Results(energies=zero.index_add(0, pairs.i, pair) - (rho + 1e-3).sqrt())


class ThreeBody(Potential):
    """Σ_{j≠k} f(r_ij) f(r_ik) (cos θ + 1/3)²."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.cutoff = ("Si",), 3.5

    def forward(self, system: System, pairs: Pairs) -> Results:
        v = pairs.vectors(system)
        r = v.norm(dim=-1)
        f = quintic_switch(r, 2.0, 3.5)
        a, b = pairs.triplets()
        cos = (v[a] * v[b]).sum(-1) / (r[a] * r[b])
        values = f[a] * f[b] * (cos + 1 / 3) ** 2
        return Results(energies=values.new_zeros(system.n_atoms).index_add(0, pairs.i[a], values))


class TwoLayers(Potential):
    """Message passing: the second layer reads its neighbours' first-layer features through `sync`."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.cutoff = ("Si",), 3.0

    @property
    def receptive_field(self) -> float:
        return 2 * self.cutoff

    def forward(self, system: System, pairs: Pairs) -> Results:
        r = pairs.vectors(system).norm(dim=-1)
        f = torch.exp(-r) * quintic_switch(r, 2.0, 3.0)
        h = f.new_zeros(system.n_atoms).index_add(0, pairs.i, f).tanh()
        h = pairs.sync(h)
        m = f.new_zeros(system.n_atoms).index_add(0, pairs.i, f * h[pairs.j])
        return Results(energies=(h + m).tanh())


class GlobalCharges(Potential):
    """Charges from the whole structure, and a reciprocal-space sum over positions and cell."""

    uses_positions = True

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.cutoff = ("Si",), 3.0

    @property
    def receptive_field(self) -> float:
        return float("inf")

    def forward(self, system: System, pairs: Pairs) -> Results:
        r = pairs.vectors(system).norm(dim=-1)
        f = quintic_switch(r, 2.0, 3.0)
        chi = f.new_zeros(system.n_atoms).index_add(0, pairs.i, f)
        count = system.counts.double()
        q = chi - (system.total(chi) / count)[system.system_index]
        reciprocal = 2 * torch.pi * torch.linalg.inv(system.cell).transpose(1, 2)
        energy = q.new_zeros(system.n_systems)
        for n in itertools.product((-1, 0, 1), repeat=3):
            if n == (0, 0, 0):
                continue
            k = torch.einsum("a,sab->sb", torch.tensor(n, dtype=torch.float64), reciprocal)
            phase = (k[system.system_index] * system.positions).sum(-1)
            k2 = (k * k).sum(-1)
            s2 = system.total(q * phase.cos()) ** 2 + system.total(q * phase.sin()) ** 2
            energy = energy + torch.exp(-k2 / 4) / k2 * s2 / torch.linalg.det(system.cell).abs()
        return Results(energies=(energy / count)[system.system_index] * units.coulomb_constant, charges=q)


class WithMoments(Potential):
    """−Σ_j J(r) m_i m_j: reads input moments."""

    needs = ("magmoms",)

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.cutoff = ("Si",), 3.0

    def forward(self, system: System, pairs: Pairs) -> Results:
        self.types(system)
        assert system.magmoms is not None
        r = pairs.vectors(system).norm(dim=-1)
        j = torch.exp(-r) * quintic_switch(r, 2.0, 3.0)
        m = system.magmoms
        return Results(
            energies=-0.5 * r.new_zeros(system.n_atoms).index_add(0, pairs.i, j * m[pairs.i] * m[pairs.j])
        )


class WithProgram(Potential):
    """A linear spring with its hand-written reverse sweep."""

    def __init__(self, *, gradient_factor: float = 1.0) -> None:
        super().__init__()
        self.elements, self.cutoff = ("Si",), 3.0
        self.strength = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.gradient_factor = gradient_factor

    def forward(self, system: System, pairs: Pairs) -> Results:
        x = 9.0 - (pairs.vectors(system) ** 2).sum(-1)
        return Results(energies=x.new_zeros(system.n_atoms).index_add(0, pairs.i, self.strength * x**3))

    def program(self) -> Program:
        strength = float(self.strength.detach())

        def run(system: System, pairs: Pairs, vectors: Tensor) -> tuple[Tensor, Tensor]:
            x = 9.0 - (vectors**2).sum(-1)
            energies = x.new_zeros(system.n_atoms).index_add(0, pairs.i, strength * x**3)
            return energies, self.gradient_factor * strength * 3 * (x**2)[:, None] * -2 * vectors

        return run


def test_two_cutoffs() -> None:
    check_derivatives(TwoCutoffs(), crystal())


def test_triplets() -> None:
    check_derivatives(ThreeBody(), crystal())


def test_message_passing() -> None:
    check_derivatives(TwoLayers(), crystal())


def test_global_charges() -> None:
    check_derivatives(GlobalCharges(), crystal())
    silent = GlobalCharges()
    silent.uses_positions = False  # negative control: forgetting the declaration loses the long-range force
    system = System.from_ase(crystal())
    pairs = find_pairs(system, 3.0)
    lost = evaluate(silent, system, pairs).need("forces") - evaluate(GlobalCharges(), system, pairs).need(
        "forces"
    )
    assert float(lost.abs().max()) > 1e-6


def test_input_moments() -> None:
    atoms = crystal()
    atoms.set_initial_magnetic_moments([1.0, -0.5] * 4)
    check_derivatives(WithMoments(), atoms)
    flipped = atoms.copy()
    flipped.set_initial_magnetic_moments([-1.0, 0.5] * 4)
    calculator = PotentialCalculator(WithMoments())
    same = [float(calculator(System.from_ase(a)).need("energy")) for a in (atoms, flipped)]
    assert same[0] == same[1]
    try:
        calculator(System.from_ase(crystal()))
    except ValueError as error:
        assert "needs 'magmoms'" in str(error)
    else:
        raise AssertionError("missing moments were accepted")


def test_program_equals_autograd() -> None:
    system = System.from_ase([crystal(), crystal() * (2, 1, 1)])
    plain = PotentialCalculator(WithProgram(), use_program=False)(system, stress=True)
    fast = PotentialCalculator(WithProgram())(system, stress=True)
    wrong = PotentialCalculator(WithProgram(gradient_factor=1.01))(system, stress=True)
    for name in ("energy", "energies", "forces", "stress"):
        torch.testing.assert_close(fast.need(name), plain.need(name), rtol=1e-12, atol=1e-12)
    assert float((wrong.need("forces") - plain.need("forces")).abs().max()) > 1e-3


def test_ghosts_through_sync() -> None:
    """A periodic crystal unfolded into owned atoms and ghost images gives the same energy and forces.

    Layer 1 of a ghost is wrong at the rim (its own neighbours are missing), so its features come from its
    owner through `sync`; forces on ghosts are added back to their owners.
    """
    atoms = crystal() * (2, 1, 1)
    system = System.from_ase(atoms)
    potential = TwoLayers()
    whole = evaluate(potential, system, find_pairs(system, potential.cutoff))

    owner, offset = [], []
    for shift in itertools.product((-1, 0, 1), repeat=3):
        image = atoms.positions + np.array(shift) @ atoms.cell.array
        low, high = atoms.positions.min(0) - 3.0, atoms.positions.max(0) + 3.0
        keep = np.ones(len(atoms), bool) if shift == (0, 0, 0) else ((image > low) & (image < high)).all(1)
        owner += np.flatnonzero(keep).tolist()
        offset += [shift] * int(keep.sum())
    order = sorted(range(len(owner)), key=lambda k: (offset[k] != (0, 0, 0), k))
    owners = torch.tensor([owner[k] for k in order])
    shifts = np.array([offset[k] for k in order])
    n = len(atoms)
    unfolded = System.from_ase(
        Atoms("Si" * len(owners), positions=atoms.positions[owners] + shifts @ atoms.cell.array)
    )
    unfolded = unfolded.replace(owned=torch.arange(len(owners)) < n)
    found = find_pairs(unfolded, potential.cutoff)
    centres = Pairs(
        i=found.i[found.i < n],
        j=found.j[found.i < n],
        shift=found.shift[found.i < n],
        cutoff=found.cutoff,
        n_atoms=unfolded.n_atoms,
        exchange=lambda h: h[:n][owners],
    )
    parts = evaluate(potential, unfolded, centres)
    folded = torch.zeros(n, 3, dtype=torch.float64).index_add(0, owners, parts.need("forces"))
    torch.testing.assert_close(parts.need("energy"), whole.need("energy"), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(folded, whole.need("forces"), rtol=1e-9, atol=1e-12)
    alone = Pairs(i=centres.i, j=centres.j, shift=centres.shift, cutoff=3.0, n_atoms=centres.n_atoms)
    wrong = evaluate(potential, unfolded, alone)  # negative control: no exchange
    assert float((wrong.need("energy") - whole.need("energy")).abs()) > 1e-4
