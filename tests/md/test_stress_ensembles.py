"""Cells under a whole stress tensor: distributions known exactly, strains of a crystal, refusals."""

from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from ensemble_checks import FS, KELVIN, IdealGas, deviation, gas, watched

from rikiba import config
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.system import System
from rikiba.md import load as loads
from rikiba.md.barostats import anisotropic_cell_rescaling, martyna_tobias_klein
from rikiba.md.barostats.anisotropic_cell_rescaling import AnisotropicCellRescaling
from rikiba.md.barostats.martyna_tobias_klein import MartynaTobiasKlein
from rikiba.md.ensembles.nph import NPH
from rikiba.md.ensembles.npt import NPT
from rikiba.md.load import Load, StressRamp
from rikiba.md.operators import Drift, Kick, Memory
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import Splitting
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.md.target import pressure
from rikiba.md.thermostats.langevin import Langevin
from rikiba.potentials.stillinger_weber import StillingerWeber
from rikiba.properties.elastic import Elastic

NONE = ((0.0,) * 3,) * 3
SQUEEZE = 0.02 * torch.tensor([[1.2, 0.3, -0.1], [0.3, 0.9, 0.2], [-0.1, 0.2, 1.0]], dtype=torch.float64)
"""Minus the tension, eV/Å³ at k_B T = 1 eV: positive definite, with shear."""
N = 8
A0 = 5.43095
"""Lattice constant of Stillinger–Weber silicon, Å."""
STRESS = np.array([[1.0, 0.8, -0.5], [0.8, -0.6, 0.6], [-0.5, 0.6, 0.4]])


def rescaling(**more: Any) -> Splitting:
    """Langevin dynamics with the rescaled cell, in the units of the ideal gas."""
    cell = AnisotropicCellRescaling(
        temperature_K=KELVIN,
        stress_GPa=NONE,
        time_constant_fs=30.0 * FS,
        compressibility_per_GPa=50.0 * units.gigapascal,
        interval=2,
        **more,
    )
    friction = Langevin(temperature_K=KELVIN, friction_per_ps=units.picosecond)
    return Splitting("BAOABC", {"B": Kick(), "A": Drift(), "O": friction, "C": cell})


def extended() -> Splitting:
    whole = MartynaTobiasKlein(
        temperature_K=KELVIN,
        stress_GPa=NONE,
        cell="full",
        time_constant_fs=FS,
        pressure_time_constant_fs=4.0 * FS,
    )
    friction = Langevin(temperature_K=KELVIN, friction_per_ps=0.1 * units.picosecond)
    return Splitting("MO", {"M": whole, "O": friction})


