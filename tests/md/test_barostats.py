"""Constant pressure: the ideal gas, whose volumes are known, conserved quantities, shapes, refusals."""

from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from ensemble_checks import FS, KELVIN, IdealGas, deviation, gas, watched
from md_toys import LennardJones

from rikiba.core import units
from rikiba.core.system import System
from rikiba.md import cell as cells
from rikiba.md.barostats import martyna_tobias_klein, stochastic_cell_rescaling
from rikiba.md.barostats.martyna_tobias_klein import MartynaTobiasKlein
from rikiba.md.ensembles.berendsen import Berendsen
from rikiba.md.ensembles.nph import NPH
from rikiba.md.ensembles.npt import NPT
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import Splitting
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.md.target import Ramp
from rikiba.md.thermostats.langevin import Langevin

PRESSURE = 0.02
"""eV/Å³ at k_B T = 1 eV: 50 Å³ an atom."""
N = 8


def volumes(
    integrator: Any, steps: int, h: float = 0.25, interval: int = 10, copies: int = 128
) -> np.ndarray:
    """Of boxes of ideal gas that start at what is expected, without the beginning: [times, systems]."""
    state = gas(N, copies, edge=(N / PRESSURE) ** (1 / 3))
    kept, _ = watched(IdealGas(), integrator, state, h, steps, interval, cells=True)
    return np.abs(np.linalg.det(kept.cells.numpy()))[steps // (4 * interval) :]


def npt(barostat: str, pressure: float = PRESSURE, **more: Any) -> NPT:
    compressibility = units.gigapascal / pressure  # of an ideal gas: 1/P
    return NPT(
        temperature_K=KELVIN,
        pressure_GPa=pressure / units.gigapascal,
        barostat=barostat,
        time_constant_fs=1.0 * FS,
        pressure_time_constant_fs=(30.0 if barostat == "stochastic_cell_rescaling" else 4.0) * FS,
        **({"compressibility_per_GPa": compressibility} if "stoch" in barostat else {}),
        **more,
    )


CASES = {
    "rescaling": ("stochastic_cell_rescaling", {}),
    "isotropic": ("martyna_tobias_klein", {}),
    "orthogonal": ("martyna_tobias_klein", {"cell": "orthogonal"}),
    "rescaling of lengths": ("stochastic_cell_rescaling", {"cell": "orthogonal"}),
}


@pytest.mark.parametrize("case", CASES)
def test_ideal_gas_has_its_volumes(case: str) -> None:
    """P(V) ∝ V^{N−1} exp(−PV/k_B T): the total momentum is zero, so one atom's freedom is gone.

    ⟨V⟩ = N k_B T/P, Var V = N (k_B T/P)².
    """
    found = volumes(npt(CASES[case][0], **CASES[case][1]), 1600) * PRESSURE
    mean, variance = deviation(found, N, N)
    assert abs(mean) < 4.5 and abs(variance) < 4.5, (mean, variance, found.mean(), found.var())


def test_ideal_gas_in_a_cell_of_any_shape() -> None:
    """As above, with friction so weak that it only mixes: all velocities of a gas without collisions are one
    matrix times those at the start, and its shape then never forgets them. Friction frees the total momentum:
    ⟨V⟩ = (N + 1) k_B T/P."""
    whole = MartynaTobiasKlein(
        temperature_K=KELVIN,
        pressure_GPa=PRESSURE / units.gigapascal,
        cell="full",
        time_constant_fs=1.0 * FS,
        pressure_time_constant_fs=4.0 * FS,
    )
    friction = Langevin(temperature_K=KELVIN, friction_per_ps=0.1 * units.picosecond)
    found = volumes(Splitting("MO", {"M": whole, "O": friction}), 2000, h=0.1, copies=96) * PRESSURE
    mean, variance = deviation(found, N + 1, N + 1)
    assert abs(mean) < 4.5 and abs(variance) < 4.5, (mean, variance, found.mean(), found.var())


def test_the_volume_follows_the_pressure() -> None:
    """Twice the pressure, half the volume; and the ratio of the two histograms is exp(−ΔP V/k_B T)."""
    low, high = (
        volumes(npt("stochastic_cell_rescaling", p), 3000, copies=256) for p in (PRESSURE, 1.4 * PRESSURE)
    )
    edges = np.quantile(np.concatenate([low.ravel(), high.ravel()]), np.linspace(0.05, 0.95, 10))
    counts = [np.histogram(v, edges)[0] for v in (low, high)]
    ratio = np.log(counts[1] / counts[0])
    middle = 0.5 * (edges[1:] + edges[:-1])
    slope = np.polyfit(middle, ratio, 1, w=np.sqrt(1 / (1 / counts[0] + 1 / counts[1])))[0]
    assert slope == pytest.approx(-0.4 * PRESSURE, rel=0.12)


@pytest.mark.parametrize("module", [stochastic_cell_rescaling, martyna_tobias_klein])
def test_a_missing_kinetic_pressure_is_caught(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    true = cells.internal_pressure
    monkeypatch.setattr(module, "internal_pressure", lambda s, r: 0.8 * true(s, r))
    kind = module.__name__.rsplit(".", 1)[-1]
    mean, _ = deviation(volumes(npt(kind), 1200) * PRESSURE, N, N)
    assert abs(mean) > 10


def test_weak_coupling_is_caught() -> None:
    with pytest.warns(UserWarning, match="samples no ensemble"):
        weak = Berendsen(
            temperature_K=KELVIN,
            pressure_GPa=PRESSURE / units.gigapascal,
            time_constant_fs=1.0 * FS,
            pressure_time_constant_fs=30.0 * FS,
            compressibility_per_GPa=units.gigapascal / PRESSURE,
        )
    _mean, variance = deviation(volumes(weak, 1200) * PRESSURE, N, N)
    assert variance < -20


PULLED = ((0.1, 0.05, 0.0), (0.05, -0.15, 0.08), (0.0, 0.08, -0.05))
"""A stress with shear, GPa."""


def crystal(temperature: float = 40.0) -> tuple[State, LennardJones]:
    atoms = bulk("Ar", "fcc", a=5.35, cubic=True) * (2, 2, 2)
    sheared = np.eye(3) + np.array([[0, 0.01, 0], [0, 0.02, 0], [0.01, 0, 0]])
    atoms.set_cell(atoms.cell.array @ sheared, scale_atoms=True)
    return maxwell_boltzmann(System.from_ase(atoms), temperature, seed=2), LennardJones(cutoff=7.0)


def named(kind: str) -> Any:
    common: dict[str, Any] = {"temperature_K": 40.0, "pressure_GPa": 0.05}
    if kind.endswith("stress"):
        kind = kind.removesuffix(" stress")
        common = {"temperature_K": 40.0, "stress_GPa": PULLED, "cell": "full", "reference_interval": 20}
    if kind.startswith("nph"):
        return NPH(**{"cell": kind[4:], **common}, pressure_time_constant_fs=500.0)
    if kind == "rescaling":
        return NPT(
            **common, time_constant_fs=300.0, pressure_time_constant_fs=500.0, compressibility_per_GPa=0.5
        )
    more = {"barostat": "martyna_tobias_klein", "time_constant_fs": 200.0, "pressure_time_constant_fs": 500.0}
    return NPT(**{"cell": kind, **common}, **more)


@pytest.mark.parametrize(
    "kind", ["isotropic", "orthogonal", "full", "full stress", "nph full", "nph isotropic", "nph stress"]
)
def test_conserved_quantity_is_of_second_order(kind: str) -> None:
    state, calculator = crystal()

    def wandering(fs: float) -> tuple[float, InMemory]:
        kept, _ = watched(calculator, named(kind), state, fs / FS, round(320 / fs), 1, cells=True)
        return float(kept.conserved.std()), kept

    (coarse, kept), (fine, _) = wandering(8.0), wandering(4.0)
    volume = torch.linalg.det(kept.cells)
    assert float(volume.std() / volume.mean()) > 1e-4
    assert float((kept.potential_energy + kept.kinetic_energy).std()) > 10 * fine
    assert coarse / fine == pytest.approx(4.0, rel=0.4)


def test_rescaling_breaks_detailed_balance_less_with_a_shorter_interval() -> None:
    """What its bookkeeping counts is the error of the timestep, and falls with the length of a move."""
    state, calculator = crystal()

    def broken(interval: int) -> tuple[float, float]:
        ensemble = named("rescaling").splitting()
        ensemble.operators["C"].interval = interval
        kept, _ = watched(calculator, ensemble, state, 4 / FS, 120, 1)
        return float((kept.conserved - kept.conserved[0]).abs().max()), float(
            (kept.potential_energy + kept.kinetic_energy).std()
        )

    (coarse, energy), (fine, _) = broken(40), broken(4)
    assert fine < coarse and fine < 0.05 * energy


def test_full_cells_change_shape_without_turning() -> None:
    state, calculator = crystal()
    for kind, allowed in (("isotropic", 1), ("orthogonal", 3), ("full", 6)):
        kept, _ = watched(calculator, named(kind), state, 4 / FS, 80, 80, cells=True)
        change = torch.linalg.solve(kept.cells[0, 0], kept.cells[-1, 0])  # the stretch: h = h₀ change
        skew = (change - change.T).abs().max()
        unequal = (torch.diag(change) - torch.diag(change).mean()).abs().max()
        sheared = (change - torch.diag(torch.diag(change))).abs().max()
        assert float((change - torch.eye(3)).abs().max()) > 1e-4
        assert (float(sheared) > 1e-6) == (allowed == 6) and (float(unequal) > 1e-6) == (allowed >= 3)
        # the cell of the start is not symmetric itself, so h = h₀M here has M symmetric to rounding
        assert float(skew) < 1e-12


@pytest.mark.parametrize(
    "kind", ["rescaling", "rescaling stress", "isotropic", "full", "full stress", "nph full"]
)
def test_restart_is_bit_for_bit(kind: str, tmp_path: Any) -> None:
    state, _calculator = crystal()

    def build() -> Simulation:
        return Simulation(LennardJones(cutoff=7.0), named(kind), state, timestep_fs=4.0)

    whole, part = build().run(30), build().run(13)
    part.save(tmp_path / "a.checkpoint")
    again = build().restore(tmp_path / "a.checkpoint").run(17)
    for what in (
        lambda s: s.state.system.positions,
        lambda s: s.state.system.cell,
        lambda s: s.state.velocities,
    ):
        assert torch.equal(what(whole), what(again))
    assert torch.equal(whole.snapshot.conserved, again.snapshot.conserved)


def test_one_evaluation_a_step_and_companions_do_not_matter() -> None:
    state, _calculator = crystal()
    both = State.of(
        System.from_ase([*state.system.to_ase()] * 2),
        torch.cat([state.velocities] * 2),
        seed=[int(state.seeds[0]), 7],
    )
    for kind, extra in (("full", 0), ("rescaling", 3)):
        alone = Simulation(LennardJones(cutoff=7.0), named(kind), state, timestep_fs=4.0).run(30)
        assert alone.calculator.n_calls == 31 + extra, kind
        pair = Simulation(LennardJones(cutoff=7.0), named(kind), both, timestep_fs=4.0).run(30)
        mine = pair.state.system.cell[0]
        torch.testing.assert_close(mine, alone.state.system.cell[0], rtol=0, atol=1e-10)
    assert not torch.equal(pair.state.system.cell[0], pair.state.system.cell[1])  # another seed, other noise


def test_a_pressure_ramp_compresses() -> None:
    state, calculator = crystal()
    ramp = Ramp(start=0.0, end=2.0, duration_ps=0.4)
    squeezed = NPT(
        temperature_K=40.0, pressure_GPa=ramp, pressure_time_constant_fs=100.0, compressibility_per_GPa=0.3
    )
    kept, run = watched(calculator, squeezed, state, 4 / FS, 300, 10, cells=True)
    volume = torch.linalg.det(kept.cells)[:, 0]
    assert float(volume[-1] / volume[0]) < 0.93
    late = run.snapshot.pressure_GPa
    assert float(late) == pytest.approx(2.0, abs=0.6)


def test_what_makes_no_sense_is_refused() -> None:
    open_state = maxwell_boltzmann(System.from_ase(bulk("Ar", "fcc", a=5.3)), 30.0)
    open_state = open_state.replace(system=open_state.system.replace(pbc=torch.tensor([[True, True, False]])))
    with pytest.raises(ValueError, match="periodic along three axes"):
        Simulation(LennardJones(), named("isotropic"), open_state, timestep_fs=1.0)
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True)
    fixed = State.of(System.from_ase(atoms), fixed=torch.tensor([True, False, False, False]))
    moving = torch.where(fixed.inverse_masses[:, None] > 0, 0.01, 0.0)
    fixed = fixed.with_velocities(moving.expand(-1, 3).double())
    with pytest.raises(ValueError, match="fixed atoms"):
        Simulation(LennardJones(), named("rescaling"), fixed, timestep_fs=1.0)
    for wrong in (
        {"cell": "cubic"},
        {"barostat": "piston"},
        {"compressibility_per_GPa": 0.0},
        {"pressure_time_constant_fs": -1.0},
        {"barostat": "martyna_tobias_klein", "cell": "cubic"},
    ):
        with pytest.raises(ValueError, match=r"given|use"):
            NPT(temperature_K=30.0, pressure_GPa=0.0, **wrong)
