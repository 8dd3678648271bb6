"""Monte Carlo against exact distributions; each with a mistake that the check catches."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.sampling.monte_carlo import MonteCarlo, consecutive_molecules, standard_error
from rikiba.sampling.moves.base import Proposal
from rikiba.sampling.moves.displacement import Displacement
from rikiba.sampling.moves.molecule_rotation import MoleculeRotation
from rikiba.sampling.moves.molecule_translation import MoleculeTranslation
from rikiba.sampling.moves.swap import Swap
from rikiba.sampling.moves.volume import Volume
from rikiba.sampling.trajectory import Trajectory

T = 300.0
KT = units.boltzmann * T


class Energy:
    """A calculator of a function of the structures."""

    def __init__(self, function: Callable[[System], torch.Tensor]) -> None:
        self.function = function

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        assert not forces and not stress
        return Results(energy=self.function(system))


def copies(atoms: Atoms, n: int) -> System:
    return System.from_ase([atoms] * n)


class Harsh(MonteCarlo):  # type: ignore[misc]
    """Negative control: accepts with exp(−2βΔU)."""

    def _accepts(self, trial, energy, u):  # type: ignore[no-untyped-def]
        work = 2.0 * (energy - self.energy)
        return trial.possible & (torch.log(u) <= trial.log_weight - self.beta * work)


def spring(system: System) -> torch.Tensor:
    return system.total(0.5 * 2.0 * (system.positions**2).sum(-1))


def oscillators(kind: type[MonteCarlo] = MonteCarlo) -> np.ndarray:
    """Coordinates of 1,000 oscillators at ten nearly independent moments each."""
    run = kind(
        Energy(spring),
        copies(Atoms("H", positions=[(0, 0, 0)]), 1000),
        [Displacement(step=0.3)],
        temperature_K=T,
        equilibration_steps=200,
    )
    run.run(250)
    seen = []
    for _ in range(10):
        run.run(40)
        seen.append(run.system.positions.numpy().ravel())
    return np.concatenate(seen)


def test_harmonic_oscillator_has_its_exact_distribution() -> None:
    from scipy.stats import kstest

    width = np.sqrt(KT / 2.0)
    x = oscillators()
    assert abs(x.var() / width**2 - 1.0) < 4.0 * np.sqrt(2.0 / len(x)) * 1.5
    assert kstest(x / width, "norm").pvalue > 1e-3
    wrong = oscillators(Harsh)
    assert abs(wrong.var() / width**2 - 0.5) < 0.02 and kstest(wrong / width, "norm").pvalue < 1e-9


class Flip:
    """Between x = 0 and x = 1 with unequal chances of being proposed."""

    weight, size, largest, n_uniforms, changes_volume = 1.0, 0.0, 0.0, 1, False

    def __init__(self, up: float = 0.8, down: float = 0.3, weighted: bool = True) -> None:
        self.up, self.down, self.weighted = up, down, weighted

    def prepare(self, scene: object) -> None:
        return None

    def propose(self, plan: None, system: System, size: torch.Tensor, u: torch.Tensor) -> Proposal:
        low = system.positions[:, 0] < 0.5
        goes = u[:, 0] <= torch.where(low, self.up, self.down)
        x = system.positions.clone()
        x[goes, 0] = 1.0 - x[goes, 0]
        ratio = np.log(self.down / self.up)
        weight = torch.where(low, ratio, -ratio).double() if self.weighted else torch.zeros_like(u[:, 0])
        return Proposal(system=system.replace(positions=x), log_weight=weight, possible=goes)


def two_states(move: Flip, n: int = 4000) -> tuple[float, float, float]:
    """Share of the upper state, and counts of jumps up and down in 100 steps at equilibrium."""
    gap = 0.03
    run = MonteCarlo(
        Energy(lambda s: gap * s.positions[:, 0].double()),
        copies(Atoms("H", positions=[(0, 0, 0)]), n),
        [move],
        temperature_K=T,
    ).run(60)
    up = down = 0.0
    share = []
    for _ in range(100):
        before = run.system.positions[:, 0].clone()
        run.run(1)
        change = run.system.positions[:, 0] - before
        up, down = up + float((change > 0).sum()), down + float((change < 0).sum())
        share.append(float(run.system.positions[:, 0].mean()))
    return float(np.mean(share)), up, down


def test_detailed_balance_of_two_states_with_unequal_proposals() -> None:
    """p₁/p₀ = exp(−βΔ), as many jumps up as down, and the rates of Metropolis and Hastings."""
    expected = np.exp(-0.03 / KT) / (1.0 + np.exp(-0.03 / KT))
    share, up, down = two_states(Flip())
    assert share == pytest.approx(expected, abs=0.006)
    assert abs(up - down) < 4.0 * np.sqrt(up + down)
    rate_up = 0.8 * min(1.0, 0.3 / 0.8 * np.exp(-0.03 / KT))
    assert up / (100 * 4000 * (1 - share)) == pytest.approx(rate_up, rel=0.02)
    wrong, _, _ = two_states(Flip(weighted=False))
    assert abs(wrong - expected) > 0.1


class OneLess(Volume):
    """Negative control: the weight of a walk in V used for a walk in ln V."""

    def propose(self, plan, system, size, u):  # type: ignore[no-untyped-def, override]
        trial = super().propose(plan, system, size, u)
        change = torch.log(trial.system.volume / system.volume)
        return Proposal(system=trial.system, log_weight=trial.log_weight - change, possible=trial.possible)


def gas_volumes(move: Volume, molecules: int | None = None, pressure: float = 0.01) -> np.ndarray:
    n_atoms = 4 * (molecules or 1)
    volume = 5.0 * KT / (pressure * units.gigapascal)
    atoms = Atoms(
        f"H{n_atoms}", positions=np.zeros((n_atoms, 3)), cell=np.eye(3) * volume ** (1 / 3), pbc=True
    )
    system = copies(atoms, 1500)
    run = MonteCarlo(
        Energy(lambda s: s.volume * 0.0),
        system,
        [move],
        temperature_K=T,
        pressure_GPa=pressure,
        equilibration_steps=300,
        interval=25,
        molecules=None if molecules is None else consecutive_molecules(system, molecules),
    ).run(300 + 10 * 25)
    return run.volumes.ravel() * pressure * units.gigapascal / KT


@pytest.mark.parametrize("molecules", [None, 3])
def test_ideal_gas_at_constant_pressure(molecules: int | None) -> None:
    """⟨V⟩ = (N+1) kT/P and Var V = (N+1)(kT/P)²: V is distributed as a gamma variate of shape N+1."""
    v = gas_volumes(Volume(step=1.0, largest=3.0), molecules)
    error = np.sqrt(5.0 / 1500) * 0.6
    assert v.mean() == pytest.approx(5.0, abs=4 * error)
    assert v.var() == pytest.approx(5.0, rel=0.08)
    if molecules is None:
        wrong = gas_volumes(OneLess(step=1.0, largest=3.0))
        assert abs(wrong.mean() - 5.0) > 8 * error and wrong.mean() == pytest.approx(4.0, abs=0.2)


def unlike_bonds(atoms: Atoms, strength: float) -> Callable[[System], torch.Tensor]:
    """E = −J × (nearest-neighbour pairs of unlike elements) on a ring of sites 2 Å apart."""

    def energy(system: System) -> torch.Tensor:
        n = len(atoms)
        place = torch.round(system.positions[:, 0] / 2.0).long().reshape(-1, n)
        kinds = torch.zeros_like(place).scatter(1, place, system.numbers.reshape(-1, n))
        return -strength * (kinds != kinds.roll(1, 1)).sum(1).double()

    return energy


@pytest.mark.parametrize(("kind", "right"), [(MonteCarlo, True), (Harsh, False)])
def test_swaps_of_an_alloy_against_enumeration(kind: type[MonteCarlo], right: bool) -> None:
    """Ring of 8 sites, 4 + 4 atoms: short-range order from all 70 arrangements."""
    sites = np.stack([2.0 * np.arange(8), np.zeros(8), np.zeros(8)], 1)
    atoms = Atoms("Cu4Au4", positions=sites)
    strength = 0.03
    counts = []
    for chosen in itertools.combinations(range(8), 4):
        ring = np.isin(np.arange(8), chosen)
        counts.append(int((ring != np.roll(ring, 1)).sum()))
    weights = np.exp(strength * np.array(counts) / KT)
    exact = float((weights * counts).sum() / weights.sum())
    run = kind(
        Energy(unlike_bonds(atoms, strength)), copies(atoms, 1200), [Swap()], temperature_K=T,
        equilibration_steps=60, interval=15,
    ).run(60 + 12 * 15)  # fmt: skip
    unlike = -run.energies / strength
    error = unlike.std() / np.sqrt(unlike.size / 2)
    assert (abs(unlike.mean() - exact) < 4 * error) == right, (unlike.mean(), exact, error)
    if right:
        assert 0.1 < np.nanmean(run.acceptance_ratios["Swap"]) < 0.95


def test_turning_and_moving_molecules() -> None:
    """A dipole in a field: ⟨cos θ⟩ = coth x − 1/x; its centre on a spring: ⟨r²⟩ = 3kT/k. Both stay rigid."""
    x = 2.0

    def energy(system: System) -> torch.Tensor:
        r = system.positions.reshape(-1, 2, 3)
        arm = r[:, 1, 2] - r[:, 0, 2]
        return -x * KT * arm.double() + (r.mean(1) ** 2).sum(-1)

    system = copies(Atoms("H2", positions=[(0, 0, -0.5), (0, 0, 0.5)]), 2000)
    moves = [MoleculeRotation(step_degrees=90), MoleculeTranslation(step=0.3)]
    run = MonteCarlo(
        Energy(energy), system, moves, temperature_K=T, equilibration_steps=200,
        molecules=consecutive_molecules(system, 2),
    )  # fmt: skip
    run.run(200)
    cosines, spread = [], []
    for _ in range(8):
        run.run(40)
        r = run.system.positions.reshape(-1, 2, 3)
        assert torch.allclose((r[:, 1] - r[:, 0]).norm(dim=1), torch.ones(2000, dtype=torch.float64))
        cosines.append((r[:, 1, 2] - r[:, 0, 2]).numpy())
        spread.append((r.mean(1) ** 2).sum(-1).numpy())
    assert np.mean(cosines) == pytest.approx(1 / np.tanh(x) - 1 / x, abs=0.012)
    assert np.mean(spread) == pytest.approx(1.5 * KT, rel=0.03)
    still = MonteCarlo(
        Energy(energy), system, moves[1:], temperature_K=T, molecules=consecutive_molecules(system, 2)
    ).run(50)  # negative control: without turns the field cannot act
    assert float((still.system.positions[1::2, 2] - still.system.positions[::2, 2]).mean()) == pytest.approx(
        1
    )


def argon(n: int = 12) -> tuple[PotentialCalculator, System]:
    potential = LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.0)
    return PotentialCalculator(potential, skin=2.5), copies(bulk("Ar", "fcc", a=5.3, cubic=True), n)


def test_energy_of_argon_equals_that_of_molecular_dynamics() -> None:
    """Solid argon (4 atoms a cell) at 60 K: ⟨U⟩ of MC and of Langevin dynamics, and no harmonic accident."""
    n = 32
    calculator, system = argon(n)
    mc = MonteCarlo(
        calculator,
        system,
        [Displacement(step=0.3, largest=0.6)],
        temperature_K=60.0,
        equilibration_steps=200,
        interval=20,
    ).run(1000)
    kept = InMemory(interval=10, positions=False)
    # the momentum of the centre of mass is conserved by neither: all 3N degrees of freedom on both sides
    start = maxwell_boltzmann(system, 60.0, seed=7, remove_momentum=False)
    Simulation(
        calculator,
        Langevin(temperature_K=60.0, friction_per_ps=2.0),
        start,
        timestep_fs=8.0,
        reporters=[kept],
    ).run(700)
    dynamics = kept.potential_energy.numpy()[20:].mean(0)
    sampled = mc.energies.mean(0)
    difference = sampled.mean() - dynamics.mean()
    error = np.hypot(sampled.std(ddof=1), dynamics.std(ddof=1)) / np.sqrt(n)
    assert abs(difference) < 3.5 * error
    rest = float(calculator(system[:1], forces=False).energy)
    thermal = sampled.mean() - rest
    assert error < 0.035 * thermal  # a mistake of the temperature by an eighth would be seen
    assert thermal == pytest.approx(4.5 * units.boltzmann * 60.0, rel=0.25)


@pytest.mark.slow
def test_lennard_jones_gas_of_nist() -> None:
    """T* = 0.85, ρ* = 0.009: U* = −0.093973 (NIST Monte Carlo, rc = 3σ with the tail correction)."""
    potential = LennardJones(
        epsilon_eV={"Ar": 1.0}, sigma={"Ar": 1.0}, cutoff=3.0, truncation="cut", tail_correction=True
    )
    n, edge = 40, (40 / 0.009) ** (1 / 3)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)[:n] * edge / 4
    atoms = Atoms(f"Ar{n}", positions=grid, cell=edge * np.eye(3), pbc=True)
    run = MonteCarlo(
        PotentialCalculator(potential, skin=0.0), copies(atoms, 48), [Displacement(step=3.0, largest=8.0)],
        temperature_K=0.85 / units.boltzmann, equilibration_steps=2000, interval=100,
    ).run(14000)  # fmt: skip
    per_atom = run.energies / n
    error = per_atom.mean(0).std(ddof=1) / np.sqrt(48)
    assert error < 0.0015
    assert per_atom.mean() == pytest.approx(-0.093973, abs=3.5 * error + 0.0005)


def mixture(folder: Path, seed: int = 3, n: int = 3) -> MonteCarlo:
    potential = LennardJones(
        epsilon_eV={"Ar": 0.0104, "Kr": 0.014}, sigma={"Ar": 3.4, "Kr": 3.65}, cutoff=7.0
    )
    atoms = bulk("Ar", "fcc", a=5.5, cubic=True)
    atoms.symbols = "Ar2Kr2"
    return MonteCarlo(
        PotentialCalculator(potential),
        copies(atoms, n),
        [Displacement(step=0.2), Volume(step=0.03, weight=0.3), Swap(weight=0.3)],
        temperature_K=80.0,
        pressure_GPa=0.02,
        seed=seed,
        equilibration_steps=120,
        interval=5,
        observers=[Trajectory(path=folder / "mc.xyz", interval=50)],
        checkpoint=folder / "mc.checkpoint",
        checkpoint_interval=100,
    )


def test_a_restarted_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = mixture(tmp_path / "a").run(400)
    first = mixture(tmp_path / "b").run(170)  # in the middle of tuning, samples and trajectory
    first.run(40)  # written after the checkpoint that is gone back to
    first.close()
    mixture(tmp_path / "b").run(0).close()
    again = mixture(tmp_path / "c")
    again.run(170)
    again.close()
    resumed = mixture(tmp_path / "c").restore(tmp_path / "c" / "mc.checkpoint").run(230)
    assert torch.equal(resumed.system.positions, whole.system.positions)
    assert torch.equal(resumed.system.cell, whole.system.cell)
    assert torch.equal(resumed.sizes, whole.sizes)
    assert np.array_equal(resumed.energies, whole.energies) and len(whole.energies) == 57
    whole.close()
    resumed.close()
    assert (tmp_path / "a/mc.xyz").read_bytes() == (tmp_path / "c/mc.xyz").read_bytes()
    other = mixture(tmp_path / "d", seed=4).run(400)
    assert not torch.equal(other.system.positions, whole.system.positions)
    with pytest.raises(ValueError, match="another numbers"):
        mixture(tmp_path / "e", n=2).restore(tmp_path / "c" / "mc.checkpoint")


def test_a_path_does_not_depend_on_companions(tmp_path: Path) -> None:
    batch = mixture(tmp_path / "a", seed=10, n=3).run(300)
    alone = mixture(tmp_path / "b", seed=12, n=1).run(300)
    assert torch.equal(batch.system[2].positions, alone.system.positions)
    assert torch.equal(batch.system[2].cell, alone.system.cell)


def test_steps_are_tuned_in_equilibration_only(tmp_path: Path) -> None:
    run = mixture(tmp_path)
    first = run.sizes.clone()
    run.run(120)
    tuned = run.sizes.clone()
    assert not torch.equal(first, tuned) and len(run.sampled_steps) == 1
    run.run(200)
    assert torch.equal(run.sizes, tuned)
    record = run.record()
    assert {"mean_energy_eV", "mean_volume_A3"} <= set(record.values) and record.spread["mean_energy_eV"]
    assert [row[0] for row in record.tables[0].rows] == ["Displacement", "Volume", "Swap"]


def test_fixed_atoms_stay() -> None:
    calculator, system = argon(2)
    fixed = torch.arange(8) % 4 == 0
    run = MonteCarlo(calculator, system, [Displacement()], temperature_K=60.0, fixed=fixed).run(60)
    moved = (run.system.positions - system.positions).norm(dim=1) > 0
    assert not moved[fixed].any() and moved[~fixed].all()
    with pytest.raises(ValueError, match="fixed atoms cannot"):
        MonteCarlo(calculator, system, [Volume()], temperature_K=60.0, pressure_GPa=0.0, fixed=fixed)


@pytest.mark.parametrize(
    ("moves", "options", "message"),
    [
        ([], {}, "At least one move"),
        ([Displacement()], {"pressure_GPa": 1.0}, "there is none"),
        ([Volume()], {}, "needs pressure_GPa"),
        ([Swap()], {}, "exchanges two elements"),
        ([MoleculeRotation()], {}, "which atoms belong together"),
        ([Displacement()], {"temperature_K": 0.0}, "must be positive"),
        ([Displacement()], {"acceptance": 1.5}, "between 0 and 1"),
        ([Displacement()], {"molecules": torch.arange(8).flip(0)}, "ascending"),
        ([Displacement()], {"molecules": torch.tensor([0] * 3 + [1] * 5)}, "two systems"),
    ],
)
def test_what_cannot_be_run_is_said(moves: list, options: dict, message: str) -> None:
    calculator, system = argon(2)
    with pytest.raises(ValueError, match=message):
        MonteCarlo(calculator, system, moves, **{"temperature_K": 60.0, **options})


def test_standard_error_knows_correlation() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=40_000)
    assert standard_error(noise) == pytest.approx(1 / 200, rel=0.1)
    assert standard_error(np.repeat(noise[:4000], 10)) == pytest.approx(1 / np.sqrt(4000), rel=0.2)