def metrics(word: Splitting, h: float, steps: int, copies: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """(G = M Mᵀ of ideal gas under a tension alone, M itself): [times, systems, 3, 3]."""
    for operator in word.operators.values():
        if hasattr(operator, "load"):
            operator.load = Load(pressure(0.0), -SQUEEZE[None])
    edge = (N / 0.02) ** (1 / 3)
    kept, _ = watched(IdealGas(), word, gas(N, copies, edge), h, steps, 10, cells=True)
    m = kept.cells.numpy()[steps // 40 :] / edge
    return m @ m.swapaxes(2, 3), m


def departures(g: np.ndarray) -> list[float]:
    """Standard errors by which means and variances of G are off Wishart's distribution."""
    volume, found = N / 0.02, []
    scale = np.linalg.inv(SQUEEZE.numpy()) / volume
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        variance = (N + 1) * (scale[a, b] ** 2 + scale[a, a] * scale[b, b])
        found += deviation(g[:, :, a, b], (N + 1) * scale[a, b], variance)
    return found


@pytest.mark.parametrize("kind", ["extended", "rescaling"])
def test_ideal_gas_under_tension_has_wisharts_metric(kind: str) -> None:
    """Density V^{N−2} exp(−V₀ tr(K G)/2k_B T) d⁹M with K = −t: G = M Mᵀ is of Wishart's distribution with
    N + 1 degrees of freedom and scale k_B T K⁻¹/V₀ (friction frees the total momentum), shear included; and
    the cell does not turn: M stays symmetric."""
    g, m = metrics(*((extended(), 0.1, 1500) if kind == "extended" else (rescaling(), 0.25, 2400)))
    found = departures(g)
    assert max(np.abs(found)) < 4.5, found
    assert np.abs(m - m.swapaxes(2, 3)).max() < 1e-11


def test_a_missing_reference_cell_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def cauchy(self: Load, state: State, memory: Memory) -> torch.Tensor:
        assert self.tension is not None
        return state.system.volume[:, None, None] * self.tension

    monkeypatch.setattr(Load, "pull", cauchy)
    g, _ = metrics(rescaling(), 0.25, 600)
    mean = np.trace(np.linalg.inv(SQUEEZE.numpy())) * (N + 1) * 0.02 / N
    found = np.trace(g, axis1=2, axis2=3)
    assert abs(found[len(found) // 2 :].mean() / mean - 1.0) > 0.5  # shapes run away


def test_noise_of_shear_twice_too_strong_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    true = anisotropic_cell_rescaling._symmetric
    factor = 2 * torch.ones(3, 3) - torch.eye(3)
    monkeypatch.setattr(anisotropic_cell_rescaling, "_symmetric", lambda n: factor * true(n))
    g, _ = metrics(rescaling(), 0.25, 1200)
    assert max(np.abs(departures(g))) > 6


def test_a_cell_that_is_let_turn_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    eye = torch.eye(3, dtype=torch.float64)
    monkeypatch.setattr(martyna_tobias_klein, "unturned", lambda s, _: (s, eye.expand(s.n_systems, 3, 3)))
    _, m = metrics(extended(), 0.1, 100, copies=4)
    assert np.abs(m - m.swapaxes(2, 3)).max() > 1e-4


def test_pull_is_minus_the_derivative_of_the_energy() -> None:
    """In cells far from the reference cell, with a load of each kind for each system."""
    rng = np.random.default_rng(3)
    shape = np.eye(3) + 0.2 * rng.normal(size=(2, 3, 3))
    tensors = tuple(tuple(map(tuple, t + t.T)) for t in rng.normal(size=(2, 3, 3)))
    load = loads.load(None, tensors)
    start = State.of(System.from_ase([bulk("Ar", "fcc", 5.3), bulk("Ar", "fcc", 5.4)]))
    memory = Memory(load.init(start))

    def energy(strain: np.ndarray) -> torch.Tensor:
        cell = start.system.cell @ torch.from_numpy(shape @ (np.eye(3) + strain))
        return load.energy(start.replace(system=start.system.replace(cell=cell)), memory)

    here = start.system.replace(cell=start.system.cell @ torch.from_numpy(shape))
    pull = load.pull(start.replace(system=here), memory)
    for a, b in ((0, 0), (1, 2), (2, 1)):
        step = np.zeros((3, 3))
        step[a, b] = 1e-5
        slope = (energy(step) - energy(-step)) / 2e-5
        torch.testing.assert_close(-slope, pull[:, a, b], rtol=1e-7, atol=1e-8)
    # negative control: without the reference cell, V t, it is another number
    assert load.tension is not None
    plain = here.volume[:, None] * load.tension[:, 1, 2, None]
    assert float((plain[:, 0] - pull[:, 1, 2]).abs().min()) > 1e-3


def silicon(kelvin: float, copies: int, seed: int = 3) -> tuple[State, PotentialCalculator]:
    """Triclinic boxes of the primitive cell."""
    frames = [bulk("Si", "diamond", A0).repeat(2)] * copies
    calculator = PotentialCalculator(StillingerWeber())
    return maxwell_boltzmann(System.from_ase(frames), kelvin, seed=seed), calculator


def mean_gradient(kept: InMemory, skip: int) -> np.ndarray:
    """Mean of M over time and replicas, and its symmetric strain: [systems, 3, 3]."""
    cells = kept.cells.numpy()
    return np.linalg.solve(cells[0], cells[skip:].mean(0))


def strains_of(stress: np.ndarray) -> np.ndarray:
    """Compliance times stress, [3, 3], by the package's elastic constants."""
    c = np.array(
        Elastic().compute(PotentialCalculator(StillingerWeber()), bulk("Si", "diamond", A0))["C_GPa"]
    )
    six = np.linalg.solve(c, stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])
    x, y, z, yz, xz, xy = six * [1, 1, 1, 0.5, 0.5, 0.5]
    return np.array([[x, xy, xz], [xy, y, yz], [xz, yz, z]])


def damped(stress: Any, **more: Any) -> Splitting:
    cell = AnisotropicCellRescaling(
        temperature_K=0.05,
        stress_GPa=stress,
        time_constant_fs=40.0,
        compressibility_per_GPa=0.01,
        interval=4,
        **more,
    )
    friction = Langevin(temperature_K=0.05, friction_per_ps=10.0)
    return Splitting("BAOABC", {"B": Kick(), "A": Drift(), "O": friction, "C": cell})


def rows(stress: np.ndarray) -> Any:
    return tuple(map(tuple, stress.tolist()))


def test_a_crystal_takes_the_strains_of_its_compliance() -> None:
    """Under a general stress and its opposite: half the difference of strains is S σ, shear included."""
    state, calculator = silicon(0.05, 2)
    kept = InMemory(interval=10, positions=False, cells=True, stress=True)
    both = damped((rows(STRESS), rows(-STRESS)))
    Simulation(calculator, both, state, timestep_fs=3.0, reporters=[kept]).run(600)
    m = mean_gradient(kept, 40)
    expected = strains_of(STRESS)
    found = (m[0] - m[1]) / 2
    assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max(), (found, expected)
    stress = kept.stress_GPa.numpy()[40:].mean(0)
    assert np.abs((stress[0] - stress[1]) / 2 - STRESS).max() < 0.02
    # negative control: pressure's sign, or shear strains without the half
    assert np.abs(found + expected).max() > 0.5 * np.abs(expected).max()
    assert np.abs(found - expected * (2 - np.eye(3))).max() > 0.2 * np.abs(expected).max()


def test_a_renewed_reference_cell_brings_the_stress_to_its_target() -> None:
    """Under a load that strains by per cents the tension about the first cell is not yet the stress."""
    state, calculator = silicon(0.05, 1)
    target = 4.0 * STRESS

    def off(reference_interval: int) -> tuple[float, InMemory]:
        kept = InMemory(interval=10, positions=False, cells=True, stress=True)
        word = damped(rows(target), reference_interval=reference_interval)
        Simulation(calculator, word, state, timestep_fs=3.0, reporters=[kept]).run(800)
        return float((kept.stress_GPa[-20:].mean(0)[0] - torch.from_numpy(target)).abs().max()), kept

    renewed, kept = off(80)
    fixed, _ = off(0)
    assert renewed < 0.03 and fixed > 0.3, (renewed, fixed)
    # renewals are no steps in what is conserved: its range stays that of the relaxation
    jumps = kept.conserved[1:] - kept.conserved[:-1]
    late = jumps[8:].abs().max()
    assert float(late) < 0.05 * float(kept.conserved[0].abs() + jumps.abs().max())


def test_the_extended_system_strains_a_warm_crystal_so_too() -> None:
    """Loaded slowly from nothing; and what pulls from inside and outside cancels in the mean."""
    state, calculator = silicon(20.0, 8)
    steps, skip = 1200, 40
    ramps = [StressRamp(start=NONE, end=rows(s * STRESS), duration_ps=0.6) for s in (1, -1)]
    kept = []
    for k, ramp in enumerate(ramps):
        ensemble = NPT(
            temperature_K=20.0,
            stress_GPa=ramp,
            barostat="martyna_tobias_klein",
            cell="full",
            pressure_time_constant_fs=4000.0,
        )
        own = InMemory(interval=10, positions=False, cells=True, stress=True)
        run = Simulation(calculator, ensemble, state[k::2], timestep_fs=2.0, reporters=[own])
        kept.append((own, run.run(steps)))
    m = np.stack([mean_gradient(own, skip) for own, _ in kept])
    expected, found = strains_of(STRESS), (m[0] - m[1]).mean(0) / 2
    error = (m[0] - m[1]).std(0, ddof=1) / 2 / np.sqrt(4)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max(), (found, expected, error)
    stress = np.stack([own.stress_GPa.numpy()[skip:].mean((0, 1)) for own, _ in kept])
    assert np.abs((stress[0] - stress[1]) / 2 - STRESS).max() < 0.02
    # the ramp has done work; after it the extended energy stands still
    for own, _ in kept:
        total = (own.potential_energy + own.kinetic_energy)[skip:]
        assert float(own.conserved[skip:].std(0).max()) < 0.02 * float(total.std(0).max())


def test_ramps_and_tables_reach_the_ensembles() -> None:
    """From what a file holds, by name."""
    table = {"kind": "npt", "temperature_K": 300.0, "cell": "full", "stress_GPa": STRESS.tolist()}
    for barostat in ("martyna_tobias_klein", "stochastic_cell_rescaling"):
        built = config.build_kind("md.ensembles", {**table, "barostat": barostat}).splitting()
        (load,) = [o.load for o in built.operators.values() if hasattr(o, "load")]
        pull = load.pressure.value
        assert -pull == pytest.approx(np.trace(STRESS) / 3)
        full = load.tension[0].numpy() / units.gigapascal - pull * np.eye(3)
        assert full == pytest.approx(STRESS)
    ramp = {"start": NONE, "end": STRESS.tolist(), "duration_ps": 1.0}
    ramped = config.build_kind("md.ensembles", {**table, "stress_GPa": ramp}).splitting()
    assert isinstance(NPH(temperature_K=1.0, cell="full", stress_GPa=rows(STRESS)).splitting(), Splitting)
    load = ramped.operators["C"].load
    state, _ = silicon(1.0, 1)
    memory = Memory(load.init(state))
    half = state.replace(time=state.time + 0.5 * units.picosecond)
    expected = 0.5 * units.gigapascal * float(state.system.volume) * STRESS
    assert load.pull(half, memory)[0].numpy() == pytest.approx(expected)
    assert load.pull(state, memory).abs().max() == 0


def test_what_no_cell_can_follow_is_refused() -> None:
    skewed = STRESS.copy()
    skewed[0, 1] += 0.1
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "one of them"),
        ({"pressure_GPa": 0.0, "stress_GPa": rows(STRESS)}, "one of them"),
        ({"stress_GPa": rows(skewed)}, "symmetric"),
        ({"stress_GPa": ((1.0, 0.0), (0.0, 1.0))}, "three rows"),
        ({"stress_GPa": rows(STRESS * np.nan)}, "finite"),
        ({"stress_GPa": rows(STRESS), "cell": "isotropic"}, "use cell = 'full'"),
        ({"stress_GPa": rows(STRESS), "cell": "orthogonal"}, "for shear"),
        ({"pressure_GPa": 0.0, "reference_interval": 10}, "reference_interval"),
        ({"stress_GPa": rows(STRESS), "reference_interval": -10}, "reference_interval"),
    ]
    for barostat in ("martyna_tobias_klein", "stochastic_cell_rescaling"):
        for arguments, message in wrong:
            with pytest.raises(ValueError, match=message):
                NPT(temperature_K=300.0, barostat=barostat, **{"cell": "full", **arguments})
    state, calculator = silicon(1.0, 2)
    three = NPT(temperature_K=1.0, cell="full", stress_GPa=(rows(STRESS),) * 3)
    with pytest.raises(ValueError, match="each of 2 systems; given 3"):
        Simulation(calculator, three, state, timestep_fs=1.0)
    one = NPT(temperature_K=1.0, cell="full", stress_GPa=rows(STRESS))  # for both systems
    Simulation(calculator, one, state, timestep_fs=1.0).run(10)
